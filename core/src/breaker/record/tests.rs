use proptest::prelude::*;

use super::*;

fn permits() -> impl Strategy<Value = Vec<Permit>> {
    let permit = (
        "[a-z0-9-]{0,20}",
        any::<(u64, u64, u64)>(),
        0..=LONGEST_MILLIS,
    );
    let permit = permit.prop_map(|(replica, (epoch, number, generation), millis)| Permit {
        replica,
        epoch,
        number,
        generation,
        millis,
    });
    prop::collection::vec(permit, 0..4)
}

fn records() -> impl Strategy<Value = Record> {
    let state = prop_oneof![
        Just(Phase::Closed),
        (0..=LONGEST_MILLIS).prop_map(|millis| Phase::Open { millis }),
        any::<u32>().prop_map(|successes| Phase::HalfOpen { successes }),
    ];
    let reason = prop_oneof![
        Just(Reason::FailureRate),
        Just(Reason::OpenTimeOver),
        Just(Reason::ProbesSucceeded)
    ];
    (
        0_u64..4,
        any::<u64>(),
        state,
        any::<u32>(),
        any::<u64>(),
        reason,
        permits(),
    )
        .prop_map(
            |(version, generation, state, opens, since, reason, permits)| Record {
                version,
                generation,
                state,
                opens,
                since: Moment::from_millis(since),
                reason,
                permits,
            },
        )
}

#[test]
fn a_record_is_one_short_line() {
    let open = Record::default().opened(
        Reason::FailureRate,
        Duration::from_secs(10),
        Moment::from_millis(1_800_000_000_000),
    );
    assert_eq!(
        open.encode(),
        r#"{"version":0,"generation":1,"state":{"Open":{"millis":10000}},"opens":1,"since":1800000000000,"reason":"FailureRate"}"#
    );
}

#[test]
fn what_later_versions_add_is_left_out() {
    let text = r#"{"version":7,"generation":3,"state":"Closed","reason":"ProbesSucceeded","colour":"red"}"#;
    let record = Record::decode(text.as_bytes()).unwrap();
    assert_eq!(
        (record.version, record.opens, record.state()),
        (7, 0, State::Closed)
    );
}

#[test]
fn what_is_not_a_record_is_refused_with_what_to_do() {
    for bytes in [
        &b""[..],
        b"{}",
        b"\xff",
        br#"{"version":-1,"generation":0,"state":"Closed","reason":"New"}"#,
        br#"{"version":1,"generation":0,"state":{"Open":{"millis":86400001}},"reason":"New"}"#,
        &vec![b' '; LONGEST_RECORD + 1],
    ] {
        let error = Record::decode(bytes).expect_err("not a record");
        assert!(error.to_string().contains("delete its key"), "{error}");
    }
}

#[test]
fn too_many_permits_are_refused() {
    let permit = Permit {
        replica: "x".repeat(LONGEST_NAME),
        epoch: u64::MAX,
        number: u64::MAX,
        generation: u64::MAX,
        millis: LONGEST_MILLIS,
    };
    let mut record = Record {
        permits: vec![permit.clone(); MOST_PERMITS],
        ..Record::default()
    };
    assert!(record.encode().len() <= LONGEST_RECORD);
    assert_eq!(Record::decode(record.encode().as_bytes()).unwrap(), record);
    record.permits.push(permit);
    assert!(Record::decode(record.encode().as_bytes()).is_err());
    let replica = "x".repeat(LONGEST_NAME + 1);
    record.permits = vec![Permit {
        replica,
        ..record.permits[0].clone()
    }];
    assert!(Record::decode(record.encode().as_bytes()).is_err());
}

#[test]
fn opening_again_keeps_the_permits_and_closing_ends_them() {
    let permit = Permit {
        replica: "a".to_owned(),
        epoch: 1,
        number: 1,
        generation: 2,
        millis: 1_000,
    };
    let half_open = Record {
        permits: vec![permit.clone()],
        opens: 3,
        ..Record::default().half_opened(Moment::default())
    };
    let open = half_open.opened(
        Reason::ProbeFailed,
        Duration::from_secs(1),
        Moment::default(),
    );
    assert_eq!((open.opens, &open.permits), (4, &vec![permit]));
    let closed = half_open.closed(Moment::default());
    assert_eq!((closed.opens, closed.permits), (0, Vec::new()));
    assert_eq!(closed.generation, half_open.generation + 1);
}

proptest! {
    #[test]
    fn a_record_survives_the_store(record in records()) {
        prop_assert_eq!(Record::decode(record.encode().as_bytes()).unwrap(), record);
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        a in records(), b in records(), c in records(),
    ) {
        let merge = |x: &Record, y: &Record| x.clone().merge(y.clone());
        prop_assert_eq!(merge(&a, &b), merge(&b, &a));
        prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
        prop_assert_eq!(&merge(&a, &a), &a);
        prop_assert_eq!(merge(&a, &b).version, a.version.max(b.version));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = Record::decode(&bytes);
    }
}
