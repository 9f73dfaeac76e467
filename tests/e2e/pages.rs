//! Web pages that ask the data listener: those that may, by a browser's own judgement, and those that may not.

use plimsoll_tests::browser::Browser;
use plimsoll_tests::http::{get_with, request};
use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::{Reply, Sidecar};
use serde_json::Value;

use crate::tooling::tool;

fn sidecar(upstream: &Mock, listen: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0, {listen} }}
log: {{ level: error }}
upstreams: {{ other: {{ url: '{}', context: 8000 }} }}
routes: [{{ name: default, upstream: other, policy: chat }}]
",
        upstream.url
    ))
}

const PAGE: &str = "https://chat.example";

fn preflight(sidecar: &Sidecar, origin: &str) -> Reply {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
        ("access-control-request-private-network", "true"),
    ];
    request("OPTIONS", &format!("{}/v1/chat/completions", sidecar.data_url), Vec::new(), &headers)
}

#[test]
fn nothing_is_done_unless_pages_are_spoken_of() {
    let upstream =
        Mock::start(vec![Answer::json("{}").header("access-control-allow-origin", "https://theirs")]);
    let sidecar = sidecar(&upstream, "");
    let reply = preflight(&sidecar, PAGE);
    assert_eq!((reply.status, reply.header("access-control-allow-origin").as_str()), (200, "https://theirs"));
    assert!(upstream.only().line.starts_with("OPTIONS "), "the upstream answers for itself");
}

#[test]
fn a_preflight_is_answered_here() {
    let upstream = Mock::start(Vec::new());
    let sidecar = sidecar(&upstream, "cors: { origins: ['https://*.example'] }");
    let reply = preflight(&sidecar, PAGE);
    let header = |name: &str| reply.header(&format!("access-control-{name}"));
    assert_eq!(reply.status, 204);
    assert_eq!((header("allow-origin"), header("allow-methods")), (PAGE.to_owned(), "POST".to_owned()));
    assert_eq!(header("allow-headers"), "authorization,content-type");
    assert_eq!(
        (header("allow-private-network"), header("allow-credentials")),
        ("true".to_owned(), String::new())
    );
    for origin in ["https://chat.example.org", "http://chat.example", "null"] {
        let reply = preflight(&sidecar, origin);
        assert_eq!(reply.json()["error"]["code"], "origin_not_allowed", "{origin}");
        assert_eq!((reply.status, reply.header("access-control-allow-origin").as_str()), (403, ""));
    }
    assert_eq!(upstream.seen().len(), 0, "a preflight asks for nothing of the upstream");
    // What else comes from a foreign page does not run either, though the page could not read the answer.
    let url = format!("{}/v1/chat/completions", sidecar.data_url);
    assert_eq!(request("POST", &url, b"{}".to_vec(), &[("origin", "https://evil.test")]).status, 403);
    assert_eq!(request("POST", &url, b"{}".to_vec(), &[]).status, 200, "programs name no origin");
    // One page at a time is named, and caches are told.
    let reply = get_with(&format!("{}/any", sidecar.data_url), &[("origin", PAGE)]);
    assert_eq!(
        (reply.header("access-control-allow-origin").as_str(), reply.header("vary").as_str()),
        (PAGE, "origin")
    );
}

/// A browser is the judge: its page asks with a key and reads answer, headers and refusals, or is kept out.
#[test]
fn a_browsers_page_asks_and_another_ones_does_not() {
    let Some(chromium) = tool(".tools/bin/chromium") else { return };
    let html = || Answer::text("text/html", "<title>page</title>");
    let (page, stranger) = (Mock::start(vec![html()]), Mock::start(vec![html()]));
    let theirs = Answer::json(r#"{"ok":1}"#).header("access-control-allow-origin", "https://theirs");
    let upstream = Mock::start(vec![theirs]);
    let sidecar = sidecar(&upstream, &format!("cors: {{ origins: ['{}'] }}", page.url));
    let browser = Browser::start(&chromium);
    let ask = |site: &Mock| -> Value {
        let page = browser.open(&format!("{}/page", site.url), 400, 300);
        page.shows(&[("RootWebArea", "page")]);
        page.run(&format!(
            r#"(async () => {{
                const ask = (body) => fetch("{}/v1/chat/completions", {{
                    method: "POST", body,
                    headers: {{"content-type": "application/json", "authorization": "Bearer k", "x-stainless-os": "Linux"}},
                }});
                try {{
                    const good = await ask('{{"model":"m","messages":[{{"role":"user","content":"hi"}}]}}');
                    const bad = await ask("nonsense");
                    return [good.status, await good.json(), good.headers.get("x-plimsoll-actions"), bad.status, (await bad.json()).error.code];
                }} catch (error) {{ return String(error); }}
            }})()"#,
            sidecar.data_url
        ))
    };
    assert_eq!(ask(&page), serde_json::json!([200, {"ok": 1}, "none", 400, "invalid_json"]));
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(ask(&stranger), "TypeError: Failed to fetch");
    assert_eq!(upstream.seen().len(), 1);
}

/// A page that has its own name resolve to loopback asks by that name.
#[test]
fn a_strangers_name_is_no_name_of_a_loopback_listener() {
    let upstream = Mock::start(Vec::new());
    let asked = |listen: &str, host: &str| {
        let sidecar = sidecar(&upstream, listen);
        get_with(&format!("{}/any", sidecar.data_url), &[("host", host)])
    };
    let reply = asked("", "rebound.example:7480");
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (403, Some("host_not_allowed")));
    for (listen, host) in [
        ("", "localhost:7480"),
        ("", "plimsoll"),
        ("", "plimsoll.team.svc.cluster.local"),
        ("hosts: [rebound.example]", "rebound.example:7480"),
        ("hosts: ['*']", "rebound.example:7480"),
    ] {
        assert_eq!(asked(listen, host).status, 200, "{listen} {host}");
    }
    assert_eq!(asked("hosts: [llm.example]", "rebound.example").status, 403);
}
