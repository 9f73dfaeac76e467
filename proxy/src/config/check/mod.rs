//! Raw to valid: what a schema cannot say. Each check adds its faults and goes on.

mod listen;
mod keys;
mod upstreams;
mod servers;
mod engine;
mod routes;
mod policies;
mod sense;
mod process;
mod kept;

use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::Sources;
use super::faults::{Fault, Findings};
use super::path::Path;
use super::raw::Raw;
use super::scalar::{Size, Time};
use super::valid::Config;

/// What the checks share.
pub(super) struct Check<'a> {
    /// Where faults go.
    pub(super) findings: &'a mut Findings,
    /// Environment and working directory.
    pub(super) sources: &'a Sources,
    /// The merged tree, faults included: which names the user gave.
    pub(super) tree: &'a Value,
}

impl Check<'_> {
    /// The valid configuration; `None` where a fault stands in its way.
    pub(super) fn config(&mut self, raw: &Raw) -> Option<Config> {
        let listen = self.listen(&raw.listen);
        let keys = self.keys(raw);
        let upstreams = self.upstreams(&raw.upstreams);
        let policies = self.policies(raw);
        let routes = self.routes(raw, &policies);
        let artifacts = self.artifacts(&raw.artifacts);
        let checkpoints = self.checkpoints(&raw.checkpoints);
        self.apart(raw);
        let telemetry = self.telemetry(&raw.telemetry);
        let limits = self.limits(&raw.limits);
        let explain = self.explain(&raw.explain);
        let runtime = self.runtime(&raw.runtime);
        let log = self.log(&raw.log);
        self.unused(raw);
        self.redirected(raw);
        Some(Config {
            listen: listen?,
            keys,
            upstreams,
            routes,
            policies,
            artifacts: artifacts?,
            checkpoints,
            telemetry: telemetry?,
            limits: limits?,
            explain: explain?,
            runtime: runtime?,
            log: log?,
        })
    }

    fn fault(&mut self, at: Path, message: impl Into<String>, hint: &str) {
        let fault = Fault::new(at, message);
        self.findings.fault(if hint.is_empty() { fault } else { fault.hint(hint) });
    }

    /// Names that the user gave to the values of a map at the root.
    fn names(&self, section: &str) -> Vec<&str> {
        let map = self.tree.get(section).and_then(Value::as_object);
        map.into_iter().flat_map(|map| map.keys().map(String::as_str)).collect()
    }

    /// A name that stands in headers and labels.
    fn name(&mut self, at: &Path, name: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            self.fault(
                at.clone(),
                format!("`{name}` cannot be a name"),
                "names stand in headers and metrics: ASCII letters, digits, `.`, `_` and `-`",
            );
        }
    }

    fn time(&mut self, at: Path, time: &Time) -> Option<Duration> {
        let read = time.duration();
        if read.is_none() {
            self.fault(
                at,
                format!("`{}` is not a time", time.0),
                "a number and a unit: `500ms`, `30s`, `5m`",
            );
        }
        read
    }

    fn some_time(&mut self, at: Path, time: &Time) -> Option<Duration> {
        let read = self.time(at.clone(), time)?;
        if read.is_zero() {
            self.fault(at, "must be more than zero", "");
        }
        Some(read)
    }

    fn size(&mut self, at: Path, size: &Size) -> Option<u64> {
        match size.bytes() {
            None => self.fault(at, format!("`{}` is not a size", size.0), SIZE),
            Some(0) => self.fault(at, "must be more than zero", ""),
            Some(bytes) => return Some(bytes),
        }
        None
    }

    /// A path of the configuration, seen from the working directory.
    fn path(&self, text: &str) -> PathBuf {
        self.sources.directory.join(text)
    }

    fn folder(&mut self, at: Path, text: &str) -> Option<PathBuf> {
        self.there(at, text, "folder", FilePath::is_dir)
    }

    fn file(&mut self, at: Path, text: &str) -> Option<PathBuf> {
        self.there(at, text, "file", FilePath::is_file)
    }

    fn there(&mut self, at: Path, text: &str, kind: &str, is: fn(&FilePath) -> bool) -> Option<PathBuf> {
        if text.is_empty() {
            self.fault(at, "is empty", &format!("the path of a {kind}"));
            return None;
        }
        let path = self.path(text);
        if is(&path) {
            return Some(path);
        }
        let why = if path.exists() { format!("is not a {kind}") } else { "does not exist".to_owned() };
        self.fault(at, format!("{kind} `{text}` {why}"), "relative paths start at the working directory");
        None
    }

    fn uri(&mut self, at: Path, text: &str) -> Option<http::Uri> {
        let uri = text.parse::<http::Uri>().ok();
        let parts = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
        let (message, hint) = match parts {
            // Never shown: what stands before an `@` may be a password.
            Some((_, authority)) if authority.as_str().contains('@') => {
                ("must not hold credentials", "put them in `api_key` or `headers`")
            }
            Some(("http" | "https", _)) if text.contains('?') => ("must not have a query", ""),
            Some(("http" | "https", _)) => return uri,
            Some(_) => ("must begin with `http://` or `https://`", ""),
            None => ("is not an address", "such as `http://127.0.0.1:8000`"),
        };
        self.fault(at, message, hint);
        None
    }
}

const SIZE: &str = "a number of bytes, or with a unit: `64KiB`, `32MiB`, `2GiB`";
