//! When to kill what: drawn from a seed, so that a run can be repeated.

use std::time::Duration;

/// One kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill<T> {
    /// Pause since the one before.
    pub after: Duration,
    /// What dies.
    pub what: T,
}

/// `each` kills of every target, shuffled, with pauses between `shortest` and `longest`.
pub fn schedule<T: Copy>(
    seed: u64,
    targets: &[T],
    each: usize,
    shortest: Duration,
    longest: Duration,
) -> Vec<Kill<T>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut order: Vec<T> = targets
        .iter()
        .flat_map(|t| std::iter::repeat_n(*t, each))
        .collect();
    random.shuffle(&mut order);
    let spread = (longest.saturating_sub(shortest)).as_millis() as u64;
    order
        .into_iter()
        .map(|what| Kill {
            after: shortest + Duration::from_millis(random.u64(0..=spread)),
            what,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_schedule_and_every_target_its_share() {
        let draw = |seed| {
            schedule(
                seed,
                &['a', 'b'],
                5,
                Duration::from_millis(10),
                Duration::from_millis(20),
            )
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(draw(7).iter().filter(|kill| kill.what == 'a').count(), 5);
        assert!(
            draw(7)
                .iter()
                .all(|kill| (10..=20).contains(&kill.after.as_millis()))
        );
    }
}
