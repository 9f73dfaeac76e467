//! What the commands share.

pub(crate) mod explain;
pub(crate) mod serve;
pub(crate) mod validate;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use plimsoll_proxy::config::{Faults, Sources};

/// Faults were found.
pub(crate) const FAULTS: u8 = 1;

/// Where the configuration comes from.
#[derive(clap::Args)]
pub(crate) struct Files {
    /// The configuration
    #[arg(long, short, default_value = "config.yaml", value_name = "FILE")]
    config: PathBuf,
    /// Override one option, like `routes.default.mode=shadow`; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    overrides: Vec<String>,
}

impl Files {
    /// The sources, with this process's environment.
    pub(crate) fn sources(&self) -> anyhow::Result<Sources> {
        Ok(Sources {
            file: self.config.clone(),
            // Variables that are no text can hold no option.
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            overrides: self.overrides.clone(),
            directory: std::env::current_dir().context("the working directory cannot be read")?,
        })
    }
}

/// Prints to standard output. A reader that has left (`plimsoll explain .. | head`) is no error, and a sidecar whose
/// greeting nobody reads serves all the same.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints the faults of a configuration.
pub(crate) fn report(faults: &Faults) -> ExitCode {
    eprintln!("{faults}");
    ExitCode::from(FAULTS)
}
