//! A sidecar of a test's own, on free ports.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use plimsoll_proxy::config::{Config, Sources};
use plimsoll_proxy::proxy::{self, Running};
use tokio::runtime::Runtime;

/// A running sidecar; stops when dropped.
pub struct Sidecar {
    /// Where clients connect, like `http://127.0.0.1:1234`.
    pub data_url: String,
    /// Where operators connect.
    pub admin_url: String,
    running: Option<(Runtime, Running)>,
}

impl Sidecar {
    /// Starts a sidecar with this configuration; its listeners should ask for port 0.
    ///
    /// # Panics
    /// The configuration has faults, or the sidecar cannot start.
    pub fn start(config: &str) -> Self {
        Self::serve(config, None)
    }

    /// As [`Sidecar::start`], of a file that is watched for changes.
    ///
    /// # Panics
    /// The file cannot be read, the configuration has faults, or the sidecar cannot start.
    pub fn watch(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).expect("the configuration can be read");
        Self::serve(&text, Some(file))
    }

    fn serve(config: &str, file: Option<&Path>) -> Self {
        let sources = Sources {
            file: file.unwrap_or_else(|| Path::new("config.yaml")).to_owned(),
            environment: BTreeMap::new(),
            overrides: Vec::new(),
            directory: crate::shared::root().to_owned(),
        };
        let loaded = Config::parse(config, &sources).unwrap_or_else(|faults| panic!("{faults}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let running = runtime
            .block_on(proxy::start(loaded, file.map(|_| sources)))
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            data_url: format!("http://{}", running.data),
            admin_url: format!("http://{}", running.admin),
            running: Some((runtime, running)),
        }
    }

    /// Waits until what answers so far gave to prepare is done.
    ///
    /// # Panics
    /// It was drained.
    pub fn settled(&self) {
        let (runtime, running) = self.running.as_ref().expect("it runs");
        runtime.block_on(async { running.live().preparer.settled().await });
    }

    /// Stops accepting, waits for open requests, and delivers the telemetry.
    pub fn drain(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        if let Some((runtime, running)) = self.running.take() {
            runtime.block_on(running.drain());
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The built `plimsoll`, run from the repository's root.
///
/// # Panics
/// It was not built: `cargo build --workspace` does.
pub fn plimsoll() -> Command {
    let test = std::env::current_exe().expect("this test is a program");
    let folder = test.parent().and_then(Path::parent).expect("tests stand in target/PROFILE/deps");
    let program = folder.join("plimsoll");
    assert!(program.exists(), "`{}` is missing: run `cargo build --workspace --bins`", program.display());
    let mut command = Command::new(program);
    command.current_dir(crate::shared::root());
    command
}
