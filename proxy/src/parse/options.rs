//! What a request asks of the embedded engine: limits, sampling, stops, stream form.

mod checks;
mod tool_choice;

use std::borrow::Cow;
use std::collections::BTreeMap;

use plimsoll_engine::{Format, KeepAlive, Sampling};
use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;

use crate::config::{Keep, Lifetime};
use crate::cut::cut;
use crate::telemetry::Settings;

use checks::{bias, bounded, keep_alive, within};
pub use tool_choice::{CallMode, ToolChoice};

/// Fields that hold the conversation itself, read elsewhere.
const CONTENT: [&str; 3] = ["messages", "tools", "prompt"];

/// At most this many stop strings, as many as OpenAI's API and some more.
const MAX_STOPS: usize = 16;

/// At most this many answers to one prompt: each takes a slot of the engine.
const MOST_CHOICES: u32 = 8;

/// At most this many of the likeliest tokens are told, as many as OpenAI's API.
const MOST_LOGPROBS: u32 = 20;

/// At most this many bytes of `response_format`: a schema takes about 50 times its length to compile.
pub const LONGEST_FORMAT: usize = 256 << 10;

/// The request fields as they stand in the body; every one may be absent or null.
#[derive(Debug, Default, Deserialize)]
struct Raw {
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i32>,
    min_p: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    repetition_penalty: Option<f32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    stop_token_ids: Option<Vec<u32>>,
    n: Option<u32>,
    best_of: Option<u32>,
    echo: Option<bool>,
    suffix: Option<String>,
    logprobs: Option<serde_json::Value>,
    top_logprobs: Option<u32>,
    tool_choice: Option<serde_json::Value>,
    response_format: Option<ResponseFormat>,
    functions: Option<IgnoredAny>,
    function_call: Option<serde_json::Value>,
    parallel_tool_calls: Option<bool>,
    modalities: Option<Vec<String>>,
    audio: Option<IgnoredAny>,
    structured_outputs: Option<IgnoredAny>,
    guided_json: Option<IgnoredAny>,
    guided_regex: Option<IgnoredAny>,
    guided_choice: Option<IgnoredAny>,
    guided_grammar: Option<IgnoredAny>,
    min_tokens: Option<u32>,
    ignore_eos: Option<bool>,
    keep_alive: Option<Lifetime>,
    return_token_ids: Option<bool>,
    shift: Option<bool>,
    n_keep: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct ResponseFormat {
    r#type: String,
    json_schema: Option<JsonSchema>,
}

#[derive(Debug, Deserialize)]
struct JsonSchema {
    schema: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A field whose value the embedded engine cannot take.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct OptionError {
    /// The field, as a client spells it.
    pub param: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl OptionError {
    pub(crate) fn new(param: &str, message: impl Into<String>) -> Self {
        Self { param: param.to_owned(), message: message.into() }
    }
}

/// Checked options of one generation.
#[derive(Debug, Clone)]
pub struct Options {
    /// Answers wanted, 1 or more. With a seed the i-th of them, from 0, has the seed `seed + i`.
    pub n: u32,
    /// Answer as server-sent events.
    pub stream: bool,
    /// Send a last chunk with the usage.
    pub include_usage: bool,
    /// Tokens the answer may have; `None` where the client set no limit.
    pub max_tokens: Option<u32>,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Tell how likely each token was, with so many of the likeliest in its place.
    pub logprobs: Option<u32>,
    /// Tokens before which the answer does not end by itself (vLLM's extension).
    pub min_tokens: u32,
    /// What the answer must be; `None`: any text.
    pub format: Option<Box<Format>>,
    /// Strings that end the answer.
    pub stop: Vec<String>,
    /// Tokens that end the answer, beside the model's own.
    pub stop_tokens: Vec<u32>,
    /// Go on past the end-of-sequence token (vLLM's extension).
    pub ignore_eos: bool,
    /// How long the model stays loaded afterwards (Ollama's field); `None`: as it is configured.
    pub keep_alive: Option<KeepAlive>,
    /// Give token ids beside the text (vLLM's extension).
    pub return_token_ids: bool,
    /// Whether the answer goes on past its window (Ollama's field); `None`: as it is configured.
    pub shift: Option<bool>,
    /// What stays then (llama.cpp's `n_keep`); `None`: as it is configured.
    pub keep: Option<Keep>,
    /// Which tools the answer may or must call.
    pub tool_choice: Box<ToolChoice>,
}

impl Options {
    /// The settings as a trace shows them.
    pub fn settings(&self, max_tokens: u32) -> Settings {
        let sampling = &self.sampling;
        Settings {
            max_tokens: Some(u64::from(max_tokens)),
            temperature: Some(f64::from(sampling.temperature)),
            top_p: Some(f64::from(sampling.top_p)),
            top_k: (sampling.top_k > 0).then(|| u64::from(sampling.top_k)),
            seed: sampling.seed.map(u64::cast_signed),
            presence_penalty: Some(f64::from(sampling.presence_penalty)),
            frequency_penalty: Some(f64::from(sampling.frequency_penalty)),
        }
    }

    /// Reads the options from a body's top-level fields, as (name, raw JSON); unknown ones are left alone.
    /// What they leave open, the model folder's own `sampling` decides.
    pub fn read<'a>(
        fields: impl Iterator<Item = (&'a str, &'a str)>,
        sampling: &Sampling,
    ) -> Result<Self, OptionError> {
        let mut object = String::from("{");
        for (name, json) in fields.filter(|(name, _)| !CONTENT.contains(name)) {
            if name == "response_format" {
                bounded(json)?;
            }
            if object.len() > 1 {
                object.push(',');
            }
            object.push_str(&serde_json::Value::from(name).to_string());
            object.push(':');
            object.push_str(json);
        }
        object.push('}');
        let mut json = serde_json::Deserializer::from_str(&object);
        let raw: Raw = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let param = error.path().to_string();
            OptionError { message: format!("`{param}`: {}", reason(error.inner())), param }
        })?;
        raw.check(sampling)
    }
}

