//! An error on its way to a client, and how each dialect writes it.

use std::fmt::Display;
use std::time::Duration;

use http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::json as answer;
use crate::body::Body;
use crate::dialect::{Dialect, anthropic, ollama};

/// How long a client should wait before it asks a full house again.
const RETRY: Duration = Duration::from_secs(1);

/// An error as a client sees it, in the words of OpenAI's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The status.
    pub status: StatusCode,
    /// `error.code`, by which SDKs choose an exception and metrics a label.
    pub code: &'static str,
    /// `error.param`: the field at fault.
    pub param: Option<String>,
    /// `error.message`.
    pub message: String,
    /// `retry-after`, where trying again makes sense.
    pub retry: Option<Duration>,
    /// `allow`, where the path has other methods.
    pub allow: Option<&'static str>,
    /// The figures of a prompt that does not fit.
    pub overflow: Option<Overflow>,
}

/// A prompt that does not fit, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens that it may have.
    pub most: u64,
}

impl Fault {
    pub(super) fn new(status: StatusCode, code: &'static str, message: &dyn Display) -> Self {
        Self {
            status,
            code,
            param: None,
            message: message.to_string(),
            retry: None,
            allow: None,
            overflow: None,
        }
    }

    pub(super) fn at(self, param: &str) -> Self {
        Self { param: Some(param.to_owned()), ..self }
    }

    pub(super) fn again(self) -> Self {
        Self { retry: Some(RETRY), ..self }
    }

    /// The error body in a dialect; it also stands in the midst of a stream. `id` is our id of the request.
    pub fn body_in(&self, dialect: Dialect, id: &str) -> Value {
        match dialect {
            Dialect::OpenAi => self.body(),
            Dialect::Anthropic => anthropic::error::body(&self.renamed(dialect), self.status_in(dialect), id),
            Dialect::Responses => self.renamed(dialect).body(),
            Dialect::Ollama => ollama::error(&self.renamed(dialect)),
        }
    }

    /// With the dialect's own name for the field at fault.
    fn renamed(&self, dialect: Dialect) -> Self {
        let name = self.param.as_deref().unwrap_or_default();
        let own = dialect.renamed(name);
        let message = self.message.replace(&format!("`{name}`"), &format!("`{own}`"));
        Self { param: self.param.as_ref().map(|_| own.to_owned()), message, ..self.clone() }
    }

    /// The error body in OpenAI's form.
    pub fn body(&self) -> Value {
        let kind = match self.status.as_u16() {
            401 | 403 => "authentication_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }

    pub(super) fn response(&self, dialect: Dialect, id: &str) -> Response<Body> {
        let mut response = answer(&self.body_in(dialect, id));
        *response.status_mut() = self.status_in(dialect);
        if let Some(after) = self.retry {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}
