//! Nobody makes the sidecar hold what another does not take: told by the bytes that were sent, never by the clock.

use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use plimsoll_tests::Sidecar;
use plimsoll_tests::http::get_with;
use plimsoll_tests::mock::Mock;
use tokio::runtime::Runtime;
use tokio_stream::StreamExt;

/// Bytes that somebody wants to send.
const WHOLE: u64 = 1 << 30;

/// The most that stands in the kernel's buffers of two connections, and in hyper's.
const ON_THE_WAY: u64 = 128 << 20;

const PIECE: usize = 64 * 1024;

fn sidecar(upstreams: &str, route: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams: {{ {upstreams} }}
routes:
  - {{ name: busy, match: {{ path: '/busy/*' }}, upstream: busy }}
  - {{ name: other, match: {{ header: {{ x-other: '*' }} }}, upstream: other }}
  - {{ name: default, upstream: busy, {route} }}
"
    ))
}

/// Gives the sidecar every chance to read on: this many other requests go through it, whole.
fn meanwhile(sidecar: &Sidecar) {
    for _ in 0..100 {
        assert_eq!(get_with(&format!("{}/any", sidecar.data_url), &[("x-other", "1")]).status, 200);
    }
}

fn connect(sidecar: &Sidecar, head: &str) -> TcpStream {
    let mut client = TcpStream::connect(sidecar.data_url.strip_prefix("http://").unwrap()).unwrap();
    client.write_all(head.as_bytes()).unwrap();
    client
}

#[test]
fn a_slow_client_slows_its_upstream() {
    let sent = Arc::new(AtomicU64::new(0));
    let counting = sent.clone();
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let endless = move |_: Request| {
        let sent = counting.clone();
        async move {
            let pieces = (0..WHOLE / PIECE as u64).map(move |_| {
                sent.fetch_add(PIECE as u64, Ordering::SeqCst);
                Ok::<_, Infallible>(Bytes::from_static(&[b'x'; PIECE]))
            });
            let pieces = tokio_stream::iter(pieces).then(|piece| async {
                tokio::task::yield_now().await;
                piece
            });
            Response::new(Body::from_stream(pieces))
        }
    };
    runtime.spawn(async move { axum::serve(listener, Router::new().fallback(endless)).await });
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(
        &format!("busy: {{ url: 'http://{address}' }}, other: {{ url: '{}' }}", mock.url),
        "policy: 'off'",
    );
    let mut client = connect(&sidecar, "GET /busy/x HTTP/1.1\r\nhost: localhost\r\n\r\n");
    client.read_exact(&mut [0; 12]).unwrap();
    meanwhile(&sidecar);
    let ahead = sent.load(Ordering::SeqCst);
    assert!(ahead < ON_THE_WAY, "{ahead} bytes were taken of the upstream, and the client took 12");
    // And whoever goes on reading gets on.
    let mut taken = 0;
    let mut piece = vec![0; 1 << 20];
    while taken < 2 * ON_THE_WAY {
        taken += client.read(&mut piece).unwrap() as u64;
    }
    assert!(sent.load(Ordering::SeqCst) >= taken);
}

/// What a client can send before nobody takes more.
fn sent_by(client: &mut TcpStream, sidecar: &Sidecar, most: u64) -> u64 {
    client.set_nonblocking(true).unwrap();
    let piece = [b'x'; PIECE];
    let (mut sent, mut refused) = (0, 0);
    // Refused twice with everything else done in between: the buffers on the way are full.
    while sent < most && refused < 2 {
        match client.write(&piece) {
            Ok(count) => (sent, refused) = (sent + count as u64, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                meanwhile(sidecar);
                refused += 1;
            }
            Err(_) => break,
        }
    }
    sent
}

#[test]
fn a_slow_upstream_slows_its_client() {
    // It takes connections, and nothing of what they bring.
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap();
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(
        &format!("busy: {{ url: 'http://{address}' }}, other: {{ url: '{}' }}", mock.url),
        "policy: 'off'",
    );
    let head = format!("POST /busy/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: {WHOLE}\r\n\r\n");
    let mut client = connect(&sidecar, &head);
    let held = upstream.accept().unwrap();
    let sent = sent_by(&mut client, &sidecar, WHOLE);
    assert!(sent < ON_THE_WAY, "{sent} bytes were taken of the client, and none by the upstream");
    drop(held);
}

#[test]
fn a_body_that_is_read_whole_is_read_up_to_its_limit() {
    let mock = Mock::start(Vec::new());
    let upstreams = format!("busy: {{ url: '{0}', context: 8000 }}, other: {{ url: '{0}' }}", mock.url);
    let sidecar = sidecar(&upstreams, "policy: chat");
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut client = connect(&sidecar, &format!("{head}{WHOLE:x}\r\n"));
    // The limit is 32 MiB.
    let sent = sent_by(&mut client, &sidecar, WHOLE);
    assert!(sent < ON_THE_WAY, "{sent} bytes were taken of a body of at most 32 MiB");
    client.set_nonblocking(false).unwrap();
    let mut answer = String::new();
    let _ = client.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
}
