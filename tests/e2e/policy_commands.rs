//! `plimsoll policy`: cases beside policies, and recorded conversations replayed.

use std::path::Path;
use std::process::Command;

use plimsoll_tests::plimsoll;
use plimsoll_tests::shared::{root, shared};
use serde_json::Value;

use crate::tooling::run;

fn policy(command: &str) -> Command {
    let mut plimsoll = plimsoll();
    plimsoll.args(["policy", command]);
    plimsoll
}

/// Standard output as JSON, and the exit code.
fn json(command: &mut Command) -> (Value, Option<i32>) {
    let output = command.arg("--json").output().unwrap();
    let value = serde_json::from_slice(&output.stdout);
    (value.unwrap_or_else(|error| panic!("{error}: {output:?}")), output.status.code())
}

fn replay(file: &Path, windows: &[&str]) -> Command {
    let mut command = policy("replay");
    command.arg(file).args(["--policy", "agent"]);
    for window in windows {
        command.args(["--window", window]);
    }
    command
}

#[test]
fn the_example_cases_pass() {
    let (good, printed) = run(policy("test").arg("tests/golden/policies"));
    assert!(good && printed.contains("14 cases: 14 passed, 0 failed"), "{printed}");
}

#[test]
fn without_a_configuration_presets_are_counted_by_estimates() {
    let cases = root().join("tests/golden/policies");
    let folder = tempfile::tempdir().unwrap();
    let (result, code) = json(policy("test").arg(cases).current_dir(folder.path()));
    assert_eq!((code, result["passed"].as_u64()), (Some(0), Some(14)), "{result:#}");
}

#[test]
fn a_wrong_case_fails_with_a_diff() {
    let folder = tempfile::tempdir().unwrap();
    let case = "
- name: a wrong hope
  policy: agent
  window: 1024
  given: [{ role: user, content: Why? }]
  want: { messages: [{ role: user, content: How? }], contains: [Why] }
";
    std::fs::write(folder.path().join("wrong.test.yaml"), case).unwrap();
    std::fs::write(folder.path().join("other.yaml"), "no case").unwrap();
    let output = policy("test").arg(folder.path()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    for part in [
        "FAILED",
        "a wrong hope",
        "--- wanted\n+++ got",
        "-      \"content\": \"How?\"",
        "+      \"content\": \"Why?\"",
    ] {
        assert!(printed.contains(part), "{part} is not in\n{printed}");
    }
    assert!(!printed.contains("contains"), "only what differs is shown:\n{printed}");
    let (result, code) = json(policy("test").arg(folder.path()));
    assert_eq!((code, result["failed"].as_u64()), (Some(1), Some(1)), "{result:#}");
}

#[test]
fn what_cannot_be_tested_ends_with_two() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.test.yaml");
    let case = "- { name: n, policy: chatt, window: 9, given: [], want: { refused: true } }";
    for (text, path, part) in [
        (case, &*file, "unknown policy `chatt`"),
        ("- { name: n, polic: chat }", &*file, "bad.test.yaml"),
        ("", &folder.path().join("none"), "cannot be read"),
        ("", &root().join("policies"), "no `*.test.yaml` below"),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = policy("test").arg(path).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(part), "{part} is not in\n{told}");
    }
}

#[test]
fn replayed_transcripts_stay_in_the_window_and_reuse_more_than_naive_trimming() {
    let Some(file) = shared("transcripts/tau_airline_40.jsonl") else { return };
    let (result, code) = json(&mut replay(&file, &["2k", "4k", "8k"]));
    assert_eq!(code, Some(0), "{result:#}");
    let rows = result["rows"].as_array().unwrap();
    assert_eq!((rows.len(), result["conversations"].as_u64()), (6, Some(40)));
    for pair in rows.chunks(2) {
        let (naive, agent) = (&pair[0], &pair[1]);
        assert_eq!((&naive["policy"], &agent["policy"]), (&"trim just enough".into(), &"agent".into()));
        for row in pair {
            assert!(row["faults"] == 0 && row["over_window"] == 0 && row["refused"] == 0, "{row:#}");
            assert!(row["peak"].as_u64() < row["window"].as_u64(), "{row:#}");
        }
        // The system prompt alone is more than the smallest window may hold.
        assert_eq!(agent["counted"] == 0, agent["window"] == 2048, "{agent:#}");
        let reuse = |row: &Value| row["reuse"].as_f64();
        assert!(agent["counted"] == 0 || reuse(agent) > reuse(naive), "{agent:#}\n{naive:#}");
        assert!(agent["peak_kv_bytes"].as_u64() == Some(agent["peak"].as_u64().unwrap() * 4096), "{agent:#}");
    }
}

/// What cuts cost at the default marks: text computed again, beside the oldest messages going at every turn. A history
/// that is never cut computes nothing again.
#[test]
fn cuts_compute_little_again_and_lose_few_names() {
    let Some(file) = shared("transcripts/tau_airline_40.jsonl") else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let config = "upstreams: { far: { url: 'http://127.0.0.1:9', context: 8192 } }\nroutes: [{ name: all, upstream: far }]";
    std::fs::write(elsewhere.path().join("config.yaml"), config).unwrap();
    let again = |row: &Value| row["again"].as_f64().unwrap();
    // Counted by the demo model, and by an estimate.
    for (window, folder) in [("8k", root()), ("4k", elsewhere.path())] {
        let mut command = policy("replay");
        command.arg(&file).args(["--policy", "off", "--policy", "chat", "--window", window]);
        let (result, code) = json(command.current_dir(folder));
        assert_eq!(code, Some(0), "{result:#}");
        let [naive, off, chat] = &result["rows"].as_array().unwrap()[..] else { panic!("{result:#}") };
        assert!(again(off) < 0.02 * again(naive) && again(chat) <= 0.35 * again(naive), "{result:#}");
        let recall = chat["recall"].as_f64().unwrap();
        assert!(recall >= if window == "8k" { 0.9 } else { 0.8 }, "{result:#}");
    }
}

#[test]
fn a_floor_fails_and_marks_are_proposed() {
    let Some(file) = shared("transcripts/tau_airline_40.jsonl") else { return };
    let (good, printed) =
        run(replay(&file, &["8k"]).args(["--limit", "6", "--tune", "--fail-under", "reuse=0.1,recall=1"]));
    assert!(!good && printed.contains("failed: `agent` at 8192: recall"), "{printed}");
    assert!(!printed.contains("reuse 0."), "{printed}");
    assert!(printed.contains("best for `agent` at 8192: fit_context: { high: "), "{printed}");
    let bad = replay(&file, &["4k"]).args(["--fail-under", "reuse=2"]).output().unwrap();
    assert_eq!(bad.status.code(), Some(2));
}

#[test]
fn help_tells_of_both() {
    let (good, printed) = run(plimsoll().args(["policy", "--help"]));
    assert!(good && printed.contains("test") && printed.contains("replay"), "{printed}");
}
