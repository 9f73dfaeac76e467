//! What concerns the process: telemetry, limits, native libraries, log.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};

use http::HeaderName;

use super::super::faults::{Fault, near};
use super::super::path::Path;
use super::super::raw;
use super::super::valid::{Explain, Limits, Log, Otlp, Runtime, Telemetry};
use super::Check;

impl Check<'_> {
    pub(super) fn telemetry(&mut self, raw: &raw::Telemetry) -> Option<Telemetry> {
        let otlp = match &raw.otlp {
            Some(otlp) => Some(self.otlp(&Path::of(&["telemetry", "otlp"]), otlp)?),
            None => None,
        };
        Some(Telemetry {
            otlp,
            service_name: raw.service_name.clone(),
            sample: raw.sample,
            trust_incoming: raw.trust_incoming,
            trace_url: raw.trace_url.clone(),
            baggage: raw.baggage.clone(),
            capture_content: raw.capture_content,
            gen_ai: raw.gen_ai,
        })
    }

    fn otlp(&mut self, at: &Path, raw: &raw::Otlp) -> Option<Otlp> {
        let endpoint = self.uri(at.key("endpoint"), &raw.endpoint);
        let mut headers = BTreeMap::new();
        for (name, value) in &raw.headers {
            let at = at.key("headers").key(name);
            if name.parse::<HeaderName>().is_err() {
                self.fault(
                    at.clone(),
                    format!("`{name}` is not the name of a header"),
                    "such as `authorization`",
                );
            }
            self.credential(at, value);
            headers.insert(name.clone(), value.clone());
        }
        Some(Otlp { endpoint: endpoint?, protocol: raw.protocol, headers })
    }

    pub(super) fn limits(&mut self, raw: &raw::Limits) -> Option<Limits> {
        let at = Path::of(&["limits"]);
        let body = self.size(at.key("body"), &raw.body);
        let head = self.head(at.key("head"), raw);
        let head_timeout = self.some_time(at.key("head_timeout"), &raw.head_timeout);
        let body_idle = self.some_time(at.key("body_idle"), &raw.body_idle);
        let answer_idle = self.some_time(at.key("answer_idle"), &raw.answer_idle);
        let queue_wait = self.time(at.key("queue_wait"), &raw.queue_wait);
        let drain = self.time(at.key("drain"), &raw.drain);
        Some(Limits {
            body: body?,
            head: head?,
            head_timeout: head_timeout?,
            body_idle: body_idle?,
            answer_idle: answer_idle?,
            connections: raw.connections as usize,
            requests: raw.requests as usize,
            queue_wait: queue_wait?,
            drain: drain?,
        })
    }

    pub(super) fn explain(&mut self, raw: &raw::Explain) -> Option<Explain> {
        let capture = match &raw.capture {
            Some(size) => self.size(Path::of(&["explain", "capture"]), size)?,
            None => 0,
        };
        Some(Explain { keep: raw.keep as usize, capture })
    }

    /// hyper reads heads into buffers of at least 8 KiB; more than 16 MiB is no head any more.
    fn head(&mut self, at: Path, raw: &raw::Limits) -> Option<u64> {
        let head = self.size(at.clone(), &raw.head)?;
        if !(8 << 10..=16 << 20).contains(&head) {
            self.fault(at, format!("must be between 8KiB and 16MiB, got `{}`", raw.head.0), "");
        }
        Some(head)
    }

    pub(super) fn runtime(&mut self, raw: &raw::Runtime) -> Option<Runtime> {
        let given = match &raw.onnxruntime {
            Some(text) => Some(self.file(Path::of(&["runtime", "onnxruntime"]), text)?),
            None => self.sources.environment.get("ORT_DYLIB_PATH").map(|text| self.path(text)),
        };
        let onnxruntime = given.or_else(|| find_library(&self.path(".runtime"), 4));
        Some(Runtime { onnxruntime })
    }

    pub(super) fn log(&mut self, raw: &raw::Log) -> Option<Log> {
        for directive in raw.level.split(',') {
            let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level).trim();
            if !LEVELS.contains(&level) {
                let fault = Fault::new(Path::of(&["log", "level"]), format!("`{level}` is not a level"));
                self.findings.fault(fault.maybe_hint(near(level, LEVELS)));
                return None;
            }
        }
        Some(Log { format: raw.format, level: raw.level.clone() })
    }
}

/// Levels of the log.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// ONNX Runtime's library in a folder or below; where there are several, the last by name.
fn find_library(folder: &FilePath, depth: usize) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let library = files.into_iter().filter(|path| is_library(path)).max();
    let deeper =
        || folders.into_iter().filter_map(|folder| find_library(&folder, depth.checked_sub(1)?)).max();
    library.or_else(deeper)
}

/// `libonnxruntime_providers_*.so` are loaded by the library itself.
fn is_library(path: &FilePath) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("libonnxruntime.") && !name.ends_with(".a") || name == "onnxruntime.dll"
}
