use proptest::prelude::*;

use super::*;

#[test]
fn a_call_is_forgotten_after_twenty_slots_and_not_before() {
    let mut window = Window::new(0);
    window.add(Tally::one(true, false));
    for slot in 0..20 {
        window.advance(slot);
        assert_eq!(window.total(slot), Tally::one(true, false), "{slot}");
    }
    window.advance(20);
    assert_eq!(window.total(20), Tally::default());
}

#[test]
fn going_back_changes_nothing() {
    let mut window = Window::new(100);
    window.add(Tally::one(false, true));
    let before = window.clone();
    window.advance(7);
    assert_eq!(window, before);
}

#[test]
fn a_long_silence_forgets_everything_at_once() {
    let mut window = Window::new(0);
    window.add(Tally::one(true, true));
    window.advance(u64::MAX);
    assert_eq!(window.total(u64::MAX), Tally::default());
    window.add(Tally::one(true, true));
    assert_eq!(window.total(u64::MAX).calls, 1);
}

#[test]
fn sums_stop_at_the_most_there_is() {
    let most = Tally {
        calls: u64::MAX,
        failures: u64::MAX,
        slow: u64::MAX,
    };
    assert_eq!(most.plus(Tally::one(true, true)), most);
}

#[test]
fn slots_are_a_twentieth_and_never_nothing() {
    assert_eq!(
        slot_width(Duration::from_secs(30)),
        Duration::from_millis(1_500)
    );
    assert_eq!(
        slot_width(Duration::from_secs(1)),
        Duration::from_millis(50)
    );
    assert_eq!(slot_width(Duration::ZERO), Duration::from_millis(1));
}

proptest! {
    /// The oracle keeps every call and counts again each time.
    #[test]
    fn the_window_is_what_a_list_of_all_calls_says(
        steps in prop::collection::vec((0_u64..45, any::<bool>(), any::<bool>()), 1..200),
    ) {
        let mut window = Window::new(0);
        let mut calls: Vec<(u64, Tally)> = Vec::new();
        let mut slot = 0;
        for (pause, failed, slow) in steps {
            slot += pause.saturating_sub(20);
            window.advance(slot);
            window.add(Tally::one(failed, slow));
            calls.push((slot, Tally::one(failed, slow)));
            let expected = calls
                .iter()
                .filter(|(counted, _)| counted + 20 > slot)
                .fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally));
            prop_assert_eq!(window.total(slot), expected);
            for later in [slot + 1, slot + 10, slot + 19, slot + 20] {
                let expected = calls
                    .iter()
                    .filter(|(counted, _)| counted + 20 > later)
                    .fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally));
                prop_assert_eq!(window.total(later), expected);
            }
        }
    }
}
