//! Tokens as an upstream's own server counts them: by vLLM's `/tokenize`, which takes conversations, or by llama.cpp's
//! `/apply-template` and `/tokenize`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Limited};
use plimsoll_policies::{Conversation, Tokens};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

use super::send::{Answered, Content, Outbound};
use super::upstream::HttpUpstream;

/// How long a server may take to count.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer longer than this many bytes is no count: servers send the ids along, some bytes each.
const MOST: usize = 64 * 1024 * 1024;

/// Which server counts: llama.cpp's where vLLM's form was not understood.
#[derive(Default)]
pub(super) struct LearntForm(AtomicBool);

/// Who asks for a count.
#[derive(Clone)]
pub(crate) struct Asker {
    /// The model that the request names.
    pub(crate) model: Option<String>,
    /// Its credentials, which count where the configuration has none for this upstream.
    pub(crate) credentials: HeaderMap,
}

impl HttpUpstream {
    /// Tokens of a conversation's prompt as it would run: template, tools, and the beginning of the answer. None where
    /// the server does not tell.
    pub(crate) async fn count_prompt(&self, asker: &Asker, conversation: &Conversation) -> Option<Tokens> {
        let body = prompt(asker.model.as_deref(), conversation);
        if !self.counts_as_llama() {
            let told: Option<Told> = self.told_tokens("/tokenize", asker, body.clone()).await;
            match told?.count {
                Some(count) => return Some(count),
                // llama.cpp looks for `content` alone, and finds none.
                None => self.form.0.store(true, Ordering::Relaxed),
            }
        }
        let Templated { prompt } = self.told_tokens("/apply-template", asker, body).await?;
        self.count_llama(asker, &prompt, true).await
    }

    /// Tokens of a text by itself. None where the server does not tell.
    pub(crate) async fn count_text(&self, asker: &Asker, text: &str) -> Option<Tokens> {
        if self.counts_as_llama() {
            return self.count_llama(asker, text, false).await;
        }
        let mut body = json!({"prompt": text, "add_special_tokens": false});
        if let Some(model) = &asker.model {
            body["model"] = model.as_str().into();
        }
        let told: Told = self.told_tokens("/tokenize", asker, body.to_string().into()).await?;
        told.count
    }

    /// `special`: with the tokens that begin and end a prompt, as llama.cpp encodes chats.
    async fn count_llama(&self, asker: &Asker, text: &str, special: bool) -> Option<Tokens> {
        let body = json!({"content": text, "add_special": special, "parse_special": special});
        let told: Told = self.told_tokens("/tokenize", asker, body.to_string().into()).await?;
        Some(told.tokens.len() as Tokens)
    }

    fn counts_as_llama(&self) -> bool {
        self.form.0.load(Ordering::Relaxed)
    }

    async fn told_tokens<T: DeserializeOwned>(
        &self,
        path: &'static str,
        asker: &Asker,
        body: Bytes,
    ) -> Option<T> {
        let outbound = Outbound {
            method: Method::POST,
            path: Some(PathAndQuery::from_static(path)),
            headers: self.own_headers(&asker.credentials).ok()?,
            content: Content::Whole(body),
            // Whichever replica has least to do: all count alike.
            key: None,
            repeatable: true,
        };
        let read = async {
            let Answered { response, lease: _lease, .. } = self.send(outbound, |_| {}).await.ok()?;
            if !response.status().is_success() {
                return None;
            }
            let body = Limited::new(response.into_body(), MOST).collect().await.ok()?.to_bytes();
            serde_json::from_slice(&body).ok()
        };
        tokio::time::timeout(PATIENCE, read).await.ok().flatten()
    }
}

/// The conversation as both servers take it, its parts in the bytes that the request has.
fn prompt(model: Option<&str>, conversation: &Conversation) -> Bytes {
    let messages: Vec<&str> = conversation.messages().iter().map(plimsoll_policies::Message::json).collect();
    let model = model.map(|model| Value::from(model).to_string());
    let parts = [
        ("model", model.as_deref()),
        ("tools", conversation.tools()),
        ("chat_template_kwargs", conversation.field("chat_template_kwargs")),
    ];
    let fields: String =
        parts.iter().filter_map(|(name, value)| value.map(|value| format!(r#""{name}":{value},"#))).collect();
    format!(r#"{{{fields}"add_generation_prompt":true,"messages":[{}]}}"#, messages.join(",")).into()
}

/// The answer of `/tokenize`; llama.cpp's has no `count`.
#[derive(Deserialize)]
struct Told {
    count: Option<Tokens>,
    #[serde(default)]
    tokens: Vec<IgnoredAny>,
}

/// The answer of `/apply-template`.
#[derive(Deserialize)]
struct Templated {
    prompt: String,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_conversation_is_asked_for_in_its_own_bytes() {
        let body = r#"{"model":"m","tools":[ {"type":"function"} ],"temperature":0,"messages":[{"content":"\u0041","role":"user"}, {"role":"assistant"}]}"#;
        let read = Conversation::parse_chat(Arc::from(body)).unwrap();
        let wanted = r#"{"model":"a\"b","tools":[ {"type":"function"} ],"add_generation_prompt":true,"messages":[{"content":"\u0041","role":"user"},{"role":"assistant"}]}"#;
        assert_eq!(prompt(Some("a\"b"), &read), wanted);
        let plain = Conversation::parse_chat(Arc::from(r#"{"messages":[]}"#)).unwrap();
        assert_eq!(prompt(None, &plain), r#"{"add_generation_prompt":true,"messages":[]}"#);
    }
}
