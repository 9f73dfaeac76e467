//! `context_management.edits` on the embedded engine: the edits that policies of ours have the same meaning of.

use plimsoll_policies::config::{ClearThinking, ClearToolUses, KeepThinking};
use plimsoll_policies::{Outcome, Report, Step, Tokens};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cut::cut;
use crate::dialect::DialectError;

const TOOL_USES: &str = "clear_tool_uses_20250919";
const THINKING: &str = "clear_thinking_20251015";

/// Input tokens over which tool results are cleared, where the caller does not say.
const TRIGGER: Tokens = 100_000;

/// The edits that a caller asks for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ContextManagement {
    #[serde(default)]
    edits: Vec<Value>,
}

/// A number of something.
#[derive(Debug, Deserialize)]
struct Amount {
    r#type: String,
    value: Tokens,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ClearTools {
    #[serde(rename = "type")]
    _type: String,
    trigger: Option<Amount>,
    keep: Option<Amount>,
    clear_at_least: Option<Amount>,
    exclude_tools: Option<Vec<String>>,
    clear_tool_inputs: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClearThoughts {
    #[serde(rename = "type")]
    _type: String,
    keep: Option<Turns>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Turns {
    All(String),
    Some(Amount),
}

/// The edits as steps of a policy.
///
/// # Errors
/// An edit that has no such meaning here.
pub(super) fn steps(management: &ContextManagement) -> Result<Vec<Step>, DialectError> {
    let step = |(index, edit): (usize, &Value)| {
        let at = format!("context_management.edits.{index}");
        match edit["type"].as_str().unwrap_or_default() {
            TOOL_USES => clear_tools(&at, edit).map(Step::ClearToolUses),
            THINKING => clear_thoughts(&at, edit).map(Step::ClearThinking),
            other => {
                let known = format!("the embedded engine serves `{TOOL_USES}` and `{THINKING}`");
                Err(DialectError::form(format!("{at}.type"), format!("{known}, found `{}`", cut(other))))
            }
        }
    };
    management.edits.iter().enumerate().map(step).collect()
}

fn read<T: serde::de::DeserializeOwned>(at: &str, edit: &Value) -> Result<T, DialectError> {
    serde_path_to_error::deserialize(edit).map_err(|error| DialectError::form(at, error.to_string()))
}

/// The value of an amount that must be of one kind.
fn amount(at: &str, amount: Option<Amount>, kind: &str) -> Result<Option<Tokens>, DialectError> {
    match amount {
        None => Ok(None),
        Some(amount) if amount.r#type == kind => Ok(Some(amount.value)),
        Some(amount) => {
            let found = cut(&amount.r#type).into_owned();
            let message = format!("the embedded engine serves `{kind}`, found `{found}`");
            Err(DialectError::form(format!("{at}.type"), message))
        }
    }
}

fn clear_tools(at: &str, edit: &Value) -> Result<ClearToolUses, DialectError> {
    let edit: ClearTools = read(at, edit)?;
    let over = amount(&format!("{at}.trigger"), edit.trigger, "input_tokens")?.unwrap_or(TRIGGER);
    let keep = amount(&format!("{at}.keep"), edit.keep, "tool_uses")?.unwrap_or(3);
    if keep == 0 {
        let message = "must be at least 1 on the embedded engine: the last result is what the model answers";
        return Err(DialectError::form(format!("{at}.keep.value"), message));
    }
    let least = amount(&format!("{at}.clear_at_least"), edit.clear_at_least, "input_tokens")?;
    let clear_inputs = match edit.clear_tool_inputs {
        None | Some(Value::Null) => false,
        Some(Value::Bool(all)) => all,
        Some(_) => {
            let message = "must be true or false on the embedded engine";
            return Err(DialectError::form(format!("{at}.clear_tool_inputs"), message));
        }
    };
    Ok(ClearToolUses {
        over: Some(over),
        keep: usize::try_from(keep).unwrap_or(usize::MAX),
        clear_at_least: Some(least.unwrap_or(1)),
        exclude: edit.exclude_tools.unwrap_or_default(),
        clear_inputs,
        stale_first: false,
        ..ClearToolUses::default()
    })
}

fn clear_thoughts(at: &str, edit: &Value) -> Result<ClearThinking, DialectError> {
    let edit: ClearThoughts = read(at, edit)?;
    let at = format!("{at}.keep");
    let keep = match edit.keep {
        Some(Turns::All(all)) if all == "all" => KeepThinking::All,
        Some(Turns::All(other)) => {
            let message = format!("must be `all` or a number of turns, found `{}`", cut(&other));
            return Err(DialectError::form(at, message));
        }
        Some(Turns::Some(turns)) => {
            let turns = amount(&at, Some(turns), "thinking_turns")?.unwrap_or(1);
            KeepThinking::Turns(usize::try_from(turns).unwrap_or(usize::MAX))
        }
        None => KeepThinking::Turns(1),
    };
    Ok(ClearThinking { keep, slack: 0 })
}

/// What the edits did, as the answer tells it.
pub(super) fn applied(report: &Report) -> Value {
    let rows = report.rows.iter().filter(|row| row.outcome == Outcome::Applied);
    let edits = rows.filter_map(|row| {
        let freed = row.tokens_before.saturating_sub(row.tokens_after);
        match row.policy {
            "clear_tool_uses" => {
                Some(json!({"type": TOOL_USES, "cleared_tool_uses": row.messages, "cleared_input_tokens": freed}))
            }
            "clear_thinking" => {
                Some(json!({"type": THINKING, "cleared_thinking_turns": row.messages, "cleared_input_tokens": freed}))
            }
            _ => None,
        }
    });
    json!({"applied_edits": edits.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(edits: &Value) -> Result<Vec<Step>, DialectError> {
        steps(&serde_json::from_value(json!({"edits": edits})).expect("edits"))
    }

    #[test]
    fn edits_become_steps_of_the_same_meaning() {
        let edit = json!({
            "type": TOOL_USES,
            "trigger": {"type": "input_tokens", "value": 3000},
            "keep": {"type": "tool_uses", "value": 1},
            "clear_at_least": {"type": "input_tokens", "value": 500},
            "exclude_tools": ["search"],
            "clear_tool_inputs": true,
        });
        let wanted = ClearToolUses {
            over: Some(3000),
            keep: 1,
            clear_at_least: Some(500),
            exclude: vec!["search".to_owned()],
            clear_inputs: true,
            stale_first: false,
            ..ClearToolUses::default()
        };
        assert_eq!(read_all(&json!([edit])).expect("steps"), [Step::ClearToolUses(wanted)]);
        let keep = |keep: Value| read_all(&json!([{"type": THINKING, "keep": keep}])).expect("a step");
        let turns = |keep| [Step::ClearThinking(ClearThinking { keep, slack: 0 })];
        assert_eq!(keep(json!("all")), turns(KeepThinking::All));
        assert_eq!(keep(json!({"type": "thinking_turns", "value": 2})), turns(KeepThinking::Turns(2)));
        assert_eq!(keep(Value::Null), turns(KeepThinking::Turns(1)));
    }

    #[test]
    fn other_edits_are_refused_by_their_place() {
        for (edit, at) in [
            (json!({"type": "compact_20260112"}), "context_management.edits.0.type"),
            (
                json!({"type": TOOL_USES, "trigger": {"type": "tool_uses", "value": 3}}),
                "context_management.edits.0.trigger.type",
            ),
            (
                json!({"type": TOOL_USES, "keep": {"type": "tool_uses", "value": 0}}),
                "context_management.edits.0.keep.value",
            ),
            (
                json!({"type": TOOL_USES, "clear_tool_inputs": ["a"]}),
                "context_management.edits.0.clear_tool_inputs",
            ),
            (json!({"type": TOOL_USES, "sometimes": 1}), "context_management.edits.0"),
            (json!({"type": THINKING, "keep": "some"}), "context_management.edits.0.keep"),
        ] {
            match read_all(&json!([edit])) {
                Err(DialectError::Form { param, .. }) => assert_eq!(param, at),
                other => panic!("{other:?}"),
            }
        }
    }
}
