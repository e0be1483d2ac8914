//! Signatures and the keys that check them.

use super::*;

fn github(dir: &std::path::Path) -> ObjectConfig {
    let mut object = webhook("in");
    intake(&mut object).verify = Some(VerifyConfig {
        scheme: SignatureScheme::GitHub,
        keys_dir: dir.to_str().unwrap().to_owned(),
        tolerance_seconds: 300,
        hmac: None,
    });
    object
}

async fn signed(weir: &Weir, object: &ObjectConfig, key: &str, signed: &str, body: &str) -> Answer {
    let verify = object.intake.as_ref().unwrap().verify.as_ref().unwrap();
    let key = SigningKey::parse(verify.scheme, key.as_bytes()).unwrap();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let headers = sign(verify, &key, "id", now, signed.as_bytes()).unwrap();
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    post_with(weir, "/webhooks/in", &headers, body).await
}

#[tokio::test]
async fn a_wrong_signature_is_401_and_nothing_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("old"), "old-canary\n").unwrap();
    fs::write(dir.path().join("new"), "new-canary").unwrap();
    let object = github(dir.path());
    let weir = Weir::start(vec![object.clone()]).await;
    until("both keys are read", || async {
        weir.object("in").await["intake"]["keys"] == 2
    })
    .await;
    for key in ["old-canary", "new-canary"] {
        assert_eq!(
            signed(&weir, &object, key, "body", "body").await.status,
            202
        );
    }
    for answer in [
        signed(&weir, &object, "other", "body", "body").await,
        signed(&weir, &object, "old-canary", "body", "Body").await,
        post_with(&weir, "/webhooks/in", &[], "body").await,
        post_with(
            &weir,
            "/webhooks/in",
            &[("x-hub-signature-256", "sha256=")],
            "body",
        )
        .await,
        post_with(
            &weir,
            "/webhooks/in",
            &[("x-hub-signature-256", "\u{e9}")],
            "body",
        )
        .await,
    ] {
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (401, "SignatureInvalid")
        );
        assert!(!answer.text().contains("canary"));
    }
    assert_eq!(stored(&weir, &object).await.len(), 2);
    for path in ["/objects", "/config", "/metrics"] {
        assert!(
            !get(weir.admin, path).await.text().contains("canary"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn keys_may_come_later_and_change() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("signing");
    let object = github(&keys);
    let weir = Weir::start(vec![object.clone()]).await;
    let answer = signed(&weir, &object, "key", "body", "body").await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (503, "SecretMissing")
    );
    assert!(!answer.header("retry-after").is_empty());
    until("the operator is told", || async {
        weir.object("in").await["problems"][0]["reason"] == "SecretMissing"
    })
    .await;
    assert!(stored(&weir, &object).await.is_empty());
    assert_eq!(get(weir.admin, "/ready").await.status, 200);

    fs::create_dir(&keys).unwrap();
    fs::write(keys.join("one"), "key").unwrap();
    until("the key is used", || async {
        signed(&weir, &object, "key", "body", "body").await.status == 202
    })
    .await;
    assert_eq!(
        weir.object("in").await["problems"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    fs::write(keys.join("one"), "another").unwrap();
    until("the new key is used", || async {
        signed(&weir, &object, "another", "body", "body")
            .await
            .status
            == 202
    })
    .await;
    assert_eq!(
        signed(&weir, &object, "key", "body", "body").await.status,
        401
    );
}
