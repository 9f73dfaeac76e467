//! What is told from a request that is passed on as it came: whether it may be sent twice, and whose it is.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use plimsoll_policies::Conversation;

use super::affinity::Key;
use crate::body::{full, read_body};
use crate::identify::plain;

/// Ends of the paths that ask a model or a tokenizer: a server that works on such a request twice has wasted work, and
/// nothing else. Not `/responses`: those may be stored.
const ASKING: [&str; 13] = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/responses/input_tokens",
    "/messages",
    "/messages/count_tokens",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/rerank",
    "/tokenize",
    "/detokenize",
    "/apply-template",
];

/// Whether a path asks a model.
pub(super) fn asks(path: &str) -> bool {
    let path = plain(path);
    ASKING.iter().any(|end| path.ends_with(end))
}

/// The conversation that a body holds, if it is one.
pub(super) async fn key(headers: &HeaderMap, bytes: &Bytes, limit: usize) -> Option<Key> {
    let payload = read_body(headers, full(bytes.clone()), limit).await.ok()?;
    let text: Arc<str> = std::str::from_utf8(&payload.decoded).ok()?.into();
    Key::of(&Conversation::parse_chat(text).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_a_model_may_be_asked_twice() {
        for path in
            ["/v1/chat/completions", "//v1//messages/", "/proxy/v1/responses/input_tokens", "/api/chat"]
        {
            assert!(asks(path), "{path}");
        }
        for path in [
            "/v1/files",
            "/v1/fine_tuning/jobs",
            "/v1/responses",
            "/v1/responses/resp_1/cancel",
            "/",
            "/completions2",
        ] {
            assert!(!asks(path), "{path}");
        }
    }
}
