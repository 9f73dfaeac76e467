//! Policies as they are written: steps with their parameters, presets, `extends`.

mod warnings;

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub use crate::cap_tool_output::CapToolOutput;
pub use crate::clear_thinking::{ClearThinking, KeepThinking};
pub use crate::clear_tool_uses::ClearToolUses;
pub use crate::dedupe::{Dedupe, Speaker};
pub use crate::drop_images::DropImages;
pub use crate::fit_context::{FitContext, OnOverflow};
pub use crate::growth_alert::{Collapse, GrowthAlert};
pub use crate::memory_budget::{Bytes, MemoryBudget};
pub use crate::normalize_prefix::{NormalizePrefix, Pattern, Volatile};
pub use crate::rag_budget::RagBudget;
pub use crate::reject_over::RejectOver;
pub use crate::reserve_output::ReserveOutput;
pub use crate::summarize::{OnFailure, Summarize, Timeout};
pub use crate::trim_turns::TrimTurns;

pub use warnings::{Place, Warning, warnings};

use crate::presets::{self, presets};

/// A policy: what happens to a conversation on its way, step by step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Start from the steps of this preset (`chat`, `agent`, `rag`, `strict`, `off`) or other policy. A step of the same
    /// name replaces it in place, a new one comes before `fit_context`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extends: Option<String>,
    /// The steps, applied in this order. `fit_context` is always there and always last.
    pub steps: Vec<Step>,
}

/// One step of a policy: `cap_tool_output: {max_tokens: 1500}`, or the bare name for the defaults.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Makes the start of the prompt the same at every turn.
    NormalizePrefix(NormalizePrefix),
    /// Keeps room for the answer.
    ReserveOutput(ReserveOutput),
    /// Holds a conversation to bytes of KV cache.
    MemoryBudget(MemoryBudget),
    /// Shortens large tool results.
    CapToolOutput(CapToolOutput),
    /// Drops older images.
    DropImages(DropImages),
    /// Clears older tool results.
    ClearToolUses(ClearToolUses),
    /// Takes the reasoning out of older turns.
    ClearThinking(ClearThinking),
    /// Lets a repeated block point to its first copy.
    Dedupe(Dedupe),
    /// Holds retrieved documents to a budget.
    RagBudget(RagBudget),
    /// Keeps the last turns.
    TrimTurns(TrimTurns),
    /// Replaces what is dropped by a summary.
    Summarize(Summarize),
    /// Says when the context grows fast or loses its cached prefix.
    GrowthAlert(GrowthAlert),
    /// Refuses prompts over a ceiling.
    RejectOver(RejectOver),
    /// Makes the prompt fit, or refuses it.
    FitContext(FitContext),
}

impl Step {
    /// The name it has in a file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NormalizePrefix(_) => "normalize_prefix",
            Self::ReserveOutput(_) => "reserve_output",
            Self::CapToolOutput(_) => "cap_tool_output",
            Self::DropImages(_) => "drop_images",
            Self::ClearToolUses(_) => "clear_tool_uses",
            Self::ClearThinking(_) => "clear_thinking",
            Self::Dedupe(_) => "dedupe",
            Self::RagBudget(_) => "rag_budget",
            Self::GrowthAlert(_) => "growth_alert",
            Self::MemoryBudget(_) => "memory_budget",
            Self::TrimTurns(_) => "trim_turns",
            Self::Summarize(_) => "summarize",
            Self::RejectOver(_) => "reject_over",
            Self::FitContext(_) => "fit_context",
        }
    }

    /// What is wrong with its parameters, and what would be right.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        match self {
            Self::DropImages(_) | Self::ClearThinking(_) => None,
            Self::NormalizePrefix(params) => params.fault(),
            Self::MemoryBudget(params) => params.fault(),
            Self::Dedupe(params) => params.fault(),
            Self::RagBudget(params) => params.fault(),
            Self::GrowthAlert(params) => params.fault(),
            Self::ReserveOutput(params) => params.fault(),
            Self::CapToolOutput(params) => params.fault(),
            Self::ClearToolUses(params) => params.fault(),
            Self::TrimTurns(params) => params.fault(),
            Self::Summarize(params) => params.fault(),
            Self::RejectOver(params) => params.fault(),
            Self::FitContext(params) => params.fault(),
        }
    }

    /// What it does, in a word.
    pub(crate) fn action(&self) -> &'static str {
        match self {
            Self::NormalizePrefix(_) => "sort",
            Self::ReserveOutput(_) => "reserve",
            Self::CapToolOutput(_) => "cap",
            Self::DropImages(_) => "drop",
            Self::ClearToolUses(_) | Self::ClearThinking(_) => "clear",
            Self::Dedupe(_) => "point",
            Self::GrowthAlert(_) => "alert",
            Self::MemoryBudget(_) => "limit",
            Self::RagBudget(_) | Self::TrimTurns(_) => "drop",
            Self::Summarize(_) => "summarize",
            Self::RejectOver(_) => "reject",
            Self::FitContext(_) => "fit",
        }
    }

    /// Whether it asks what the prompt may have.
    pub(crate) fn needs_budget(&self) -> bool {
        matches!(self, Self::ClearToolUses(_) | Self::RagBudget(_) | Self::Summarize(_) | Self::FitContext(_))
    }
}

