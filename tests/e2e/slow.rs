//! Clients that are slow on purpose, as slowhttptest plays them: each is let go in time, and the others are served.

use std::process::{Command, Stdio};

use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::{Sidecar, get};

use crate::tooling::{run, tool};

const CLIENTS: u64 = 20;

/// A sidecar of little patience, before an upstream that answers at length.
fn sidecar(mock: &Mock) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: 'off' }}
limits: {{ head_timeout: 500ms, body_idle: 500ms, answer_idle: 500ms }}
upstreams: {{ other: {{ url: '{}', context: 8000 }} }}
routes: [{{ name: default, upstream: other, policy: chat }}]
",
        mock.url
    ))
}

/// An attack with these options. Its time limit is for what hangs; else it ends with its last connection.
fn attack(sidecar: &Sidecar, options: &[&str], path: &str) -> Option<Command> {
    let mut command = Command::new(tool(".tools/bin/slowhttptest")?);
    let clients = CLIENTS.to_string();
    command.args(["-c", &clients, "-r", &clients, "-l", "150", "-p", "60", "-v", "1"]).args(options);
    command.args(["-u", &format!("{}{path}", sidecar.data_url)]);
    Some(command)
}

/// Attacks until no connection is left open; others are served all the while, as the tool itself probes.
fn ends(options: &[&str], path: &str) {
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(&mock);
    let Some(mut command) = attack(&sidecar, options, path) else { return };
    let (good, printed) = run(&mut command);
    let colours = regex::Regex::new("\x1b\\[[0-9;]*[A-Za-z]").unwrap();
    let plain = colours.replace_all(&printed, "");
    assert!(good && plain.contains("No open connections left"), "{plain}");
    let probed = |available: &str| {
        plain.lines().any(|line| line.starts_with("service available:") && line.ends_with(available))
    };
    assert!(probed("YES") && !probed("NO"), "{plain}");
}

#[test]
fn slow_heads() {
    ends(&["-H", "-i", "2"], "/v1/models");
}

#[test]
fn slow_bodies() {
    ends(&["-B", "-i", "2", "-s", "8192", "-t", "POST"], "/v1/chat/completions");
}

/// Whoever reads a byte a second of an answer that no buffer holds is left. The tool does not look whether it was.
#[test]
fn slow_readers() {
    let long = "x".repeat(6 << 20);
    let mock = Mock::start((0..CLIENTS).map(|_| Answer::json(&long)).collect());
    let sidecar = sidecar(&mock);
    let readers = ["-X", "-n", "1", "-w", "512", "-y", "1024", "-z", "1", "-k", "1"];
    let Some(mut command) = attack(&sidecar, &readers, "/any") else { return };
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    loop {
        let state = get(&format!("{}/state", sidecar.admin_url)).ok();
        let left = state["totals"]["by_outcome"]["disconnected"].as_u64().unwrap_or(0);
        if left >= CLIENTS && state["running"].as_array().is_some_and(Vec::is_empty) {
            break;
        }
        assert!(process.try_wait().unwrap().is_none(), "the attack is over: {state}");
        std::thread::yield_now();
    }
    process.kill().unwrap();
    process.wait().unwrap();
}
