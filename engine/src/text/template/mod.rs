//! Hugging Face chat templates: messages to the prompt that the model was trained on.
//!
//! The templates are Jinja as `transformers` runs it: blocks trimmed, Python's methods, its own `tojson`,
//! `raise_exception` and `strftime_now`. Time is passed in. Steps and output are limited, so that no template can hang
//! or flood the process.

mod clock;
mod python;
mod source;
mod tojson;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use jiff::tz::TimeZone;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

use crate::text::error::{TemplateError, TextError};
use crate::text::folder::{Folder, Source};

/// Steps that a rendering may take; long conversations take some hundred thousand.
const FUEL: u64 = 10_000_000;
/// Largest prompt in bytes.
const MAX_OUTPUT: usize = 64 << 20;

/// A conversation to be rendered.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// The messages.
    pub messages: &'a [serde_json::Value],
    /// The tools offered, as a JSON array of OpenAI's shape.
    pub tools: Option<&'a serde_json::Value>,
    /// Whether the prompt ends with the beginning of an answer.
    pub add_generation_prompt: bool,
    /// More variables for the template (`enable_thinking`, say).
    pub kwargs: &'a serde_json::Map<String, serde_json::Value>,
    /// What `strftime_now` tells, in the time zone of the process.
    pub now: SystemTime,
}

/// A message as templates take it: read once, rendered as often as it comes back. Clones share it.
#[derive(Debug, Clone)]
pub struct TemplateMessage(Value);

impl TemplateMessage {
    pub(super) fn new(message: &serde_json::Value) -> Self {
        Self(Value::from(Serde(message)))
    }

    /// A field as text: text itself, anything else as JSON. `None` for one that is not there or null.
    pub(super) fn written(&self, name: &str) -> Option<String> {
        let field = self.0.get_attr(name).ok().filter(|field| !field.is_undefined() && !field.is_none())?;
        field.as_str().map(str::to_owned).or_else(|| serde_json::to_string(&field).ok())
    }
}

/// The chat templates of a model folder.
pub struct Templates {
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, String>,
    zone: TimeZone,
    /// Bytes of the last prompt: the next one is likely to need as many.
    length: AtomicUsize,
}

impl Templates {
    /// Compiles the templates of `folder`.
    pub(super) fn compile(folder: Folder) -> Result<Self, TextError> {
        let mut environment = environment();
        for (name, Source { path, text }) in folder.templates {
            let added = environment.add_template_owned(name, source::prepare(&text));
            added.map_err(|e| TextError::Template { path, reason: one_line(&e) })?;
        }
        Ok(Self {
            environment,
            special_tokens: folder.special_tokens,
            zone: TimeZone::system(),
            length: AtomicUsize::new(0),
        })
    }

    /// Renders a conversation as `transformers`' `apply_chat_template` does, with the messages just as they are.
    pub fn render(&self, prompt: &Prompt<'_>) -> Result<String, TemplateError> {
        self.render_value(Value::from(Serde(&prompt.messages)), prompt)
    }

    /// Renders `messages` in place of the prompt's own.
    pub(super) fn render_messages(
        &self,
        messages: impl IntoIterator<Item = TemplateMessage>,
        prompt: &Prompt<'_>,
    ) -> Result<String, TemplateError> {
        let messages: Vec<Value> = messages.into_iter().map(|message| message.0).collect();
        self.render_value(Value::from(messages), prompt)
    }

    fn render_value(&self, messages: Value, prompt: &Prompt<'_>) -> Result<String, TemplateError> {
        let template = self.template(prompt.tools.is_some()).ok_or(TemplateError::Missing)?;
        let mut prompt_text = Limited(Vec::with_capacity(self.length.load(Ordering::Relaxed)));
        template
            .render_captured_to(self.variables(messages, prompt), &mut prompt_text)
            .map_err(|e| template_error(&e))?;
        self.length.store(prompt_text.0.len(), Ordering::Relaxed);
        String::from_utf8(prompt_text.0).map_err(|e| TemplateError::Failed(e.to_string()))
    }

    /// The text of a template, as it was made ready to run.
    pub(super) fn source(&self, tools: bool) -> Option<String> {
        self.template(tools).map(|template| template.source().to_owned())
    }

    /// Whether some template asks for a variable.
    pub(super) fn asks_for(&self, variable: &str) -> bool {
        self.environment
            .templates()
            .any(|(_, template)| template.undeclared_variables(false).contains(variable))
    }

    /// A special token, by its role in the tokenizer's configuration.
    pub(super) fn special_token(&self, role: &str) -> Option<&str> {
        self.special_tokens.get(role).map(String::as_str)
    }

    /// Whether there is a template at all.
    pub fn is_empty(&self) -> bool {
        self.environment.templates().next().is_none()
    }

    fn template(&self, tools: bool) -> Option<minijinja::Template<'_, '_>> {
        let named = |name: &str| self.environment.get_template(name).ok();
        tools.then(|| named("tool_use")).flatten().or_else(|| named("default"))
    }

    fn variables(&self, messages: Value, prompt: &Prompt<'_>) -> BTreeMap<String, Value> {
        let mut variables: BTreeMap<String, Value> =
            self.special_tokens.iter().map(|(role, token)| (role.clone(), Value::from(token))).collect();
        let (now, zone) = (prompt.now, self.zone.clone());
        let strftime_now = move |format: &str| clock::strftime(format, now, &zone);
        variables.insert("strftime_now".to_owned(), Value::from_function(strftime_now));
        variables.extend(prompt.kwargs.iter().map(|(name, value)| (name.clone(), Value::from(Serde(value)))));
        variables.insert("messages".to_owned(), messages);
        variables.insert("tools".to_owned(), Value::from(Serde(prompt.tools)));
        variables.insert("documents".to_owned(), Value::from(()));
        variables.insert("add_generation_prompt".to_owned(), Value::from(prompt.add_generation_prompt));
        variables
    }
}

/// Jinja as `transformers` sets it up.
fn environment() -> Environment<'static> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    let syntax = syntax.expect("Jinja's own marks are valid. This is a bug.");
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_formatter(print);
    minijinja_contrib::add_to_environment(&mut environment);
    environment.set_unknown_method_callback(python::method);
    environment.add_test("sequence", python::is_sequence);
    environment.add_filter("tojson", tojson::tojson);
    environment.add_function("raise_exception", raise_exception);
    environment
}

/// As minijinja prints without escapes, but texts, which are most of a prompt, without a way through `core::fmt`.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text).map_err(Error::from),
        None => minijinja::escape_formatter(out, state, value),
    }
}

/// A template's own refusal.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raised by the template").with_source(Raised(message)))
}

fn template_error(error: &Error) -> TemplateError {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return TemplateError::Refused(message.clone());
        }
        let kind = inner.downcast_ref::<Error>().map(Error::kind);
        if matches!(kind, Some(ErrorKind::OutOfFuel | ErrorKind::WriteFailure)) {
            return TemplateError::Endless;
        }
        cause = inner.source();
    }
    TemplateError::Failed(one_line(error))
}

/// The message without the excerpts that span lines.
fn one_line(error: &Error) -> String {
    error.to_string().replace('\n', " ")
}

/// A prompt in the making that refuses to grow without end.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes).map(drop)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
pub(super) mod tests;
