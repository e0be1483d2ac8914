//! Published examples, rules of single schemes, and keys.

use super::*;

#[derive(Deserialize)]
struct Vectors {
    tolerance_seconds: u32,
    sign: Vec<SignVector>,
    invalid_secrets: Vec<String>,
    verify: Vec<VerifyVector>,
}

#[derive(Deserialize)]
struct SignVector {
    secret: String,
    id: String,
    timestamp: i64,
    body: String,
    signature: String,
}

#[derive(Deserialize)]
struct VerifyVector {
    name: String,
    secret: String,
    headers: std::collections::BTreeMap<String, String>,
    body: String,
    now: i64,
    valid: bool,
}

const STANDARD: SignatureScheme = SignatureScheme::StandardWebhooks;

#[test]
fn the_published_vectors_of_standard_webhooks_hold() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/conformance/standard-webhooks-vectors.json"
    );
    let Ok(text) = std::fs::read(path) else {
        println!("skipped: there is no {path}");
        return;
    };
    let vectors: Vectors = serde_json::from_slice(&text).unwrap();
    let config = VerifyConfig {
        tolerance_seconds: vectors.tolerance_seconds,
        ..config(STANDARD)
    };
    for vector in &vectors.sign {
        let key = SigningKey::parse(STANDARD, vector.secret.as_bytes()).unwrap();
        let now = at(vector.timestamp);
        let headers = sign(&config, &key, &vector.id, now, vector.body.as_bytes()).unwrap();
        assert!(headers.contains(&("webhook-signature".to_owned(), vector.signature.clone())));
    }
    for secret in &vectors.invalid_secrets {
        assert_eq!(
            Key::parse(STANDARD, secret.as_bytes()).unwrap_err(),
            InvalidKey::Empty
        );
    }
    for vector in &vectors.verify {
        let keys = keys(STANDARD, &[&vector.secret]);
        let headers = vector.headers.clone().into_iter().collect();
        let result = verify(
            &config,
            &keys,
            &headers,
            vector.body.as_bytes(),
            at(vector.now),
        );
        assert_eq!(result.is_ok(), vector.valid, "{}: {result:?}", vector.name);
    }
    assert!(!vectors.verify.is_empty());
}

/// The signature was made with another implementation of ed25519.
#[test]
fn standard_webhooks_accepts_ed25519_signatures_with_the_public_key_only() {
    let headers = headers(&[
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        (
            "webhook-signature",
            "v1a,yoUrgEkc12aGqm0n4Sydmdz55xJfTz4AsAgieHFjmkR7LJtqVCZOQYzvvHjI5kAey+r4iaBGxTFRrl2iBQxtDQ==",
        ),
    ]);
    let check = |texts: &[&str], body| {
        verify(
            &config(STANDARD),
            &keys(STANDARD, texts),
            &headers,
            body,
            at(NOW),
        )
    };
    assert_eq!(check(&[&secret(1), PUBLIC], BODY).unwrap().key, 1);
    assert_eq!(check(&[PUBLIC], b"{}"), Err(Rejection::WrongSignature));
    assert_eq!(check(&[&secret(1)], BODY), Err(Rejection::WrongSignature));
    let mut made = signed(STANDARD, PRIVATE, at(NOW), BODY);
    let both = [signed(STANDARD, PRIVATE, at(NOW), b"other"), made.clone()]
        .map(|headers| headers.get("webhook-signature").unwrap().to_owned())
        .join(" ");
    for list in [made.get("webhook-signature").unwrap().to_owned(), both] {
        made.set("webhook-signature", list);
        let keys = keys(STANDARD, &[PUBLIC]);
        assert!(verify(&config(STANDARD), &keys, &made, BODY, at(NOW)).is_ok());
    }
}

