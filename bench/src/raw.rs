//! The programs that people would write by hand.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use async_nats::jetstream;
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Failure;

/// POST, publish, wait for the acknowledgement, 202.
pub async fn intake(port: u16, nats: &str, subject: String) -> Result<(), Failure> {
    let js = jetstream::new(async_nats::connect(nats).await?);
    let subject: Arc<str> = subject.into();
    serve(port, move |request| {
        let (js, subject) = (js.clone(), Arc::clone(&subject));
        async move {
            let Ok(body) = request.into_body().collect().await else {
                return 400;
            };
            let Ok(stored) = js.publish(subject.to_string(), body.to_bytes()).await else {
                return 503;
            };
            if stored.await.is_ok() { 202 } else { 503 }
        }
    })
    .await
}

/// Answers 204 to everything.
pub async fn handler(port: u16) -> Result<(), Failure> {
    serve(port, |request| async move {
        request.into_body().collect().await.map_or(400, |_| 204)
    })
    .await
}

async fn serve<F, A>(port: u16, answer: F) -> Result<(), Failure>
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = u16> + Send,
{
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answered = answer(request);
                async move {
                    let mut response = Response::new(Full::<Bytes>::default());
                    *response.status_mut() =
                        StatusCode::from_u16(answered.await).unwrap_or(StatusCode::OK);
                    Ok::<_, Infallible>(response)
                }
            });
            let builder = hyper::server::conn::http1::Builder::new();
            builder
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Pull, call, acknowledge, 64 in flight.
pub async fn consumer(
    nats: &str,
    stream: &str,
    consumer: &str,
    handler: String,
) -> Result<(), Failure> {
    let js = jetstream::new(async_nats::connect(nats).await?);
    let consumer: jetstream::consumer::PullConsumer = js
        .get_stream(stream)
        .await?
        .get_consumer(consumer)
        .await
        .map_err(|e| e.to_string())?;
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let slots = Arc::new(Semaphore::new(64));
    let mut messages = consumer
        .stream()
        .max_messages_per_batch(64)
        .messages()
        .await?;
    let mut calls = JoinSet::new();
    while let Some(message) = messages.next().await {
        let message = message?;
        let slot = Arc::clone(&slots).acquire_owned().await?;
        let (client, handler) = (client.clone(), handler.clone());
        calls.spawn(async move {
            let request = Request::post(handler).body(Full::new(message.payload.clone()));
            let Ok(request) = request else { return };
            if let Ok(answer) = client.request(request).await
                && answer.status().is_success()
            {
                answer.into_body().collect().await.ok();
                message.double_ack().await.ok();
            }
            drop(slot);
        });
        while calls.try_join_next().is_some() {}
    }
    Ok(())
}
