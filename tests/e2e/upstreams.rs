//! An HTTP upstream sees what the client sent, byte for byte, but for what a policy names; and so does the client.

use std::io::Read;

use plimsoll_tests::http::open;
use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::{Sidecar, post_with};

/// Odd but legal: spaces, escapes, number spellings, unknown fields, a duplicate key, a lone surrogate.
const ODD: &str = r#"{ "model":"gpt-4o" ,"temperature":1.50,"seed":1E3,"x":{"big":123456789012345678901234567890},
  "dup":1,"dup":2, "messages" : [ {"role":"system","content":"Be br\u0069ef \/ kind","cache_control":{"type":"ephemeral"}} ,
  {"content":"hello \ud800","role":"user","name":"n"}],"tools":[{"type":"function","function":{"name":"b"}},{"type":"function","function":{"name":"a"}}]}"#;

fn sidecar(mock: &Mock, route: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams:
  other: {{ url: '{}', dialect: openai, context: 8000, timeouts: {{ first_byte: 20s }} }}
routes:
  - {{ name: default, upstream: other, {route} }}
",
        mock.url
    ))
}

fn chat(sidecar: &Sidecar, body: &str, headers: &[(&str, &str)]) -> plimsoll_tests::Reply {
    post_with(&format!("{}/v1/chat/completions?a=b", sidecar.data_url), body.as_bytes().to_vec(), headers)
}

#[test]
fn mode_off_forwards_the_bytes_and_hides_what_is_between_two_hops() {
    let mock = Mock::start(vec![
        Answer::json(r#"{"ok": 1.0}"#)
            .header("x-kept", "yes")
            .header("connection", "x-hop")
            .header("x-hop", "no"),
    ]);
    let sidecar = sidecar(&mock, "policy: agent, mode: 'off'");
    let reply = chat(
        &sidecar,
        ODD,
        &[("authorization", "Bearer k"), ("x-team", "t"), ("connection", "x-gone"), ("x-gone", "1")],
    );
    let seen = mock.only();
    assert_eq!(seen.line, "POST /v1/chat/completions?a=b");
    assert_eq!(seen.body, ODD.as_bytes());
    assert_eq!(
        (&seen.headers["authorization"], &seen.headers["x-team"]),
        (&"Bearer k".parse().unwrap(), &"t".parse().unwrap())
    );
    assert!(seen.headers.get("x-gone").is_none());
    assert_eq!(reply.text(), r#"{"ok": 1.0}"#);
    assert_eq!((reply.header("x-kept"), reply.header("x-hop")), ("yes".to_owned(), String::new()));
    assert_eq!(reply.header("x-plimsoll-mode"), "off");
    assert_eq!(reply.header("x-plimsoll-tokens-before"), "");
}

#[test]
fn what_is_no_json_is_refused_or_passed_as_the_route_says() {
    let mock = Mock::start(Vec::new());
    let strict = sidecar(&mock, "policy: agent");
    assert_eq!(chat(&strict, "{nope", &[]).status, 400);
    assert_eq!(mock.seen().len(), 0);
    let lax = sidecar(&mock, "policy: agent, on_unparsable: pass");
    assert_eq!(chat(&lax, "{nope", &[]).status, 200);
    // Whatever is JSON is the upstream's to judge.
    assert_eq!(chat(&strict, r#"{"messages": 7}"#, &[]).status, 200);
    let bodies: Vec<_> = mock.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, ["{nope", r#"{"messages": 7}"#]);
}

#[test]
fn a_policy_changes_only_what_it_names() {
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(&mock, "policy: agent");
    let reply = chat(&sidecar, ODD, &[]);
    let tools = r#"{"type":"function","function":{"name":"b"}},{"type":"function","function":{"name":"a"}}"#;
    let sorted = r#"{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b"}}"#;
    assert_eq!(String::from_utf8_lossy(&mock.only().body), ODD.replace(tools, sorted));
    assert_eq!(reply.header("x-plimsoll-actions"), "normalize_prefix=2");
    assert_eq!(reply.header("x-plimsoll-tokens-estimated"), "true");
}

/// Exact counts need text; half a surrogate pair is none. The upstream judges it all the same.
#[test]
fn what_is_no_text_is_counted_and_passed() {
    let mock = Mock::start(Vec::new());
    let sidecar = Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams: {{ other: {{ url: '{}', tokenizer: engine/demo/model, context: 8192 }} }}
routes:
  - {{ name: governed, match: {{ header: {{ x-policy: agent }} }}, upstream: other, policy: agent }}
  - {{ name: default, upstream: other, policy: 'off' }}
",
        mock.url
    ));
    let call = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"\udc00","type":"function","function":{"name":"f","arguments":"{}"}}]}"#;
    let halves = format!(
        r#"{{"messages":[{{"role":"user","content":"hello \ud800 \ud83d\ude00"}},{call},{{"role":"tool","tool_call_id":"\udc00","content":"\\ud800 \ude00"}}]}}"#
    );
    let whole = halves
        .replace(r"\ud800 \ud83d", r"\ufffd \ud83d")
        .replace(r"\udc00", r"\ufffd")
        .replace(r" \ude00", r" \ufffd");
    assert_ne!(halves, whole);
    for headers in [&[][..], &[("x-policy", "agent")]] {
        let counts = [&halves, &whole].map(|body| {
            let reply = chat(&sidecar, body, headers);
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(reply.header("x-plimsoll-actions"), "none");
            assert_eq!(mock.seen().pop().expect("the request").body, body.as_bytes());
            reply.header("x-plimsoll-tokens-before")
        });
        assert_eq!(counts[0], counts[1]);
        assert!(headers.is_empty() || counts[0].parse::<u64>().expect("a count") > 10);
    }
}

