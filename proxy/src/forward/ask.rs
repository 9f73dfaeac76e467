//! Questions of our own to an HTTP upstream: one answer in its dialect, read whole.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use plimsoll_policies::{Message, Tokens};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{json, to_string};

use super::affinity::Key;
use super::endpoints::Endpoint;
use super::headers::{CREDENTIALS, VERSION, credential};
use super::send::{Answered, Content, Outbound};
use super::upstream::{HttpUpstream, UpstreamError, fail};
use super::usage::Usage;
use crate::config::Dialect;
use crate::dialect::{anthropic, ollama};
use crate::govern::Failure;
use crate::telemetry::{ChatRequest, ChatSpan, Operation, Settings, SummarizeSpan};

/// An answer longer than this many bytes is no summary.
const MOST: usize = 4 * 1024 * 1024;

/// What a server is asked.
pub(crate) struct Question<'a> {
    /// The path of its chat API, where it is not the usual one.
    pub(crate) path: Option<&'a str>,
    /// The caller's credentials, which count where the configuration has none for this upstream.
    pub(crate) credentials: HeaderMap,
    /// The model.
    pub(crate) model: &'a str,
    /// The prompt.
    pub(crate) messages: &'a [Message],
    /// Raw JSON of the tools that the prompt begins with; none of them may be called.
    pub(crate) tools: Option<&'a str>,
    /// Tokens the answer may have.
    pub(crate) max_tokens: Tokens,
}

/// What a server answered.
pub(crate) struct Completion {
    pub(crate) text: String,
    /// Tokens of the answer, as the server counts them.
    pub(crate) tokens: Option<u64>,
    /// Whether it ended for want of room.
    pub(crate) cut: bool,
}

impl HttpUpstream {
    /// Asks for one answer, greedily.
    pub(crate) async fn ask(
        &self,
        question: Question<'_>,
        span: &SummarizeSpan,
    ) -> Result<Completion, Failure> {
        let mut call = span.chat(&ChatRequest {
            operation: Operation::Chat,
            provider: self.settings.dialect.as_str(),
            model: question.model,
            server: Some(self.endpoints.all()[0].address()),
            stream: false,
            compacted: false,
            settings: Settings {
                max_tokens: Some(question.max_tokens),
                temperature: Some(0.0),
                ..Settings::default()
            },
        });
        let answered = match self.own_request(&question, |headers| call.inject(headers)) {
            Ok(request) => self.answered(request, &mut call).await,
            Err(error) => Err(failure(&error.into())),
        };
        let answer = match answered {
            Ok(answer) => answer,
            Err(failure) => {
                fail(Some(call), failure.code);
                return Err(failure);
            }
        };
        answer.usage.tell(call.facts());
        call.completed();
        Ok(Completion { text: answer.text, tokens: answer.usage.completion, cut: answer.cut })
    }

    fn own_request(
        &self,
        question: &Question<'_>,
        trace: impl FnOnce(&mut HeaderMap),
    ) -> Result<Outbound, http::Error> {
        let dialect = self.settings.dialect;
        let usual = match dialect {
            Dialect::Openai => "/v1/chat/completions",
            Dialect::Anthropic => "/v1/messages",
            Dialect::Ollama => "/api/chat",
        };
        let path: PathAndQuery = question.path.unwrap_or(usual).parse().map_err(http::Error::from)?;
        let mut headers = self.own_headers(&question.credentials)?;
        if dialect == Dialect::Anthropic {
            headers.entry(VERSION).or_insert(HeaderValue::from_static("2023-06-01"));
        }
        trace(&mut headers);
        Ok(Outbound {
            method: Method::POST,
            path: Some(path),
            headers,
            content: Content::Whole(question.body(dialect)),
            // Where the conversation's prompts are computed, most of this one is.
            key: self.has_affinity().then(|| Key::of_messages(question.tools, question.messages)).flatten(),
            repeatable: true,
        })
    }

    /// Headers of a question of ours, with the configured credentials or these.
    pub(super) fn own_headers(&self, credentials: &HeaderMap) -> Result<HeaderMap, http::Error> {
        let mut headers = credentials.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(key) = &self.settings.api_key {
            CREDENTIALS.iter().for_each(|name| drop(headers.remove(name)));
            let (name, value) = credential(self.settings.dialect, key)?;
            headers.insert(name, value);
        }
        Ok(headers)
    }

    async fn answered(&self, request: Outbound, call: &mut ChatSpan) -> Result<Answer, Failure> {
        let attempt = |endpoint: &Endpoint| {
            let (host, port) = endpoint.address();
            call.attempt(host, port);
        };
        let answered = self.send(request, attempt).await.map_err(|error| failure(&error))?;
        let Answered { response, lease: _lease, .. } = answered;
        let status = response.status();
        if !status.is_success() {
            let passing = status.is_server_error()
                || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
            return Err(Failure { code: "upstream_status", passing });
        }
        let body = Limited::new(response.into_body(), MOST).collect().await;
        let bytes = body.map_err(|_| Failure::passing("upstream_broken"))?.to_bytes();
        let answer = match self.settings.dialect {
            Dialect::Openai => Answer::completion(&bytes),
            Dialect::Anthropic => {
                anthropic::answer::text(&bytes).map(|(text, cut, usage)| Answer { text, cut, usage })
            }
            Dialect::Ollama => {
                ollama::own::answer(&bytes).map(|(text, cut, usage)| Answer { text, cut, usage })
            }
        };
        answer.ok_or_else(|| Failure::lasting("no_completion"))
    }
}

