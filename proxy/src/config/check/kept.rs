//! What is kept for callers: originals of shortened tool results, and saved conversations.

use super::super::choices::Mode;
use super::super::faults::Fault;
use super::super::path::Path;
use super::super::raw::{self, Raw};
use super::super::valid::{Artifacts, Checkpoints};
use super::{Check, SIZE};

impl Check<'_> {
    pub(super) fn artifacts(&mut self, raw: &raw::Artifacts) -> Option<Artifacts> {
        let at = Path::of(&["artifacts"]);
        let memory = raw.memory.bytes();
        if memory.is_none() {
            self.fault(at.key("memory"), format!("`{}` is not a size", raw.memory.0), SIZE);
        }
        let disk_limit = self.size(at.key("disk_limit"), &raw.disk_limit);
        let ttl = self.some_time(at.key("ttl"), &raw.ttl);
        if raw.disk.is_some() && memory == Some(0) {
            let message = "has no effect: `memory: 0` keeps none";
            self.findings.warn(Fault::new(at.key("disk"), message));
        }
        let disk = raw.disk.as_ref().map(|folder| self.path(folder));
        Some(Artifacts { memory: memory?, disk, disk_limit: disk_limit?, ttl: ttl? })
    }

    pub(super) fn checkpoints(&mut self, raw: &raw::Checkpoints) -> Checkpoints {
        let dir = raw.dir.as_ref().map(|folder| self.path(folder));
        Checkpoints { dir, per_caller: raw.per_caller as usize }
    }

    /// A route whose model may read originals needs a store that has them, and a policy that is enforced.
    pub(super) fn can_read(&mut self, at: &Path, route: &raw::Route, raw: &Raw) {
        if !route.read_tool {
            return;
        }
        let at = at.key("read_tool");
        if raw.artifacts.memory.bytes() == Some(0) {
            self.fault(at, "needs a store of originals", "set `artifacts.memory`, such as `64MiB`");
        } else if route.mode != Mode::Enforce {
            let message = "has no effect: only in mode `enforce` results are shortened";
            self.findings.warn(Fault::new(at, message));
        }
    }
}
