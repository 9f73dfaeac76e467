//! What is kept for callers: originals of shortened tool results, and saved conversations.

use std::path::{Component, Path as FilePath, PathBuf};

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

    /// Originals give way to others and to time: no other folder may be theirs, lie in theirs or hold theirs.
    pub(super) fn apart(&mut self, raw: &Raw) {
        let Some(disk) = &raw.artifacts.disk else { return };
        let own = real(&self.path(disk));
        let saved = raw.checkpoints.dir.iter().map(|dir| ("checkpoints.dir".to_owned(), dir));
        let engines = raw.upstreams.iter().filter_map(|(name, upstream)| {
            let folder = upstream.engine.as_ref()?.checkpoints.as_ref()?;
            Some((format!("upstreams.{name}.engine.checkpoints"), folder))
        });
        let idle = raw.upstreams.iter().filter_map(|(name, upstream)| {
            let folder = &upstream.engine.as_ref()?.offload.disk.as_ref()?.dir;
            Some((format!("upstreams.{name}.engine.offload.disk.dir"), folder))
        });
        let others: Vec<_> = saved.chain(engines).chain(idle).collect();
        for (option, folder) in others {
            let other = real(&self.path(folder));
            let how = if own == other {
                "is also"
            } else if own.starts_with(&other) {
                "lies in"
            } else if other.starts_with(&own) {
                "holds"
            } else {
                continue;
            };
            let message = format!("`{disk}` {how} the folder of `{option}`");
            let hint = "a folder for nothing else, such as `/var/lib/plimsoll/artifacts`";
            self.fault(Path::of(&["artifacts", "disk"]), message, hint);
        }
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

/// The place of a path: what is there is followed through its links, what is still to be made has none.
fn real(path: &FilePath) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    whole.components().fold(PathBuf::new(), |mut place, part| {
        match part {
            Component::ParentDir => drop(place.pop()),
            part => place.push(part),
        }
        std::fs::canonicalize(&place).unwrap_or(place)
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::Config;
    use super::super::super::tests::{directory, faults, parse, sources, with};

    /// A configuration with these three folders.
    fn folders(disk: &str, dir: &str, engine: &str) -> String {
        with(&format!("artifacts: {{disk: {disk}}}\ncheckpoints: {{dir: {dir}}}"))
            .replace("{model: model}", &format!("{{model: model, checkpoints: {engine}}}"))
    }

    #[test]
    fn originals_have_a_folder_for_nothing_else() {
        for (disk, dir, engine, why) in [
            ("kept", "./kept/", "kv", "`kept` is also the folder of `checkpoints.dir`"),
            ("kept", "other/../kept/saved", "kv", "`kept` holds the folder of `checkpoints.dir`"),
            ("kept/texts", "kept", "kv", "`kept/texts` lies in the folder of `checkpoints.dir`"),
            ("kv", "kept", "kv", "`kv` is also the folder of `upstreams.a.engine.checkpoints`"),
            ("kv", "kept", "kv/a", "`kv` holds the folder of `upstreams.a.engine.checkpoints`"),
            ("kv/a", "kept", "kv", "`kv/a` lies in the folder of `upstreams.a.engine.checkpoints`"),
        ] {
            let said = faults(&folders(disk, dir, engine));
            assert!(
                said.contains(&format!("\nartifacts.disk: {why}\n  hint: a folder for nothing else")),
                "{said}"
            );
        }
        assert!(parse(&folders("kept", "kept2", "keptkv")).is_ok());
    }

    #[test]
    fn links_are_followed() {
        let directory = directory();
        std::os::unix::fs::symlink("model", directory.path().join("link")).expect("a link");
        let parse = |text: &str| Config::parse(text, &sources(directory.path()));
        assert!(parse(&folders("link/texts", "model", "kv")).is_err());
        assert!(parse(&folders("link/texts", "kept", "kv")).is_ok());
    }
}
