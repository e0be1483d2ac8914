//! Requests that are too much of something: bounded, and answered.

use super::*;

#[tokio::test]
async fn a_body_over_the_limit_is_413_before_it_is_read() {
    let mut object = webhook("in");
    intake(&mut object).max_body_bytes = 1000;
    let weir = Weir::start(vec![object.clone()]).await;
    assert_eq!(
        weir.post("/webhooks/in", vec![b'x'; 1000]).await.status,
        202
    );
    let answer = raw(
        &weir,
        b"POST /webhooks/in HTTP/1.1\r\nhost: a\r\ncontent-length: 10485760\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("1000 bytes"),
        "{answer}"
    );
    assert_eq!(stored(&weir, &object).await.len(), 1);
}

#[tokio::test]
async fn an_endless_body_is_cut_at_the_limit() {
    let mut object = webhook("in");
    intake(&mut object).max_body_bytes = 100_000;
    let weir = Weir::start(vec![object.clone()]).await;
    let mut stream = TcpStream::connect(weir.intake).await.unwrap();
    stream
        .write_all(b"POST /webhooks/in HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let mut sent = 0;
    // Ends when the peer closes.
    while sent < 1_000_000_000 && stream.write_all(chunk.as_bytes()).await.is_ok() {
        sent += chunk.len();
    }
    assert!(sent < 20_000_000, "{sent}");
    assert!(stored(&weir, &object).await.is_empty());
    let reason = "weir_requests_rejected_total{kind=\"Webhook\",namespace=\"shop\",name=\"in\",reason=\"MessageTooLarge\"} ";
    assert!((weir.metric(reason).await - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn large_requests_at_once_are_503_when_memory_is_used_up() {
    let object = webhook("in");
    let mut small = settings();
    small.intake_memory = 100_000;
    let weir = Weir::start_with(vec![object.clone()], small).await;
    let mut stream = TcpStream::connect(weir.intake).await.unwrap();
    let head = "POST /webhooks/in HTTP/1.1\r\nhost: a\r\ncontent-length: 90000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; 80_000]).await.unwrap();
    until("the memory is taken", || async {
        weir.post("/webhooks/in", vec![b'y'; 30_000]).await.status == 503
    })
    .await;
    let answer = weir.post("/webhooks/in", vec![b'y'; 30_000]).await;
    assert_eq!(
        (answer.error().as_str(), answer.header("retry-after")),
        ("OutOfMemory", "1")
    );
    stream.write_all(&vec![b'x'; 10_000]).await.unwrap();
    until("the memory is back", || async {
        weir.post("/webhooks/in", vec![b'y'; 30_000]).await.status == 202
    })
    .await;
}

#[tokio::test]
async fn heads_that_are_too_long_are_431() {
    let object = webhook("in");
    let weir = Weir::start(vec![object.clone()]).await;
    let long = format!(
        "POST /webhooks/in HTTP/1.1\r\nhost: a\r\nx-long: {}\r\ncontent-length: 0\r\n\r\n",
        "x".repeat(40_000)
    );
    let mut many = "POST /webhooks/in HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n".to_owned();
    for number in 0..500 {
        let _ = write!(many, "x-{number}: y\r\n");
    }
    many.push_str("\r\n");
    for text in [long, many] {
        let answer = raw(&weir, text.as_bytes()).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{answer}"
        );
    }
    assert!(stored(&weir, &object).await.is_empty());
    assert_eq!(weir.post("/webhooks/in", "x").await.status, 202);
}

#[tokio::test]
async fn slow_heads_and_slow_bodies_are_closed_at_their_deadlines() {
    let object = webhook("in");
    let mut quick = settings();
    quick.http.header_deadline = Duration::from_millis(100);
    quick.http.body_deadline = Duration::from_millis(100);
    let weir = Weir::start_with(vec![object.clone()], quick).await;
    for begun in ["", "P", "POST /webhooks/in HTTP/1.1\r\nx-slow: "] {
        assert_eq!(
            raw(&weir, begun.as_bytes()).await,
            "",
            "{begun:?} is closed without a word"
        );
    }
    let head = "POST /webhooks/in HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nslow";
    let answer = raw(&weir, head.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("BodyTooSlow"),
        "{answer}"
    );
    assert!(stored(&weir, &object).await.is_empty());
    assert_eq!(weir.post("/webhooks/in", "quick").await.status, 202);
}

#[tokio::test]
async fn many_silent_connections_do_not_keep_others_out() {
    let object = webhook("in");
    let weir = Weir::start(vec![object.clone()]).await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(weir.intake).await.unwrap();
        stream.write_all(b"POST /webhooks").await.unwrap();
        silent.push(stream);
    }
    assert_eq!(weir.post("/webhooks/in", "x").await.status, 202);
}

#[tokio::test]
async fn idle_connections_make_place_for_requests() {
    let object = webhook("in");
    let mut narrow = settings();
    narrow.http.served = 2;
    let weir = Weir::start_with(vec![object.clone()], narrow).await;
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(weir.intake).await.unwrap();
        let request = b"POST /webhooks/in HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
        stream.write_all(request).await.unwrap();
        let mut answer = [0; 1024];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
        idle.push(stream);
    }
    assert_eq!(weir.post("/webhooks/in", "x").await.status, 202);
}

#[tokio::test]
async fn bytes_that_are_not_http_close_the_connection_and_nothing_more() {
    let object = webhook("in");
    let weir = Weir::start(vec![object.clone()]).await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\0/ HTTP/1.1\r\n\r\n",
        b"POST /webhooks/in HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        b"POST /webhooks/in HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST /webhooks/in HTTP/1.1\r\nhost: a\r\nx: \x01\r\ncontent-length: 0\r\n\r\n",
        b"POST /webhooks/in HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut quick = bytes.to_vec();
        quick.extend_from_slice(b"\r\n\r\n");
        let answer = raw(&weir, &quick).await;
        assert!(!answer.contains(" 202 "), "{answer}");
    }
    assert!(stored(&weir, &object).await.is_empty());
    assert_eq!(get(weir.admin, "/live").await.status, 200);
}

#[tokio::test]
async fn http_2_without_tls_works_and_is_bounded_alike() {
    let object = webhook("in");
    let weir = Weir::start(vec![object.clone()]).await;
    let stream = TcpStream::connect(weir.intake).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let mut answers = JoinSet::new();
    for _ in 0..50 {
        let request = Request::post("http://weir/webhooks/in")
            .body(http_body_util::Full::new(Bytes::from_static(b"x")))
            .unwrap();
        answers.spawn(sender.send_request(request));
    }
    while let Some(answer) = answers.join_next().await {
        assert_eq!(answer.unwrap().unwrap().status(), 202);
    }
    assert_eq!(stored(&weir, &object).await.len(), 50);
    let huge = Request::post("http://weir/webhooks/in")
        .header("x-long", "x".repeat(60_000))
        .body(http_body_util::Full::new(Bytes::new()))
        .unwrap();
    let answer = sender.send_request(huge).await;
    assert!(answer.is_err() || answer.unwrap().status() == 431);
    sleep(Duration::from_millis(1)).await;
}
