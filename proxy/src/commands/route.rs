//! The routes of a configuration, as the commands that run no server see them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use plimsoll_policies::Tokens;
use plimsoll_policies::config::{PolicyConfig, Step, resolve};
use plimsoll_proxy::assemble;
use plimsoll_proxy::config::{Config, EngineContext, ModelPaths, Route, Tokenizer, Upstream};
use plimsoll_proxy::count::{Counter, Estimate};

/// The route of this name; the last one, which takes everything, where none is named.
pub(crate) fn chosen<'a>(config: &'a Config, name: Option<&str>) -> anyhow::Result<&'a Route> {
    let known = || config.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = match name {
        Some(name) => config.routes.iter().find(|route| route.name == name),
        None => config.routes.last(),
    };
    found.with_context(|| format!("no route `{}`: there are {}", name.unwrap_or_default(), known()))
}

/// The counter of a route's upstream, without loading its model.
pub(crate) fn counter(config: &Config, route: &Route, model: Option<&str>) -> anyhow::Result<Counter> {
    Ok(match tokenizer(config, route)? {
        Some(folder) => Counter::Exact(assemble::exact(&route.upstream, folder)?),
        None => estimate(model),
    })
}

/// Counts as a model of this name would, as far as its name tells.
pub(crate) fn estimate(model: Option<&str>) -> Counter {
    Counter::Estimate(Arc::new(Estimate::new(Estimate::encoding_for(model))))
}

/// The folder that a route's prompts are counted by, where there is one.
pub(crate) fn tokenizer<'a>(config: &'a Config, route: &Route) -> anyhow::Result<Option<&'a Path>> {
    match &config.upstreams[&route.upstream] {
        Upstream::Engine(engine) => Ok(Some(folder(&engine.model)?)),
        Upstream::Http(http) => Ok(folder_of(http.tokenizer.as_ref())),
    }
}

fn folder_of(tokenizer: Option<&Tokenizer>) -> Option<&Path> {
    match tokenizer? {
        Tokenizer::Folder(folder) => Some(folder),
        Tokenizer::Upstream => None,
    }
}

/// The folder that an upstream's prompts are counted by, where there is one.
pub(crate) fn tokenizer_of(upstream: &Upstream) -> Option<&Path> {
    match upstream {
        Upstream::Engine(engine) => folder(&engine.model).ok(),
        Upstream::Http(http) => folder_of(http.tokenizer.as_ref()),
    }
}

fn folder(paths: &ModelPaths) -> anyhow::Result<&Path> {
    match paths {
        ModelPaths::One(folder) => Ok(folder),
        // The folders of one model share their tokenizer.
        ModelPaths::ByDevice { cpu, cuda } => {
            cpu.as_deref().or(cuda.as_deref()).context("the upstream names no model folder")
        }
    }
}

/// The window that is asked for, else the route's, else its upstream's.
pub(crate) fn window(config: &Config, route: &Route, asked: Option<Tokens>) -> anyhow::Result<Tokens> {
    let upstream = match &config.upstreams[&route.upstream] {
        Upstream::Engine(engine) => match engine.context {
            EngineContext::Tokens(tokens) => Some(tokens.into()),
            EngineContext::Auto => {
                Some(plimsoll_engine::Model::read(folder(&engine.model)?)?.context_length.into())
            }
        },
        Upstream::Http(http) => http.context,
    };
    asked
        .or(route.window)
        .or(upstream)
        .with_context(|| format!("the window of route `{}` is not known: say `--window TOKENS`", route.name))
}

/// The steps of a policy of the configuration or of a preset.
pub(crate) fn steps(config: Option<&Config>, name: &str) -> anyhow::Result<Vec<Step>> {
    match config.and_then(|config| config.policies.get(name)) {
        Some(steps) => Ok(steps.clone()),
        None => Ok(resolve(name, &policies(config))?),
    }
}

/// The policies of the configuration, for one that extends them.
pub(crate) fn policies(config: Option<&Config>) -> BTreeMap<String, PolicyConfig> {
    let all = config.into_iter().flat_map(|config| &config.policies);
    all.map(|(name, steps)| (name.clone(), PolicyConfig { extends: None, steps: steps.clone() })).collect()
}