#[test]
fn a_public_key_is_never_a_shared_secret() {
    let as_secret = format!("whsec_{}", &PUBLIC[5..]);
    let mut forged = signed(STANDARD, &as_secret, at(NOW), BODY);
    let keys = keys(STANDARD, &[PUBLIC]);
    let check = |headers: &Headers| verify(&config(STANDARD), &keys, headers, BODY, at(NOW));
    assert_eq!(check(&forged), Err(Rejection::WrongSignature));
    let relabelled = forged
        .get("webhook-signature")
        .unwrap()
        .replace("v1,", "v1a,");
    forged.set("webhook-signature", relabelled);
    assert_eq!(check(&forged).unwrap_err().reason(), "Malformed");
}

#[test]
fn standard_webhooks_looks_at_every_signature_of_the_list() {
    let good = signed(STANDARD, &secret(1), at(NOW), BODY);
    let good = good.get("webhook-signature").unwrap();
    let other = signed(STANDARD, &secret(2), at(NOW), BODY);
    let other = other.get("webhook-signature").unwrap();
    let check = |list: &str| {
        let mut headers = signed(STANDARD, &secret(1), at(NOW), BODY);
        headers.set("webhook-signature", list);
        verify(
            &config(STANDARD),
            &keys(STANDARD, &[&secret(1)]),
            &headers,
            BODY,
            at(NOW),
        )
        .map_err(|rejection| rejection.reason())
    };
    assert!(check(&format!("{other} {good}")).is_ok());
    assert!(check(&format!("v2,abc v1,broken {good} {other}")).is_ok());
    assert!(check(&format!("  {good} ")).is_ok());
    assert!(check(&format!("{}{good}", format!("{other} ").repeat(15))).is_ok());
    assert_eq!(
        check(&format!("{}{good}", format!("{other} ").repeat(16))),
        Err("Malformed")
    );
    assert_eq!(check(&format!("{other} {other}")), Err("WrongSignature"));
    assert_eq!(check(&good.replace(',', "=")), Err("Malformed"));
    assert_eq!(check(&good.replace("v1", "v2")), Err("Malformed"));
}

#[test]
fn standard_webhooks_refuses_ids_and_times_that_could_be_spliced() {
    let key = SigningKey::parse(STANDARD, secret(1).as_bytes()).unwrap();
    let long = "x".repeat(257);
    for id in ["", "a.1", ".", "a b", "ü", "a\u{7f}", &long] {
        let result = sign(&config(STANDARD), &key, id, at(NOW), BODY);
        assert_eq!(result, Err(SignError::InvalidId), "{id:?}");
        let mut headers = signed(STANDARD, &secret(1), at(NOW), BODY);
        headers.set("webhook-id", id);
        let rejection = verify(
            &config(STANDARD),
            &keys(STANDARD, &[&secret(1)]),
            &headers,
            BODY,
            at(NOW),
        )
        .unwrap_err();
        assert_eq!(rejection.reason(), "Malformed", "{id:?}");
    }
    for time in [
        "",
        "1614265330.5",
        "+1614265330",
        "-1",
        "1e9",
        " 1614265330",
        "999999999999",
    ] {
        let mut headers = signed(STANDARD, &secret(1), at(NOW), BODY);
        headers.set("webhook-timestamp", time);
        let rejection = verify(
            &config(STANDARD),
            &keys(STANDARD, &[&secret(1)]),
            &headers,
            BODY,
            at(NOW),
        )
        .unwrap_err();
        assert_eq!(rejection.reason(), "Malformed", "{time:?}");
    }
}

#[test]
fn reusing_an_id_and_its_signature_for_another_body_is_refused() {
    let headers = signed(STANDARD, &secret(1), at(NOW), BODY);
    let keys = keys(STANDARD, &[&secret(1)]);
    let result = verify(
        &config(STANDARD),
        &keys,
        &headers,
        b"{\"test\": 1}",
        at(NOW),
    );
    assert_eq!(result, Err(Rejection::WrongSignature));
}

/// From GitHub's documentation, "Validating webhook deliveries".
#[test]
fn the_example_of_github_holds() {
    let headers = headers(&[(
        "x-hub-signature-256",
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    )]);
    let scheme = SignatureScheme::GitHub;
    let keys = keys(scheme, &["It's a Secret to Everybody"]);
    assert!(verify(&config(scheme), &keys, &headers, b"Hello, World!", at(0)).is_ok());
    assert!(verify(&config(scheme), &keys, &headers, b"Hello, World?", at(0)).is_err());
}

