//! What a server tells of itself: its window, its HTTP version, and how far our counts are from its own.

use std::convert::Infallible;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll_tests::mock::Mock;
use plimsoll_tests::{Reply, Sidecar, get, post_with};
use serde_json::Value;

fn sidecar(urls: &[&str], options: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: 'off' }}
upstreams: {{ other: {{ urls: {urls:?}, {options} }} }}
routes: [{{ name: default, upstream: other, policy: chat }}]
"
    ))
}

fn state(sidecar: &Sidecar) -> Value {
    get(&format!("{}/state", sidecar.admin_url)).ok()
}

fn window(sidecar: &Sidecar) -> (u64, String) {
    let state = state(sidecar);
    let from = state["upstreams"]["other"]["context_from"].as_str().unwrap_or_default().to_owned();
    (state["routes"][0]["window_tokens"].as_u64().unwrap(), from)
}

fn chat(sidecar: &Sidecar, text: &str) -> Reply {
    let body =
        format!(r#"{{"model":"m","max_tokens":100,"messages":[{{"role":"user","content":"{text}"}}]}}"#);
    post_with(&format!("{}/v1/chat/completions", sidecar.data_url), body.into_bytes(), &[])
}

const MODELS: &str = r#"{"object":"list","data":[{"id":"qwen","object":"model","max_model_len":2048}]}"#;

#[test]
fn the_window_is_what_the_server_says() {
    let vllm = Mock::telling(&[("/v1/models", MODELS)]);
    let told = sidecar(&[&vllm.url], "context: auto, context_fallback: 512");
    assert_eq!(window(&told), (2048, "/v1/models".to_owned()));
    // 512 would not hold it, 2048 do.
    assert_eq!(chat(&told, &"word ".repeat(900)).status, 200);
    let refused = chat(&told, &"word ".repeat(2100));
    assert_eq!(refused.json()["error"]["code"], "context_length_exceeded");

    let llama = r#"{"default_generation_settings":{"n_ctx":1024},"total_slots":2}"#;
    let llama = Mock::telling(&[("/v1/models", r#"{"data":[{"id":"x"}]}"#), ("/props", llama)]);
    assert_eq!(window(&sidecar(&[&llama.url], "context: auto")), (1024, "/props".to_owned()));

    let running = Mock::telling(&[("/api/ps", r#"{"models":[{"name":"x","context_length":4096}]}"#)]);
    assert_eq!(window(&sidecar(&[&running.url], "context: auto")), (4096, "/api/ps".to_owned()));
    let shown = [
        ("/api/tags", r#"{"models":[{"name":"x"}]}"#),
        ("/api/show", r#"{"parameters":"num_ctx    8192","model_info":{"a.context_length":131072}}"#),
    ];
    let ollama = Mock::telling(&shown);
    assert_eq!(window(&sidecar(&[&ollama.url], "context: auto")), (8192, "/api/show".to_owned()));
}

#[test]
fn of_several_servers_the_smallest_window_counts() {
    let mocks = [MODELS.to_owned(), MODELS.replace("2048", "1024")]
        .map(|models| Mock::telling(&[("/v1/models", &models)]));
    let sidecar = sidecar(&[&mocks[0].url, &mocks[1].url], "context: auto");
    assert_eq!(window(&sidecar).0, 1024);
}

#[test]
fn a_server_that_says_nothing_has_the_window_of_the_configuration() {
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(&[&mock.url], "context: auto, context_fallback: 512");
    assert_eq!(window(&sidecar), (512, "fallback".to_owned()));
    assert_eq!(chat(&sidecar, &"word ".repeat(900)).json()["error"]["code"], "context_length_exceeded");
}

#[test]
fn a_server_that_comes_back_is_asked_anew() {
    let mock = Mock::telling(&[("/v1/models", MODELS)]);
    let url = mock.url.clone();
    let options = "context: auto, retries: { attempts: 0 }, ejection: { failures: 1, time: 1ms }";
    let sidecar = sidecar(&[&url], options);
    assert_eq!(window(&sidecar).0, 2048);
    drop(mock);
    assert_eq!(chat(&sidecar, "hi").status, 502);
    assert_eq!(window(&sidecar).0, 2048, "what it said holds as long as it says nothing else");
    let _revived = Mock::revived(&url, &[("/v1/models", &MODELS.replace("2048", "4096"))]);
    // One answer after a failure tells that it is back.
    while chat(&sidecar, "hi").status != 200 {}
    while window(&sidecar).0 != 4096 {
        std::thread::yield_now();
    }
}

/// A server that speaks HTTP/2 alone, without TLS, and tells by which version it was asked.
fn over_h2c() -> (String, tokio::runtime::Runtime) {
    async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let h2 = request.version() == Version::HTTP_2;
        let body = format!(r#"{{"h2":{h2},"usage":{{"prompt_tokens":10,"completion_tokens":1}}}}"#);
        Ok(Response::new(Full::new(Bytes::from(body))))
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    (url, runtime)
}

#[test]
fn http2_is_spoken_without_tls_where_it_is_configured() {
    let (url, _runtime) = over_h2c();
    let sidecar = sidecar(&[&url], "http: http2, context: 8000");
    assert_eq!(chat(&sidecar, "hi").ok()["h2"], true);
    let plain = self::sidecar(&[&url], "http: http1, context: 8000, retries: { attempts: 0 }");
    assert_eq!(chat(&plain, "hi").status, 502);
}

#[test]
fn the_state_tells_how_far_our_counts_are_from_the_servers() {
    let (url, _runtime) = over_h2c();
    let sidecar = sidecar(&[&url], "http: http2, context: 8000");
    let counted: u64 = (0..3)
        .map(|_| {
            chat(&sidecar, "How deep is the sea?").header("x-plimsoll-tokens-after").parse::<u64>().unwrap()
        })
        .sum();
    let drift = loop {
        let drift = state(&sidecar)["totals"]["drift_by_upstream"]["other"].clone();
        if drift["requests"] == 3 {
            break drift;
        }
        std::thread::yield_now();
    };
    assert_eq!((&drift["counted_tokens"], &drift["reported_tokens"]), (&counted.into(), &30.into()));
}
