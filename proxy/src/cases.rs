//! Cases beside policies: what is given, what a policy is to make of it, and how the two differ.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use plimsoll_policies::config::PolicyConfig;
use plimsoll_policies::{Conversation, ParseError, Refusal, Report, Tokens};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use similar::TextDiff;

use crate::config;
use crate::explain;
use crate::replay::said;

/// Lines around a difference.
const CONTEXT: usize = 3;

/// One case of a `*.test.yaml` file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The chat request.
    pub given: Given,
    /// The policy under test.
    pub policy: Policy,
    /// The window in tokens.
    pub window: Tokens,
    /// A model folder that counts, from the case's file; default: the route's.
    #[serde(default)]
    pub tokenizer: Option<PathBuf>,
    /// What must come of it.
    pub want: Want,
}

/// A chat request: its messages, or its members, or a file that holds it and members that replace the file's.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub struct Given {
    /// The file, from the case's file.
    pub file: Option<PathBuf>,
    members: Map<String, Value>,
}

impl TryFrom<Value> for Given {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let mut members = match value {
            Value::Array(messages) => Map::from_iter([("messages".to_owned(), Value::Array(messages))]),
            Value::Object(members) => members,
            _ => {
                return Err("`given` is a list of messages, or a chat request, or `file: conversation.json`");
            }
        };
        let file = match members.shift_remove("file") {
            None => None,
            Some(Value::String(file)) => Some(file.into()),
            Some(_) => return Err("`given.file` is a path"),
        };
        if file.is_none() && !members.contains_key("messages") {
            return Err("`given` has neither `messages` nor `file`");
        }
        Ok(Self { file, members })
    }
}

impl Given {
    /// The chat request; `text` is what stands in the file, where there is one.
    ///
    /// # Errors
    /// The file holds no chat request.
    pub fn request(&self, text: Option<Arc<str>>) -> Result<Conversation, ParseError> {
        let Some(text) = text else {
            return Conversation::parse_chat(Value::Object(self.members.clone()).to_string().into());
        };
        let whole = Conversation::parse_chat(text.clone())?;
        if self.members.is_empty() {
            return Ok(whole);
        }
        // Duplicate keys are read as they are everywhere: the last wins.
        let mut request: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
        request.extend(self.members.clone());
        Conversation::parse_chat(Value::Object(request).to_string().into())
    }
}

/// A policy by its name, or written into the case.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub enum Policy {
    /// Of the configuration, or a preset.
    Named(String),
    /// Of the case: steps, or steps with `extends`.
    Inline(PolicyConfig),
}

impl TryFrom<Value> for Policy {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let value = match value {
            Value::String(name) => return Ok(Self::Named(name)),
            Value::Array(steps) => json!({"steps": steps}),
            other => other,
        };
        let policy = serde_path_to_error::deserialize(value);
        policy.map(Self::Inline).map_err(|error| format!("`policy`: {error}"))
    }
}

/// What must come of a case; each member is asked for on its own.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Want {
    /// Every policy that changes something, and how many messages it touches.
    pub actions: Option<BTreeMap<String, u64>>,
    /// Tokens of the prompt.
    pub tokens_after: Option<Length>,
    /// All messages, as JSON.
    pub messages: Option<Vec<Value>>,
    /// Texts that the messages have.
    pub contains: Vec<String>,
    /// Texts that they do not have.
    pub lacks: Vec<String>,
    /// Whether the request is refused. Default: false.
    pub refused: bool,
}

/// A length in tokens.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a number of tokens, or `{ max: TOKENS }`")]
pub enum Length {
    /// This many.
    Exactly(Tokens),
    /// No more than this.
    AtMost {
        /// The most.
        max: Tokens,
    },
}

/// What came of a case.
pub type Outcome = Result<(Conversation, Report), Refusal>;

/// What was wanted beside what came, in the same shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    want: Map<String, Value>,
    got: Map<String, Value>,
}

