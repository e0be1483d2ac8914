use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::config::{HmacConfig, HmacEncoding, HmacPayload};
use crate::encoding::base64;

mod vectors;

const SCHEMES: [SignatureScheme; 6] = [
    SignatureScheme::StandardWebhooks,
    SignatureScheme::GitHub,
    SignatureScheme::Stripe,
    SignatureScheme::Slack,
    SignatureScheme::Shopify,
    SignatureScheme::HmacSha256,
];

/// The ed25519 pair whose seed is the bytes 0 to 31.
const PUBLIC: &str = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
const PRIVATE: &str = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

const BODY: &[u8] = br#"{"test": 2432232314}"#;

fn config(scheme: SignatureScheme) -> VerifyConfig {
    let hmac = (scheme == SignatureScheme::HmacSha256).then(|| HmacConfig {
        header: "x-signature".to_owned(),
        encoding: HmacEncoding::Hex,
        prefix: "sha256=".to_owned(),
        payload: HmacPayload::Body,
    });
    VerifyConfig {
        scheme,
        keys_dir: "/keys".to_owned(),
        tolerance_seconds: 300,
        hmac,
    }
}

fn has_time(scheme: SignatureScheme) -> bool {
    use SignatureScheme::{Slack, StandardWebhooks, Stripe};
    matches!(scheme, StandardWebhooks | Stripe | Slack)
}

/// A text that is a shared secret in every scheme.
fn secret(number: u8) -> String {
    format!("whsec_{}", base64(&[number; 32]))
}

fn keys(scheme: SignatureScheme, texts: &[&str]) -> Vec<Key> {
    texts
        .iter()
        .map(|text| Key::parse(scheme, text.as_bytes()).unwrap())
        .collect()
}

