//! A request is sent once more only while nothing of an answer has come, and each kind of patience has a name.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll_tests::http::request;
use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::{Reply, Sidecar, get, post_with};
use serde_json::Value;

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

fn sidecar(urls: &[&str], options: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: 'off' }}
upstreams: {{ other: {{ urls: {urls:?}, context: 8000, {options} }} }}
routes: [{{ name: default, upstream: other, policy: chat }}]
"
    ))
}

fn chat(sidecar: &Sidecar) -> Reply {
    post_with(&format!("{}/v1/chat/completions", sidecar.data_url), CHAT.as_bytes().to_vec(), &[])
}

fn code(reply: &Reply) -> (u16, String) {
    (reply.status, reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// The last request as the state shows it, once it is finished.
fn recorded(sidecar: &Sidecar) -> Value {
    loop {
        let state = get(&format!("{}/state", sidecar.admin_url)).ok();
        if let Some(request) = state["requests"].get(0) {
            return request.clone();
        }
        std::thread::yield_now();
    }
}

/// A server that reads each request's head and as much of its body as comes with it, and answers with these bytes.
struct Raw {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Raw {
    /// After its answer it closes the connection, or keeps it and says no more.
    fn start(answer: &'static [u8], close: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        std::thread::spawn(move || {
            let mut kept: Vec<TcpStream> = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if stream.read(&mut [0; 16 * 1024]).unwrap_or_default() > 0 {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.write_all(answer);
                }
                if !close {
                    kept.push(stream);
                }
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn where_nobody_listens_another_server_is_asked() {
    let mock = Mock::start(Vec::new());
    let dead = nobody();
    let sidecar = sidecar(&[&dead, &mock.url], "affinity: none, ejection: { failures: 100 }");
    for _ in 0..6 {
        assert_eq!(chat(&sidecar).status, 200);
        // Whoever sends no body can be sent again, too.
        assert_eq!(get(&format!("{}/v1/models", sidecar.data_url)).status, 200);
    }
    assert_eq!(mock.seen().len(), 12);
    let nowhere = self::sidecar(&[&dead], "retries: { attempts: 3, pause: 1ms }");
    assert_eq!(code(&chat(&nowhere)), (502, "upstream_unreachable".to_owned()));
    let state = get(&format!("{}/state", nowhere.admin_url)).ok();
    assert_eq!(state["upstreams"]["other"]["endpoints"][0]["attempts"]["unreachable"], 4);
}

#[test]
fn what_breaks_off_is_asked_again_only_where_work_is_all_that_is_lost() {
    let broken = Raw::start(b"", true);
    let sidecar = sidecar(&[&broken.url], "retries: { attempts: 2, pause: 1ms }");
    assert_eq!(code(&chat(&sidecar)), (502, "upstream_broken".to_owned()));
    assert_eq!(broken.asked(), 3, "an answer of a model may be asked for again");
    let post = |path: &str| {
        post_with(&format!("{}{path}", sidecar.data_url), b"{\"purpose\":\"batch\"}".to_vec(), &[])
    };
    assert_eq!(code(&post("/v1/files")), (502, "upstream_broken".to_owned()));
    assert_eq!(broken.asked(), 4, "a file may have been stored");
    let delete = request("DELETE", &format!("{}/v1/files/1", sidecar.data_url), Vec::new(), &[]);
    assert_eq!((delete.status, broken.asked()), (502, 7), "a file that is gone stays gone");
}

#[test]
fn a_stream_that_has_begun_is_not_begun_again() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
    let broken = Raw::start(head, true);
    let sidecar = sidecar(&[&broken.url], "retries: { attempts: 2, pause: 1ms, statuses: [502, 503, 504] }");
    let url = format!("{}/v1/chat/completions", sidecar.data_url);
    let mut reply = plimsoll_tests::http::open(&url, CHAT.as_bytes().to_vec(), &[]);
    assert_eq!(reply.status().as_u16(), 200);
    let mut read = Vec::new();
    assert!(reply.read_to_end(&mut read).is_err(), "it broke off");
    assert_eq!((read.as_slice(), broken.asked()), (&b"data: 1\n\n"[..], 1));
    assert_eq!(recorded(&sidecar)["error"], "upstream_broken");
}

#[test]
fn a_status_is_an_answer_unless_the_configuration_says_otherwise() {
    let busy = || Answer::json(r#"{"error":{"message":"busy"}}"#).status(503).header("retry-after-ms", "1");
    let passing = Mock::start(vec![busy()]);
    let reply = chat(&sidecar(&[&passing.url], ""));
    assert_eq!((reply.status, reply.header("retry-after-ms").as_str()), (503, "1"));
    assert_eq!((reply.text().as_str(), passing.seen().len()), (r#"{"error":{"message":"busy"}}"#, 1));

    let again = Mock::start(vec![busy(), busy(), Answer::json("[1]")]);
    let retries = "retries: { statuses: [503], pause: 1ms }";
    assert_eq!(chat(&sidecar(&[&again.url], retries)).text(), "[1]");
    let bodies: Vec<_> = again.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, [CHAT; 3], "each time the same bytes");

    // With the last attempt the answer is passed on, whatever it is.
    let always = Mock::start((0..5).map(|_| busy()).collect());
    let reply = chat(&sidecar(&[&always.url], retries));
    assert_eq!((reply.status, always.seen().len()), (503, 3));

    // Nobody waits longer than configured; the client is told how long it should.
    let later = Mock::start(vec![Answer::json("{}").status(503).header("retry-after", "30")]);
    let reply = chat(&sidecar(&[&later.url], retries));
    assert_eq!((reply.status, reply.header("retry-after").as_str(), later.seen().len()), (503, "30", 1));
}

#[test]
fn another_server_is_asked_whatever_pause_the_first_asks_for() {
    let busy =
        Mock::start((0..9).map(|_| Answer::json("{}").status(503).header("retry-after", "60")).collect());
    let well = Mock::start(Vec::new());
    let sidecar = sidecar(&[&busy.url, &well.url], "affinity: none, retries: { statuses: [502, 503, 504] }");
    for _ in 0..4 {
        assert_eq!(chat(&sidecar).status, 200);
    }
    assert_eq!(well.seen().len(), 4);
}

#[test]
fn each_time_that_is_up_has_its_name() {
    let silent = Raw::start(b"", false);
    let patient = |timeouts: &str| format!("retries: {{ attempts: 0 }}, timeouts: {{ {timeouts} }}");
    let first = sidecar(&[&silent.url], &patient("first_byte: 20ms"));
    assert_eq!(code(&chat(&first)), (504, "upstream_timeout".to_owned()));
    let total = sidecar(&[&silent.url], &patient("total: 20ms"));
    assert_eq!(code(&chat(&total)), (504, "upstream_total_timeout".to_owned()));
    // It takes the connection and never answers the handshake.
    let handshake = sidecar(&[&silent.url.replace("http:", "https:")], &patient("connect: 20ms"));
    assert_eq!(code(&chat(&handshake)), (504, "upstream_connect_timeout".to_owned()));

    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun";
    for (timeouts, name) in [("idle: 20ms", "upstream_idle_timeout"), ("total: 2s", "upstream_total_timeout")]
    {
        let begun = Raw::start(begun, false);
        let sidecar = sidecar(&[&begun.url], &patient(timeouts));
        let url = format!("{}/v1/chat/completions", sidecar.data_url);
        let mut reply = plimsoll_tests::http::open(&url, CHAT.as_bytes().to_vec(), &[]);
        assert!(reply.read_to_end(&mut Vec::new()).is_err(), "it broke off");
        let request = recorded(&sidecar);
        assert_eq!((&request["error"], &request["status"]), (&name.into(), &200.into()));
    }
}
