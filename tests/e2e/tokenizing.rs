//! Tokens as the upstream's own server counts them (`tokenizer: upstream`).

use plimsoll_tests::http::request;
use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::shared::one_engine;
use plimsoll_tests::{Reply, Sidecar, post};
use serde_json::{Value, json};

fn sidecar(url: &str, tokenizer: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: 'off' }}
upstreams: {{ other: {{ url: '{url}', context: 700, tokenizer: {tokenizer}, ask_usage: false }} }}
routes: [{{ name: default, upstream: other, policy: chat }}]
"
    ))
}

fn chat(sidecar: &Sidecar, body: &Value) -> Reply {
    post(&format!("{}/v1/chat/completions", sidecar.data_url), body)
}

/// A conversation after so many turns.
fn talk(turns: usize) -> Value {
    let turn = |turn: usize| {
        [
            json!({"role": "user", "content": format!("Question {turn}: how deep is sea number {}?", turn * 37)}),
            json!({"role": "assistant", "content": format!("Sea {turn} is {} metres deep, they say.", turn * 91)}),
        ]
    };
    let system = json!({"role": "system", "content": "You know the seas."});
    let mut messages: Vec<_> = std::iter::once(system).chain((1..=turns).flat_map(turn)).collect();
    messages.pop();
    json!({"model": "demo", "max_tokens": 16, "messages": messages})
}

/// An engine of ours speaks vLLM's form, and is judged by ground truth elsewhere.
#[test]
fn a_server_is_asked_for_exact_counts() {
    let server = Sidecar::start(&one_engine(
        "model: engine/demo/model, name: demo, slots: 2, threads: 1, context: 2048",
        "policy: 'off', any_model: true",
    ));
    let asking = sidecar(&server.data_url, "upstream");
    let knowing = sidecar(&server.data_url, "engine/demo/model");
    let mut cut = 0;
    for turns in (1..30).step_by(4) {
        let [asked, known] = [&asking, &knowing].map(|sidecar| chat(sidecar, &talk(turns)));
        let used = asked.ok()["usage"]["prompt_tokens"].to_string();
        assert_eq!(asked.header("x-plimsoll-tokens-before"), known.header("x-plimsoll-tokens-before"));
        assert_eq!(
            (asked.header("x-plimsoll-tokens-after"), asked.header("x-plimsoll-tokens-estimated")),
            (used, String::new())
        );
        cut += usize::from(asked.header("x-plimsoll-actions") != "none");
    }
    assert!(cut > 2, "{cut}");
}

#[test]
fn llama_cpp_applies_its_template_first() {
    let mock = Mock::telling(&[
        ("/tokenize", r#"{"tokens":[1,2,3]}"#),
        ("/apply-template", r#"{"prompt":"<s>Hi"}"#),
    ]);
    let sidecar = sidecar(&mock.url, "upstream");
    for _ in 0..2 {
        let reply = chat(&sidecar, &talk(1));
        assert_eq!((reply.status, reply.header("x-plimsoll-tokens-before").as_str()), (200, "3"));
        assert_eq!(reply.header("x-plimsoll-tokens-estimated"), "");
    }
    let seen: Vec<_> = mock.seen().iter().map(|seen| seen.line.clone()).collect();
    // The second request is known.
    let chats = "POST /v1/chat/completions";
    assert_eq!(seen, ["POST /tokenize", "POST /apply-template", "POST /tokenize", chats, chats]);
    let bodies: Vec<Value> =
        mock.seen().iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
    assert_eq!(bodies[1]["messages"], talk(1)["messages"]);
    assert_eq!(bodies[2], json!({"content": "<s>Hi", "add_special": true, "parse_special": true}));
    // Asked again, it is not taken for a vLLM.
    mock.forget();
    assert_eq!(chat(&sidecar, &talk(2)).status, 200);
    assert_eq!(mock.seen()[0].line, "POST /apply-template");
}

#[test]
fn where_the_server_does_not_tell_counts_are_estimates() {
    let mock = Mock::start(vec![Answer::json("{}").status(404)]);
    let asking = sidecar(&mock.url, "upstream");
    let reply = chat(&asking, &talk(3));
    let estimated = chat(
        &Sidecar::start(&format!(
            "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: 'off' }}
upstreams: {{ other: {{ url: '{}', context: 700 }} }}
routes: [{{ name: default, upstream: other, policy: chat }}]
",
            mock.url
        )),
        &talk(3),
    );
    for name in ["x-plimsoll-tokens-before", "x-plimsoll-tokens-estimated"] {
        assert_eq!(reply.header(name), estimated.header(name), "{name}");
    }
    assert_eq!((reply.status, reply.header("x-plimsoll-tokens-estimated").as_str()), (200, "true"));
    // Nobody is there: the caller hears of that, not of a count.
    let url = mock.url.clone();
    drop(mock);
    let gone = chat(&sidecar(&url, "upstream"), &talk(3));
    assert_eq!((gone.status, &gone.json()["error"]["code"]), (502, &json!("upstream_unreachable")));
}

#[test]
fn a_callers_key_goes_along() {
    let mock = Mock::telling(&[("/tokenize", r#"{"count":7,"max_model_len":700,"tokens":[]}"#)]);
    let sidecar = sidecar(&mock.url, "upstream");
    let url = format!("{}/v1/chat/completions", sidecar.data_url);
    let headers = [("content-type", "application/json"), ("authorization", "Bearer mine")];
    let reply = request("POST", &url, talk(1).to_string().into_bytes(), &headers);
    assert_eq!(reply.header("x-plimsoll-tokens-after"), "7");
    let seen = mock.seen();
    assert_eq!(
        (seen[0].line.as_str(), &seen[0].headers["authorization"]),
        ("POST /tokenize", &seen[1].headers["authorization"])
    );
    assert_eq!(seen[0].headers["authorization"], "Bearer mine");
}
