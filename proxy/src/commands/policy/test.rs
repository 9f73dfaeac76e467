//! `plimsoll policy test`

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use plimsoll_policies::config::{PolicyConfig, Step, resolve};
use plimsoll_policies::{Chain, Context, Limits};
use plimsoll_proxy::assemble;
use plimsoll_proxy::cases::{self, Case, Checked, Policy};
use plimsoll_proxy::config::{self, Config};
use plimsoll_proxy::count::Counter;
use plimsoll_proxy::explain;
use serde_json::{Value, json};

use crate::commands::route::{chosen, counter, estimate, policies};
use crate::commands::{self, FAULTS, report, say};

/// How files of cases end.
const SUFFIX: &str = ".test.yaml";
/// The name of a policy that a case writes itself.
const INLINE: &str = "the case's own";

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: commands::Files,
    /// Files of cases, or folders that are searched for `*.test.yaml` and for files of policies with their `cases`
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The route whose upstream counts [default: the last one, which takes everything]
    #[arg(long)]
    route: Option<String>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = if args.files.exist() {
        match Config::load(&args.files.sources()?) {
            Ok(loaded) => Some(loaded.config),
            Err(faults) => return Ok(report(&faults)),
        }
    } else {
        None
    };
    let files = files(&args.paths)?;
    let beside = match config::policies_of(&files.policies) {
        Ok(policies) => policies,
        Err(faults) => return Ok(report(&faults)),
    };
    // A folder's own policies, whether the configuration includes them or not.
    let mut known = policies(config.as_ref());
    known.extend(beside);
    let mut bench = Bench {
        config: config.as_ref(),
        route: args.route.as_deref(),
        policies: known,
        counters: HashMap::new(),
    };
    let mut results = Vec::new();
    for (file, text) in files.cases {
        let name = file.display();
        let cases = cases::read(&text).map_err(|error| anyhow::anyhow!("`{name}`: {error}"))?;
        for case in cases {
            let place = || format!("`{name}`, case `{}`", case.name);
            let checked = bench.run(&case, &file).with_context(place)?;
            results.push(Outcome { file: file.clone(), case: case.name, checked });
        }
    }
    print(args.json, &results)
}

struct Outcome {
    file: PathBuf,
    case: String,
    checked: Checked,
}

/// What was found below the paths, each file with its text.
#[derive(Default)]
struct Files {
    cases: Vec<(PathBuf, String)>,
    policies: Vec<(String, String)>,
}

/// The files below these paths, in order.
fn files(paths: &[PathBuf]) -> anyhow::Result<Files> {
    let mut found = Files::default();
    for path in paths {
        let mut below = Vec::new();
        search(path, true, &mut below).with_context(|| format!("`{}` cannot be read", path.display()))?;
        below.sort();
        let before = found.cases.len();
        for file in below {
            let named = file == *path;
            let text = std::fs::read_to_string(&file);
            let text = text.with_context(|| format!("`{}` cannot be read", file.display()))?;
            let name = file.display().to_string();
            if config::is_policies(&name, &text) {
                found.policies.push((name, text.clone()));
                if config::has_cases(&text) {
                    found.cases.push((file, text));
                }
            } else if named || config::is_cases(&name) {
                found.cases.push((file, text));
            }
        }
        if found.cases.len() == before {
            bail!("no `*{SUFFIX}` below `{}`, and no file of policies with `cases`", path.display());
        }
    }
    Ok(found)
}

/// Every YAML file; what is one of ours is told by its content.
fn search(path: &Path, named: bool, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    // A link to a folder is followed where it is named, not where it is found: a ring of them has no end.
    let is_folder = if named { path.is_dir() } else { path.symlink_metadata()?.is_dir() };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if is_folder {
        // The versions of a Kubernetes volume stand in such folders, and are linked to.
        if named || !name.starts_with('.') {
            for entry in path.read_dir()? {
                search(&entry?.path(), false, found)?;
            }
        }
    } else if named
        || !name.starts_with('.') && [".yaml", ".yml"].iter().any(|end| name.ends_with(end)) && path.is_file()
    {
        found.push(path.to_owned());
    }
    Ok(())
}

/// What the cases of a run share.
struct Bench<'a> {
    config: Option<&'a Config>,
    route: Option<&'a str>,
    /// Of the configuration, and of the files beside the cases.
    policies: BTreeMap<String, PolicyConfig>,
    /// By tokenizer folder, or by model name where the route counts.
    counters: HashMap<(Option<PathBuf>, Option<String>), Counter>,
}

impl Bench<'_> {
    fn run(&mut self, case: &Case, file: &Path) -> anyhow::Result<Checked> {
        let beside = |path: &PathBuf| file.parent().unwrap_or(Path::new(".")).join(path);
        let text = match case.given.file.as_ref().map(beside) {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(&path);
                Some(text.with_context(|| format!("`{}` cannot be read", path.display()))?.into())
            }
        };
        let given = case.given.request(text).context("`given` is not a chat request")?;
        let counter = self.counter(case.tokenizer.as_ref().map(beside), explain::model(&given.to_json()))?;
        let (name, steps) = self.steps(&case.policy)?;
        let context = Context {
            limits: Limits::tokens(case.window),
            counter: counter.as_dyn(),
            summaries: &explain::NONE,
        };
        let outcome = explain::apply(&Chain::build(name, &steps), &given, &context);
        Ok(case.want.check(&outcome))
    }

    fn steps(&self, policy: &Policy) -> anyhow::Result<(String, Vec<Step>)> {
        match policy {
            Policy::Named(name) => Ok((name.clone(), resolve(name, &self.policies)?)),
            Policy::Inline(policy) => {
                let mut all = self.policies.clone();
                all.insert(INLINE.to_owned(), policy.clone());
                Ok((INLINE.to_owned(), resolve(INLINE, &all)?))
            }
        }
    }

    fn counter(&mut self, folder: Option<PathBuf>, model: Option<String>) -> anyhow::Result<Counter> {
        let key = (folder, model);
        if let Some(known) = self.counters.get(&key) {
            return Ok(known.clone());
        }
        let (folder, model) = (key.0.as_deref(), key.1.as_deref());
        let counter = match (folder, self.config) {
            (Some(folder), _) => Counter::Exact(assemble::exact("tokenizer", folder)?),
            (None, Some(config)) => counter(config, chosen(config, self.route)?, model)?,
            (None, None) => estimate(model),
        };
        self.counters.insert(key, counter.clone());
        Ok(counter)
    }
}

fn print(as_json: bool, results: &[Outcome]) -> anyhow::Result<ExitCode> {
    let failed = results.iter().filter(|result| !result.checked.passed()).count();
    if as_json {
        let cases: Vec<Value> = results.iter().map(to_json).collect();
        let all = json!({"passed": results.len() - failed, "failed": failed, "cases": cases});
        say(serde_json::to_string_pretty(&all)?);
    } else {
        for result in results {
            let verdict = if result.checked.passed() { "ok" } else { "FAILED" };
            say(format_args!("{verdict:6} {}: {}", result.file.display(), result.case));
            if !result.checked.passed() {
                say(result.checked.diff());
            }
        }
        say(format_args!("{} cases: {} passed, {failed} failed", results.len(), results.len() - failed));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAULTS) })
}

fn to_json(result: &Outcome) -> Value {
    let Outcome { file, case, checked } = result;
    let passed = checked.passed();
    json!({"file": file, "case": case, "passed": passed, "diff": (!passed).then(|| checked.diff())})
}
