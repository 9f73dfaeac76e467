//! What is checked on a GPU (`tests/gpu/run.py`), as far as that needs none: arguments, what is missing, and the code of
//! the points over the CPU.

use std::process::Command;

use plimsoll_tests::plimsoll;

use crate::tooling::{root, run, tool};

#[test]
fn the_check_is_ready() {
    let Some(python) = tool(".venv/bin/python") else { return };
    let mut command = Command::new(python);
    command
        .current_dir(root())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PLIMSOLL", plimsoll().get_program())
        .args(["-m", "unittest", "discover", "tests/gpu"]);
    let (good, printed) = run(&mut command);
    assert!(good, "{printed}");
    // None was left out.
    assert!(!printed.contains("skipped"), "{printed}");
}
