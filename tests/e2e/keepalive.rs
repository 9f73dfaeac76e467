//! Comments in a stream that has not begun: clients see that somebody works, and still see what comes of it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Sender, channel};

use plimsoll_tests::http::open;
use plimsoll_tests::{Sidecar, get};
use reqwest::blocking::Response;
use serde_json::Value;

const COMMENT: &str = ": keepalive\n\n";

/// A server that answers its only request with the bytes that it is given, when it is given them.
fn late() -> (String, Sender<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (send, answers) = channel::<String>();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 16 * 1024]).unwrap();
        if let Ok(answer) = answers.recv() {
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (url, send)
}

fn sidecar(url: &str, options: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: 'off' }}
upstreams: {{ other: {{ url: '{url}', context: 8000, keepalive: 5ms, {options} }} }}
routes: [{{ name: default, upstream: other, policy: chat }}]
"
    ))
}

fn ask(sidecar: &Sidecar, stream: bool) -> Response {
    let body = format!(r#"{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#);
    open(&format!("{}/v1/chat/completions", sidecar.data_url), body.into_bytes(), &[])
}

/// Reads a comment, which must be what the stream begins with.
fn comment(response: &mut Response) {
    let mut read = vec![0; COMMENT.len()];
    response.read_exact(&mut read).unwrap();
    assert_eq!(String::from_utf8_lossy(&read), COMMENT);
}

/// What follows the comments, to the end.
fn rest(mut response: Response) -> String {
    let mut read = String::new();
    response.read_to_string(&mut read).unwrap();
    read.trim_start_matches(COMMENT).to_owned()
}

fn last_error(sidecar: &Sidecar) -> Value {
    loop {
        let state = get(&format!("{}/state", sidecar.admin_url)).ok();
        if let Some(request) = state["requests"].get(0) {
            return request["error"].clone();
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_long_silence_is_filled_and_the_stream_follows_byte_for_byte() {
    let (url, answer) = late();
    let sidecar = sidecar(&url, "");
    let mut response = ask(&sidecar, true);
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-plimsoll-route"]),
        (200, &"default".parse().unwrap())
    );
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    comment(&mut response);
    comment(&mut response);
    let events = "data: {\"n\":1}\n\ndata: [DONE]\n\n";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    answer.send(format!("{head}{events}")).unwrap();
    assert_eq!(rest(response), events);
    assert_eq!(last_error(&sidecar), Value::Null);
}

#[test]
fn what_goes_wrong_later_stands_in_the_stream() {
    for (answer, error, code) in [
        (
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n{\"error\":\n {\"message\":\"no\",\"code\":\"x\"}}",
            r#"{"error":{"message":"no","code":"x"}}"#,
            "upstream_status",
        ),
        (
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\noops",
            r#"{"error":{"message":"the upstream answered with status 503 and no stream","type":"server_error","param":null,"code":"upstream_status"}}"#,
            "upstream_status",
        ),
        (
            "",
            r#"{"error":{"message":"the upstream `other` broke off before it answered","type":"server_error","param":null,"code":"upstream_broken"}}"#,
            "upstream_broken",
        ),
    ] {
        let (url, send) = late();
        let sidecar = sidecar(&url, "retries: { attempts: 0 }");
        let mut response = ask(&sidecar, true);
        comment(&mut response);
        send.send(answer.to_owned()).unwrap();
        assert_eq!(rest(response), format!("data: {error}\n\n"));
        assert_eq!(last_error(&sidecar), code);
    }
}

#[test]
fn one_answer_waits_in_silence() {
    let (url, answer) = late();
    let sidecar = sidecar(&url, "");
    let asked = std::thread::spawn(move || {
        let response = ask(&sidecar, false);
        (response.status().as_u16(), rest(response))
    });
    answer.send("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}".to_owned()).unwrap();
    assert_eq!(asked.join().unwrap(), (429, "{}".to_owned()));
}
