//! What a running process cannot change.

use super::valid::{Config, Upstream};

/// Paths that differ between two configurations and take effect at a restart only: listeners, engines, what is kept
/// for callers, telemetry, libraries, the log, and the limits that listeners are built with. Routes, policies, modes, HTTP
/// upstreams and the other limits may change live.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut paths: Vec<String> = [
        ("listen.data", old.listen.data != new.listen.data),
        ("listen.admin", old.listen.admin != new.listen.admin),
        ("listen.admin_token", old.listen.admin_token != new.listen.admin_token),
        ("listen.caller_header", old.listen.caller_header != new.listen.caller_header),
        ("artifacts", old.artifacts != new.artifacts),
        ("checkpoints", old.checkpoints != new.checkpoints),
        ("telemetry", old.telemetry != new.telemetry),
        ("limits.head", old.limits.head != new.limits.head),
        ("limits.head_timeout", old.limits.head_timeout != new.limits.head_timeout),
        ("limits.connections", old.limits.connections != new.limits.connections),
        ("runtime", old.runtime != new.runtime),
        ("log", old.log != new.log),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(path, _)| path.to_owned())
    .collect();
    paths.extend(engines(old, new).into_iter().map(|name| format!("upstreams.{name}.engine")));
    paths
}

/// Engines that came, went or changed.
fn engines<'a>(old: &'a Config, new: &'a Config) -> std::collections::BTreeSet<&'a str> {
    let names = old.upstreams.keys().chain(new.upstreams.keys());
    names.filter(|name| engine(old, name) != engine(new, name)).map(String::as_str).collect()
}

fn engine<'a>(config: &'a Config, name: &str) -> Option<&'a super::valid::EngineUpstream> {
    match config.upstreams.get(name)? {
        Upstream::Engine(engine) => Some(engine),
        Upstream::Http(_) => None,
    }
}
