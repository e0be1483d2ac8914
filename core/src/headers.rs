//! Headers between HTTP and [`Message`](crate::message::Message).
//!
//! Two views of one request: [`all_from_http`] is everything that came, for checks (a signature may
//! be in `authorization`) and for the publish API; [`from_http`] is what is stored with the message
//! and reaches the handler.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::message::Headers;
use crate::wire::is_reserved;

/// What belongs to one connection or to Weir's own side of it (RFC 9110 7.6.1).
const OF_THE_CONNECTION: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What must not be stored: whoever reads the queue could use it.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Bounds of the headers of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most headers.
    pub count: usize,
    /// Most bytes of all names and values together.
    pub bytes: usize,
}

impl Default for Limits {
    /// 100 headers, 16 KiB.
    fn default() -> Self {
        Self {
            count: 100,
            bytes: 16 * 1024,
        }
    }
}

/// The headers of a request are beyond the [`Limits`]. Answered with 431.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadersTooLarge {
    /// Too many of them.
    #[error("the request has {found} headers, {most} are allowed: put data into the body")]
    Count {
        /// Headers that would be stored.
        found: usize,
        /// [`Limits::count`].
        most: usize,
    },
    /// Too long together.
    #[error("the headers have {found} bytes, {most} are allowed: put data into the body")]
    Bytes {
        /// Bytes that would be stored.
        found: usize,
        /// [`Limits::bytes`].
        most: usize,
    },
}

impl HeadersTooLarge {
    /// A short stable word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Count { .. } => "TooManyHeaders",
            Self::Bytes { .. } => "HeadersTooLong",
        }
    }
}

/// Everything that came, for checks. Never store it: it holds credentials.
pub fn all_from_http(map: &HeaderMap) -> Headers {
    map.iter()
        .map(|(name, value)| (name.as_str().to_owned(), from_bytes(value.as_bytes())))
        .collect()
}

/// What is stored with the message: without what belongs to the connection (RFC 9110 7.6.1, headers
/// named in `Connection` included), without `authorization`, `proxy-authorization` and `cookie`, and
/// without names that begin with `weir-` or `nats-`, which never come from outside.
///
/// The limits count what is stored. Values of one name keep their order.
pub fn from_http(map: &HeaderMap, limits: Limits) -> Result<Headers, HeadersTooLarge> {
    let connection: Vec<String> = map
        .get_all("connection")
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|name| from_bytes(name).trim().to_ascii_lowercase())
        .collect();
    let dropped = |name: &str| {
        OF_THE_CONNECTION.contains(&name)
            || CREDENTIALS.contains(&name)
            || is_reserved(name)
            || connection.iter().any(|listed| listed == name)
    };
    let mut headers = Headers::new();
    let mut found = 0;
    for (name, value) in map.iter().filter(|(name, _)| !dropped(name.as_str())) {
        found += name.as_str().len() + value.len();
        if found <= limits.bytes {
            headers.append(name.as_str(), from_bytes(value.as_bytes()));
        }
    }
    if found > limits.bytes {
        return Err(HeadersTooLarge::Bytes {
            found,
            most: limits.bytes,
        });
    }
    if headers.len() > limits.count {
        return Err(HeadersTooLarge::Count {
            found: headers.len(),
            most: limits.count,
        });
    }
    Ok(headers)
}

/// Headers of a request to a handler, the bytes exactly as they came.
///
/// What cannot be an HTTP header (a name that is no token, a value with a control character or one
/// above U+00FF) is left out; neither [`from_http`] nor [`wire::decode`](crate::wire::decode) makes
/// such headers.
pub fn to_http(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers.iter() {
        let bytes: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
        let value = bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        if let (Ok(name), Some(value)) = (HeaderName::from_bytes(name.as_bytes()), value) {
            map.append(name, value);
        }
    }
    map
}

