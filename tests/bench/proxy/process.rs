//! What a process and its children use, by /proc.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// A process and those that it started, by their ids.
#[derive(Debug, Clone)]
pub(crate) struct Tree(Vec<u32>);

/// On-CPU time by thread.
pub(crate) type Times = HashMap<(u32, u32), Duration>;

impl Tree {
    /// As it is now.
    pub(crate) fn of(root: u32) -> Self {
        let parents: Vec<(u32, u32)> = ids("/proc").filter_map(|id| Some((id, parent(id)?))).collect();
        let mut all = vec![root];
        let mut at = 0;
        while let Some(parent) = all.get(at).copied() {
            all.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
            at += 1;
        }
        Self(all)
    }

    /// Resident memory in bytes, file-backed pages included.
    pub(crate) fn resident(&self) -> u64 {
        self.0.iter().filter_map(|id| kilobytes(*id)).sum::<u64>() * 1024
    }

    /// How long each thread has run: the scheduler's own figure, in nanoseconds (`stat` has ticks of 10 ms).
    pub(crate) fn times(&self) -> Times {
        let threads =
            self.0.iter().flat_map(|id| ids(&format!("/proc/{id}/task")).map(|thread| (*id, thread)));
        threads.filter_map(|(id, thread)| Some(((id, thread), ran(id, thread)?))).collect()
    }

    /// What was used since.
    pub(crate) fn used_since(&self, before: &Times) -> Duration {
        let now = self.times();
        now.iter()
            .map(|(thread, ran)| ran.saturating_sub(before.get(thread).copied().unwrap_or_default()))
            .sum()
    }
}

fn ids(folder: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // Behind the name, which may hold anything: state, parent.
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

fn kilobytes(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn ran(id: u32, thread: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{id}/task/{thread}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}
