//! Configuration: one YAML file, layered and checked as a whole.
//!
//! ```text
//! file and what it includes < environment < flags -> merged tree -> schema -> raw types -> valid types
//! ```
//!
//! Each step collects faults instead of stopping, so that one run names everything that is wrong.
//! The rest of the proxy sees only the valid types; defaults live beside the raw ones.

mod layers;
mod bounds;
mod documents;
mod include;
mod lines;
mod interpolate;
mod path;
mod schema;
mod raw;
mod secret;
mod scalar;
mod address;
mod choices;
mod check;
mod valid;
mod hosts;
mod faults;
mod restart;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use check::Check;
use documents::{Documents, Inputs, Reading};
use faults::Findings;
use layers::Merged;
use path::{Path, Segment};
use raw::Raw;
use schema::Shape;

pub use address::Address;
pub use choices::{
    Affinity, Dialect, GenAiNames, HttpVersions, KvDtype, LogFormat, Mode, OnUnparsable, OtlpProtocol,
};
pub use documents::{Included, has_cases, is_policies, policies_of};
pub use faults::{Fault, Faults};
pub use hosts::Hosts;
pub use include::is_cases;
pub use restart::needs_restart;
pub use scalar::Lifetime;
pub use schema::schema;
pub use secret::Secret;
pub use valid::{
    Artifacts, Checkpoints, Config, Cors, Device, Ejection, EngineContext, EngineUpstream, Explain,
    HealthCheck, HttpUpstream, Keep, Key, Limits, Listen, Log, Match, Memory, ModelPaths, Otlp, Retries,
    Route, Runtime, Telemetry, Timeouts, Tokenizer, Upstream,
};
pub use watch::{Change, Reloads, Watch};

/// Where a configuration comes from; the later wins: file, environment, overrides.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The YAML file.
    pub file: PathBuf,
    /// Environment; `PLIMSOLL__SECTION__KEY` variables override the file, others fill its `${NAME}`s.
    pub environment: BTreeMap<String, String>,
    /// `path=value` overrides of the command line, such as `routes.default.mode=shadow`.
    pub overrides: Vec<String>,
    /// Where relative paths of the configuration start: the working directory.
    pub directory: PathBuf,
}

/// A configuration that was found valid.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the proxy works by.
    pub config: Config,
    /// The merged configuration with its defaults, secrets masked; for `/config`.
    pub redacted: Value,
    /// Hash of the merged configuration, secrets included; 16 hexadecimal digits.
    pub hash: String,
    /// The files of policies that were included.
    pub included: Vec<Included>,
    /// What is valid but hardly meant.
    pub warnings: Vec<Fault>,
}

impl Config {
    /// Reads, merges and checks the sources.
    ///
    /// # Errors
    /// All faults there are, each with its file and path.
    pub fn load(sources: &Sources) -> Result<Loaded, Faults> {
        let text = bounds::read(&sources.file).map_err(|error| unreadable(sources, &error))?;
        Self::parse(&text, sources)
    }

    /// As [`Config::load`], of a text that stands for the file's.
    ///
    /// # Errors
    /// All faults there are, each with its file and path.
    pub fn parse(text: &str, sources: &Sources) -> Result<Loaded, Faults> {
        Self::read(text, sources, &mut Inputs::default())
    }

    /// As [`Config::parse`], and notes what else was read.
    fn read(text: &str, sources: &Sources, inputs: &mut Inputs) -> Result<Loaded, Faults> {
        let file = sources.file.display().to_string();
        inputs.note(&file, text);
        let shape = Shape::new();
        let mut findings = Findings::default();
        let (documents, merged) = match merge(text, sources, &shape, inputs, &mut findings) {
            Ok(both) => both,
            Err(fault) => return Err(Faults { file, faults: vec![fault] }),
        };
        shape.check(&merged.tree, &mut findings);
        let raw = raw_of(&merged.tree, &mut findings);
        let config = raw
            .as_ref()
            .and_then(|raw| Check { findings: &mut findings, sources, tree: &merged.tree }.config(raw));
        let found = findings.faults.iter_mut().chain(&mut findings.warnings);
        found.for_each(|fault| merged.name_origin(&documents, fault));
        match (config, raw) {
            (Some(config), Some(raw)) if findings.faults.is_empty() => Ok(Loaded {
                config,
                redacted: serde_json::to_value(&raw).unwrap_or_default(),
                hash: hash(&merged.tree),
                included: documents.included,
                warnings: findings.warnings,
            }),
            _ => Err(findings.into_faults(file)),
        }
    }
}