/// From Slack's documentation, "Verifying requests from Slack".
#[test]
fn the_example_of_slack_holds() {
    let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow\
        &channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner\
        &command=%2Fwebhook-collect&text=\
        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554\
        %2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let headers = headers(&[
        ("x-slack-request-timestamp", "1531420618"),
        (
            "x-slack-signature",
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        ),
    ]);
    let scheme = SignatureScheme::Slack;
    let keys = keys(scheme, &["8f742231b10e8888abcd99yyyzzz85a5"]);
    assert!(verify(&config(scheme), &keys, &headers, body, at(1_531_420_618)).is_ok());
}

/// Stripe signs with the whole text of the secret, prefix included. The value was made with another
/// implementation of HMAC.
#[test]
fn stripe_takes_any_of_several_v1_signatures() {
    let good = "799c4ba7bb339f3c8601adfd112f0e477c930a268be1243d341abb8286501c2f";
    let scheme = SignatureScheme::Stripe;
    let check = |value: &str| {
        verify(
            &config(scheme),
            &keys(scheme, &["whsec_test_secret\n"]),
            &headers(&[("stripe-signature", value)]),
            br#"{"id":"evt_1"}"#,
            at(1_492_774_577),
        )
        .map_err(|rejection| rejection.reason())
    };
    let zero = "0".repeat(64);
    assert!(check(&format!("t=1492774577,v1={good}")).is_ok());
    assert!(check(&format!("t=1492774577,v1={zero},v1={good},v0={zero}")).is_ok());
    assert!(check(&format!("v1={good}, t=1492774577")).is_ok());
    assert_eq!(check(&format!("t=1492774577,v0={good}")), Err("Malformed"));
    assert_eq!(
        check(&format!("t=1492774578,v1={good}")),
        Err("WrongSignature")
    );
    assert_eq!(
        check(&format!("t=1492774577,t=1492774577,v1={good}")),
        Err("Malformed")
    );
    assert_eq!(check(&format!("v1={good}")), Err("Malformed"));
    let many = |count| format!("t=1492774577{}", format!(",v1={good}").repeat(count));
    assert!(check(&many(16)).is_ok());
    assert_eq!(check(&many(17)), Err("Malformed"));
}

/// RFC 4231, test case 2.
#[test]
fn plain_hmacs_are_read_in_hexadecimal_and_base64_with_any_prefix() {
    let body = b"what do ya want for nothing?";
    let hex = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let base64 = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=";
    let scheme = SignatureScheme::Shopify;
    let shopify = headers(&[("x-shopify-hmac-sha256", base64)]);
    assert!(
        verify(
            &config(scheme),
            &keys(scheme, &["Jefe"]),
            &shopify,
            body,
            at(0)
        )
        .is_ok()
    );

    let scheme = SignatureScheme::HmacSha256;
    for (encoding, prefix, value, valid) in [
        (HmacEncoding::Hex, "sha256=", format!("sha256={hex}"), true),
        (HmacEncoding::Hex, "", hex.to_owned(), true),
        (HmacEncoding::Hex, "", hex.to_uppercase(), true),
        (HmacEncoding::Base64, "sig ", format!("sig {base64}"), true),
        (HmacEncoding::Hex, "sha256=", hex.to_owned(), false),
        (HmacEncoding::Hex, "", base64.to_owned(), false),
        (HmacEncoding::Base64, "", hex.to_owned(), false),
        (HmacEncoding::Hex, "", format!("{hex}00"), false),
        (HmacEncoding::Hex, "", format!("{hex},{hex}"), false),
    ] {
        let hmac = HmacConfig {
            header: "X-Their-Signature".to_owned(),
            encoding,
            prefix: prefix.to_owned(),
            payload: HmacPayload::Body,
        };
        let config = VerifyConfig {
            hmac: Some(hmac),
            ..config(scheme)
        };
        let headers = headers(&[("x-their-signature", &value)]);
        let result = verify(&config, &keys(scheme, &["Jefe"]), &headers, body, at(0));
        assert_eq!(result.is_ok(), valid, "{encoding:?} {value}: {result:?}");
        if valid {
            let key = SigningKey::parse(scheme, b"Jefe").unwrap();
            let made: Headers = sign(&config, &key, "", at(0), body)
                .unwrap()
                .into_iter()
                .collect();
            assert!(verify(&config, &keys(scheme, &["Jefe"]), &made, body, at(0)).is_ok());
        }
    }
}

