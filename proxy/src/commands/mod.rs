//! What the commands share.

mod admin;
mod route;

pub(crate) mod explain;
pub(crate) mod inject;
pub(crate) mod key;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod ps;
pub(crate) mod serve;
pub(crate) mod top;
pub(crate) mod slots;
pub(crate) mod validate;

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use plimsoll_policies::Tokens;
use plimsoll_proxy::config::{Faults, Sources};

/// Faults were found.
pub(crate) const FAULTS: u8 = 1;

/// It could not run.
pub(crate) const NOT_RUN: u8 = 2;

/// The configuration's usual name.
const DEFAULT: &str = "config.yaml";

/// Tokens as people write them: `8192` or `8k`.
pub(crate) fn tokens(text: &str) -> Result<Tokens, String> {
    let (number, unit) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1024),
        None => (text, 1),
    };
    let tokens = number.parse::<Tokens>().ok().and_then(|number| number.checked_mul(unit));
    tokens.filter(|tokens| *tokens > 0).ok_or_else(|| "expected tokens, like `8192` or `8k`".to_owned())
}

/// Where the configuration comes from.
#[derive(clap::Args)]
pub(crate) struct Files {
    /// The configuration
    #[arg(long, short, default_value = DEFAULT, value_name = "FILE")]
    config: PathBuf,
    /// Override one option, like `routes.default.mode=shadow`; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    overrides: Vec<String>,
}

impl Files {
    /// Whether there is one: nobody has to write a configuration to try a policy.
    pub(crate) fn exist(&self) -> bool {
        self.config.exists() || self.config != Path::new(DEFAULT)
    }

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

/// An empty table; the columns in `figures` are aligned as numbers are.
pub(crate) fn table(header: &[&str], figures: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header);
    for column in figures {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Prints to standard output. A reader that has left (`plimsoll explain .. | head`) is no error, and a sidecar whose
/// greeting nobody reads serves all the same.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints the faults of a configuration.
pub(crate) fn report(faults: &Faults) -> ExitCode {
    eprintln!("{faults}");
    code(faults)
}

/// How a command ends whose configuration has faults, or cannot be read.
pub(crate) fn code(faults: &Faults) -> ExitCode {
    ExitCode::from(if faults.unread() { NOT_RUN } else { FAULTS })
}
