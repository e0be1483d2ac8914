//! From POST to acknowledgement.

use crate::harness::{Handler, Weir, consumed_by, webhook};

#[tokio::test]
async fn a_posted_message_reaches_the_handler_once_and_is_gone() {
    let handler = Handler::answering(200).await;
    let object = consumed_by(webhook("stripe"), handler.address);
    let weir = Weir::start(vec![object.clone()]).await;

    let answer = weir.post("/webhooks/stripe", "{\"paid\":true}").await;
    assert_eq!(answer.status, 202);
    let id = answer.json()["id"].as_str().unwrap().to_owned();

    handler.called(1).await;
    let call = &handler.calls()[0];
    assert_eq!(
        (call.text(), call.path.as_str()),
        ("{\"paid\":true}", "/in")
    );
    assert_eq!(
        (call.header("weir-id"), call.header("ce-id")),
        (id.as_str(), id.as_str())
    );
    assert_eq!(call.header("ce-type"), "weir.webhook.received");
    assert_eq!(
        (
            call.header("weir-attempt"),
            call.header("weir-max-attempts")
        ),
        ("1", "3")
    );
    assert_eq!(weir.settled(&object).await.dead, 0);
    assert_eq!(handler.count(), 1);
    weir.stop().await.unwrap();
}
