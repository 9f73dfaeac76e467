//! Whether and which tools an answer calls.

use serde_json::Value;

use super::OptionError;
use crate::cut::cut;

/// Which calls an answer may hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolChoice {
    /// Whether there are calls.
    pub mode: CallMode,
    /// The functions that may be called; `None`: all that are offered.
    pub only: Option<Vec<String>>,
    /// More than one call in an answer.
    pub parallel: bool,
}

/// Whether an answer calls tools.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CallMode {
    /// It does not: what looks like a call is text.
    #[default]
    None,
    /// As the model decides.
    Auto,
    /// It must.
    Required,
}

impl ToolChoice {
    /// Reads `tool_choice` and `parallel_tool_calls`.
    pub(super) fn read(choice: Option<&Value>, parallel: Option<bool>) -> Result<Self, OptionError> {
        let parallel = parallel.unwrap_or(true);
        let of = |mode| Ok(Self { mode, only: None, parallel });
        match choice {
            None => of(CallMode::Auto),
            Some(Value::String(word)) => match word.as_str() {
                "auto" => of(CallMode::Auto),
                "none" => of(CallMode::None),
                "required" => of(CallMode::Required),
                _ => Err(wrong(choice)),
            },
            Some(Value::Object(object)) => match object.get("type").and_then(Value::as_str) {
                Some("function") => {
                    let name = object.get("function").and_then(|function| function["name"].as_str());
                    let name = name.ok_or_else(|| wrong(choice))?;
                    Ok(Self { mode: CallMode::Required, only: Some(vec![name.to_owned()]), parallel: false })
                }
                Some("allowed_tools") => {
                    Self::allowed(&object["allowed_tools"], parallel).ok_or_else(|| wrong(choice))
                }
                _ => Err(wrong(choice)),
            },
            _ => Err(wrong(choice)),
        }
    }

    fn allowed(allowed: &Value, parallel: bool) -> Option<Self> {
        let mode = match allowed["mode"].as_str()? {
            "auto" => CallMode::Auto,
            "required" => CallMode::Required,
            _ => return None,
        };
        let names = allowed["tools"].as_array()?.iter().map(|tool| tool["function"]["name"].as_str());
        let only: Option<Vec<String>> = names.map(|name| Some(name?.to_owned())).collect();
        Some(Self { mode, only: Some(only?), parallel })
    }

    /// Whether calls are read out of the answer.
    pub fn calls(&self) -> bool {
        self.mode != CallMode::None
    }
}

fn wrong(choice: Option<&Value>) -> OptionError {
    let found = choice.map(ToString::to_string).unwrap_or_default();
    let forms = "`auto`, `none`, `required`, `{\"type\": \"function\", \"function\": {\"name\": ...}}` or \
                 `{\"type\": \"allowed_tools\", \"allowed_tools\": {\"mode\": ..., \"tools\": [...]}}`";
    OptionError::new("tool_choice", format!("`tool_choice` must be {forms}, found `{}`", cut(&found)))
}