/// A step as a map of one key; a missing value stands for the defaults.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StepMap {
    NormalizePrefix(#[serde(deserialize_with = "or_default")] NormalizePrefix),
    ReserveOutput(#[serde(deserialize_with = "or_default")] ReserveOutput),
    MemoryBudget(#[serde(deserialize_with = "or_default")] MemoryBudget),
    CapToolOutput(#[serde(deserialize_with = "or_default")] CapToolOutput),
    DropImages(#[serde(deserialize_with = "or_default")] DropImages),
    ClearToolUses(#[serde(deserialize_with = "or_default")] ClearToolUses),
    ClearThinking(#[serde(deserialize_with = "or_default")] ClearThinking),
    Dedupe(#[serde(deserialize_with = "or_default")] Dedupe),
    RagBudget(#[serde(deserialize_with = "or_default")] RagBudget),
    TrimTurns(#[serde(deserialize_with = "or_default")] TrimTurns),
    Summarize(#[serde(deserialize_with = "or_default")] Summarize),
    GrowthAlert(#[serde(deserialize_with = "or_default")] GrowthAlert),
    RejectOver(#[serde(deserialize_with = "or_default")] RejectOver),
    FitContext(#[serde(deserialize_with = "or_default")] FitContext),
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl From<StepMap> for Step {
    fn from(step: StepMap) -> Self {
        match step {
            StepMap::NormalizePrefix(params) => Self::NormalizePrefix(params),
            StepMap::ReserveOutput(params) => Self::ReserveOutput(params),
            StepMap::MemoryBudget(params) => Self::MemoryBudget(params),
            StepMap::CapToolOutput(params) => Self::CapToolOutput(params),
            StepMap::DropImages(params) => Self::DropImages(params),
            StepMap::ClearToolUses(params) => Self::ClearToolUses(params),
            StepMap::ClearThinking(params) => Self::ClearThinking(params),
            StepMap::Dedupe(params) => Self::Dedupe(params),
            StepMap::RagBudget(params) => Self::RagBudget(params),
            StepMap::TrimTurns(params) => Self::TrimTurns(params),
            StepMap::Summarize(params) => Self::Summarize(params),
            StepMap::GrowthAlert(params) => Self::GrowthAlert(params),
            StepMap::RejectOver(params) => Self::RejectOver(params),
            StepMap::FitContext(params) => Self::FitContext(params),
        }
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StepVisitor)
    }
}

struct StepVisitor;

impl<'de> Visitor<'de> for StepVisitor {
    type Value = Step;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a step: its name, or a map of its name to its parameters")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Step, E> {
        let map = serde_json::Map::from_iter([(name.to_owned(), serde_json::Value::Null)]);
        StepMap::deserialize(serde_json::Value::Object(map)).map(Step::from).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Step, A::Error> {
        StepMap::deserialize(MapAccessDeserializer::new(map)).map(Step::from).map_err(A::Error::custom)
    }
}

impl JsonSchema for Step {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Step".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = presets::every_step().iter().map(Step::name).collect();
        schemars::json_schema!({
            "description": "One step of a policy: a map of its name to its parameters, or the bare name for the defaults.",
            "anyOf": [{ "type": "string", "enum": names }, StepMap::json_schema(generator)],
        })
    }
}

/// Why a policy cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// No policy and no preset of that name.
    #[error("unknown policy `{name}`: known are {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Policies that extend each other.
    #[error("policy `{name}` extends itself: `{chain}`; remove one `extends`")]
    Cycle {
        /// The policy.
        name: String,
        /// The way round.
        chain: String,
    },
    /// The same step twice in one list.
    #[error("step `{step}` stands twice in policy `{policy}`: keep one")]
    Duplicate {
        /// The policy.
        policy: String,
        /// The step.
        step: &'static str,
    },
    /// A parameter that cannot work.
    #[error("policy `{policy}`, step `{step}`: {what}")]
    Parameter {
        /// The policy.
        policy: String,
        /// The step.
        step: &'static str,
        /// What is wrong with it and what would be right.
        what: String,
    },
}

/// The steps of a policy of the file, or of a preset: `extends` followed, `fit_context` implied and last. The
/// preset `off` has none.
///
/// # Errors
/// An unknown name, policies that extend each other, a step that stands twice, a parameter that cannot work.
pub fn resolve(name: &str, policies: &BTreeMap<String, PolicyConfig>) -> Result<Vec<Step>, PolicyFault> {
    let presets = presets();
    if name == "off" && !policies.contains_key(name) {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    for (name, config) in lineage(name, policies, &presets)?.into_iter().rev() {
        check(name, &config.steps)?;
        config.steps.iter().for_each(|step| place(&mut steps, step));
    }
    place_guard(&mut steps);
    Ok(steps)
}

/// A policy and all that it extends, itself first.
fn lineage<'a>(
    name: &'a str,
    policies: &'a BTreeMap<String, PolicyConfig>,
    presets: &'a BTreeMap<String, PolicyConfig>,
) -> Result<Vec<(&'a str, &'a PolicyConfig)>, PolicyFault> {
    let mut line: Vec<(&str, &PolicyConfig)> = Vec::new();
    let mut next = Some(name);
    while let Some(name) = next {
        // A policy that is named like the preset it extends means the preset.
        let shadows = line.last().is_some_and(|(last, _)| *last == name) && presets.contains_key(name);
        let own = if shadows { None } else { policies.get(name) };
        if own.is_some() && line.iter().any(|(seen, _)| *seen == name) {
            let way: Vec<&str> = line.iter().map(|(seen, _)| *seen).chain([name]).collect();
            return Err(PolicyFault::Cycle { name: name.to_owned(), chain: way.join(" -> ") });
        }
        let config = own.or_else(|| presets.get(name)).ok_or_else(|| unknown(name, policies, presets))?;
        line.push((name, config));
        next = config.extends.as_deref();
    }
    Ok(line)
}

fn unknown(
    name: &str,
    policies: &BTreeMap<String, PolicyConfig>,
    presets: &BTreeMap<String, PolicyConfig>,
) -> PolicyFault {
    let known: std::collections::BTreeSet<&String> = policies.keys().chain(presets.keys()).collect();
    let known = known.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    PolicyFault::Unknown { name: name.to_owned(), known }
}

/// Replaces the step of the same name, or adds this one before `fit_context`.
fn place(steps: &mut Vec<Step>, step: &Step) {
    if let Some(same) = steps.iter_mut().find(|same| same.name() == step.name()) {
        *same = step.clone();
        return;
    }
    let guard = steps.iter().position(|step| matches!(step, Step::FitContext(_)));
    steps.insert(guard.unwrap_or(steps.len()), step.clone());
}

fn place_guard(steps: &mut Vec<Step>) {
    let guard = steps.iter().position(|step| matches!(step, Step::FitContext(_)));
    let guard = guard.map_or_else(|| Step::FitContext(FitContext::default()), |index| steps.remove(index));
    steps.push(guard);
}

fn check(policy: &str, steps: &[Step]) -> Result<(), PolicyFault> {
    for (index, step) in steps.iter().enumerate() {
        let (policy, name) = (policy.to_owned(), step.name());
        if steps[..index].iter().any(|other| other.name() == name) {
            return Err(PolicyFault::Duplicate { policy, step: name });
        }
        if let Some(what) = step.fault() {
            return Err(PolicyFault::Parameter { policy, step: name, what });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