/// Where serde counts lines and columns, it counts in our excerpt, not in the client's body.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    // A wrong value stands in it as it came.
    let text = &*shortened(text);
    // Clients know JSON's types, not ours.
    let types = [
        ("u32", "a whole number of at least 0"),
        ("i32", "a whole number"),
        ("i64", "a whole number"),
        ("f32", "a number"),
    ];
    types.iter().fold(text.to_owned(), |text, (ours, theirs)| {
        text.replace(&format!("expected {ours}"), &format!("expected {theirs}"))
    })
}

/// A long text in quotes is cut; what was expected stands behind it.
fn shortened(text: &str) -> Cow<'_, str> {
    match (text.split_once('"'), text.rsplit_once('"')) {
        (Some((before, _)), Some((_, behind))) if text.len() > before.len() + behind.len() + 2 => {
            let value = &text[before.len() + 1..text.len() - behind.len() - 1];
            Cow::Owned(format!("{before}\"{}\"{behind}", cut(value)))
        }
        _ => Cow::Borrowed(text),
    }
}

impl Raw {
    fn check(mut self, default: &Sampling) -> Result<Options, OptionError> {
        self.refuse_unserved()?;
        let tool_choice = ToolChoice::read(self.tool_choice.as_ref(), self.parallel_tool_calls)?;
        let stop = match self.stop.take() {
            None => Vec::new(),
            Some(OneOrMany::One(one)) => vec![one],
            Some(OneOrMany::Many(many)) => many,
        };
        if stop.len() > MAX_STOPS || stop.iter().any(String::is_empty) {
            return Err(OptionError::new(
                "stop",
                format!("`stop` takes 1 to {MAX_STOPS} strings, none empty"),
            ));
        }
        let max_tokens = self.max_completion_tokens.or(self.max_tokens);
        if max_tokens == Some(0) {
            return Err(OptionError::new("max_tokens", "`max_tokens` must be at least 1"));
        }
        Ok(Options {
            n: self.choices()?,
            stream: self.stream.unwrap_or(false),
            include_usage: self.stream_options.as_ref().and_then(|o| o.include_usage).unwrap_or(false),
            max_tokens,
            stop,
            stop_tokens: self.stop_token_ids.clone().unwrap_or_default(),
            ignore_eos: self.ignore_eos.unwrap_or(false),
            keep_alive: self.keep_alive.as_ref().map(keep_alive).transpose()?,
            return_token_ids: self.return_token_ids.unwrap_or(false),
            shift: self.shift,
            keep: self.keep()?,
            tool_choice: Box::new(tool_choice),
            logprobs: self.logprobs()?,
            min_tokens: self.min_tokens(max_tokens)?,
            format: self.format()?.map(Box::new),
            sampling: self.sampling(default)?,
        })
    }

    fn keep(&self) -> Result<Option<Keep>, OptionError> {
        let Some(number) = self.n_keep else { return Ok(None) };
        let wrong = || {
            let message =
                format!("`n_keep` is {number}, must be a number of tokens, or -1 for the whole prompt");
            OptionError::new("n_keep", message)
        };
        Keep::read(number).map(Some).ok_or_else(wrong)
    }

    fn choices(&self) -> Result<u32, OptionError> {
        match self.n.unwrap_or(1) {
            n if (1..=MOST_CHOICES).contains(&n) => Ok(n),
            n => Err(OptionError::new("n", format!("`n` is {n}, must be from 1 to {MOST_CHOICES} answers"))),
        }
    }

