//! The demo model's own Python tests: its evaluation, and the generator and template that trained it.

use std::process::Command;

use crate::tooling::{root, run, tool};

#[test]
fn evaluation() {
    unittest("engine/demo/eval");
}

#[test]
fn training() {
    unittest("engine/demo/train");
}

fn unittest(folder: &str) {
    let Some(python) = tool(".venv/bin/python") else { return };
    let mut command = Command::new(python);
    command
        .current_dir(root())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["-m", "unittest", "discover", folder]);
    let (good, printed) = run(&mut command);
    assert!(good, "{printed}");
}
