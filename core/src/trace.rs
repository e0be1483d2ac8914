//! W3C Trace Context: a message has one `traceparent` from intake to dead letter.

use crate::encoding::hex;
use crate::message::Headers;

/// Name of the header, and of the CloudEvents attribute.
pub const TRACEPARENT: &str = "traceparent";
/// Name of the header that only means something beside a valid [`TRACEPARENT`].
pub const TRACESTATE: &str = "tracestate";

/// Keeps a valid `traceparent`. Otherwise (missing, invalid, there twice) sets a new one and removes
/// `tracestate`, as the specification asks. To be done once, when a message is accepted, so that
/// every attempt belongs to the same trace.
pub fn ensure(headers: &mut Headers, random: [u8; 24]) {
    let valid = {
        let mut values = headers.iter().filter(|(name, _)| *name == TRACEPARENT);
        values.next().is_some_and(|(_, value)| is_valid(value)) && values.next().is_none()
    };
    if !valid {
        headers.set(TRACEPARENT, new_traceparent(random));
        headers.remove(TRACESTATE);
    }
}

/// Whether a `traceparent` can be followed: version 00, or a later one that begins like it; lower
/// case hexadecimal; neither trace nor parent all zero.
pub fn is_valid(value: &str) -> bool {
    let mut fields = value.split('-');
    let mut field = |digits: usize| {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        fields
            .next()
            .filter(|text| text.len() == digits && text.bytes().all(is_hex))
    };
    let (Some(version), Some(trace), Some(parent), Some(_flags)) =
        (field(2), field(32), field(16), field(2))
    else {
        return false;
    };
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let ends = fields.next().is_none();
    version != "ff" && (version != "00" || ends) && !is_zero(trace) && !is_zero(parent)
}

/// A new `traceparent`, marked as sampled: nobody decided before, and what does not want every trace
/// can decide for itself, while an unsampled one would hide the message from all that follow it.
pub fn new_traceparent(random: [u8; 24]) -> String {
    let (mut trace, mut parent) = ([0; 16], [0; 8]);
    trace.copy_from_slice(&random[..16]);
    parent.copy_from_slice(&random[16..]);
    for id in [&mut trace[..], &mut parent[..]] {
        if id.iter().all(|byte| *byte == 0) {
            id[0] = 1;
        }
    }
    format!("00-{}-{}-01", hex(&trace), hex(&parent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn validity_is_that_of_the_specification() {
        for value in [
            VALID,
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes-later",
        ] {
            assert!(is_valid(value), "{value}");
        }
        for value in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ü-00f067aa0ba902b7-01",
        ] {
            assert!(!is_valid(value), "{value}");
        }
    }

    #[test]
    fn a_valid_trace_is_kept_and_anything_else_is_replaced_whole() {
        let mut headers = Headers::new();
        headers.append(TRACEPARENT, VALID);
        headers.append(TRACESTATE, "a=1");
        ensure(&mut headers, [7; 24]);
        assert_eq!(
            (headers.get(TRACEPARENT), headers.get(TRACESTATE)),
            (Some(VALID), Some("a=1"))
        );

        headers.append(TRACEPARENT, VALID);
        ensure(&mut headers, [7; 24]);
        let new = "00-07070707070707070707070707070707-0707070707070707-01";
        assert_eq!(headers.get_all(TRACEPARENT).collect::<Vec<_>>(), [new]);
        assert_eq!(headers.get(TRACESTATE), None);
    }

    #[test]
    fn only_an_id_of_zeros_is_changed() {
        let mut random = [0; 24];
        assert_eq!(
            new_traceparent(random),
            "00-01000000000000000000000000000000-0100000000000000-01"
        );
        (random[15], random[23]) = (7, 8);
        assert_eq!(
            new_traceparent(random),
            "00-00000000000000000000000000000007-0000000000000008-01"
        );
    }

    proptest! {
        #[test]
        fn new_ones_are_valid(random: [u8; 24], zero: bool) {
            let random = if zero { [0; 24] } else { random };
            prop_assert!(is_valid(&new_traceparent(random)));
        }
    }
}
