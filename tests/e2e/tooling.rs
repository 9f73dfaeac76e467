//! Programs that `make` unpacks for the tests, and what they print.

use std::path::PathBuf;
use std::process::Command;

pub(crate) use plimsoll_tests::shared::root;

/// A program at `path` in the repository; `None`, with a note, where it is not set up and CI does not insist on it.
pub(crate) fn tool(path: &str) -> Option<PathBuf> {
    let tool = root().join(path);
    if tool.exists() {
        return Some(tool);
    }
    assert!(std::env::var_os("PLIMSOLL_REQUIRE_SHARED").is_none(), "`{path}` is missing: run `make test`");
    eprintln!("skipped: `{path}` is missing, `make test` sets it up");
    None
}

/// What a command ended with: whether it succeeded, and all that it printed.
pub(crate) fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("the program can be run");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

/// What a command printed on stdout; fails the test with all of its output where the command failed.
pub(crate) fn stdout(command: &mut Command) -> String {
    let output = command.output().expect("the program can be run");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{stdout}{stderr}");
    stdout
}
