//! The first route that matches by path, header and model takes a request; bypass is the route's to allow.

use plimsoll_tests::mock::Mock;
use plimsoll_tests::{Reply, Sidecar, post_with};
use serde_json::json;

fn ask(sidecar: &Sidecar, path: &str, model: &str, headers: &[(&str, &str)]) -> Reply {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    post_with(&format!("{}{path}", sidecar.data_url), body.to_string().into_bytes(), headers)
}

#[test]
fn the_first_match_wins() {
    let (one, two) = (Mock::start(Vec::new()), Mock::start(Vec::new()));
    let sidecar = Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams:
  one: {{ url: '{}/base/', context: 8000, api_key: sk-of-ours }}
  two: {{ url: '{}', context: 8000 }}
routes:
  - {{ name: team, match: {{ header: {{ x-team: search }} }}, upstream: one, policy: agent, allow_bypass: true }}
  - {{ name: qwen, match: {{ path: /v1/chat/*, model: 'qwen*' }}, upstream: one, policy: chat }}
  - {{ name: rest, upstream: two, policy: strict }}
",
        one.url, two.url
    ));
    let chat = "/v1/chat/completions";
    let route = |reply: &Reply| (reply.header("x-plimsoll-route"), reply.header("x-plimsoll-policy"));
    let named = |route: &str, policy: &str| (route.to_owned(), policy.to_owned());
    assert_eq!(route(&ask(&sidecar, chat, "qwen3-4b", &[("x-team", "search")])), named("team", "agent"));
    assert_eq!(route(&ask(&sidecar, chat, "qwen3-4b", &[("x-team", "ops")])), named("qwen", "chat"));
    assert_eq!(
        route(&ask(&sidecar, chat, "llama", &[("authorization", "Bearer theirs")])),
        named("rest", "strict")
    );
    let bypassed = ask(&sidecar, chat, "m", &[("x-team", "search"), ("x-plimsoll-bypass", "true")]);
    assert_eq!(bypassed.header("x-plimsoll-mode"), "off");
    let ignored = ask(&sidecar, chat, "m", &[("x-plimsoll-bypass", "true")]);
    assert_eq!(ignored.header("x-plimsoll-mode"), "enforce");
    // The configured key stands in place of the caller's; without one the caller's is passed on.
    let (seen_one, seen_two) = (one.seen(), two.seen());
    assert!(seen_one.iter().all(|seen| seen.line == "POST /base/v1/chat/completions"));
    assert!(seen_one.iter().all(|seen| seen.headers["authorization"] == "Bearer sk-of-ours"));
    assert_eq!(seen_two[0].headers["authorization"], "Bearer theirs");
    assert_eq!((seen_one.len(), seen_two.len()), (3, 2));
}

#[test]
fn a_secret_is_told_to_its_upstream_alone() {
    let mock = Mock::start(Vec::new());
    let sidecar = Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0, admin_token: token-canary }}
log: {{ level: error }}
upstreams: {{ one: {{ url: '{}', context: 8000, api_key: key-canary }} }}
routes: [{{ name: rest, upstream: one, policy: chat }}]
",
        mock.url
    ));
    ask(&sidecar, "/v1/chat/completions", "m", &[]);
    assert_eq!(mock.only().headers["authorization"], "Bearer key-canary");
    drop(mock);
    let mut told = ask(&sidecar, "/v1/chat/completions", "m", &[]).text();
    assert_eq!(plimsoll_tests::get(&format!("{}/state", sidecar.admin_url)).status, 401);
    for path in ["/state", "/config", "/metrics", "/readyz"] {
        let url = format!("{}{path}", sidecar.admin_url);
        let reply = plimsoll_tests::http::get_with(&url, &[("authorization", "Bearer token-canary")]);
        assert_eq!(reply.status, 200, "{path}");
        told += &reply.text();
    }
    assert!(!told.contains("canary"), "{told}");
}
