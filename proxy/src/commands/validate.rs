//! `plimsoll validate`

use std::collections::BTreeMap;
use std::process::ExitCode;

use plimsoll_engine::text::{Certificate, Divergence, Reasoning, Stability, Text, TextError};
use plimsoll_proxy::config::{Config, Included, Loaded, schema};
use serde_json::{Value, json};

use super::route::tokenizer_of;
use super::{FAULTS, Files, code, report, say};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Print the JSON schema of the configuration instead
    #[arg(long)]
    schema: bool,
}

/// What the chat template of each upstream that has a model folder does.
type Templates = BTreeMap<String, Result<Option<Certificate>, TextError>>;

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.schema {
        say(serde_json::to_string_pretty(&schema())?);
        return Ok(ExitCode::SUCCESS);
    }
    let loaded = match Config::load(&args.files.sources()?) {
        Ok(loaded) => loaded,
        Err(faults) if args.json => {
            say(serde_json::to_string_pretty(&json!({"valid": false, "faults": faults}))?);
            return Ok(code(&faults));
        }
        Err(faults) => return Ok(report(&faults)),
    };
    let templates = certify(&loaded.config);
    if args.json {
        say(serde_json::to_string_pretty(&to_json(&loaded, &templates))?);
    } else {
        print(&loaded, &templates);
    }
    let good = templates.values().all(Result::is_ok);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(FAULTS) })
}

fn certify(config: &Config) -> Templates {
    let folders =
        config.upstreams.iter().filter_map(|(name, upstream)| Some((name, tokenizer_of(upstream)?)));
    let certify = |folder| Text::load(folder).map(|text| text.certificate());
    folders.map(|(name, folder)| (name.clone(), certify(folder))).collect()
}

fn to_json(loaded: &Loaded, templates: &Templates) -> Value {
    let all: BTreeMap<_, _> = templates
        .iter()
        .map(|(name, template)| {
            let fault = |error: &TextError| json!({"error": error.to_string()});
            (name, template.as_ref().map_or_else(fault, |certificate| json!(certificate)))
        })
        .collect();
    json!({
        "valid": templates.values().all(Result::is_ok), "hash": loaded.hash, "warnings": loaded.warnings,
        "config": loaded.redacted, "included": loaded.included, "templates": all,
    })
}

fn print(loaded: &Loaded, templates: &Templates) {
    for warning in &loaded.warnings {
        say(format_args!("warning: {warning}"));
    }
    for Included { file, policies } in &loaded.included {
        say(format_args!("included {file}: {}", policies.join(", ")));
    }
    for (name, template) in templates {
        match template {
            Ok(Some(certificate)) => print_certificate(name, certificate),
            Ok(None) => say(format_args!("template of {name}: none; it serves /v1/completions alone")),
            Err(error) => say(format_args!("fault: upstreams.{name}: {error}")),
        }
    }
    let config = &loaded.config;
    say(format_args!(
        "{}: {} routes, {} upstreams, {} policies (hash {})",
        if templates.values().all(Result::is_ok) { "valid" } else { "not valid" },
        config.routes.len(),
        config.upstreams.len(),
        config.policies.len(),
        loaded.hash
    ));
}

fn print_certificate(name: &str, certificate: &Certificate) {
    let stable = if certificate.stable { "stable" } else { "NOT stable" };
    let date = if certificate.date.is_some() { "writes the date" } else { "no date" };
    let reasoning = match certificate.reasoning {
        Reasoning::Ignored => "ignores earlier reasoning",
        Reasoning::Kept => "keeps earlier reasoning",
        Reasoning::Dropped => "drops earlier reasoning",
    };
    say(format_args!("template of {name}: prefix {stable}, {date}, {reasoning}"));
    for shape in &certificate.shapes {
        let both = [
            ("", &shape.without_generation_prompt),
            (" with the generation prompt", &shape.with_generation_prompt),
        ];
        let mut refused = None;
        for (how, stability) in both {
            match stability {
                Stability::Stable => {}
                Stability::Refused { reason } => refused = Some(reason),
                Stability::Diverges(found) => {
                    say(format_args!("  {}{how}: request {} {}", shape.name, found.request, parts(found)));
                }
            }
        }
        if let Some(reason) = refused {
            say(format_args!("  {}: not taken by the template: {reason}", shape.name));
        }
    }
    if let Some(date) = &certificate.date {
        say(format_args!("  date: another day's prompt {}", parts(date)));
    }
}

fn parts(found: &Divergence) -> String {
    let Divergence { token, of, before, after, .. } = found;
    format!("parts at token {token} of {of}: {before:?}, then {after:?}")
}
