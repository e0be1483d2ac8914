//! Text forms of bytes that several modules share.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Standard base64; padding may be missing, bits behind the last byte must be zero.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Reads standard base64, with or without padding.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// Lower case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// Reads hexadecimal of either case.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

/// Writes every byte of the UTF-8 of `text` that `keep` does not want as `%XX`.
pub(crate) fn percent_encode(text: &str, keep: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if keep(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
        }
    }
    out
}

/// Reads `%XX` of either case; a `%` that begins nothing of that form stays. `None` where the bytes
/// are not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            out.push(high << 4 | low);
            rest = &tail[2..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(out).ok()
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base64_is_read_with_and_without_padding_but_not_with_stray_bits() {
        assert_eq!(base64(b"f"), "Zg==");
        for text in ["Zg==", "Zg"] {
            assert_eq!(from_base64(text).as_deref(), Some(&b"f"[..]), "{text}");
        }
        for text in ["Zh==", "Z", "Z===", "Zg==Zg==", "Zg\n", "-_"] {
            assert_eq!(from_base64(text), None, "{text}");
        }
    }

    #[test]
    fn percent_encoding_is_read_leniently_but_never_into_broken_text() {
        for (text, read) in [
            ("a%20b", Some("a b")),
            ("%e2%82%AC", Some("€")),
            ("100%", Some("100%")),
            ("%zz%4", Some("%zz%4")),
            ("%%41", Some("%A")),
            ("%C0%A0", None),
            ("%ff", None),
        ] {
            assert_eq!(percent_decode(text).as_deref(), read, "{text}");
        }
    }

    proptest! {
        #[test]
        fn percent_encoding_is_read_again(text in any::<String>()) {
            let encoded = percent_encode(&text, |byte| byte.is_ascii_alphanumeric());
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(percent_decode(&encoded), Some(text));
        }

        #[test]
        fn hexadecimal_is_read_again(bytes: Vec<u8>) {
            prop_assert_eq!(from_hex(&hex(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(from_hex(&hex(&bytes).to_uppercase()), Some(bytes));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            let _ = (from_hex(&text), from_base64(&text), percent_decode(&text));
        }
    }
}
