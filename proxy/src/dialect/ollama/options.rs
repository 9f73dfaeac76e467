//! Ollama's `options`, and the members beside them that ask for a form of the answer, in OpenAI's words.

use plimsoll_policies::json;

use super::super::DialectError;
use super::object::{Object, wrong};

/// Members of an OpenAI body, as name and raw JSON.
pub(super) type Members = Vec<(&'static str, String)>;

/// What `options` come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// What OpenAI's form has a word for.
    pub(super) members: Members,
    /// `num_ctx`: tokens that prompt and answer may have together.
    pub(super) window: Option<u32>,
    /// The first option that the embedded engine cannot follow, or of a wrong type.
    pub(super) refused: Option<(String, String)>,
}

/// What an option is, and what OpenAI calls it; `None`: nothing here depends on it.
enum Kind {
    Int(Option<&'static str>),
    Float(Option<&'static str>),
    Flag,
    Texts(&'static str),
    Window,
    /// Only this value is served.
    Only(f64),
}

/// Options that Ollama knows. How a model is run (threads, batches, layers) is the configuration's business here;
/// penalties look at the whole text, whatever `repeat_last_n` says. Unknown ones are ignored, as Ollama does.
const OPTIONS: &[(&str, Kind)] = &[
    ("options.num_ctx", Kind::Window),
    ("options.num_predict", Kind::Int(Some("max_tokens"))),
    ("options.temperature", Kind::Float(Some("temperature"))),
    ("options.top_k", Kind::Int(Some("top_k"))),
    ("options.top_p", Kind::Float(Some("top_p"))),
    ("options.min_p", Kind::Float(Some("min_p"))),
    ("options.typical_p", Kind::Only(1.0)),
    ("options.seed", Kind::Int(Some("seed"))),
    ("options.stop", Kind::Texts("stop")),
    ("options.repeat_penalty", Kind::Float(Some("repetition_penalty"))),
    ("options.presence_penalty", Kind::Float(Some("presence_penalty"))),
    ("options.frequency_penalty", Kind::Float(Some("frequency_penalty"))),
    ("options.num_keep", Kind::Int(Some("n_keep"))),
    ("options.repeat_last_n", Kind::Int(None)),
    ("options.num_batch", Kind::Int(None)),
    ("options.num_gpu", Kind::Int(None)),
    ("options.main_gpu", Kind::Int(None)),
    ("options.num_thread", Kind::Int(None)),
    ("options.use_mmap", Kind::Flag),
];

/// The place of an OpenAI member among Ollama's.
pub(super) fn place_of(param: &str) -> &str {
    let named = |kind: &Kind| match kind {
        Kind::Int(Some(name)) | Kind::Float(Some(name)) | Kind::Texts(name) => *name == param,
        _ => false,
    };
    match param {
        "response_format" => "format",
        "chat_template_kwargs" => "think",
        _ => OPTIONS.iter().find(|(_, kind)| named(kind)).map_or(param, |(place, _)| place),
    }
}

/// Reads `options`.
///
/// # Errors
/// They are no object.
pub(super) fn read(body: &Object<'_>) -> Result<Read, DialectError> {
    let (Some(raw), Some(span)) = (body.get("options"), body.span("options")) else {
        return Ok(Read::default());
    };
    let options = Object::read(raw, span.start).ok_or_else(|| wrong("options", "an object", raw))?;
    let mut read = Read::default();
    for (place, kind) in OPTIONS {
        let name = place.strip_prefix("options.").unwrap_or(place);
        let Some(raw) = options.get(name) else { continue };
        if let Err(wanted) = read.option(kind, raw)
            && let DialectError::Form { param, message } = wrong(place, wanted, raw)
        {
            read.refused.get_or_insert((param, message));
        }
    }
    Ok(read)
}

impl Read {
    /// Takes one option; the error says what it must be.
    fn option(&mut self, kind: &Kind, raw: &str) -> Result<(), &'static str> {
        match kind {
            Kind::Int(name) => {
                let number = integer(raw).ok_or("a whole number")?;
                match name {
                    // No limit, and chance: as where nothing is said.
                    Some("max_tokens") if number <= 0 => {}
                    Some("seed") if number == -1 => {}
                    // All tokens, which OpenAI's form says by 0.
                    Some(name @ "top_k") => self.members.push((name, number.max(0).to_string())),
                    Some(name) => self.members.push((name, number.to_string())),
                    None => {}
                }
            }
            Kind::Float(name) => {
                raw.parse::<f64>().map_err(|_| "a number")?;
                self.members.extend(name.map(|name| (name, raw.to_owned())));
            }
            Kind::Flag => drop(raw.parse::<bool>().map_err(|_| "true or false")?),
            Kind::Texts(name) => {
                let list: Vec<String> = serde_json::from_str(raw).map_err(|_| "an array of strings")?;
                if !list.is_empty() {
                    self.members.push((name, serde_json::json!(list).to_string()));
                }
            }
            Kind::Window => {
                let wanted = "a number of tokens, at least 1";
                let tokens = integer(raw).and_then(|number| u32::try_from(number).ok()).filter(|n| *n > 0);
                self.window = Some(tokens.ok_or(wanted)?);
            }
            Kind::Only(value) => {
                let number: f64 = raw.parse().map_err(|_| "a number")?;
                if (number - value).abs() > f64::EPSILON {
                    return Err("1: typical sampling is not served by the embedded engine");
                }
            }
        }
        Ok(())
    }
}

/// A whole number; a fraction is dropped, as Ollama does.
fn integer(raw: &str) -> Option<i64> {
    raw.parse().ok().or_else(|| {
        let number: f64 = raw.parse().ok()?;
        #[expect(clippy::cast_possible_truncation, reason = "it is checked to fit")]
        (number.abs() < 9e15).then_some(number as i64)
    })
}

/// `format` as OpenAI's `response_format`.
///
/// # Errors
/// It is neither `json` nor a schema.
pub(super) fn format(body: &Object<'_>) -> Result<Option<String>, DialectError> {
    let Some(raw) = body.get("format") else { return Ok(None) };
    if raw.starts_with('{') {
        return Ok(Some(format!(
            r#"{{"type":"json_schema","json_schema":{{"name":"format","schema":{raw}}}}}"#
        )));
    }
    match json::decode(raw).map(|decoded| decoded.text).as_deref() {
        Some("") => Ok(None),
        Some("json") => Ok(Some(r#"{"type":"json_object"}"#.to_owned())),
        _ => Err(wrong("format", "\"json\" or a JSON schema", raw)),
    }
}

/// `think` as variables of the chat template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Think {
    /// Whether the model is asked to think.
    pub(super) on: bool,
    /// How hard.
    pub(super) level: Option<String>,
}

impl Think {
    /// Reads it; none where nothing is said.
    ///
    /// # Errors
    /// It is neither a flag nor a level.
    pub(super) fn read(body: &Object<'_>) -> Result<Option<Self>, DialectError> {
        let Some(raw) = body.get("think") else { return Ok(None) };
        if let Ok(on) = raw.parse() {
            return Ok(Some(Self { on, level: None }));
        }
        match json::decode(raw).map(|decoded| decoded.text) {
            Some(level) if matches!(level.as_str(), "low" | "medium" | "high") => {
                Ok(Some(Self { on: true, level: Some(level) }))
            }
            _ => Err(wrong("think", "true, false, \"low\", \"medium\" or \"high\"", raw)),
        }
    }

    /// As `chat_template_kwargs`.
    pub(super) fn variables(&self) -> String {
        let level = self
            .level
            .as_ref()
            .map_or_else(String::new, |level| format!(r#","reasoning_effort":{}"#, json::encode(level)));
        format!(r#"{{"enable_thinking":{on},"thinking":{on}{level}}}"#, on = self.on)
    }
}
