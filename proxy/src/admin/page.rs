//! The status page, whole in the binary, which reads `/state` as any client would.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

/// The page with its style and its script in it: one answer, nothing else to fetch.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("status/page.html").replacen("{style}", STYLE, 1).replacen("{script}", SCRIPT, 1)
});
const STYLE: &str = include_str!("status/style.css");
const SCRIPT: &str = concat!(
    include_str!("status/format.js"),
    include_str!("status/memory.js"),
    include_str!("status/requests.js"),
    include_str!("status/servers.js"),
    include_str!("status/show.js"),
    include_str!("status/loop.js"),
);

/// Only the page's own script and style run, and only this listener is asked.
static CONTENT_SECURITY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        source(SCRIPT),
        source(STYLE)
    )
});

/// The page holds no figures: those come from `/state`, which asks for the token where there is one.
pub(super) async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY.as_str()),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Html(PAGE.as_str()))
}

/// The hash of an element's text, as a source of a content security policy.
fn source(text: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)))
}
