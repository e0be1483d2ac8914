//! What to do to whom, and when: drawn from a seed, so that a run can be repeated.

use std::time::Duration;

/// How long a message or a group stays with a consumer that says nothing. A sidecar that sleeps longer wakes up to
/// find its work in other hands.
pub const LEASE: Duration = Duration::from_secs(3);

/// What is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// One server of the broker.
    Broker,
    /// One sidecar.
    Sidecar,
    /// One handler.
    Handler,
}

/// How it is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// SIGKILL, and started again after the pause.
    Kill,
    /// SIGSTOP, and SIGCONT after the pause, which may be longer than a lease.
    Pause,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Pause since the one before was lifted.
    pub after: Duration,
    /// Who.
    pub target: Target,
    /// What.
    pub blow: Blow,
    /// How long it lasts.
    pub lasts: Duration,
    /// Which of the processes of the target, to be taken modulo their number.
    pub which: usize,
}

/// How many of each.
pub type Shares = [(Target, Blow, usize)];

/// The faults of `shares`, shuffled, with pauses between `shortest` and `longest` in between. A kill lasts
/// 50 to 300 ms, a pause 100 ms to 5 s, that of a sidecar always longer than [`LEASE`].
pub fn schedule(seed: u64, shares: &Shares, shortest: Duration, longest: Duration) -> Vec<Fault> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut order: Vec<(Target, Blow)> = shares
        .iter()
        .flat_map(|(target, blow, count)| std::iter::repeat_n((*target, *blow), *count))
        .collect();
    random.shuffle(&mut order);
    let spread = (longest.saturating_sub(shortest)).as_millis() as u64;
    order
        .into_iter()
        .map(|(target, blow)| Fault {
            after: shortest + Duration::from_millis(random.u64(0..=spread)),
            target,
            blow,
            lasts: match (blow, target) {
                (Blow::Kill, _) => Duration::from_millis(random.u64(50..300)),
                (Blow::Pause, Target::Sidecar) => {
                    LEASE + Duration::from_millis(random.u64(200..3000))
                }
                (Blow::Pause, _) => Duration::from_millis(random.u64(100..5000)),
            },
            which: random.usize(0..1024),
        })
        .collect()
}

/// `kills` spread over the targets, and one pause for every ten: half to sidecars, a quarter each to handlers and
/// servers of the broker.
pub fn usual(kills: usize) -> Vec<(Target, Blow, usize)> {
    let quarter = kills / 4;
    let pauses = kills / 10;
    vec![
        (Target::Broker, Blow::Kill, quarter),
        (Target::Handler, Blow::Kill, quarter),
        (Target::Sidecar, Blow::Kill, kills - 2 * quarter),
        (Target::Sidecar, Blow::Pause, pauses.div_ceil(2)),
        (Target::Broker, Blow::Pause, pauses / 2),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_schedule_and_every_target_its_share() {
        let shares = usual(20);
        let draw = |seed| {
            schedule(
                seed,
                &shares,
                Duration::from_millis(10),
                Duration::from_millis(20),
            )
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let of = |target, blow| {
            let hits = draw(7);
            hits.iter()
                .filter(|fault| (fault.target, fault.blow) == (target, blow))
                .count()
        };
        assert_eq!(of(Target::Broker, Blow::Kill), 5);
        assert_eq!(of(Target::Sidecar, Blow::Kill), 10);
        assert_eq!(of(Target::Sidecar, Blow::Pause), 1);
        let slept: Vec<Duration> = draw(7)
            .iter()
            .filter(|fault| (fault.target, fault.blow) == (Target::Sidecar, Blow::Pause))
            .map(|fault| fault.lasts)
            .collect();
        assert!(slept.iter().all(|lasts| *lasts > LEASE), "{slept:?}");
        assert!(
            draw(7)
                .iter()
                .all(|fault| (10..=20).contains(&fault.after.as_millis()))
        );
    }
}