/// Bytes as the characters U+0000 to U+00FF.
fn from_bytes(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(pairs: &[(&str, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value).unwrap(),
            );
        }
        map
    }

    fn kept(pairs: &[(&str, &[u8])]) -> Vec<(String, String)> {
        let headers = from_http(&map(pairs), Limits::default()).unwrap();
        headers
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn what_the_sender_says_about_the_body_is_kept_in_order() {
        let kept = kept(&[
            ("Content-Type", b"application/json"),
            ("ce-id", b"1"),
            ("X-Twice", b"b"),
            ("x-twice", b"a"),
        ]);
        let twice: Vec<_> = kept.iter().filter(|(name, _)| name == "x-twice").collect();
        assert_eq!(kept.len(), 4);
        assert_eq!((twice[0].1.as_str(), twice[1].1.as_str()), ("b", "a"));
        assert!(kept.contains(&("content-type".into(), "application/json".into())));
    }

    #[test]
    fn what_belongs_to_the_connection_is_dropped() {
        for name in OF_THE_CONNECTION
            .iter()
            .filter(|name| !name.starts_with(':'))
        {
            assert_eq!(kept(&[(name, b"x")]), [], "{name}");
        }
        let named = [
            ("connection", &b"close, X-Hop ,, x-other"[..]),
            ("connection", b"x-more"),
            ("x-hop", b"1"),
            ("x-other", b"1"),
            ("x-more", b"1"),
            ("x-stays", b"1"),
        ];
        assert_eq!(kept(&named), [("x-stays".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn credentials_and_our_own_names_are_dropped_but_can_be_checked() {
        let pairs = [
            ("authorization", &b"Bearer canary"[..]),
            ("proxy-authorization", b"Basic canary"),
            ("cookie", b"session=canary"),
            ("weir-id", b"forged"),
            ("Weir-Delay-Seconds", b"1"),
            ("nats-msg-id", b"forged"),
            ("Nats-Expected-Stream", b"forged"),
        ];
        assert_eq!(kept(&pairs), []);
        assert_eq!(
            all_from_http(&map(&pairs)).get("weir-delay-seconds"),
            Some("1")
        );
    }

    #[test]
    fn bytes_above_ascii_come_back_as_they_were() {
        let all: Vec<u8> = (0x20..=0xff)
            .filter(|byte| *byte != 0x7f)
            .chain([b'\t'])
            .collect();
        let before = map(&[("x-any", &all)]);
        let headers = from_http(&before, Limits::default()).unwrap();
        assert_eq!(headers.get("x-any").unwrap().chars().last(), Some('\t'));
        assert_eq!(to_http(&headers), before);
    }

    #[test]
    fn too_many_or_too_long_headers_are_refused_with_the_bound() {
        let limits = Limits {
            count: 2,
            bytes: 20,
        };
        let two = map(&[("a", b"123456789"), ("b", b"123456789")]);
        assert_eq!(from_http(&two, limits).unwrap().len(), 2);
        let three = map(&[
            ("a", b""),
            ("b", b""),
            ("c", b""),
            ("cookie", b"not counted"),
        ]);
        let error = from_http(&three, limits).unwrap_err();
        assert_eq!(error, HeadersTooLarge::Count { found: 3, most: 2 });
        let long = map(&[("a", b"123456789"), ("b", b"1234567890")]);
        let error = from_http(&long, limits).unwrap_err();
        assert_eq!(
            error,
            HeadersTooLarge::Bytes {
                found: 21,
                most: 20
            }
        );
        assert_eq!(error.reason(), "HeadersTooLong");
        assert_eq!(
            error.to_string(),
            "the headers have 21 bytes, 20 are allowed: put data into the body"
        );
    }

    #[test]
    fn what_cannot_be_a_header_never_becomes_one() {
        let mut headers = Headers::new();
        for value in ["a\r\nb", "a\nb", "\u{0}", "\u{7f}", "€"] {
            headers.append("x-bad", value);
        }
        headers.append("bad name", "x");
        headers.append("", "x");
        headers.append("x-good", "é");
        assert_eq!(to_http(&headers), map(&[("x-good", b"\xe9")]));
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back_byte_for_byte(
            values in prop::collection::vec(
                prop::collection::vec(
                    any::<u8>().prop_filter("a byte of a header", |byte| {
                        *byte >= 0x20 && *byte != 0x7f
                    }),
                    0..50,
                ),
                0..50,
            ),
        ) {
            let names = ["content-type", "ce-id", "x-a", "x-b"];
            let pairs: Vec<_> = values
                .iter()
                .enumerate()
                .map(|(i, value)| (names[i % names.len()], value.as_slice()))
                .collect();
            let before = map(&pairs);
            let headers = from_http(&before, Limits::default()).unwrap();
            prop_assert_eq!(to_http(&headers), before);
        }
    }
}
