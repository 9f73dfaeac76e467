//! `plimsoll key`: API keys of callers, and what the configuration holds of them.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use plimsoll_proxy::keys::hash;
use rand::TryRng;
use rand::rngs::SysRng;
use serde_json::json;

use super::say;

/// Random bytes of a key: nobody guesses one of 2^256, so that a quick hash is enough to keep.
const BYTES: usize = 32;

/// Fewer bytes than any random key has: a password, which a quick hash does not protect.
const SHORTEST: usize = 20;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make a key: it is printed once, for the caller, with the hash that `keys` of the configuration holds
    New {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read a key from standard input and print its hash
    Hash,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::New { json } => {
            let mut random = [0; BYTES];
            SysRng.try_fill_bytes(&mut random).context("the system gives no random bytes")?;
            let key = format!("plim-{}", BASE64_URL_SAFE_NO_PAD.encode(random));
            let hash = hashed(&key);
            if *json {
                say(json!({"key": key, "hash": hash}));
            } else {
                say(format_args!("key   {key}\nhash  {hash}"));
            }
        }
        Command::Hash => {
            let mut key = String::new();
            std::io::stdin().read_to_string(&mut key).context("no key can be read from standard input")?;
            let key = key.trim();
            if key.len() < SHORTEST {
                bail!("the key has {} bytes: one of fewer than {SHORTEST} can be guessed", key.len());
            }
            say(hashed(key));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// As the configuration holds it.
fn hashed(key: &str) -> String {
    let digits: String = hash(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}
