//! What does not fit is refused in the caller's dialect: by us with our figures, or by vLLM in its own words.

use plimsoll_tests::{post, post_with};
use serde_json::json;

use super::{WINDOW, servers, sidecar};

#[test]
#[ignore = "needs vLLM: make test-vllm"]
fn overflow_is_told_in_each_dialect() {
    let [url, _] = servers();
    let sidecar = sidecar(&[url], "");
    let long = "word ".repeat(3000);
    let messages = json!([{"role": "user", "content": long}]);
    let chat = json!({"model": "demo", "max_tokens": 8, "messages": messages});
    let ask = |path: &str, body| post(&format!("{}{path}", sidecar.data_url), body);

    let refused = ask("/v1/chat/completions", &chat);
    assert_eq!(refused.status, 400);
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "context_length_exceeded");
    assert!(error["message"].as_str().unwrap().contains(&WINDOW.to_string()), "{error}");

    let responses = json!({"model": "demo", "max_output_tokens": 16, "input": long});
    let refused = ask("/v1/responses", &responses);
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!("context_length_exceeded")));

    let refused = ask("/v1/messages", &chat);
    let told = refused.json();
    assert_eq!(
        (refused.status, &told["type"], &told["error"]["type"]),
        (400, &json!("error"), &json!("invalid_request_error"))
    );
    assert!(told["error"]["message"].as_str().unwrap().contains("prompt is too long"), "{told}");
}

#[test]
#[ignore = "needs vLLM: make test-vllm"]
fn its_own_refusal_passes_byte_for_byte() {
    let [url, _] = servers();
    let sidecar = sidecar(std::slice::from_ref(&url), "");
    let body = json!({"model": "demo", "messages": [{"role": "user", "content": "word ".repeat(3000)}]});
    let ask = |url: &str| {
        let headers = [("x-mode", "passed")];
        post_with(&format!("{url}/v1/chat/completions"), body.to_string().into_bytes(), &headers)
    };
    let (direct, through) = (ask(&url), ask(&sidecar.data_url));
    assert_eq!((through.status, through.text()), (direct.status, direct.text()));
    assert_eq!(direct.status, 400);
    assert!(direct.text().contains(&WINDOW.to_string()), "{}", direct.text());
}
