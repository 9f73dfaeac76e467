//! What clients ask of the embedded engines besides answers: Ollama's lists of models, llama.cpp's and vLLM's tokens.
//!
//! Before an HTTP upstream all of these are forwarded as they come.

mod models;
mod state;
mod tokens;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use thiserror::Error;
use tokio::task::JoinError;

pub(crate) use models::{thinks, time};
pub(crate) use tokens::counted;

use crate::body::Body;
use crate::cut::cut;
use crate::live::{Embedded, Live};
use crate::respond;

/// Something asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inquiry {
    /// `GET /`: whether an Ollama is here.
    Alive,
    /// `GET /api/version`
    Version,
    /// `GET /api/tags`: the models.
    Tags,
    /// `GET /api/ps`: the models that are loaded.
    Loaded,
    /// `POST /api/show`: one model.
    Show,
    /// `POST /api/embed` and `/api/embeddings`
    Embed,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /tokenize` of a text, in llama.cpp's form or vLLM's; of messages it is a count.
    Tokenize,
    /// `POST /detokenize`
    Detokenize,
    /// `POST /apply-template`
    Template,
    /// `GET /props`
    Props,
    /// `GET /slots`
    Slots,
}

impl Inquiry {
    /// Reads a request line; the path is in its plain spelling, and `/` where it is empty.
    pub fn of(method: &Method, path: &str) -> Option<Self> {
        let (get, post) = (matches!(*method, Method::GET | Method::HEAD), method == Method::POST);
        Some(match path {
            "/" if get => Self::Alive,
            "/api/version" if get => Self::Version,
            "/api/tags" if get => Self::Tags,
            "/api/ps" if get => Self::Loaded,
            "/api/show" if post => Self::Show,
            "/api/embed" | "/api/embeddings" if post => Self::Embed,
            "/v1/embeddings" if post => Self::Embeddings,
            "/tokenize" if post => Self::Tokenize,
            "/detokenize" if post => Self::Detokenize,
            "/apply-template" if post => Self::Template,
            "/props" if get => Self::Props,
            "/slots" if get => Self::Slots,
            _ => return None,
        })
    }

    /// The path, as traces and metrics name it.
    pub fn path(self) -> &'static str {
        match self {
            Self::Alive => "/",
            Self::Version => "/api/version",
            Self::Tags => "/api/tags",
            Self::Loaded => "/api/ps",
            Self::Show => "/api/show",
            Self::Embed => "/api/embed",
            Self::Embeddings => "/v1/embeddings",
            Self::Tokenize => "/tokenize",
            Self::Detokenize => "/detokenize",
            Self::Template => "/apply-template",
            Self::Props => "/props",
            Self::Slots => "/slots",
        }
    }

    /// Whether it has a body, which may name a model.
    pub fn has_body(self) -> bool {
        matches!(
            self,
            Self::Show | Self::Embed | Self::Embeddings | Self::Tokenize | Self::Detokenize | Self::Template
        )
    }

    /// Whether it is of one model, and not of all that there are.
    pub fn is_of_a_model(self) -> bool {
        self.has_body() || matches!(self, Self::Props | Self::Slots)
    }
}

/// An inquiry of an embedded engine.
pub struct Asked {
    /// What is asked.
    pub inquiry: Inquiry,
    /// The decoded body; empty where there is none.
    pub body: Bytes,
    /// The engine that its route leads to.
    pub engine: Arc<Embedded>,
}

/// It cannot be told.
#[derive(Debug, Error)]
pub enum InquiryError {
    /// The body is not of the path's form.
    #[error("`{param}`: {message}")]
    Form {
        /// The member at fault.
        param: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// What an engine that generates text cannot do.
    #[error(
        "{0} are not served by the embedded engine: it generates text. Send them to a route whose upstream has a `url`"
    )]
    NotServed(&'static str),
    /// Telling it panicked.
    #[error("telling it failed: {0}")]
    Crashed(#[from] JoinError),
}

impl InquiryError {
    fn form(param: &str, message: impl Into<String>) -> Self {
        Self::Form { param: param.to_owned(), message: message.into() }
    }
}

/// The model that a body names, if it can be read: Ollama's older clients call it `name`.
pub fn model(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        model: Option<String>,
        name: Option<String>,
    }
    let named: Named = serde_json::from_slice(body).ok()?;
    named.model.or(named.name)
}

/// Whether a text is asked for its tokens, or messages are: these are governed first, and counted as they would run.
///
/// # Errors
/// The messages are to be rendered as they never run.
pub fn has_messages(body: &[u8]) -> Result<bool, InquiryError> {
    #[derive(Deserialize)]
    struct Asked {
        messages: Option<IgnoredAny>,
        add_generation_prompt: Option<bool>,
    }
    let Ok(asked) = serde_json::from_slice::<Asked>(body) else { return Ok(false) };
    if asked.messages.is_some() && asked.add_generation_prompt == Some(false) {
        let message = "messages are counted as they run, with the beginning of an answer: leave it out";
        return Err(InquiryError::form("add_generation_prompt", message));
    }
    Ok(asked.messages.is_some())
}

/// Answers. Files are read and engines asked beside the other requests.
pub async fn answer(live: Arc<Live>, asked: Asked) -> Result<Response<Body>, InquiryError> {
    tokio::task::spawn_blocking(move || tell(&live, &asked)).await?
}

/// Answers; may block.
fn tell(live: &Live, asked: &Asked) -> Result<Response<Body>, InquiryError> {
    let Asked { inquiry, body, engine } = asked;
    Ok(respond::json(&match inquiry {
        Inquiry::Alive => return Ok(respond::plain("Ollama is running")),
        Inquiry::Version => models::version(),
        Inquiry::Tags => models::tags(live),
        Inquiry::Loaded => models::loaded(live),
        Inquiry::Show => models::show(engine),
        Inquiry::Embed | Inquiry::Embeddings => return Err(InquiryError::NotServed("embeddings")),
        Inquiry::Tokenize => tokens::tokenize(engine, &read(body)?)?,
        Inquiry::Detokenize => tokens::detokenize(engine, &read(body)?)?,
        Inquiry::Template => tokens::template(engine, &read(body)?)?,
        Inquiry::Props => state::props(engine),
        Inquiry::Slots => state::slots(engine),
    }))
}

/// Reads a body; a fault is told by its member.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, InquiryError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let place = error.path().to_string();
        let param = if place == "." { "body" } else { &place };
        let message = error.inner().to_string();
        let message = message.split(" at line ").next().unwrap_or(&message);
        InquiryError::form(param, cut(message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inquiries_are_known_by_method_and_path() {
        for (method, path, inquiry) in [
            (Method::GET, "/", Some(Inquiry::Alive)),
            (Method::HEAD, "/", Some(Inquiry::Alive)),
            (Method::POST, "/", None),
            (Method::GET, "/api/show", None),
            (Method::POST, "/api/show", Some(Inquiry::Show)),
            (Method::POST, "/api/embeddings", Some(Inquiry::Embed)),
            (Method::HEAD, "/api/tags", Some(Inquiry::Tags)),
            (Method::POST, "/props", None),
            (Method::POST, "/tokenize", Some(Inquiry::Tokenize)),
        ] {
            assert_eq!(Inquiry::of(&method, path), inquiry, "{method} {path}");
        }
    }

    #[test]
    fn a_model_has_two_names() {
        assert_eq!(model(br#"{"model":"a","name":"b"}"#).as_deref(), Some("a"));
        assert_eq!(model(br#"{"name":"b"}"#).as_deref(), Some("b"));
        assert_eq!(model(br#"{"model":5}"#), None);
        assert_eq!(model(b""), None);
    }
}