fn unreadable(sources: &Sources, error: &std::io::Error) -> Faults {
    let file = sources.file.display().to_string();
    let fault = Fault::new(Path::default(), format!("cannot be read: {error}")).in_file(&file);
    let fault = fault.hint("`--config FILE` names another");
    // What is no text has been read.
    let fault = if error.kind() == std::io::ErrorKind::InvalidData { fault } else { fault.unread() };
    Faults { file, faults: vec![fault] }
}

/// The files as one tree, with what variables and overrides put over it.
fn merge(
    text: &str,
    sources: &Sources,
    shape: &Shape,
    inputs: &mut Inputs,
    findings: &mut Findings,
) -> Result<(Documents, Merged), Fault> {
    let mut documents = Documents::of(&sources.file, text)?;
    // What is included may be set by a variable or an override, too; its faults are told by the second pass.
    let first = layers::merge(&documents.tree, sources, shape, &mut Findings::default())?;
    let patterns = first.tree.get("include").and_then(Value::as_array).into_iter().flatten();
    let patterns: Vec<String> = patterns.filter_map(Value::as_str).map(str::to_owned).collect();
    if patterns.is_empty() {
        let merged = layers::merge(&documents.tree, sources, shape, findings)?;
        return Ok((documents, merged));
    }
    documents.include(&patterns, &mut Reading { sources, inputs, findings });
    let merged = layers::merge(&documents.tree, sources, shape, findings)?;
    Ok((documents, merged))
}

/// The raw types of what is sound in the tree: what is at fault is left out, so that the rest is checked too.
fn raw_of(tree: &Value, findings: &mut Findings) -> Option<Raw> {
    let mut sound = tree.clone();
    findings.faults.iter().for_each(|fault| leave_out(&mut sound, fault.at()));
    let raw = serde_json::from_value(sound).map_err(|error| Fault::new(Path::default(), error.to_string()));
    findings.take(raw)
}

fn leave_out(tree: &mut Value, path: &Path) {
    let Some((parent, last)) = path.split_last() else {
        *tree = Value::Object(serde_json::Map::new());
        return;
    };
    match (parent.find_mut(tree), last) {
        (Some(Value::Object(map)), Segment::Key(key)) => drop(map.remove(key)),
        // Routes keep their numbers.
        (Some(Value::Array(items)), Segment::Index(index)) if parent == Path::of(&["routes"]) => {
            if let Some(item) = items.get_mut(*index) {
                *item = Value::Object(serde_json::Map::new());
            }
        }
        (Some(Value::Array(_)), _) => leave_out(tree, &parent),
        _ => {}
    }
}

/// Sixteen hexadecimal digits of the tree's hash.
fn hash(tree: &Value) -> String {
    blake3::hash(sorted(tree).to_string().as_bytes()).to_hex()[..16].to_owned()
}

/// The tree with its keys in order: the `config` crate's maps have none.
fn sorted(tree: &Value) -> Value {
    match tree {
        Value::Object(map) => {
            let ordered: BTreeMap<&String, Value> =
                map.iter().map(|(key, value)| (key, sorted(value))).collect();
            ordered.into_iter().map(|(key, value)| (key.clone(), value)).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod explained_tests;
#[cfg(test)]
mod include_tests;
#[cfg(test)]
mod shipped_tests;
#[cfg(test)]
mod tests;
