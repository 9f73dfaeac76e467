//! What is well formed and still cannot work: policies that no request meets, values that no window has room for.

use std::collections::BTreeMap;

use plimsoll_policies::config::Step;
use serde_json::Value;

use super::super::choices::Mode;
use super::super::faults::{Fault, list};
use super::super::path::Path;
use super::super::raw::{self, Raw};
use super::super::scalar::OrAuto;
use super::super::valid::Match;
use super::Check;
use crate::identify::CONVERSATIONS;

/// Parameters in tokens that a window must exceed, and what is wrong where it does not.
const WITHIN_THE_WINDOW: [(&str, &str, &str); 7] = [
    ("reserve_output", "default", "leave the prompt no room"),
    ("reserve_output", "min_output", "leave the prompt no room"),
    ("cap_tool_output", "max_tokens", "are never reached: one result may fill all of it"),
    ("clear_tool_uses", "clear_at_least", "are never there to be cleared"),
    ("summarize", "min_span", "are never there to be summarised"),
    ("summarize", "max_tokens", "leave nothing beside the summary"),
    ("reject_over", "tokens", "are never reached: what is longer is refused without it"),
];

impl Check<'_> {
    /// A policy acts on conversations: on a route that takes none it would never run.
    pub(super) fn meets_conversations(
        &mut self,
        at: &Path,
        route: &raw::Route,
        matches: &Match,
        policies: &BTreeMap<String, Vec<Step>>,
    ) {
        let acts =
            route.mode != Mode::Off && policies.get(&route.policy).is_some_and(|steps| !steps.is_empty());
        if acts && !CONVERSATIONS.iter().any(|path| matches.takes_path(path)) {
            let pattern = route.matches.as_ref().and_then(|parts| parts.path.as_deref()).unwrap_or_default();
            let message = format!(
                "`{}` would never run: no conversation comes to a path like `{pattern}`",
                route.policy
            );
            let hint = format!("conversations come to {}; for other paths say `off`", list(CONVERSATIONS));
            self.fault(at.key("policy"), message, &hint);
        }
    }

    /// Warns of what the user wrote and no route's window has room for. Defaults obey the window.
    pub(super) fn fits_windows(&mut self, raw: &Raw) {
        for (policy, window, route) in smallest_windows(raw) {
            for name in lineage(raw, policy) {
                let steps =
                    raw.policies.get(name).and_then(|policy| policy.get("steps")).and_then(Value::as_array);
                for (index, step) in steps.into_iter().flatten().enumerate() {
                    let at = Path::of(&["policies", name, "steps"]).index(index);
                    self.fits_window(&at, step, window, route);
                }
            }
        }
    }

    fn fits_window(&mut self, at: &Path, step: &Value, window: u64, route: &str) {
        for (policy, parameter, why) in WITHIN_THE_WINDOW {
            let written = step.get(policy).and_then(|step| step.get(parameter)).and_then(Value::as_u64);
            if let Some(tokens) = written.filter(|tokens| *tokens >= window) {
                let at = at.key(policy).key(parameter);
                // Two routes may lead to one policy.
                self.findings.warnings.retain(|known| *known.at() != at);
                let message = format!("{tokens} tokens in the window of {window} of route `{route}` {why}");
                let hint = format!("write less than {window}, or leave it out: the default obeys the window");
                self.findings.warn(Fault::new(at, message).hint(hint));
            }
        }
    }
}

/// Each policy that a route runs, with the smallest window that is known of it, and its route.
fn smallest_windows(raw: &Raw) -> Vec<(&str, u64, &str)> {
    let mut smallest: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for route in raw.routes.iter().filter(|route| route.mode != Mode::Off) {
        let Some(window) = route.window.or_else(|| context(raw.upstreams.get(&route.upstream)?)) else {
            continue;
        };
        let known = smallest.entry(&route.policy).or_insert((u64::MAX, ""));
        *known = (*known).min((window.into(), &route.name));
    }
    smallest.into_iter().map(|(policy, (window, route))| (policy, window, route)).collect()
}

fn context(upstream: &raw::Upstream) -> Option<u32> {
    match upstream.engine.as_ref().map(|engine| engine.context.tokens()) {
        Some(Some(OrAuto::Given(tokens))) => Some(tokens),
        Some(_) => None,
        None => upstream.context,
    }
}

/// A policy and those of the configuration that it extends.
fn lineage<'a>(raw: &'a Raw, policy: &'a str) -> Vec<&'a str> {
    let mut line = vec![policy];
    while let Some(next) =
        raw.policies.get(*line.last().unwrap_or(&policy)).and_then(|policy| policy.get("extends"))
    {
        match next.as_str() {
            Some(next) if !line.contains(&next) => line.push(next),
            _ => break,
        }
    }
    line
}
