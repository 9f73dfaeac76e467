//! An upstream that records what it is sent, byte for byte, and answers as it is told.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// What a client sent.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Method and path with its query.
    pub line: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body's bytes.
    pub body: Bytes,
}

/// One answer of the mock.
pub struct Answer {
    response: Response,
}

impl Answer {
    /// A JSON answer, with these very bytes.
    pub fn json(body: &str) -> Self {
        Self::with("application/json", Body::from(body.to_owned()))
    }

    /// An event stream; each piece is sent when it is put into the channel, the end when the channel closes.
    pub fn stream() -> (Self, mpsc::Sender<Bytes>) {
        Self::open("text/event-stream")
    }

    /// As [`Answer::stream`], of any type of content.
    pub fn open(content_type: &'static str) -> (Self, mpsc::Sender<Bytes>) {
        let (send, receive) = mpsc::channel(1);
        let pieces = ReceiverStream::new(receive).map(Ok::<_, std::convert::Infallible>);
        (Self::with(content_type, Body::from_stream(pieces)), send)
    }

    /// An event stream that is there at once: each of these JSON texts, then `[DONE]`.
    pub fn events(events: &[&str]) -> Self {
        let data: String =
            events.iter().chain(&["[DONE]"]).map(|event| format!("data: {event}\n\n")).collect();
        Self::text("text/event-stream", &data)
    }

    /// These very bytes as this type of content.
    pub fn text(content_type: &'static str, body: &str) -> Self {
        Self::with(content_type, Body::from(body.to_owned()))
    }

    /// With another status.
    ///
    /// # Panics
    /// It is no status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        *self.response.status_mut() = status.try_into().expect("a status");
        self
    }

    /// With one more header.
    ///
    /// # Panics
    /// It is no header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.response.headers_mut().append(name, value.parse().expect("a header's value"));
        self
    }

    fn with(content_type: &'static str, body: Body) -> Self {
        let mut response = Response::new(body);
        response.headers_mut().insert("content-type", content_type.parse().expect("a header's value"));
        Self { response }
    }
}

#[derive(Default)]
struct Script {
    answers: Vec<Answer>,
    /// JSON answers by path, given each time.
    fixed: Vec<(&'static str, String)>,
    seen: Vec<Recorded>,
}

/// A mock upstream on a free port; stops when dropped.
pub struct Mock {
    /// Its address, like `http://127.0.0.1:1234`.
    pub url: String,
    script: Arc<Mutex<Script>>,
    _runtime: Runtime,
}

impl Mock {
    /// Starts a mock that gives these answers, one a request, in order; then it gives `{}`.
    ///
    /// # Panics
    /// No port is free.
    pub fn start(answers: Vec<Answer>) -> Self {
        Self::at("127.0.0.1:0", answers, Vec::new())
    }

    /// Starts a mock that gives these JSON answers to these paths, each time, and `{}` to others.
    ///
    /// # Panics
    /// No port is free.
    pub fn telling(fixed: &[(&'static str, &str)]) -> Self {
        Self::at("127.0.0.1:0", Vec::new(), owned(fixed))
    }

    /// As [`Mock::telling`], at the address of a mock that was dropped.
    ///
    /// # Panics
    /// Somebody else took its port.
    pub fn revived(url: &str, fixed: &[(&'static str, &str)]) -> Self {
        Self::at(url.trim_start_matches("http://"), Vec::new(), owned(fixed))
    }

    fn at(address: &str, answers: Vec<Answer>, fixed: Vec<(&'static str, String)>) -> Self {
        let script = Arc::new(Mutex::new(Script { answers, fixed, seen: Vec::new() }));
        // One thread: tests have several of them.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be built");
        let listener = runtime.block_on(TcpListener::bind(address)).expect("the port is free");
        let url = format!("http://{}", listener.local_addr().expect("a bound listener has an address"));
        let router = Router::new().fallback(answer).with_state(script.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url, script, _runtime: runtime }
    }

    /// What came so far.
    ///
    /// # Panics
    /// The mock panicked.
    pub fn seen(&self) -> Vec<Recorded> {
        self.script.lock().expect("the mock works").seen.clone()
    }

    /// Forgets what came so far.
    ///
    /// # Panics
    /// The mock panicked.
    pub fn forget(&self) {
        self.script.lock().expect("the mock works").seen.clear();
    }

    /// The only request that came.
    ///
    /// # Panics
    /// None came, or several.
    pub fn only(&self) -> Recorded {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }
}

fn owned(fixed: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    fixed.iter().map(|(path, body)| (*path, (*body).to_owned())).collect()
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("the body arrives whole");
    let mut script = script.lock().expect("the mock works");
    let line = format!("{} {}", head.method, head.uri);
    script.seen.push(Recorded { line, headers: head.headers, body });
    if let Some((_, body)) = script.fixed.iter().find(|(path, _)| *path == head.uri.path()) {
        return Answer::json(body).response;
    }
    if script.answers.is_empty() {
        return Answer::json("{}").response;
    }
    script.answers.remove(0).response
}