fn signed(scheme: SignatureScheme, key: &str, now: Timestamp, body: &[u8]) -> Headers {
    let key = SigningKey::parse(scheme, key.as_bytes()).unwrap();
    sign(&config(scheme), &key, "msg_1", now, body)
        .unwrap()
        .into_iter()
        .collect()
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

const NOW: i64 = 1_614_265_330;

#[test]
fn every_scheme_accepts_what_it_signs() {
    for scheme in SCHEMES {
        let verified = verify(
            &config(scheme),
            &keys(scheme, &[&secret(1)]),
            &signed(scheme, &secret(1), at(NOW), BODY),
            BODY,
            at(NOW),
        )
        .unwrap_or_else(|rejection| panic!("{scheme:?}: {rejection}"));
        assert_eq!(
            verified.signed_at,
            has_time(scheme).then_some(at(NOW)),
            "{scheme:?}"
        );
        let has_id = scheme == SignatureScheme::StandardWebhooks;
        assert_eq!(
            verified.id,
            has_id.then(|| "msg_1".to_owned()),
            "{scheme:?}"
        );
    }
}

#[test]
fn every_key_of_a_rotation_is_valid_and_the_one_that_signed_is_named() {
    for scheme in SCHEMES {
        let texts = [secret(1), secret(2), secret(3)];
        let keys = keys(scheme, &texts.each_ref().map(String::as_str));
        for (position, text) in texts.iter().enumerate() {
            let headers = signed(scheme, text, at(NOW), BODY);
            let verified = verify(&config(scheme), &keys, &headers, BODY, at(NOW)).unwrap();
            assert_eq!(verified.key, position, "{scheme:?}");
        }
        let stranger = signed(scheme, &secret(4), at(NOW), BODY);
        let result = verify(&config(scheme), &keys, &stranger, BODY, at(NOW));
        assert_eq!(result, Err(Rejection::WrongSignature), "{scheme:?}");
    }
}

#[test]
fn signed_times_are_accepted_up_to_the_tolerance_in_both_directions_and_not_beyond() {
    for scheme in SCHEMES {
        let headers = signed(scheme, &secret(1), at(NOW), BODY);
        let keys = keys(scheme, &[&secret(1)]);
        let check =
            |now| verify(&config(scheme), &keys, &headers, BODY, now).map_err(|r| r.reason());
        for second in [-300, -1, 0, 299, 300] {
            assert!(check(at(NOW + second)).is_ok(), "{scheme:?} {second}");
        }
        let late = at(NOW + 300)
            .checked_add(Duration::from_millis(999))
            .unwrap();
        assert!(check(late).is_ok(), "whole seconds count: {scheme:?}");
        if has_time(scheme) {
            assert_eq!(check(at(NOW + 301)), Err("Expired"), "{scheme:?}");
            assert_eq!(check(at(NOW - 301)), Err("TooEarly"), "{scheme:?}");
        } else {
            assert!(
                check(at(NOW + 1_000_000)).is_ok(),
                "{scheme:?} signs no time"
            );
        }
    }
}

#[test]
fn each_missing_header_is_named() {
    for scheme in SCHEMES {
        let complete = signed(scheme, &secret(1), at(NOW), BODY);
        for (name, _) in complete.iter() {
            let mut headers = complete.clone();
            headers.remove(name);
            let result = verify(
                &config(scheme),
                &keys(scheme, &[&secret(1)]),
                &headers,
                BODY,
                at(NOW),
            );
            if scheme == SignatureScheme::StandardWebhooks && name == "webhook-id" {
                assert!(result.is_err());
            }
            assert_eq!(
                result,
                Err(Rejection::MissingHeader {
                    header: name.to_owned()
                })
            );
        }
    }
}

#[test]
fn a_header_that_is_there_twice_is_refused() {
    for scheme in SCHEMES {
        let complete = signed(scheme, &secret(1), at(NOW), BODY);
        for (name, value) in complete.iter() {
            let mut headers = complete.clone();
            headers.append(name, value);
            let keys = keys(scheme, &[&secret(1)]);
            let rejection = verify(&config(scheme), &keys, &headers, BODY, at(NOW)).unwrap_err();
            assert_eq!(rejection.reason(), "Malformed", "{scheme:?} {name}");
        }
    }
}

#[test]
fn a_signed_time_is_part_of_what_is_signed_and_held_against_the_clock() {
    let scheme = SignatureScheme::HmacSha256;
    let mut config = config(scheme);
    config.hmac.as_mut().unwrap().payload = HmacPayload::TimestampDotBody {
        header: "X-Time".to_owned(),
    };
    let key = SigningKey::parse(scheme, b"Jefe").unwrap();
    let keys = keys(scheme, &["Jefe"]);
    let made: Headers = sign(&config, &key, "", at(NOW), BODY)
        .unwrap()
        .into_iter()
        .collect();
    // What `openssl dgst -sha256 -hmac Jefe` prints of the time, a dot and the body.
    let digest = "4eb559d8c109b56f7d381e46a8e058df2e634c4d1a2ca8172e073da2dbe78fd8";
    assert_eq!(
        made,
        headers(&[
            ("x-time", "1614265330"),
            ("x-signature", &format!("sha256={digest}"))
        ])
    );
    let judged = |headers: &Headers, now| verify(&config, &keys, headers, BODY, at(now));
    assert_eq!(judged(&made, NOW + 300).unwrap().signed_at, Some(at(NOW)));
    assert_eq!(judged(&made, NOW + 301).unwrap_err().reason(), "Expired");
    assert_eq!(judged(&made, NOW - 301).unwrap_err().reason(), "TooEarly");
    for (time, reason) in [
        ((NOW + 1).to_string(), "WrongSignature"),
        (format!("{NOW}.0"), "Malformed"),
        (String::new(), "Malformed"),
    ] {
        let mut moved = made.clone();
        moved.set("x-time", &time);
        assert_eq!(judged(&moved, NOW).unwrap_err().reason(), reason, "{time}");
    }
    let mut unsigned = made.clone();
    unsigned.remove("x-time");
    assert_eq!(
        judged(&unsigned, NOW).unwrap_err().reason(),
        "MissingHeader"
    );
}

#[test]
fn without_a_key_or_a_configuration_the_sender_is_told_to_try_again() {
    for scheme in SCHEMES {
        let headers = signed(scheme, &secret(1), at(NOW), BODY);
        let rejection = verify(&config(scheme), &[], &headers, BODY, at(NOW)).unwrap_err();
        assert_eq!((rejection.reason(), rejection.status()), ("NoKey", 503));
    }
    let scheme = SignatureScheme::HmacSha256;
    let mut incomplete = config(scheme);
    incomplete.hmac = None;
    let keys = keys(scheme, &["secret"]);
    let rejection = verify(&incomplete, &keys, &Headers::new(), BODY, at(NOW)).unwrap_err();
    assert_eq!(
        (rejection.reason(), rejection.status()),
        ("NotConfigured", 503)
    );
    assert_eq!(Rejection::WrongSignature.status(), 401);
}

#[test]
fn malformed_and_truncated_signatures_are_refused_with_what_they_must_be() {
    for scheme in SCHEMES {
        let complete = signed(scheme, &secret(1), at(NOW), BODY);
        let (name, value) = complete.iter().last().unwrap();
        for broken in [
            "",
            " ",
            ",",
            "=",
            "x",
            "v1,",
            "v1=",
            "t=",
            "sha256=",
            "sha256=zz",
            "é",
        ] {
            let mut headers = complete.clone();
            headers.set(name, broken);
            let keys = keys(scheme, &[&secret(1)]);
            let rejection = verify(&config(scheme), &keys, &headers, BODY, at(NOW)).unwrap_err();
            assert_eq!(rejection.reason(), "Malformed", "{scheme:?} {broken:?}");
        }
        for cut in 1..value.len() {
            let mut headers = complete.clone();
            headers.set(name, &value[..cut]);
            let keys = keys(scheme, &[&secret(1)]);
            assert!(
                verify(&config(scheme), &keys, &headers, BODY, at(NOW)).is_err()
                    || value[cut..] == *"=",
                "{scheme:?} {cut}"
            );
        }
    }
}

#[test]
fn what_a_rejection_says_holds_no_secret() {
    for scheme in SCHEMES {
        let keys = keys(scheme, &[&secret(1)]);
        let good = signed(scheme, &secret(1), at(NOW), BODY);
        let (_, good) = good.iter().last().unwrap();
        let stranger = signed(scheme, &secret(2), at(NOW), BODY);
        let rejection = verify(&config(scheme), &keys, &stranger, BODY, at(NOW)).unwrap_err();
        let told = format!("{rejection} {rejection:?} {keys:?}");
        assert!(
            !told.contains(good) && !told.contains(&secret(1)[6..]),
            "{told}"
        );
    }
}

fn flip(bytes: &mut [u8], position: usize) {
    bytes[position / 8 % bytes.len()] ^= 1 << (position % 8);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_changed_bit_of_the_body_is_refused(
        scheme in prop::sample::select(&SCHEMES[..]),
        body in prop::collection::vec(any::<u8>(), 1..200),
        position: usize,
    ) {
        let headers = signed(scheme, &secret(1), at(NOW), &body);
        let keys = keys(scheme, &[&secret(1)]);
        prop_assert!(verify(&config(scheme), &keys, &headers, &body, at(NOW)).is_ok());
        let mut changed = body;
        flip(&mut changed, position);
        let result = verify(&config(scheme), &keys, &headers, &changed, at(NOW));
        prop_assert_eq!(result, Err(Rejection::WrongSignature));
    }

    #[test]
    fn any_changed_bit_of_a_header_is_refused(
        scheme in prop::sample::select(&SCHEMES[..]),
        which: prop::sample::Index,
        position: usize,
    ) {
        let complete = signed(scheme, &secret(1), at(NOW), BODY);
        let (name, value) = complete.iter().nth(which.index(complete.len())).unwrap();
        let mut changed = value.as_bytes().to_vec();
        flip(&mut changed, position);
        // As a header would hold it; the case of hexadecimal digits does not matter.
        let changed: String = changed.into_iter().map(char::from).collect();
        let hexadecimal = !matches!(
            scheme,
            SignatureScheme::StandardWebhooks | SignatureScheme::Shopify
        );
        prop_assume!(!(hexadecimal && changed.eq_ignore_ascii_case(value)));
        let mut headers = complete.clone();
        headers.set(name, changed);
        let keys = keys(scheme, &[&secret(1)]);
        prop_assert!(verify(&config(scheme), &keys, &headers, BODY, at(NOW)).is_err());
    }

    #[test]
    fn any_headers_and_bytes_are_refused_without_a_panic(
        scheme in prop::sample::select(&SCHEMES[..]),
        values in prop::collection::vec("\\PC{0,60}|[tv01=,]{0,30}|[0-9]{1,20}", 3),
        body: Vec<u8>,
        now in any::<i32>(),
    ) {
        let names = signed(scheme, &secret(1), at(NOW), BODY);
        let headers = names
            .iter()
            .zip(values)
            .map(|((name, _), value)| (name.to_owned(), value))
            .collect();
        let keys = keys(scheme, &[&secret(1)]);
        prop_assert!(verify(&config(scheme), &keys, &headers, &body, at(now.into())).is_err());
    }
}
