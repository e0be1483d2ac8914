//! What an outage of the broker, and what is lost in one, does to the conditions.

use super::*;

#[test]
fn the_loss_of_a_broker_flips_nothing_for_two_minutes() {
    let old = Case::default().conditions();
    let after = |seconds: u64| {
        let done = Done {
            topology: unreachable(),
            worker: rollout(Progress::Unavailable, None),
            ..done()
        };
        let now = at(i64::try_from(seconds).unwrap());
        Case {
            old: old.clone(),
            done,
            now,
            lost_for: Some(seconds),
            paused: false,
        }
        .conditions()
    };
    assert_eq!(after(0), old);
    assert_eq!(after(119), old);
    let later = object(&after(120));
    assert_eq!(condition(&later, "TopologyReady")["status"], "Unknown");
    assert_eq!(
        condition(&later, "TopologyReady")["reason"],
        "BrokerUnreachable"
    );
    assert_eq!(
        condition(&later, "HandlerReady")["status"],
        "False",
        "seen by itself again"
    );
}

#[test]
fn a_lost_stream_is_told_for_an_hour_and_survives_an_outage() {
    let old = Case::default().conditions();
    let created = || {
        Topology::Applied(Applied {
            created: vec!["S".into()],
            repaired: vec![],
        })
    };
    let first = Case {
        done: Done {
            topology: created(),
            ..done()
        },
        ..Case::default()
    };
    let reason = |all: &[Condition]| condition(&object(all), "TopologyReady")["reason"].clone();
    assert_eq!(
        reason(&first.conditions()),
        "AsExpected",
        "made for the first time"
    );

    let outage = Case {
        old: old.clone(),
        done: Done {
            topology: unreachable(),
            ..done()
        },
        now: at(500),
        lost_for: Some(500),
        paused: false,
    }
    .conditions();
    let now = at(1000);
    let lost = Case {
        old: outage,
        done: Done {
            topology: created(),
            ..done()
        },
        now,
        ..Case::default()
    };
    let lost = lost.conditions();
    check(
        "it works again",
        &lost,
        "Current",
        "True",
        Reason::AsExpected,
    );
    assert_eq!(reason(&lost), "TopologyLost");
    let after = |seconds: i64| {
        Case {
            old: lost.clone(),
            now: at(1000 + seconds),
            ..Case::default()
        }
        .conditions()
    };
    assert_eq!(after(3599), lost, "the words do not change");
    assert_eq!(reason(&after(3600)), "AsExpected");
}
