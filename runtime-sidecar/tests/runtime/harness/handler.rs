//! A handler that keeps what it was sent.

use super::*;

/// What a handler was sent.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Call {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A handler's answer to the call of this number (from 0), after whatever time it likes.
pub type Reply = Response<Full<Bytes>>;

/// A little handler that counts.
pub struct Handler {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    calls: Mutex<Vec<Call>>,
    running: AtomicUsize,
    most: AtomicUsize,
    cut: AtomicUsize,
}

struct InCall<'a>(&'a Seen, bool);

impl Drop for InCall<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        if !self.1 {
            self.0.cut.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Handler {
    /// Answers each call by `reply`.
    pub async fn start<R, F>(reply: R) -> Self
    where
        R: Fn(usize, Call) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        Self::start_on(listener().await, reply)
    }

    pub fn start_on<R, F>(listener: TcpListener, reply: R) -> Self
    where
        R: Fn(usize, Call) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, seen.clone(), reply));
        Self {
            address,
            seen,
            tasks,
        }
    }

    /// Answers each call with a status.
    pub async fn answering(status: u16) -> Self {
        Self::start(move |_, _| async move { status_of(status) }).await
    }

    pub fn calls(&self) -> Vec<Call> {
        self.seen.calls.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.calls.lock().unwrap().len()
    }

    /// Most calls that ran at once.
    pub fn most(&self) -> usize {
        self.seen.most.load(Ordering::SeqCst)
    }

    pub fn running(&self) -> usize {
        self.seen.running.load(Ordering::SeqCst)
    }

    /// Calls whose caller went away.
    pub fn cut(&self) -> usize {
        self.seen.cut.load(Ordering::SeqCst)
    }

    pub async fn called(&self, times: usize) {
        until(&format!("{times} calls"), || async {
            self.count() >= times
        })
        .await;
    }

    /// Closes its port and every connection.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn accept<R, F>(listener: TcpListener, seen: Arc<Seen>, reply: R)
where
    R: Fn(usize, Call) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (seen, reply) = (seen.clone(), reply.clone());
        connections.spawn(async move {
            let service = service_fn(|request| handle(&seen, &reply, request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn handle<R, F>(
    seen: &Seen,
    reply: &R,
    request: Request<Incoming>,
) -> Result<Reply, Infallible>
where
    R: Fn(usize, Call) -> F,
    F: Future<Output = Reply>,
{
    let (parts, body) = request.into_parts();
    let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most.fetch_max(running, Ordering::SeqCst);
    let mut guard = InCall(seen, false);
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let call = Call {
        method: parts.method,
        path: parts.uri.to_string(),
        headers: parts.headers,
        body,
    };
    let number = {
        let mut calls = seen.calls.lock().unwrap();
        calls.push(call.clone());
        calls.len() - 1
    };
    let answer = reply(number, call).await;
    guard.1 = true;
    drop(guard);
    Ok(answer)
}

pub fn status_of(status: u16) -> Reply {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// How often each body was handled.
pub fn by_body(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(call.text().to_owned()).or_default() += 1;
    }
    counts
}