impl Want {
    /// Compares with what came.
    pub fn check(&self, outcome: &Outcome) -> Checked {
        let mut checked = Checked { want: Map::new(), got: Map::new() };
        match outcome {
            Err(refusal) if self.refused => checked.put("refused", json!(refusal.to_string()), None),
            Err(refusal) => checked.put("refused", json!(refusal.to_string()), Some(json!(false))),
            Ok(_) => checked.put("refused", json!(false), self.refused.then(|| json!(true))),
        }
        let Ok((conversation, report)) = outcome else { return checked };
        if let Some(wanted) = &self.actions {
            let got: BTreeMap<String, u64> =
                report.actions().into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
            checked.put("actions", json!(got), Some(json!(wanted)));
        }
        match self.tokens_after {
            None => {}
            Some(Length::AtMost { max }) if report.tokens_after <= max => {}
            Some(wanted) => checked.put("tokens_after", json!(report.tokens_after), Some(json!(wanted))),
        }
        if let Some(wanted) = &self.messages {
            checked.put("messages", explain::messages(conversation), Some(json!(wanted)));
        }
        let text: String = conversation.messages().iter().map(|message| said(message) + "\n").collect();
        let has = |texts: &[String], has: bool| -> Value {
            texts.iter().filter(|part| text.contains(part.as_str()) == has).cloned().collect()
        };
        checked.put("contains", has(&self.contains, true), Some(json!(self.contains)));
        checked.put("lacks", has(&self.lacks, false), Some(json!(self.lacks)));
        checked
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        let Self { actions, tokens_after, messages, contains, lacks, refused } = self;
        actions.is_none()
            && tokens_after.is_none()
            && messages.is_none()
            && contains.is_empty()
            && lacks.is_empty()
            && !refused
    }
}

impl Checked {
    /// What came, and what was wanted where that is something else.
    fn put(&mut self, name: &str, got: Value, wanted: Option<Value>) {
        // Equal values may have their keys in another order.
        let wanted = wanted.filter(|wanted| *wanted != got).unwrap_or_else(|| got.clone());
        self.want.insert(name.to_owned(), wanted);
        self.got.insert(name.to_owned(), got);
    }

    /// Whether all of it came.
    pub fn passed(&self) -> bool {
        self.want == self.got
    }

    /// What differs, as a unified diff from what was wanted to what came.
    pub fn diff(&self) -> String {
        let print = |side: &Map<String, Value>| {
            let differs = side.iter().filter(|(name, _)| self.want.get(*name) != self.got.get(*name));
            let differs: Map<String, Value> =
                differs.map(|(name, value)| (name.clone(), value.clone())).collect();
            format!("{:#}\n", Value::Object(differs))
        };
        let (want, got) = (print(&self.want), print(&self.got));
        let diff = TextDiff::from_lines(&want, &got);
        diff.unified_diff().context_radius(CONTEXT).header("wanted", "got").to_string()
    }
}

/// A file of policies, as far as cases go.
#[derive(Deserialize)]
struct Beside {
    #[serde(default)]
    cases: Vec<Case>,
}

/// The cases of a file: a list in YAML, or the `cases` of a file of policies.
///
/// # Errors
/// What is wrong, with its line.
pub fn read(text: &str) -> Result<Vec<Case>, String> {
    let cases = if config::is_policies("", text) {
        serde_saphyr::from_str::<Beside>(text).map(|file| file.cases)
    } else {
        serde_saphyr::from_str(text)
    };
    let cases: Vec<Case> = cases.map_err(|error| error.to_string())?;
    match cases.iter().find(|case| case.want.is_empty()) {
        Some(case) => Err(format!(
            "case `{}` wants nothing: say `actions`, `tokens_after`, `messages`, `contains`, `lacks` or `refused: true`",
            case.name
        )),
        None => Ok(cases),
    }
}

#[cfg(test)]
#[path = "cases_tests.rs"]
mod tests;
