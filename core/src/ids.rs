//! Identities of messages.

use jiff::Timestamp;
use uuid::{Builder, Uuid};

/// Longest identity, in characters.
const LONGEST: usize = 128;

/// A new `Weir-Id`: a UUID of version 7 in lower case, so that ids sort by the time they were made.
///
/// Unique as far as `random` is: 74 of its 80 bits are used. Times before 1970 count as 1970.
pub fn new_id(now: Timestamp, random: [u8; 10]) -> String {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let id: Uuid = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    id.hyphenated().to_string()
}

/// Whether a text may be a `Weir-Id`: 1 to 128 ASCII letters, digits, `-`, `_`, `.`, `:` and `~`.
/// What others wrote into a broker need not be a UUID, but it ends up in addresses and logs.
pub fn is_valid(id: &str) -> bool {
    (1..=LONGEST).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_version_7_uuids_of_their_time() {
        let now: Timestamp = "2022-02-22T19:22:22Z".parse().unwrap();
        let id = new_id(now, [0xff; 10]);
        assert_eq!(id, "017f22e2-79b0-7fff-bfff-ffffffffffff");
        assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 7);
        assert_eq!(
            new_id(Timestamp::MIN, [0; 10]),
            "00000000-0000-7000-8000-000000000000"
        );
    }

    #[test]
    fn ids_from_outside_are_short_and_harmless() {
        for id in [
            "a",
            "017f22e2-79b0-7fff-bfff-ffffffffffff",
            "WEIR_a_b:12",
            &"x".repeat(128),
        ] {
            assert!(is_valid(id), "{id}");
        }
        for id in [
            "",
            "a b",
            "a/b",
            "a\r\n",
            "ü",
            "a%",
            ">",
            "*",
            &"x".repeat(129),
        ] {
            assert!(!is_valid(id), "{id}");
        }
    }

    proptest! {
        #[test]
        fn ids_are_valid_and_sort_by_time(
            a in 0_i64..253_402_300_799_999, later in 1_i64..1_000_000, random: [u8; 10], other: [u8; 10],
        ) {
            let first = new_id(Timestamp::from_millisecond(a).unwrap(), random);
            prop_assert!(is_valid(&first));
            if let Ok(time) = Timestamp::from_millisecond(a + later) {
                prop_assert!(first < new_id(time, other));
            }
        }
    }
}
