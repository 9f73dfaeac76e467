//! Policies: their steps resolved, and that nothing is defined in vain.

use std::collections::BTreeMap;

use plimsoll_policies::Summariser;
use plimsoll_policies::config::{PolicyConfig, PolicyFault, Step, Summarize, resolve};
use serde_json::Value;

use super::super::faults::{Fault, near};
use super::super::path::Path;
use super::super::raw::Raw;
use super::Check;

impl Check<'_> {
    /// The file's policies, and the presets that routes name.
    pub(super) fn policies(&mut self, raw: &Raw) -> BTreeMap<String, Vec<Step>> {
        let configs = self.configs(raw);
        self.step_faults(raw);
        let presets = plimsoll_policies::presets();
        let named = raw.routes.iter().map(|route| &route.policy).filter(|name| presets.contains_key(*name));
        let mut resolved = BTreeMap::new();
        for name in configs.keys().chain(named) {
            self.name(&Path::of(&["policies", name]), name);
            match resolve(name, &configs) {
                Ok(steps) => drop(resolved.insert(name.clone(), steps)),
                Err(fault) => self.policy_fault(name, fault, &configs),
            }
        }
        self.summarisers(raw, &configs);
        resolved
    }

    /// Whoever is to write summaries must be there.
    fn summarisers(&mut self, raw: &Raw, configs: &BTreeMap<String, PolicyConfig>) {
        for (name, config) in configs {
            let at = Path::of(&["policies", name, "steps"]);
            for (index, step) in config.steps.iter().enumerate() {
                if let Step::Summarize(params) = step {
                    self.summariser(&at.index(index).key("summarize"), params, raw);
                }
            }
        }
    }

    fn summariser(&mut self, at: &Path, params: &Summarize, raw: &Raw) {
        let with = at.key("with");
        match &params.with {
            Summariser::Engine if !raw.upstreams.values().any(|upstream| upstream.engine.is_some()) => {
                let hint = "add one, or use `extract`, which needs no model";
                self.fault(with, "no upstream has an `engine`", hint);
            }
            Summariser::Upstream(name) if !self.names("upstreams").contains(&name.as_str()) => {
                let fault = Fault::new(with.key("upstream"), format!("no upstream is named `{name}`"));
                let hint = near(name, self.names("upstreams"));
                self.findings.fault(fault.maybe_hint(hint));
            }
            _ => {}
        }
        let server = |name: &String| raw.upstreams.get(name).is_some_and(|upstream| upstream.url.is_some());
        let asks = matches!(&params.with, Summariser::Upstream(name) if server(name));
        if params.model.is_some() && !asks {
            let message = "has no effect: only a server over HTTP is asked for a model by name";
            self.findings.warn(Fault::new(at.key("model"), message));
        }
    }

    /// Each step's own faults, those of policies with other faults included.
    fn step_faults(&mut self, raw: &Raw) {
        for (name, policy) in &raw.policies {
            let at = Path::of(&["policies", name, "steps"]);
            let steps = self.tree.pointer(&format!("/policies/{}/steps", pointer(name)));
            let steps = steps.or_else(|| policy.get("steps")).and_then(Value::as_array);
            let mut seen: Vec<&str> = Vec::new();
            for (index, step) in steps.into_iter().flatten().enumerate() {
                let at = at.index(index);
                if self.findings.touch(&at) {
                    continue;
                }
                let Ok(step) = serde_json::from_value::<Step>(step.clone()) else { continue };
                let own = step.name();
                if seen.contains(&own) {
                    self.fault(at, format!("step `{own}` stands twice"), "keep one of them");
                } else if let Some(what) = step.fault() {
                    self.findings.fault(Fault::new(at.key(own), what));
                }
                seen.push(own);
            }
        }
    }

    /// The policies; of those whose shape is not sound, what they extend.
    fn configs(&mut self, raw: &Raw) -> BTreeMap<String, PolicyConfig> {
        let mut configs = BTreeMap::new();
        for (name, value) in &raw.policies {
            let at = Path::of(&["policies", name]);
            if self.findings.touch(&at) {
                let extends = policy_extends(value).filter(|_| !self.findings.touch(&at.key("extends")));
                configs.insert(name.clone(), PolicyConfig { extends, steps: Vec::new() });
                continue;
            }
            let config = serde_json::from_value::<PolicyConfig>(value.clone());
            let config = config.map_err(|error| Fault::new(at, error.to_string()));
            if let Some(config) = self.findings.take(config) {
                configs.insert(name.clone(), config);
            }
        }
        configs
    }

    /// Where a step of a policy is written: in itself, or in what it extends.
    pub(super) fn step_path(&self, policy: &str, step: &str) -> Path {
        let section = Path::of(&["policies"]);
        let own = |element: &Value| element.as_str() == Some(step) || element.get(step).is_some();
        let mut next = Some(policy);
        let mut seen = Vec::new();
        while let Some(name) = next.filter(|name| !seen.contains(name)) {
            seen.push(name);
            let Some(written) = self.tree.get("policies").and_then(|all| all.get(name)) else { break };
            let steps = written.get("steps").and_then(Value::as_array);
            if let Some(index) = steps.and_then(|steps| steps.iter().position(own)) {
                return section.key(name).key("steps").index(index).key(step);
            }
            next = written.get("extends").and_then(Value::as_str);
        }
        section.key(policy)
    }

    fn policy_fault(&mut self, asked: &str, fault: PolicyFault, configs: &BTreeMap<String, PolicyConfig>) {
        let section = Path::of(&["policies"]);
        let fault = match fault {
            // It is there, and its own fault is named.
            PolicyFault::Unknown { name, .. } if self.names("policies").contains(&name.as_str()) => return,
            PolicyFault::Unknown { name, .. } => {
                let owner = extender(&name, configs).unwrap_or(asked);
                let presets = plimsoll_policies::presets();
                let known =
                    configs.keys().chain(presets.keys()).map(String::as_str).filter(|known| *known != owner);
                Fault::new(
                    section.key(owner).key("extends"),
                    format!("no policy and no preset is named `{name}`"),
                )
                .maybe_hint(near(&name, known))
            }
            PolicyFault::Cycle { name, chain } => {
                // Each of the circle finds it; it is told at the first.
                let first = chain.split(" -> ").min().unwrap_or(&name);
                Fault::new(section.key(first).key("extends"), format!("goes in a circle: {chain}"))
                    .hint("let one of them extend a preset, or nothing")
            }
            // Told step by step.
            PolicyFault::Duplicate { .. } | PolicyFault::Parameter { .. } => return,
        };
        self.findings.fault(fault);
    }

    /// Warns of what no route uses.
    pub(super) fn unused(&mut self, raw: &Raw) {
        let extended = |name: &str| {
            raw.policies
                .iter()
                .any(|(own, policy)| own != name && policy.get("extends").is_some_and(|to| to == name))
        };
        for name in raw.policies.keys() {
            if !raw.routes.iter().any(|route| route.policy == *name) && !extended(name) {
                self.findings.warn(Fault::new(Path::of(&["policies", name]), "no route uses it"));
            }
        }
        for name in raw.upstreams.keys() {
            let writes = raw.policies.values().any(|policy| summarises_by(policy, name));
            if !writes && !raw.routes.iter().any(|route| route.upstream == *name) {
                self.findings.warn(Fault::new(Path::of(&["upstreams", name]), "no route uses it"));
            }
        }
    }
}

/// Whether a policy of the file has its summaries written by this upstream.
fn summarises_by(policy: &Value, upstream: &str) -> bool {
    let steps = policy["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    steps.iter().any(|step| step["summarize"]["with"]["upstream"] == upstream)
}

/// The policy whose `extends` names `name`.
fn extender<'a>(name: &str, configs: &'a BTreeMap<String, PolicyConfig>) -> Option<&'a str> {
    let found = configs.iter().find(|(_, config)| config.extends.as_deref() == Some(name));
    found.map(|(owner, _)| owner.as_str())
}

fn policy_extends(policy: &Value) -> Option<String> {
    policy.get("extends").and_then(Value::as_str).map(str::to_owned)
}

/// A key as it stands in a JSON pointer.
fn pointer(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
