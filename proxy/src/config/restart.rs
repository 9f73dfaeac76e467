//! What a running process cannot change.

use super::valid::{Config, EngineUpstream, Upstream};

/// Paths that differ between two configurations and take effect at a restart only: listeners, engines, what is kept
/// for callers, telemetry, libraries, the log, and the limits that listeners are built with. Routes, policies, modes, HTTP
/// upstreams and the other limits may change live. `old` is what the process was started with, `in_force` tells by
/// what settings an engine runs that is loaded.
pub fn needs_restart<'a>(
    old: &Config,
    new: &'a Config,
    in_force: impl Fn(&str) -> Option<&'a EngineUpstream>,
) -> Vec<String> {
    let mut paths: Vec<String> = [
        ("listen.data", old.listen.data != new.listen.data),
        ("listen.transparent", old.listen.transparent != new.listen.transparent),
        ("listen.admin", old.listen.admin != new.listen.admin),
        ("listen.admin_token", old.listen.admin_token != new.listen.admin_token),
        ("listen.socket_mode", old.listen.socket_mode != new.listen.socket_mode),
        ("listen.caller_header", old.listen.caller_header != new.listen.caller_header),
        ("listen.hosts", old.listen.hosts != new.listen.hosts),
        ("listen.cors", old.listen.cors != new.listen.cors),
        ("artifacts", old.artifacts != new.artifacts),
        ("checkpoints", old.checkpoints != new.checkpoints),
        ("telemetry", old.telemetry != new.telemetry),
        ("limits.head", old.limits.head != new.limits.head),
        ("limits.head_timeout", old.limits.head_timeout != new.limits.head_timeout),
        ("limits.answer_idle", old.limits.answer_idle != new.limits.answer_idle),
        ("limits.connections", old.limits.connections != new.limits.connections),
        ("runtime", old.runtime != new.runtime),
        ("log", old.log != new.log),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(path, _)| path.to_owned())
    .collect();
    paths.extend(engines(new, in_force).map(|name| format!("upstreams.{name}.engine")));
    paths
}

/// Engines that run by other settings than the new ones. One that comes is loaded, one that goes is let go.
fn engines<'a>(
    new: &'a Config,
    in_force: impl Fn(&str) -> Option<&'a EngineUpstream>,
) -> impl Iterator<Item = &'a str> {
    let differs = move |(name, upstream): (&'a String, &'a Upstream)| match (upstream, in_force(name)) {
        (Upstream::Engine(new), Some(runs)) if **new != *runs => Some(name.as_str()),
        _ => None,
    };
    new.upstreams.iter().filter_map(differs)
}