#[test]
fn a_long_tool_result_is_capped_and_every_other_message_keeps_its_bytes() {
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(&mock, "policy: agent");
    let long: String = (0..6000).map(|n| format!("line {n}\\n")).collect();
    let user = r#"{"role" : "user","content":"run it","n":1.0}"#;
    let call = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"sh","arguments":"{ \"a\" : 1.0 }"}}],"extra":[1E2]}"#;
    let result = format!(r#"{{"role":"tool","tool_call_id":"c1","content":"{long}"}}"#);
    let last = r#"{"content":"and now?","role":"user"}"#;
    let body = format!(r#"{{"messages":[{user}, {call},{result} ,{last}],"model":"gpt-4o"}}"#);
    let reply = chat(&sidecar, &body, &[]);
    let sent = String::from_utf8(mock.only().body.to_vec()).unwrap();
    let (head, rest) =
        sent.split_once(r#"{"role":"tool","tool_call_id":"c1","content":""#).expect("the result");
    assert_eq!(head, format!(r#"{{"messages":[{user}, {call},"#));
    assert!(rest.ends_with(&format!(r#""}} ,{last}],"model":"gpt-4o"}}"#)), "{rest}");
    assert!(rest.contains("[plimsoll: ") && rest.contains("tokens omitted"), "{rest}");
    assert_eq!(reply.header("x-plimsoll-actions"), "cap_tool_output=1");
    let number = |name| reply.header(name).parse::<u64>().expect("a count");
    assert!(number("x-plimsoll-tokens-before") > 20_000 && number("x-plimsoll-tokens-after") < 3_000);
}

#[test]
fn shadow_mode_forwards_the_bytes_and_tells_what_would_be() {
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(&mock, "policy: agent, mode: shadow");
    let reply = chat(&sidecar, ODD, &[]);
    assert_eq!(mock.only().body, ODD.as_bytes());
    assert_eq!(reply.header("x-plimsoll-actions"), "none");
    assert_eq!(reply.header("x-plimsoll-would-actions"), "normalize_prefix=2");
}

#[test]
fn a_stream_arrives_piece_by_piece() {
    let (answer, pieces) = Answer::stream();
    let mock = Mock::start(vec![answer]);
    let sidecar = sidecar(&mock, "policy: chat");
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    pieces.blocking_send("data: {\"n\":1}\n\n".into()).unwrap();
    let url = format!("{}/v1/chat/completions", sidecar.data_url);
    let mut reply = open(&url, body.as_bytes().to_vec(), &[]);
    for piece in
        ["data: {\"n\":1}\n\n", "data: {\"n\":2,\"usage\":null}\n\n", ": odd comment\n\n", "data: [DONE]\n\n"]
    {
        // Each piece is read before the next one exists: nothing on the way waits for more.
        let mut read = vec![0; piece.len()];
        reply.read_exact(&mut read).unwrap();
        assert_eq!(read, piece.as_bytes());
        let next = match piece {
            p if p.contains(":1") => "data: {\"n\":2,\"usage\":null}\n\n",
            p if p.contains(":2") => ": odd comment\n\n",
            p if p.contains("odd") => "data: [DONE]\n\n",
            _ => break,
        };
        pieces.blocking_send(next.into()).unwrap();
    }
    drop(pieces);
    let mut rest = Vec::new();
    reply.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}

#[test]
fn an_alert_stands_in_a_header_and_changes_nothing() {
    let mock = Mock::start(vec![Answer::json("{}"), Answer::json("{}")]);
    // What follows the route's brace is a comment.
    let route = "policy: watch }\npolicies: { watch: { steps: [{ growth_alert: { tokens: 100 } }] } }\n#";
    let sidecar = sidecar(&mock, route);
    let grown = format!(
        r#"{{"model":"m", "messages":[{{"role":"user","content":"{}"}}]}}"#,
        "more words ".repeat(100)
    );
    let reply = chat(&sidecar, &grown, &[]);
    assert_eq!(
        (reply.header("x-plimsoll-alerts").as_str(), reply.header("x-plimsoll-actions").as_str()),
        ("size", "none")
    );
    let small = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(chat(&sidecar, small, &[]).header("x-plimsoll-alerts"), "");
    let bodies: Vec<Vec<u8>> = mock.seen().into_iter().map(|seen| seen.body.to_vec()).collect();
    assert_eq!(bodies, [grown.into_bytes(), small.as_bytes().to_vec()]);
}

#[test]
fn a_client_that_leaves_takes_its_upstream_request_along() {
    let (answer, pieces) = Answer::stream();
    let mock = Mock::start(vec![answer]);
    let sidecar = sidecar(&mock, "policy: chat");
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    pieces.blocking_send("data: 1\n\n".into()).unwrap();
    let url = format!("{}/v1/chat/completions", sidecar.data_url);
    drop(open(&url, body.as_bytes().to_vec(), &[]));
    // The mock's connection breaks, so that its body is dropped and the channel closes.
    while pieces.blocking_send("data: more\n\n".into()).is_ok() {}
}

#[test]
fn an_upstream_that_is_not_there_is_a_bad_gateway() {
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(&mock, "policy: chat");
    drop(mock);
    let reply = chat(&sidecar, r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#, &[]);
    assert_eq!(reply.status, 502);
    assert_eq!(reply.json()["error"]["code"], "upstream_unreachable");
}

#[test]
fn what_the_upstream_refuses_is_passed_on() {
    let answer = Answer::json(r#"{"error":{"message":"slow down"}}"#).status(429).header("retry-after", "7");
    let mock = Mock::start(vec![answer]);
    let sidecar = sidecar(&mock, "policy: chat");
    let reply = chat(&sidecar, r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#, &[]);
    assert_eq!((reply.status, reply.header("retry-after").as_str()), (429, "7"));
    assert_eq!(reply.text(), r#"{"error":{"message":"slow down"}}"#);
}

#[test]
fn an_answer_of_known_length_is_recorded_with_its_usage() {
    let usage = r#"{"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;
    let mock = Mock::start(vec![Answer::json(usage)]);
    let sidecar = sidecar(&mock, "policy: chat");
    assert_eq!(
        chat(&sidecar, r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#, &[]).status,
        200
    );
    let state = plimsoll_tests::get(&format!("{}/state", sidecar.admin_url)).ok();
    let request = &state["requests"][0];
    assert_eq!(request["outcome"], "completed", "{request}");
    assert_eq!(request["output_tokens"], 2, "{request}");
}

#[test]
fn another_spelling_of_the_path_is_governed_too() {
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(&mock, "policy: agent");
    for path in ["//v1/chat/completions", "/v1/chat/completions/", "/v1//chat/completions"] {
        let reply = post_with(&format!("{}{path}", sidecar.data_url), ODD.as_bytes().to_vec(), &[]);
        assert_eq!(reply.header("x-plimsoll-mode"), "enforce", "{path}");
    }
    let lines: Vec<_> = mock.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(lines[0], "POST //v1/chat/completions", "it is forwarded as it came");
}

#[test]
fn other_paths_are_forwarded() {
    let mock = Mock::start(vec![Answer::json("[]")]);
    let sidecar = sidecar(&mock, "policy: chat");
    let reply = post_with(&format!("{}/v1/embeddings", sidecar.data_url), b"{\"input\":1}".to_vec(), &[]);
    assert_eq!((reply.text().as_str(), mock.only().line.as_str()), ("[]", "POST /v1/embeddings"));
}

/// One request over HTTP/2 with its cookies in two fields, as browsers split them.
fn over_http2(url: &str) -> hyper::StatusCode {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post(format!("{url}/v1/embeddings"))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-twice", "1")
            .header("x-twice", "2")
            .body(http_body_util::Full::new(hyper::body::Bytes::from_static(b"{}")))
            .unwrap();
        sender.send_request(request).await.unwrap().status()
    })
}

#[test]
fn cookies_that_http2_split_are_one_field_again() {
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(&mock, "policy: chat");
    assert_eq!(over_http2(&sidecar.data_url), 200);
    let seen = mock.only();
    let all = |name: &str| {
        seen.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(all("cookie"), ["a=1; b=2"]);
    assert_eq!(all("x-twice"), ["1", "2"], "other fields stay apart");
}