impl Question<'_> {
    /// The messages go out in the bytes in which the request has them: a provider's cache knows them so.
    fn body(&self, dialect: Dialect) -> Bytes {
        match dialect {
            Dialect::Openai => self.completion(),
            Dialect::Anthropic => self.message(),
            Dialect::Ollama => ollama::own::question(self.model, self.messages, self.max_tokens).into(),
        }
    }

    fn message(&self) -> Bytes {
        let (system, messages) = anthropic::render::conversation(self.messages);
        let tools = self.tools.map(anthropic::tools::all);
        let tools = tools
            .map_or_else(String::new, |tools| format!(r#""tools":{tools},"tool_choice":{{"type":"none"}},"#));
        let system = if system.is_empty() { String::new() } else { format!("\"system\":{},", json!(system)) };
        let (model, messages, most) = (json!(self.model), messages.join(","), self.max_tokens);
        format!(r#"{{"model":{model},"max_tokens":{most},{tools}{system}"messages":[{messages}]}}"#).into()
    }

    fn completion(&self) -> Bytes {
        let messages: Vec<&str> = self.messages.iter().map(Message::json).collect();
        let tools = self.tools.filter(|tools| serde_json::from_str::<&RawValue>(tools).is_ok());
        let tools =
            tools.map_or_else(String::new, |tools| format!(r#""tools":{tools},"tool_choice":"none","#));
        let model = to_string(&json!(self.model)).unwrap_or_default();
        let (messages, most) = (messages.join(","), self.max_tokens);
        let body = format!(
            r#"{{"model":{model},"messages":[{messages}],{tools}"max_tokens":{most},"temperature":0,"stream":false}}"#
        );
        body.into()
    }
}

/// Nobody there now may be there later; an address that cannot be made never works.
fn failure(error: &UpstreamError) -> Failure {
    Failure { code: error.code(), passing: !matches!(error, UpstreamError::Address(_)) }
}

/// An answer, as far as it is read.
struct Answer {
    text: String,
    /// Whether it ended for want of room.
    cut: bool,
    usage: Usage,
}

impl Answer {
    fn completion(body: &[u8]) -> Option<Self> {
        let Completed { choices, usage } = serde_json::from_slice(body).ok()?;
        let choice = choices.into_iter().next();
        let cut = choice.as_ref().is_some_and(|choice| choice.finish_reason.as_deref() == Some("length"));
        let text = choice.and_then(|choice| choice.message.content).unwrap_or_default();
        Some(Self { text, cut, usage: usage.unwrap_or_default() })
    }
}

/// A chat completion.
#[derive(Deserialize)]
struct Completed {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Reply,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Reply {
    content: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_chat_request_over_the_original_bytes() {
        let messages = [Message::from_json(r#"{"role": "user","content":"\u0041"}"#), Message::user("sum")];
        let question = Question {
            path: None,
            credentials: HeaderMap::new(),
            model: "a \"b\"",
            messages: &messages,
            tools: Some(r#"[ {"type":"function"} ]"#),
            max_tokens: 96,
        };
        let wanted = concat!(
            r#"{"model":"a \"b\"","messages":[{"role": "user","content":"\u0041"},{"role":"user","content":"sum"}],"#,
            r#""tools":[ {"type":"function"} ],"tool_choice":"none","max_tokens":96,"temperature":0,"stream":false}"#
        );
        assert_eq!(question.body(Dialect::Openai), wanted);
        let plain = Question { tools: None, ..question };
        let read: serde_json::Value = serde_json::from_slice(&plain.body(Dialect::Openai)).unwrap();
        assert_eq!((&read["max_tokens"], read.get("tools")), (&json!(96), None));
    }

    #[test]
    fn an_anthropic_server_is_asked_in_its_own_form() {
        let messages = [
            r#"{"role":"system","content":"Be brief"}"#,
            r#"{"role":"user","content":"q"}"#,
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"t","type":"function","function":{"name":"ls","arguments":"{\"a\":1}"}}]}"#,
            r#"{"role":"tool","tool_call_id":"t","content":"r"}"#,
            r#"{"role":"user","content":"sum"}"#,
        ]
        .map(Message::from_json);
        let question = Question {
            path: None,
            credentials: HeaderMap::new(),
            model: "m",
            messages: &messages,
            tools: Some(r#"[{"type":"function","function":{"name":"ls","parameters":{}}}]"#),
            max_tokens: 96,
        };
        let read: serde_json::Value = serde_json::from_slice(&question.body(Dialect::Anthropic)).unwrap();
        let wanted = json!({
            "model": "m", "max_tokens": 96, "system": "Be brief",
            "tools": [{"name": "ls", "input_schema": {}}], "tool_choice": {"type": "none"},
            "messages": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "ls", "input": {"a": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]},
                {"role": "user", "content": "sum"},
            ],
        });
        assert_eq!(read, wanted);
    }
}
