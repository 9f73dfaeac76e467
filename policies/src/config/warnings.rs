//! What is sound by itself and cannot work where it is used: values beside the window, steps beside the upstream.

use super::Step;
use crate::fit_context::{Cuts, share};
use crate::reserve_output::{Reserve, ReserveOutput};
use crate::tokens::{Tokens, grouped};

/// Where a policy is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Tokens that prompt and output may have together; none where that is not known yet.
    pub window: Option<Tokens>,
    /// Whether the upstream tells how much KV cache there is: the embedded engine does.
    pub kv_known: bool,
}

/// A value that cannot work there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The step.
    pub step: &'static str,
    /// The parameter; none where it is the step as a whole.
    pub parameter: Option<&'static str>,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub hint: &'static str,
}

/// What of these steps cannot work in this place. Defaults always can: only values that were written are judged.
#[must_use]
pub fn warnings(steps: &[Step], place: Place) -> Vec<Warning> {
    let mut found = Vec::new();
    if !place.kv_known {
        let budget = steps.iter().filter(|step| matches!(step, Step::MemoryBudget(_)));
        found.extend(budget.map(|step| Warning {
            step: step.name(),
            parameter: None,
            what: "has no effect: the upstream does not tell its KV cache".to_owned(),
            hint: "use it on routes to an embedded engine",
        }));
        let costed = |step: &&Step| matches!(step, Step::FitContext(params) if params.cuts == Cuts::Costed);
        found.extend(steps.iter().filter(costed).map(|step| Warning {
            step: step.name(),
            parameter: Some("cuts"),
            what: "`costed` has no effect: the upstream does not tell what it holds".to_owned(),
            hint: "use it on routes to an embedded engine; elsewhere cuts come at the mark, as with `tokens`",
        }));
    }
    if let Some(window) = place.window {
        let judge = Judge::new(steps, window);
        found.extend(steps.iter().filter_map(|step| judge.step(step)));
    }
    found
}

struct Judge {
    window: Tokens,
    /// What a prompt may have where the request names no limit.
    budget: Tokens,
    /// What one cut frees.
    freed: Tokens,
    /// What a cut leaves.
    low: Tokens,
}

impl Judge {
    fn new(steps: &[Step], window: Tokens) -> Self {
        let reserve = steps.iter().find_map(|step| match step {
            Step::ReserveOutput(params) => Some(*params),
            _ => None,
        });
        let Reserve { budget, .. } = reserve.unwrap_or_else(ReserveOutput::default).reserve(window, None);
        let guard = steps.iter().find_map(|step| match step {
            Step::FitContext(params) => Some(*params),
            _ => None,
        });
        let guard = guard.unwrap_or_default();
        let (high, low) = (share(budget, guard.high), share(budget, guard.low));
        Self { window, budget, freed: high.saturating_sub(low), low }
    }

