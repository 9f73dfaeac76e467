//! Many streams at once, a fifth of whose clients leave: no slot, connection or permit stays behind, and those who stay
//! get every piece.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use plimsoll_tests::shared::demo;
use plimsoll_tests::{Sidecar, get};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::StreamExt;

/// Events of an answer of the mock.
const EVENTS: usize = 50;

/// A model server whose answers begin once all who will stay to the end have asked.
struct Upstream {
    /// Answers that somebody still takes.
    open: AtomicUsize,
    /// Requests of those who stay, of this round and those before.
    asked: watch::Sender<usize>,
}

/// Counts an answer for as long as it is held.
struct Open(Arc<Upstream>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(State(upstream): State<Arc<Upstream>>, headers: HeaderMap) -> Response {
    upstream.open.fetch_add(1, Ordering::SeqCst);
    let open = Open(upstream.clone());
    let number = |name: &str| headers[name].to_str().expect("text").parse::<usize>().expect("a number");
    let mut asked = upstream.asked.subscribe();
    upstream.asked.send_modify(|asked| *asked += number("x-stays"));
    asked.wait_for(|asked| *asked >= number("x-all")).await.expect("its sender lives");
    let events = tokio_stream::iter(0..EVENTS).then(move |event| {
        let _held = &open;
        async move {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(Bytes::from(format!("data: {{\"n\":{event}}}\n\n")))
        }
    });
    let mut response = Response::new(Body::from_stream(events));
    response.headers_mut().insert("content-type", "text/event-stream".parse().expect("a value"));
    response
}

/// What a client read before it left, or all.
async fn stream(address: &str, head: &str, body: &Value, leave_after: Option<usize>) -> String {
    let body = body.to_string();
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    let request = format!(
        "POST {head}\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.expect("sent");
    let mut read = Vec::new();
    let mut piece = [0; 512];
    while leave_after.is_none_or(|bytes| read.len() < bytes) {
        match connection.read(&mut piece).await.expect("an answer") {
            0 => break,
            count => read.extend_from_slice(&piece[..count]),
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// Which fifth leaves, and after how many bytes: some before the head is there, some in mid-stream.
fn leaves(client: usize) -> Option<usize> {
    client.is_multiple_of(5).then(|| (client * 7919) % 2500)
}

/// All of a round at once; gives what those read who stayed. Rounds count from 1.
fn round(
    runtime: &Runtime,
    sidecar: &Sidecar,
    (path, body): (&str, &Value),
    clients: usize,
    round: usize,
) -> Vec<String> {
    let all = round * (clients - clients.div_ceil(5));
    let address = sidecar.data_url.strip_prefix("http://").expect("an address").to_owned();
    runtime.block_on(async {
        let asked: Vec<_> = (0..clients)
            .map(|client| {
                let (address, body) = (address.clone(), body.clone());
                let stays = usize::from(leaves(client).is_none());
                let head = format!("{path} HTTP/1.1\r\nx-stays: {stays}\r\nx-all: {all}");
                tokio::spawn(async move {
                    let read = stream(&address, &head, &body, leaves(client)).await;
                    leaves(client).is_none().then_some(read)
                })
            })
            .collect();
        let mut stayed = Vec::new();
        for one in asked {
            stayed.extend(one.await.expect("the client's task"));
        }
        stayed
    })
}

/// Asks for the state until nothing runs; nextest ends a wait that never does.
fn quiet(sidecar: &Sidecar, holds: impl Fn(&Value) -> bool) -> Value {
    loop {
        let state = get(&format!("{}/state", sidecar.admin_url)).ok();
        if state["running"].as_array().is_some_and(Vec::is_empty) && holds(&state) {
            return state;
        }
        std::thread::yield_now();
    }
}

fn through_the_proxy(clients: usize) {
    let runtime = Runtime::new().unwrap();
    let upstream = Arc::new(Upstream { open: AtomicUsize::new(0), asked: watch::channel(0).0 });
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(upstream.clone());
    runtime.spawn(async move { axum::serve(listener, router).await });
    // Exactly as many connections and requests as there are clients: what one round leaks the next one lacks, and waits
    // for, since the upstream answers nobody before all have asked who stay.
    let sidecar = Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
limits: {{ connections: {clients}, requests: {clients} }}
upstreams: {{ other: {{ url: 'http://{address}', context: 8000 }} }}
routes: [{{ name: default, upstream: other, policy: chat }}]
"
    ));
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let last = format!("data: {{\"n\":{}}}", EVENTS - 1);
    for number in 1..=2 {
        let stayed = round(&runtime, &sidecar, ("/v1/chat/completions", &body), clients, number);
        assert_eq!(stayed.len(), clients - clients.div_ceil(5));
        for answer in stayed {
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert_eq!(answer.matches("data: ").count(), EVENTS, "{answer}");
            assert!(answer.contains(&last), "{answer}");
        }
        quiet(&sidecar, |_| upstream.open.load(Ordering::SeqCst) == 0);
    }
}

#[test]
fn a_hundred_streams_leave_nothing_behind() {
    through_the_proxy(100);
}

/// Needs some 4,000 open files.
#[test]
#[ignore = "takes long: `make test-long`"]
fn a_thousand_streams_leave_nothing_behind() {
    through_the_proxy(1000);
}

/// Clients of the embedded engine, many more than it has slots.
fn through_the_engine(clients: usize) {
    let runtime = Runtime::new().unwrap();
    let config = demo(512, "'off'").replace("slots: 4", "slots: 4, queue: 2000");
    let sidecar = Sidecar::start(&format!("{config}limits: {{ requests: {clients}, queue_wait: 10m }}\n"));
    let body = json!({"model": "demo", "prompt": "a", "max_tokens": 20, "ignore_eos": true, "stream": true});
    for number in 1..=2 {
        for answer in round(&runtime, &sidecar, ("/v1/completions", &body), clients, number) {
            assert!(answer.contains("data: [DONE]") && answer.contains("\"length\""), "{answer}");
        }
        let state = quiet(&sidecar, |state| {
            let slots = state["upstreams"]["local"]["slots"].as_array().expect("slots");
            slots.iter().all(|slot| slot["busy"] == false)
        });
        let engine = &state["upstreams"]["local"];
        assert_eq!((&engine["queued"], &engine["kv_reserved_bytes"]), (&json!(0), &json!(0)), "{engine}");
    }
}

#[test]
fn forty_clients_of_the_engine_leave_no_slot_and_no_permit() {
    through_the_engine(40);
}

#[test]
#[ignore = "takes long: `make test-long`"]
fn a_thousand_clients_of_the_engine_leave_no_slot_and_no_permit() {
    through_the_engine(1000);
}
