//! Policies that come with the program.

use std::collections::BTreeMap;

use crate::cap_tool_output::CapToolOutput;
use crate::clear_tool_uses::ClearToolUses;
use crate::config::{PolicyConfig, Step};
use crate::drop_images::DropImages;
use crate::fit_context::FitContext;
use crate::normalize_prefix::NormalizePrefix;
use crate::reject_over::RejectOver;
use crate::reserve_output::ReserveOutput;
use crate::summarize::Summarize;
use crate::trim_turns::TrimTurns;

/// The presets by name: `chat`, `agent`, `strict` and `off`.
#[must_use]
pub fn presets() -> BTreeMap<String, PolicyConfig> {
    let list = [("chat", chat()), ("agent", agent()), ("strict", strict()), ("off", Vec::new())];
    list.into_iter().map(|(name, steps)| (name.to_owned(), PolicyConfig { extends: None, steps })).collect()
}

/// Every policy there is, with its defaults.
pub(crate) fn every_step() -> Vec<Step> {
    vec![
        Step::NormalizePrefix(NormalizePrefix::default()),
        Step::ReserveOutput(ReserveOutput::default()),
        Step::CapToolOutput(CapToolOutput::default()),
        Step::DropImages(DropImages::default()),
        Step::ClearToolUses(ClearToolUses::default()),
        Step::TrimTurns(TrimTurns::default()),
        Step::Summarize(Summarize::default()),
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

/// Agents: few turns, many exchanges; whole turns are too large a unit to drop.
fn agent() -> Vec<Step> {
    vec![
        Step::NormalizePrefix(NormalizePrefix::default()),
        Step::ReserveOutput(ReserveOutput::default()),
        Step::CapToolOutput(CapToolOutput::default()),
        Step::ClearToolUses(ClearToolUses::default()),
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