#[test]
fn keys_are_read_as_senders_show_them_and_errors_say_what_to_write() {
    let plain = secret(1)[6..].to_owned();
    for text in [
        secret(1),
        plain,
        format!("{}\n", secret(1)),
        format!("{}\r\n", secret(1)),
    ] {
        let keys = keys(STANDARD, &[&text]);
        let headers = signed(STANDARD, &secret(1), at(NOW), BODY);
        assert!(
            verify(&config(STANDARD), &keys, &headers, BODY, at(NOW)).is_ok(),
            "{text:?}"
        );
    }
    let pair = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==";
    assert!(SigningKey::parse(STANDARD, pair.as_bytes()).is_ok());

    let of_length = |length| format!("whsec_{}", base64(&vec![7; length]));
    for length in [24, 64] {
        assert!(Key::parse(STANDARD, of_length(length).as_bytes()).is_ok());
    }
    let error = |text: &str| Key::parse(STANDARD, text.as_bytes()).unwrap_err().reason();
    assert_eq!(error(&of_length(23)), "SecretLength");
    assert_eq!(error(&of_length(65)), "SecretLength");
    assert_eq!(error("whsec_not base64"), "NotBase64");
    assert_eq!(error("sk_live_123"), "NotBase64");
    assert_eq!(error("whsec_\n"), "Empty");
    assert_eq!(error("whpk_"), "Empty");
    assert_eq!(error("whpk_AAAA"), "NotPublicKey");
    assert_eq!(error(PRIVATE), "PrivateKey");
    // The neutral point fits any signature.
    let neutral = [&[1_u8][..], &[0; 31]].concat();
    assert_eq!(error(&format!("whpk_{}", base64(&neutral))), "NotPublicKey");
    let sign_error = |text: &str| {
        SigningKey::parse(STANDARD, text.as_bytes())
            .unwrap_err()
            .reason()
    };
    assert_eq!(sign_error(PUBLIC), "PublicKey");
    assert_eq!(sign_error("whsk_AAAA"), "NotPrivateKey");
    assert_eq!(
        sign_error(&pair.replace("whsk_A", "whsk_B")),
        "NotPrivateKey"
    );
}

#[test]
fn an_empty_key_is_refused_by_every_scheme() {
    for scheme in SCHEMES {
        for text in ["", "\n", "\r\n\n", "  \n"] {
            assert_eq!(
                Key::parse(scheme, text.as_bytes()).unwrap_err(),
                InvalidKey::Empty
            );
            assert_eq!(
                SigningKey::parse(scheme, text.as_bytes()).unwrap_err(),
                InvalidKey::Empty
            );
        }
    }
}

#[test]
fn nothing_that_is_printed_about_a_key_holds_the_key() {
    for text in ["whsec_c2hvcnQ=", "not base64 canary", PRIVATE, "whpk_AAAA"] {
        let error = Key::parse(STANDARD, text.as_bytes()).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(!said.contains(&text[6..]), "{said}");
    }
    let key = Key::parse(STANDARD, secret(1).as_bytes()).unwrap();
    assert_eq!(format!("{key:?}"), "Key(HMAC-SHA256)");
    let key = Key::parse(STANDARD, PUBLIC.as_bytes()).unwrap();
    assert_eq!(format!("{key:?}"), "Key(ed25519)");
    let key = SigningKey::parse(STANDARD, PRIVATE.as_bytes()).unwrap();
    assert_eq!(format!("{key:?}"), "SigningKey(ed25519)");
}
