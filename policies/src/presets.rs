//! Policies that come with the program.

use std::collections::BTreeMap;

use crate::cap_tool_output::CapToolOutput;
use crate::clear_thinking::ClearThinking;
use crate::clear_tool_uses::ClearToolUses;
use crate::config::{PolicyConfig, Step};
use crate::dedupe::Dedupe;
use crate::drop_images::DropImages;
use crate::fit_context::FitContext;
use crate::growth_alert::GrowthAlert;
use crate::memory_budget::MemoryBudget;
use crate::normalize_prefix::NormalizePrefix;
use crate::rag_budget::RagBudget;
use crate::reject_over::RejectOver;
use crate::reserve_output::ReserveOutput;
use crate::summarize::Summarize;
use crate::trim_turns::TrimTurns;

/// The presets by name: `chat`, `agent`, `rag`, `strict` and `off`.
#[must_use]
pub fn presets() -> BTreeMap<String, PolicyConfig> {
    let list =
        [("chat", chat()), ("agent", agent()), ("rag", rag()), ("strict", strict()), ("off", Vec::new())];
    list.into_iter().map(|(name, steps)| (name.to_owned(), PolicyConfig { extends: None, steps })).collect()
}

/// Every policy there is, with its defaults.
pub(crate) fn every_step() -> Vec<Step> {
    vec![
        Step::NormalizePrefix(NormalizePrefix::default()),
        Step::ReserveOutput(ReserveOutput::default()),
        Step::MemoryBudget(MemoryBudget::default()),
        Step::CapToolOutput(CapToolOutput::default()),
        Step::DropImages(DropImages::default()),
        Step::ClearToolUses(ClearToolUses::default()),
        Step::ClearThinking(ClearThinking::default()),
        Step::Dedupe(Dedupe::default()),
        Step::RagBudget(RagBudget::default()),
        Step::TrimTurns(TrimTurns::default()),
        Step::Summarize(Summarize::default()),
        Step::GrowthAlert(GrowthAlert::default()),
        Step::RejectOver(RejectOver::default()),
        Step::FitContext(FitContext::default()),
    ]
}

/// People talking: long conversations of small turns.
fn chat() -> Vec<Step> {
    vec![
        Step::NormalizePrefix(NormalizePrefix::default()),
        Step::ReserveOutput(ReserveOutput::default()),
        Step::CapToolOutput(CapToolOutput::default()),
        Step::TrimTurns(TrimTurns { keep: 40, ..Default::default() }),
        Step::Summarize(Summarize::default()),
        Step::FitContext(FitContext::default()),
    ]
}

/// People talking about what was found for them: as `chat`, with a budget for documents.
fn rag() -> Vec<Step> {
    let mut steps = chat();
    let trim = steps.iter().position(|step| matches!(step, Step::TrimTurns(_))).unwrap_or(steps.len());
    steps.insert(trim, Step::RagBudget(RagBudget::default()));
    steps
}

/// Agents: few turns, many exchanges; whole turns are too large a unit to drop.
fn agent() -> Vec<Step> {
    vec![
        Step::NormalizePrefix(NormalizePrefix::default()),
        Step::ReserveOutput(ReserveOutput::default()),
        Step::CapToolOutput(CapToolOutput::default()),
        Step::ClearToolUses(ClearToolUses::default()),
        Step::ClearThinking(ClearThinking::default()),
        Step::Summarize(Summarize::default()),
        Step::FitContext(FitContext::default()),
    ]
}

/// Nothing is cut: what does not fit is refused.
fn strict() -> Vec<Step> {
    vec![
        Step::NormalizePrefix(NormalizePrefix {
            sort_tools: false,
            canonical_schema: false,
            ..Default::default()
        }),
        Step::ReserveOutput(ReserveOutput::default()),
        Step::FitContext(FitContext { cut: false, ..Default::default() }),
    ]
}
