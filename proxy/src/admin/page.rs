//! The status page: one file in the binary, which reads `/state` as any client would.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

const PAGE: &str = include_str!("status.html");

/// Only the page's own script and style run, and only this listener is asked.
static CONTENT_SECURITY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        source("script"),
        source("style")
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
    (headers, Html(PAGE))
}

/// The hash of the page's one element `name`, as a source of a content security policy.
fn source(name: &str) -> String {
    let element = PAGE.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
    let text = element.and_then(|rest| rest.split_once(&format!("</{name}>"))).map(|(text, _)| text);
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text.unwrap_or_default())))
}
