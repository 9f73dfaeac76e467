//! The upstream of all: answers at once, streams events that tell when they left, or holds its answers back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// Events of a stream, and the time between two of them.
pub(crate) const EVENTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// How long answers are held back at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// What stamps count from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"demo","choices":[{"index":0,"message":{"role":"assistant","content":"Build 7 fails since the ledger is read before it is written."},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}"#;

/// How it answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    /// At once, with a JSON object.
    AtOnce,
    /// With a stream of events.
    Streaming,
    /// With a JSON object, as soon as so many requests have come whole.
    Together(usize),
}

struct State {
    manner: Mutex<Manner>,
    /// Requests that are held.
    held: watch::Sender<usize>,
}

/// An upstream with a thread of its own; stops when dropped.
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _runtime: Runtime,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        LazyLock::force(&EPOCH);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be built");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = Arc::new(State { manner: Mutex::new(Manner::AtOnce), held: watch::Sender::new(0) });
        runtime.spawn(accept(listener, state.clone()));
        Self { address, state, _runtime: runtime }
    }

    /// From now on it answers like this.
    pub(crate) fn behave(&self, manner: Manner) {
        *self.state.manner.lock().expect("the upstream works") = manner;
        self.state.held.send_replace(0);
    }

    /// Requests that came since it behaves so, where it holds them.
    pub(crate) fn held(&self) -> usize {
        *self.state.held.borrow()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, state.clone()));
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(request, state.clone()));
    // A proxy that leaves ends its connection in whatever way.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Body>, hyper::Error> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let manner = *state.manner.lock().expect("the upstream works");
    let (kind, body) = match manner {
        Manner::Streaming => ("text/event-stream", events()),
        Manner::AtOnce => ("application/json", whole()),
        Manner::Together(all) => {
            state.held.send_modify(|held| *held += 1);
            let mut held = state.held.subscribe();
            let _ = tokio::time::timeout(PATIENCE, held.wait_for(|held| *held >= all)).await;
            ("application/json", whole())
        }
    };
    let response = Response::builder().header("content-type", kind).body(body);
    Ok(response.expect("these are headers"))
}

fn whole() -> Body {
    Full::from(ANSWER).boxed()
}

/// Events that leave in time, as tokens do.
fn events() -> Body {
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        for place in 0..EVENTS {
            if place > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let said = format!("@{place}:{}@", EPOCH.elapsed().as_nanos());
            let event = format!(
                "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"demo\",\
                 \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{said}\"}},\"finish_reason\":null}}]}}\n\n"
            );
            if send.send(event).await.is_err() {
                return;
            }
        }
        let last = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"demo\",\
                    \"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        let _ = send.send(last.to_owned()).await;
    });
    let frames = ReceiverStream::new(receive).map(|event| Ok(Frame::data(Bytes::from(event))));
    BoxBody::new(StreamBody::new(frames))
}

/// The events in a piece of a stream: which it is, and how long it was under way.
pub(crate) fn arrived(piece: &[u8]) -> Vec<(usize, Duration)> {
    let now = EPOCH.elapsed();
    let text = String::from_utf8_lossy(piece);
    let stamp = |said: &str| {
        let (place, left) = said.split_once(':')?;
        Some((place.parse().ok()?, now.saturating_sub(Duration::from_nanos(left.parse().ok()?))))
    };
    text.split('@').filter_map(stamp).collect()
}
