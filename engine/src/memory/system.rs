//! What the machine says of its memory.

/// Bytes that this process may still take: what the kernel calls available, or what its control group leaves.
/// `None` where neither can be read.
pub(crate) fn available() -> Option<u64> {
    let machine = field("/proc/meminfo", "MemAvailable:").map(|kib| kib * 1024);
    machine.into_iter().chain(group()).min()
}

/// What the control group (version 2) leaves; `None` where it sets no limit.
fn group() -> Option<u64> {
    let number = |name: &str| {
        std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

/// Bytes of this process in memory; 0 where that cannot be read. The system counts a shared page once for each row that
/// maps it; here each counts once.
pub(super) fn process_rss() -> u64 {
    let bytes = |name| field("/proc/self/status", name).map_or(0, |kib| kib * 1024);
    match bytes("VmRSS:") {
        0 => 0,
        mapped => mapped.saturating_sub(bytes("RssShmem:")) + crate::cache::held(),
    }
}

/// The first number on the line of a `/proc` file that begins with `name`.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Gives freed memory back to the operating system: glibc keeps a model's weights otherwise.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "a call of glibc that takes and returns a number")]
        // SAFETY: `malloc_trim` may be called at any time, from any thread.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

/// Has freed memory go back as it is freed, once for the process. glibc raises its thresholds with each large block
/// that is freed, up to keeping 64 MiB in each arena, and trims no arena's end but the main one's.
pub(crate) fn settle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const MAPPED: libc::c_int = 1 << 20;
        #[expect(unsafe_code, reason = "a call of glibc that takes and returns numbers")]
        // SAFETY: `mallopt` may be called at any time, from any thread.
        let _ = unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED) + libc::mallopt(libc::M_TRIM_THRESHOLD, MAPPED)
        };
    }
}
