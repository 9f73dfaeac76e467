//! `plimsoll inject`
//!
//! ```text
//! text -> documents -> workloads -> pod templates, each with the sidecar or without -> text
//! ```
//!
//! What is no workload, and what would not change, is printed byte for byte as it came.

mod documents;
mod workload;
mod pod;
mod record;
mod sidecar;
mod yaml;

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use super::{FAULTS, say};
use sidecar::Settings;

const EXAMPLES: &str = "\
Examples:
  plimsoll inject -f deploy.yaml | kubectl apply -f -
  kustomize build . | plimsoll inject -f - --config-map team-search --memory 2Gi
  plimsoll inject -f deploy.yaml --gpus 1 --image plimsoll:0.1.0-cuda --models-claim models
  plimsoll inject --uninject -f injected.yaml

The sidecar reads `config.yaml` of a ConfigMap and the admin listener's token of a Secret, in the pod's namespace:
  kubectl create configmap plimsoll --from-file=config.yaml
  kubectl create secret generic plimsoll-admin --from-literal=token=\"$(openssl rand -hex 20)\"

Rewritten are Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob, Pod, ReplicationController and what a List
holds of them; all else passes through untouched. A second run changes nothing, or updates the sidecar to other flags.
In a document that changes, comments below its first lines are lost, and anchors are written out.
Kubernetes 1.29 or later: the sidecar is native, an init container with `restartPolicy: Always`.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Manifests, YAML or JSON; `-` is standard input; may be repeated
    #[arg(long = "filename", short = 'f', required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Take out what a former run added, and print the manifests as they were
    #[arg(long)]
    uninject: bool,
    #[command(flatten)]
    settings: Settings,
}

/// What is wrong with a manifest, and where.
#[derive(Debug)]
struct Fault {
    place: String,
    reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// What became of all manifests.
#[derive(Default)]
struct Outcome {
    text: String,
    changed: Vec<String>,
    notes: Vec<String>,
    faults: Vec<Fault>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut outcome = Outcome::default();
    for file in &args.files {
        let (name, text) = read(file)?;
        rewrite(&name, &text, args, &mut outcome);
    }
    for note in &outcome.notes {
        eprintln!("plimsoll: {note}");
    }
    if !outcome.faults.is_empty() {
        outcome.faults.iter().for_each(|fault| eprintln!("plimsoll: {fault}"));
        return Ok(ExitCode::from(FAULTS));
    }
    tell(args, &outcome);
    say(outcome.text.strip_suffix('\n').unwrap_or(&outcome.text));
    Ok(ExitCode::SUCCESS)
}

/// A file's name, as messages say it, and its text.
fn read(file: &Path) -> anyhow::Result<(String, String)> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read as text")?;
        return Ok(("standard input".to_owned(), text));
    }
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("`{}` cannot be read: name a manifest by `--filename`", file.display()))?;
    Ok((file.display().to_string(), text))
}

/// Rewrites the documents of one file.
fn rewrite(name: &str, text: &str, args: &Args, outcome: &mut Outcome) {
    for (index, piece) in documents::split(text).into_iter().enumerate() {
        let place = format!("{name}, document {}", index + 1);
        if !outcome.text.is_empty() && !documents::is_separated(&outcome.text, piece.text) {
            outcome.text.push_str("---\n");
        }
        let document = match documents::parse(&piece) {
            Ok(document) => document,
            Err(reason) => {
                outcome.faults.push(Fault { place, reason });
                continue;
            }
        };
        let before = document.clone();
        let after = each_workload(document, &place, args, outcome);
        if after == before {
            outcome.text.push_str(piece.text);
        } else {
            outcome.text.push_str(&documents::replaced(&piece, &after));
        }
        if !outcome.text.ends_with('\n') {
            outcome.text.push('\n');
        }
    }
}

/// The document with its pods rewritten: itself, or the items of a List.
fn each_workload(mut document: Value, place: &str, args: &Args, outcome: &mut Outcome) -> Value {
    if document["kind"] == "List" && document["apiVersion"] == "v1" {
        let items = document.get_mut("items").and_then(Value::as_array_mut);
        for (index, item) in items.into_iter().flatten().enumerate() {
            *item = each_workload(item.take(), &format!("{place}, item {}", index + 1), args, outcome);
        }
        return document;
    }
    let Some(kind) = workload::kind(&document, &mut |note| outcome.notes.push(format!("{place}: {note}")))
    else {
        return document;
    };
    let name = workload::name(&document);
    let place = format!("{place}, {} `{name}`", kind.name);
    let before = document.clone();
    match one(&mut document, kind, args) {
        Ok(notes) => outcome.notes.extend(notes.into_iter().map(|note| format!("{place}: {note}"))),
        Err(reason) => outcome.faults.push(Fault { place, reason: reason.to_string() }),
    }
    if document != before {
        outcome.changed.push(format!("{} `{name}`", kind.name));
    }
    document
}

/// Rewrites one workload; what should be known of it.
fn one(document: &mut Value, kind: &workload::Kind, args: &Args) -> Result<Vec<String>, pod::Refusal> {
    (kind.check)(document).map_err(pod::Refusal::Shape)?;
    let template = kind.template(document).ok_or(pod::Refusal::NoContainers)?;
    pod::uninject(template)?;
    if args.uninject { Ok(Vec::new()) } else { pod::inject(template, &args.settings) }
}

/// Says on stderr what was done, and what the sidecar will look for.
fn tell(args: &Args, outcome: &Outcome) {
    if outcome.changed.is_empty() {
        eprintln!("plimsoll: nothing to change");
        return;
    }
    let done = if args.uninject { "without the sidecar" } else { "with the sidecar" };
    eprintln!("plimsoll: {done}: {}", outcome.changed.join(", "));
    if !args.uninject {
        eprintln!("plimsoll: {}", args.settings.needs());
    }
}
