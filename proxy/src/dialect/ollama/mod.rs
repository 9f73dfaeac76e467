//! Ollama's own API: `/api/chat` and `/api/generate`.
//!
//! `num_ctx` bounds the context of its request; what does not fit is cut by the route's policy or refused with figures,
//! never silently: `truncate` changes nothing. An answer that fills the window ends with `length`, or goes on where `shift`
//! or the configuration says so; `num_keep` of its tokens stay then.

mod message;
mod object;
mod options;
pub(crate) mod own;
mod reply;
mod request;
mod said;
mod write;

use std::sync::Arc;

use plimsoll_policies::{Conversation, Tokens};
use serde_json::{Value, json};

use super::{DialectError, Instead, Original, Translated};
use crate::admit::Run;
use crate::forward::{Seen, Usage};
use crate::identify::Api;
use crate::inquiry;
use crate::live::Embedded;
use crate::parse::{OptionError, Prompt};
use crate::respond::Fault;
use crate::stream::Reply;
use crate::telemetry;

use request::{Endpoint, Request, Turn};

/// A request behind its OpenAI form.
struct Asked {
    body: Arc<str>,
    request: Request,
}

/// Translates the body of an API that holds a conversation.
///
/// # Errors
/// It is no JSON, or not of the endpoint's form.
pub(super) fn translate(api: Api, body: &str) -> Result<Option<Translated>, DialectError> {
    let endpoint = match api {
        Api::OllamaChat => Endpoint::Chat,
        Api::OllamaGenerate => Endpoint::Generate,
        _ => return Ok(None),
    };
    let request = request::translate(endpoint, body)?;
    Ok(Some(Translated {
        json: request.json.clone(),
        original: Arc::new(Asked { body: body.into(), request }),
    }))
}

/// An error as it stands in an answer, and in a stream.
pub(crate) fn error(fault: &Fault) -> Value {
    json!({"error": fault.message})
}

/// A member of the chat form as it is named here.
pub(super) fn renamed(member: &str) -> &str {
    options::place_of(member)
}

impl Original for Asked {
    fn write(&self, conversation: &Conversation) -> String {
        write::write(self.request.endpoint, &self.body, conversation)
    }

    fn place(&self, param: &str) -> String {
        request::place(&self.request, param)
    }

    fn reply(&self, run: &Run) -> Box<dyn Reply> {
        let Request { endpoint, model, turn, .. } = &self.request;
        let gives_tokens = *endpoint == Endpoint::Generate && !matches!(turn, Turn::Raw(_));
        let context = gives_tokens
            .then(|| reply::Context { prompt: run.prompt.clone(), text: run.engine.counter.text.clone() });
        let record = run.envelope.record.record();
        Box::new(reply::Answer {
            endpoint: *endpoint,
            model: if model.is_empty() { run.engine.name.clone() } else { model.clone() },
            asked: record.started,
            id: record.id.clone(),
            logprobs: run.options.logprobs.is_some(),
            context,
            said: reply::Said::default(),
        })
    }

    fn usage(&self, seen: &Seen) -> Option<Usage> {
        said::usage(seen)
    }

    fn said(&self, body: &str, said: &mut telemetry::Said) {
        said::read(body, said);
    }

    fn unserved(&self) -> Option<OptionError> {
        let (param, message) = self.request.unserved.as_ref()?;
        Some(OptionError::new(param, format!("`{param}`: {message}")))
    }

    fn ungoverned(&self) -> Option<&'static str> {
        self.request.turn.ungoverned()
    }

    fn window(&self) -> Option<Tokens> {
        self.request.window.map(Tokens::from)
    }

    fn instead(&self, engine: &Embedded) -> Result<Option<Instead>, OptionError> {
        let Request { endpoint, model, turn, think, .. } = &self.request;
        if *think == Some(true) && !inquiry::thinks(engine) {
            let message =
                format!("`think`: the model `{}` does not think: leave it out, or send false", engine.name);
            return Err(OptionError::new("think", message));
        }
        Ok(match turn {
            // What may be filled in is told by `unserved`.
            Turn::Conversation | Turn::Filled => None,
            Turn::Load => Some(Instead::Load(reply::loaded(*endpoint, model))),
            Turn::Raw(prompt) => Some(Instead::Text(Prompt::Text(prompt.clone()))),
            Turn::Continued(tokens) => {
                let behind = request::behind(&self.request.json, engine.engine.text());
                let behind =
                    behind.map_err(|message| OptionError::new("context", format!("`context`: {message}")))?;
                Some(Instead::Continued(tokens.iter().chain(&*behind).copied().collect()))
            }
        })
    }

    fn counted(&self, tokens: Tokens, _before: Tokens) -> Value {
        json!({"prompt_eval_count": tokens})
    }
}