    fn step(&self, step: &Step) -> Option<Warning> {
        let (budget, window) = (self.budget, self.window);
        let beyond = |parameter, written: Option<Tokens>, most: Tokens, what: &str, hint| {
            let written = written.filter(|written| *written > most)?;
            let what = format!("{} tokens are more than {what}, {}", grouped(written), grouped(most));
            Some(Warning { step: step.name(), parameter: Some(parameter), what, hint })
        };
        match step {
            Step::ReserveOutput(params) => {
                let most = window.saturating_sub(1);
                let hint = "leave room for a prompt: a quarter of the window is the default";
                let default = beyond("default", params.default, most, "the window has room for", hint);
                default.or_else(|| {
                    beyond("min_output", params.min_output, most, "the window has room for", hint)
                })
            }
            Step::CapToolOutput(params) => {
                let hint = "no result that fits is over it: a quarter of the window is the default";
                let written = beyond("max_tokens", params.max_tokens, budget, "the prompt's budget", hint);
                let largest = params.per_tool.values().max().copied();
                written.or_else(|| beyond("per_tool", largest, budget, "the prompt's budget", hint))
            }
            Step::ClearToolUses(params) => {
                let hint = "no batch ever is so large: leave it out, or write less";
                beyond("clear_at_least", params.clear_at_least, budget, "the prompt's budget", hint)
            }
            Step::Dedupe(params) => {
                let hint = "no block that fits is so large: write less";
                beyond("min_tokens", Some(params.min_tokens), budget, "the prompt's budget", hint)
            }
            Step::Summarize(params) => {
                let hint = "no cut frees so much, and the model is never asked: leave it out, or write less";
                let span = beyond("min_span", params.min_span, self.freed, "what a cut frees", hint);
                let hint = "a summary must fit below the low mark with all that stays";
                span.or_else(|| beyond("max_tokens", params.max_tokens, self.low, "the low mark", hint))
            }
            Step::GrowthAlert(params) => beyond(
                "tokens",
                params.tokens,
                budget,
                "the prompt's budget",
                "no prompt passes it: write less",
            ),
            Step::RejectOver(params) => {
                let hint = "`fit_context` refuses sooner: write less, or leave the step out";
                beyond("tokens", params.tokens, budget, "the prompt's budget", hint)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::support::steps;

    fn told(json: &serde_json::Value, place: Place) -> Vec<String> {
        let list = warnings(&steps(json), place);
        let tell = |warning: &Warning| {
            format!("{}.{}: {}", warning.step, warning.parameter.unwrap_or("-"), warning.what)
        };
        list.iter().map(tell).collect()
    }

    #[test]
    fn what_a_user_wrote_is_held_against_the_window() {
        let place = Place { window: Some(2048), kv_known: true };
        let too_much = json!([
            {"reserve_output": {"default": 448}},
            {"cap_tool_output": {"per_tool": {"ls": 100, "cat": 1700}}},
            {"clear_tool_uses": {"clear_at_least": 2000}},
            {"dedupe": {"min_tokens": 1601}},
            {"summarize": {"min_span": 4000}},
            {"growth_alert": {"tokens": 30000}},
            {"reject_over": {"tokens": 32000}},
        ]);
        assert_eq!(
            told(&too_much, place),
            [
                "cap_tool_output.per_tool: 1,700 tokens are more than the prompt's budget, 1,600",
                "clear_tool_uses.clear_at_least: 2,000 tokens are more than the prompt's budget, 1,600",
                "dedupe.min_tokens: 1,601 tokens are more than the prompt's budget, 1,600",
                "summarize.min_span: 4,000 tokens are more than what a cut frees, 400",
                "growth_alert.tokens: 30,000 tokens are more than the prompt's budget, 1,600",
                "reject_over.tokens: 32,000 tokens are more than the prompt's budget, 1,600",
            ]
        );
        let no_room = json!([{"reserve_output": {"default": 2048}}, {"summarize": {"max_tokens": 64}}]);
        assert_eq!(
            told(&no_room, place)[0],
            "reserve_output.default: 2,048 tokens are more than the window has room for, 2,047"
        );
        assert_eq!(told(&no_room, place)[1], "summarize.max_tokens: 64 tokens are more than the low mark, 0");
        assert!(told(&too_much, Place { window: None, ..place }).is_empty());
    }

    #[test]
    fn defaults_always_work() {
        for window in [1024, 2048, 8192, 131_072] {
            for (name, config) in crate::presets() {
                let place = Place { window: Some(window), kv_known: true };
                assert_eq!(warnings(&config.steps, place), [], "{name} {window}");
            }
        }
    }

    #[test]
    fn a_memory_budget_wants_an_engine() {
        let place = Place { window: Some(2048), kv_known: false };
        let want = "memory_budget.-: has no effect: the upstream does not tell its KV cache";
        assert_eq!(told(&json!(["memory_budget", "fit_context"]), place), [want]);
    }

    #[test]
    fn costed_cuts_want_an_engine() {
        let steps = json!([{"fit_context": {"cuts": "costed"}}]);
        let place = |kv_known| Place { window: Some(2048), kv_known };
        let want = "fit_context.cuts: `costed` has no effect: the upstream does not tell what it holds";
        assert_eq!(told(&steps, place(false)), [want]);
        assert!(told(&steps, place(true)).is_empty());
        assert!(told(&json!(["fit_context"]), place(false)).is_empty());
    }
}
