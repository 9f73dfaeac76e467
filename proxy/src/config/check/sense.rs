//! What is well formed and still cannot work: policies that no request meets, values that no window has room for.

use std::collections::BTreeMap;

use plimsoll_policies::Tokens;
use plimsoll_policies::config::{Place, Step, Warning, warnings};

use super::super::choices::Mode;
use super::super::faults::{Fault, list};
use super::super::path::Path;
use super::super::raw;
use super::super::scalar::OrAuto;
use super::super::valid::Match;
use super::Check;
use crate::identify::CONVERSATIONS;

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

    /// Warns of values that cannot work with the route's window or upstream.
    pub(super) fn works_there(
        &mut self,
        route: &raw::Route,
        upstream: &raw::Upstream,
        policies: &BTreeMap<String, Vec<Step>>,
    ) {
        let Some(steps) = policies.get(&route.policy).filter(|_| route.mode != Mode::Off) else { return };
        let window = route.window.or_else(|| context(upstream)).map(Tokens::from);
        let place = Place { window, kv_known: upstream.engine.is_some() };
        for Warning { step, parameter, what, hint } in warnings(steps, place) {
            let at = self.step_path(&route.policy, step);
            let at = parameter.map_or(at.clone(), |parameter| at.key(parameter));
            let what = format!("{what} (route `{}`)", route.name);
            self.findings.warn(Fault::new(at, what).hint(hint));
        }
    }
}

fn context(upstream: &raw::Upstream) -> Option<u32> {
    let engine = upstream.engine.as_ref().map(|engine| &engine.context);
    match engine.or(upstream.context.as_ref())?.tokens() {
        Some(OrAuto::Given(tokens)) => Some(tokens),
        _ => None,
    }
}
