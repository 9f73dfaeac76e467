//! Routes: what they take, and that what they name is there.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobMatcher};
use http::HeaderName;
use plimsoll_policies::Summariser;
use plimsoll_policies::config::Step;

use super::super::choices::{Mode, OnUnparsable};
use super::super::faults::{Fault, near};
use super::super::path::Path;
use super::super::raw::{self, Raw};
use super::super::valid::{Match, Route};
use super::Check;

impl Check<'_> {
    pub(super) fn routes(&mut self, raw: &Raw, policies: &BTreeMap<String, Vec<Step>>) -> Vec<Route> {
        let section = Path::of(&["routes"]);
        self.route_names(&section, &raw.routes);
        self.route_order(&section, &raw.routes);
        let routes = raw.routes.iter().enumerate();
        routes
            .filter_map(|(index, route)| {
                let at = section.index(index);
                self.references(&at, route);
                if let Some(upstream) = raw.upstreams.get(&route.upstream) {
                    self.fits_upstream(&at, route, upstream);
                    self.has_window(route, upstream, policies);
                    self.works_there(route, upstream, policies);
                    self.has_summariser(&at, route, upstream, policies);
                }
                self.can_read(&at, route, raw);
                let checked = self.route(&at, route)?;
                self.meets_conversations(&at, route, &checked.matches, policies);
                Some(checked)
            })
            .collect()
    }

    fn route_names(&mut self, section: &Path, routes: &[raw::Route]) {
        for (index, route) in routes.iter().enumerate() {
            let at = section.index(index).key("name");
            self.name(&at, &route.name);
            if let Some(first) = routes[..index].iter().position(|other| other.name == route.name) {
                self.fault(
                    at,
                    format!("`{}` is the name of routes[{first}] already", route.name),
                    "names are unique",
                );
            }
        }
    }

    /// The last route takes what no other took; before it, each says what it takes.
    fn route_order(&mut self, section: &Path, routes: &[raw::Route]) {
        let Some(last) = routes.len().checked_sub(1) else { return };
        for (index, route) in routes.iter().enumerate() {
            let at = section.index(index).key("match");
            if index == last && route.matches.is_some() {
                let hint = "add a last route without `match`, for the requests that no route takes";
                self.fault(at, "the last route must take every request", hint);
            } else if index < last && route.matches.is_none() {
                let message = format!("is missing: routes[{}] would never be reached", index + 1);
                self.fault(at, message, "say what it takes, or move it to the end");
            }
        }
    }

    fn references(&mut self, at: &Path, route: &raw::Route) {
        let section = Path::of(&["upstreams"]);
        if !self.names("upstreams").contains(&route.upstream.as_str()) && !self.is_faulty(&section) {
            let fault = Fault::new(at.key("upstream"), format!("no upstream is named `{}`", route.upstream));
            let hint = near(&route.upstream, self.names("upstreams"));
            self.findings.fault(fault.maybe_hint(hint));
        }
        let presets = plimsoll_policies::presets();
        let mut known = self.names("policies");
        known.extend(presets.keys().map(String::as_str));
        if !known.contains(&route.policy.as_str()) && !self.is_faulty(&Path::of(&["policies"])) {
            let fault =
                Fault::new(at.key("policy"), format!("no policy and no preset is named `{}`", route.policy));
            let fault = fault.maybe_hint(near(&route.policy, known));
            self.findings.fault(fault);
        }
    }

    /// Whether the section as a whole is wrong, so that its names are not known.
    fn is_faulty(&self, section: &Path) -> bool {
        self.findings.faults.iter().any(|fault| fault.at() == section)
    }

    fn fits_upstream(&mut self, at: &Path, route: &raw::Route, upstream: &raw::Upstream) {
        if upstream.engine.is_some() && route.on_unparsable == OnUnparsable::Pass {
            let message = format!("upstream `{}` is an engine, which reads nothing but JSON", route.upstream);
            self.fault(at.key("on_unparsable"), message, "`reject`");
        }
        if upstream.is_server() && route.any_model {
            let message =
                format!("has no effect: the server of upstream `{}` judges model ids itself", route.upstream);
            self.findings.warn(Fault::new(at.key("any_model"), message));
        }
        let engine = upstream.engine.as_ref().and_then(|engine| engine.context.tokens());
        if let (Some(window), Some(super::super::scalar::OrAuto::Given(context))) = (route.window, engine)
            && window > context
        {
            let message =
                format!("{window} tokens are more than the {context} of upstream `{}`", route.upstream);
            self.fault(at.key("window"), message, "");
        }
    }

    /// A policy needs a window to fit a conversation into; an engine knows its own.
    fn has_window(
        &mut self,
        route: &raw::Route,
        upstream: &raw::Upstream,
        policies: &BTreeMap<String, Vec<Step>>,
    ) {
        let acts =
            route.mode != Mode::Off && policies.get(&route.policy).is_some_and(|steps| !steps.is_empty());
        if acts && upstream.is_server() && upstream.context.is_none() && route.window.is_none() {
            self.fault(
                Path::of(&["upstreams", &route.upstream, "context"]),
                format!("is missing: policy `{}` of route `{}` needs the window", route.policy, route.name),
                "the model's window in tokens, such as 32768; here, or as the route's `window`",
            );
        }
    }

    /// `engine` means the route's own; a server is asked for a model by the name that it knows.
    fn has_summariser(
        &mut self,
        at: &Path,
        route: &raw::Route,
        upstream: &raw::Upstream,
        policies: &BTreeMap<String, Vec<Step>>,
    ) {
        let steps = policies.get(&route.policy).map(Vec::as_slice).unwrap_or_default();
        let summarize = steps.iter().find_map(|step| match step {
            Step::Summarize(params) => Some(params),
            _ => None,
        });
        match summarize.map(|params| (&params.with, &params.model)) {
            Some((Summariser::Engine, _)) if upstream.is_server() => {
                let message = format!(
                    "policy `{}` summarises with `engine`, and upstream `{}` is a server",
                    route.policy, route.upstream
                );
                // Without any engine the policy itself is at fault, and told.
                if let Some(engine) = self.an_engine() {
                    let hint = format!("say which engine: `with: {{upstream: {engine}}}`");
                    self.fault(at.key("policy"), message, &hint);
                }
            }
            Some((Summariser::Upstream(name), None)) if *name != route.upstream => {
                let message = format!(
                    "policy `{}` does not say which model of upstream `{name}` writes its summaries",
                    route.policy
                );
                if self.is_server(name) {
                    let hint = format!("`summarize: {{with: {{upstream: {name}}}, model: MODEL}}`");
                    self.fault(at.key("policy"), message, &hint);
                }
            }
            _ => {}
        }
    }

    fn an_engine(&self) -> Option<&str> {
        let mut names = self.names("upstreams").into_iter();
        names.find(|name| self.tree.pointer(&format!("/upstreams/{name}/engine")).is_some())
    }

    fn is_server(&self, upstream: &str) -> bool {
        let given = |key: &str| self.tree.pointer(&format!("/upstreams/{upstream}/{key}"));
        given("url").is_some_and(serde_json::Value::is_string)
            || given("urls").is_some_and(serde_json::Value::is_array)
    }

    fn route(&mut self, at: &Path, raw: &raw::Route) -> Option<Route> {
        let matches = match &raw.matches {
            Some(parts) => self.match_parts(&at.key("match"), parts),
            None => Some(Match::default()),
        };
        Some(Route {
            name: raw.name.clone(),
            matches: matches?,
            upstream: raw.upstream.clone(),
            policy: raw.policy.clone(),
            mode: raw.mode,
            allow_bypass: raw.allow_bypass,
            on_unparsable: raw.on_unparsable,
            any_model: raw.any_model,
            window: raw.window.map(u64::from),
            read_tool: raw.read_tool,
            keys: self.keys_of(&at.key("keys"), &raw.keys),
        })
    }

    fn match_parts(&mut self, at: &Path, raw: &raw::Match) -> Option<Match> {
        let path = raw.path.as_ref().map(|pattern| self.glob(at.key("path"), pattern));
        let model = raw.model.as_ref().map(|pattern| self.glob(at.key("model"), pattern));
        let headers: Vec<_> = raw
            .header
            .iter()
            .map(|(name, pattern)| {
                let at = at.key("header").key(name);
                let header = name.parse::<HeaderName>().map_err(|_| {
                    Fault::new(at.clone(), format!("`{name}` is not the name of a header"))
                        .hint("such as `x-team`")
                });
                (self.findings.take(header), self.glob(at, pattern))
            })
            .collect();
        let headers = headers.into_iter().map(|(name, glob)| Some((name?, glob?))).collect::<Option<_>>();
        if let Some(None) = path {
            return None;
        }
        if let Some(None) = model {
            return None;
        }
        Some(Match { path: path.flatten(), headers: headers?, model: model.flatten() })
    }

    pub(super) fn glob(&mut self, at: Path, pattern: &str) -> Option<GlobMatcher> {
        if pattern.is_empty() {
            self.fault(at, "is empty", "`*` stands for any text");
            return None;
        }
        // Backslashes stand for themselves: these are not files' paths.
        let glob = GlobBuilder::new(pattern).backslash_escape(false).build();
        let glob = glob.map_err(|error| {
            Fault::new(at, format!("`{pattern}` is not a pattern: {}", error.kind()))
                .hint("`*` any text, `?` one character, `[ab]` one of these, `{a,b}` either")
        });
        self.findings.take(glob).map(|glob| glob.compile_matcher())
    }
}
