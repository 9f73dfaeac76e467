//! Jaeger's page of a trace and the status page, as a person with a browser finds them: by role and name.

use plimsoll_tests::browser::Browser;
use plimsoll_tests::collector::{Span, attribute, hex};
use plimsoll_tests::post;
use plimsoll_tests::shared::demo;
use serde_json::{Value, json};

use crate::status::long_talk;
use crate::summaries::{POLICIES, conversation};
use crate::tooling::tool;
use crate::traced::Traced;

/// A sidecar that has summarised, cut, refused and answered, and whose spans have arrived.
fn busy() -> Traced {
    let config = demo(2048, "engine").replace("any_model: true", "any_model: true, window: 640");
    let traced = Traced::start(&format!("{config}{POLICIES}"), "service_name: plimsoll");
    traced.chat(2, &long_talk()).ok();
    let refused = json!({"model": "demo", "messages": [{"role": "user", "content": "word ".repeat(3000)}]});
    assert_eq!(traced.chat(3, &refused).status, 400);
    for trace in 2..=3 {
        traced.trace(trace);
    }
    traced
}

impl Traced {
    /// The id of a chat's trace that no caller began.
    fn own_trace(&self, messages: &[Value]) -> String {
        let body = json!({"model": "demo", "max_tokens": 64, "messages": messages});
        let reply = post(&self.url(), &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let id = reply.header("x-plimsoll-request-id");
        let request = |span: &&Span| attribute(&span.attributes, "plimsoll.request.id") == *id;
        let arrived = self.collector.wait_for(|received| received.spans().any(|span| request(&span)));
        let received = self.runtime.block_on(arrived).unwrap();
        hex(&received.spans().find(request).unwrap().trace_id)
    }
}

/// The size of a PNG, from its header.
fn size(png: &[u8]) -> (u32, u32) {
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn a_trace_and_the_status_page_are_shown() {
    let Some(chromium) = tool(".tools/bin/chromium") else { return };
    let traced = busy();
    let browser = Browser::start(&chromium);
    let trace = format!("{}/trace/{}", traced.collector.jaeger_url, traced.own_trace(&conversation()));
    let page = browser.open(&trace, 1280, 800);
    // Jaeger's page is called after the trace.
    page.shows(&[("RootWebArea", "POST /v1/chat/completions (plimsoll)")]);
    for span in [
        "apply_context_policy engine",
        "summarize_context",
        "wait_for_slot",
        "chat demo",
        "prefill",
        "decode",
    ] {
        page.shows(&[("StaticText", span)]);
    }
    // A click on a span's bar shows what is known of it.
    page.run(
        "[...document.querySelectorAll('.span-row')].find(row => row.textContent.includes('apply_context_policy'))\
         .querySelector('.span-view').click()",
    );
    page.shows(&[("StaticText", "plimsoll.context.tokens.before")]);
    assert_eq!(size(&page.picture("trace")), (1280, 800));

    let page = browser.open(&traced.sidecar.admin_url, 1280, 900);
    page.shows(&[
        ("heading", "Plimsoll"),
        ("heading", "Routes"),
        ("heading", "Last requests"),
        ("cell", "context_length_exceeded"),
        ("cell", "summarize"),
    ]);
    assert_eq!(size(&page.picture("status")), (1280, 900));
}

#[test]
#[ignore = "one smoke test of the browser is enough for `make test`"]
fn traces_are_found_and_the_page_is_read_in_the_dark_and_on_a_phone() {
    let Some(chromium) = tool(".tools/bin/chromium") else { return };
    let traced = busy();
    let browser = Browser::start(&chromium);
    traced.own_trace(&conversation());
    let search = format!("{}/search?service=plimsoll&limit=20&lookback=1h", traced.collector.jaeger_url);
    let page = browser.open(&search, 1280, 900);
    page.shows(&[("StaticText", "plimsoll: "), ("StaticText", "completions")]);
    page.picture("search");

    for (scheme, width) in [("light", 1280), ("dark", 1280), ("dark", 400)] {
        let page = browser.open(&traced.sidecar.admin_url, width, 900);
        page.in_scheme(scheme);
        page.shows(&[("heading", "Last requests"), ("cell", "summarize")]);
        // Wide tables scroll in their own box; the page itself does not.
        let overflow = page.run("document.documentElement.scrollWidth - window.innerWidth");
        let wide = page.run(
            "[...document.querySelectorAll('body *')].filter(one => !one.closest('.scroll') && \
             one.getBoundingClientRect().right > innerWidth + 1).map(one => one.cloneNode().outerHTML)",
        );
        let overflow = overflow.as_i64().expect("a number");
        assert!(overflow <= 0, "{scheme} {width}: {overflow} pixels too wide: {wide}");
        // Everything that can be operated has a name.
        let nameless = page.run(
            "[...document.querySelectorAll('button, input, a, [tabindex]')].filter(one => one.checkVisibility() && \
             !one.textContent.trim() && !one.labels?.length && !one.getAttribute('aria-label') && \
             !one.getAttribute('aria-labelledby')).map(one => one.outerHTML)",
        );
        assert_eq!(nameless, json!([]));
        page.picture(&format!("status-{scheme}-{width}"));
    }
}