    /// Chat asks by a flag and a number, legacy completions by a number alone.
    fn logprobs(&self) -> Result<Option<u32>, OptionError> {
        let top = self.top_logprobs.filter(|&top| top > 0);
        let asked = match &self.logprobs {
            None | Some(serde_json::Value::Null | serde_json::Value::Bool(false)) if top.is_some() => {
                return Err(OptionError::new("top_logprobs", "`top_logprobs` needs `logprobs: true`"));
            }
            None | Some(serde_json::Value::Null | serde_json::Value::Bool(false)) => return Ok(None),
            Some(serde_json::Value::Bool(true)) => Some(top.unwrap_or(0)),
            Some(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        };
        let param = if top.is_some() { "top_logprobs" } else { "logprobs" };
        match asked {
            Some(asked) if asked <= MOST_LOGPROBS => Ok(Some(asked)),
            _ => Err(OptionError::new(
                param,
                format!("`{param}` must be true, false or a number from 0 to {MOST_LOGPROBS}"),
            )),
        }
    }

    fn min_tokens(&self, max_tokens: Option<u32>) -> Result<u32, OptionError> {
        let least = self.min_tokens.unwrap_or(0);
        if max_tokens.is_some_and(|most| least > most) {
            return Err(OptionError::new(
                "min_tokens",
                format!("`min_tokens` is {least}, above `max_tokens`"),
            ));
        }
        if least > 0 && self.response_format.as_ref().is_some_and(|format| format.r#type != "text") {
            let message = "`min_tokens` has no place beside `response_format`: the format decides where the answer ends";
            return Err(OptionError::new("min_tokens", message));
        }
        Ok(least)
    }

    fn format(&mut self) -> Result<Option<Format>, OptionError> {
        let Some(format) = self.response_format.take() else { return Ok(None) };
        let wrong = |message: &str| Err(OptionError::new("response_format", message));
        match (format.r#type.as_str(), format.json_schema.and_then(|json| json.schema)) {
            ("text", _) => Ok(None),
            ("json_object", _) => Ok(Some(Format::JsonObject)),
            ("json_schema", Some(schema)) => Ok(Some(Format::JsonSchema(schema))),
            ("json_schema", None) => wrong("`response_format`: `json_schema.schema` is missing"),
            _ => wrong("`response_format.type` must be `text`, `json_object` or `json_schema`"),
        }
    }

    fn sampling(&self, default: &Sampling) -> Result<Sampling, OptionError> {
        Ok(Sampling {
            temperature: within("temperature", self.temperature, 0.0..=2.0)?.unwrap_or(default.temperature),
            top_p: within("top_p", self.top_p, 0.0..=1.0)?.unwrap_or(default.top_p),
            top_k: self.top_k.and_then(|k| u32::try_from(k).ok()).unwrap_or(default.top_k),
            min_p: within("min_p", self.min_p, 0.0..=1.0)?.unwrap_or(default.min_p),
            presence_penalty: within("presence_penalty", self.presence_penalty, -2.0..=2.0)?.unwrap_or(0.0),
            frequency_penalty: within("frequency_penalty", self.frequency_penalty, -2.0..=2.0)?
                .unwrap_or(0.0),
            repetition_penalty: within("repetition_penalty", self.repetition_penalty, 0.01..=10.0)?
                .unwrap_or(1.0),
            logit_bias: bias(self.logit_bias.as_ref())?,
            seed: self.seed.map(i64::cast_unsigned),
        })
    }

    /// What the embedded engine does not do is refused: an option that is quietly ignored is a wrong answer.
    fn refuse_unserved(&self) -> Result<(), OptionError> {
        let unserved = |param: &str, what: &str| {
            Err(OptionError::new(
                param,
                format!("{what} is not served by the embedded engine: leave `{param}` out"),
            ))
        };
        if self.best_of.is_some_and(|best_of| best_of != self.n.unwrap_or(1)) {
            return unserved("best_of", "choosing among more answers than are wanted");
        }
        if self.echo == Some(true) {
            return unserved("echo", "repeating the prompt");
        }
        if self.suffix.as_ref().is_some_and(|s| !s.is_empty()) {
            return unserved("suffix", "filling in");
        }
        let guides = [
            ("structured_outputs", &self.structured_outputs),
            ("guided_json", &self.guided_json),
            ("guided_regex", &self.guided_regex),
            ("guided_choice", &self.guided_choice),
            ("guided_grammar", &self.guided_grammar),
        ];
        if let Some((param, _)) = guides.iter().find(|(_, guide)| guide.is_some()) {
            let message = format!("`{param}` is another server's form: send `response_format`");
            return Err(OptionError::new(param, message));
        }
        if self.modalities.iter().flatten().any(|modality| modality != "text") {
            return unserved("modalities", "anything but text");
        }
        if self.audio.is_some() {
            return unserved("audio", "anything but text");
        }
        let called = self.function_call.as_ref().and_then(serde_json::Value::as_str);
        if self.function_call.is_some() && !matches!(called, Some("auto" | "none")) {
            return Err(OptionError::new(
                "function_call",
                "`function_call` is the old form: send `tool_choice`",
            ));
        }
        if self.functions.is_some() {
            return Err(OptionError::new("functions", "`functions` is the old form: send `tools`"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
