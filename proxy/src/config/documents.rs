//! The files of a configuration: the one that is named, and those of policies that it includes.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};

use config::{Map, Value as Node, ValueKind};
use plimsoll_policies::config::PolicyConfig;
use serde_json::Value;

use super::Sources;
use super::bounds;
use super::faults::{Fault, Faults, Findings, near};
use super::include::{Found, Pattern, is_cases};
use super::layers::{self, parse};
use super::lines::line_of;
use super::path::Path;
use super::schema::Shape;

/// Keys that an included file may have. `cases` are for `plimsoll policy test`.
const KEYS: [&str; 2] = ["policies", "cases"];

/// One file's text.
struct Document {
    /// As faults call it.
    name: String,
    text: String,
}

/// A file that the configuration includes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Included {
    /// The file, as the pattern spells it.
    pub file: String,
    /// The policies in it.
    pub policies: Vec<String>,
}

/// All of a configuration's files.
pub(super) struct Documents {
    /// The named one first.
    all: Vec<Document>,
    /// The named one's tree, with the policies of the others.
    pub(super) tree: Map<String, Node>,
    /// Which file a policy stands in, where it is not the named one.
    owners: BTreeMap<String, usize>,
    pub(super) included: Vec<Included>,
}

impl Documents {
    /// Reads the file that is named.
    ///
    /// # Errors
    /// The text is not YAML.
    pub(super) fn of(file: &FilePath, text: &str) -> Result<Self, Fault> {
        let document = Document { name: file.display().to_string(), text: text.to_owned() };
        let tree = parse(text).map_err(|fault| fault.in_file(&document.name))?;
        Ok(Self { all: vec![document], tree, owners: BTreeMap::new(), included: Vec::new() })
    }

    /// Adds the policies of the files that `patterns` name.
    pub(super) fn include(&mut self, patterns: &[String], reading: &mut Reading) {
        let beside = reading.sources.file.parent().unwrap_or(FilePath::new(""));
        for (index, text) in patterns.iter().enumerate() {
            let at = Path::of(&["include"]).index(index);
            let pattern = Pattern { text, beside, directory: &reading.sources.directory };
            match pattern.find(reading.inputs) {
                Err((why, hint)) => reading.findings.fault(Fault::new(at, why).hint(hint)),
                Ok(Found { files, skipped }) if files.is_empty() && skipped.is_empty() => {
                    reading.findings.warn(Fault::new(at, format!("`{text}` matches no file")));
                }
                Ok(Found { files, skipped }) => {
                    for (path, what) in skipped {
                        let message = format!("skips `{}`: it is {what}", path.display());
                        reading.findings.warn(Fault::new(at.clone(), message));
                    }
                    files.iter().for_each(|file| self.add(&at, file, reading));
                }
            }
        }
    }

    fn add(&mut self, at: &Path, file: &FilePath, reading: &mut Reading) {
        let name = file.display().to_string();
        if self.all.iter().any(|known| known.name == name) {
            return;
        }
        let text = match bounds::read(&reading.sources.directory.join(file)) {
            Ok(text) => text,
            // It went between the listing and now.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                reading.inputs.note(&name, &error.to_string());
                let fault = Fault::new(at.clone(), format!("cannot be read: {error}"));
                return reading.findings.faults.push(fault.shown_as("").in_file(&name));
            }
        };
        reading.inputs.note(&name, &text);
        match parse(&text) {
            Ok(tree) => self.take(at, Document { name, text }, tree, reading.findings),
            Err(fault) => reading.findings.faults.push(fault.moved_to(at.clone()).in_file(&name)),
        }
    }

    /// Takes the policies of an included file over.
    fn take(&mut self, at: &Path, document: Document, tree: Map<String, Node>, findings: &mut Findings) {
        // These faults must not touch what stands at the same path of the named file.
        let mut fault = |path: &str, message: String, hint: Option<String>| {
            let line = line_of(&document.text, &Path::of(&[path]));
            let fault = Fault::new(at.clone(), message).shown_as(path).in_file(&document.name);
            findings.faults.push(fault.on_line(line).maybe_hint(hint));
        };
        let mut policies = Map::new();
        let mut keys: Vec<_> = tree.into_iter().collect();
        keys.sort_by(|one, other| one.0.cmp(&other.0));
        for (key, value) in keys {
            match (key.as_str(), value.kind) {
                ("policies", ValueKind::Table(map)) => policies = map,
                ("policies", _) => fault("policies", "expected a map of policies by name".to_owned(), None),
                ("cases", _) => {}
                (key, _) => {
                    let hint = near(key, KEYS).filter(|hint| hint.starts_with("did"));
                    let only = "an included file holds `policies`, and `cases` that test them".to_owned();
                    fault(key, "unknown option".to_owned(), hint.or(Some(only)));
                }
            }
        }
        let mut names: Vec<String> = policies.keys().cloned().collect();
        names.sort_unstable();
        self.included.push(Included { file: document.name.clone(), policies: names });
        self.all.push(document);
        self.merge(at, policies, findings);
    }

    fn merge(&mut self, at: &Path, policies: Map<String, Node>, findings: &mut Findings) {
        let own = self.all.len() - 1;
        let mut named: Vec<_> = policies.into_iter().collect();
        named.sort_by(|one, other| one.0.cmp(&other.0));
        for (name, policy) in named {
            let section = self
                .tree
                .entry("policies".to_owned())
                .or_insert_with(|| Node::new(None, ValueKind::Table(Map::new())));
            // What else it may be is told by the schema.
            let ValueKind::Table(all) = &mut section.kind else { return };
            if all.contains_key(&name) {
                let first = self.owners.get(&name).copied().unwrap_or(0);
                // The first one stays, and is checked.
                findings.faults.push(self.twice(&name, first, own).moved_to(at.clone()));
            } else {
                all.insert(name.clone(), policy);
                self.owners.insert(name, own);
            }
        }
    }

    fn twice(&self, name: &str, first: usize, second: usize) -> Fault {
        let path = Path::of(&["policies", name]);
        let (first, second) = (&self.all[first], &self.all[second]);
        let line = line_of(&first.text, &path).map(|line| format!(":{line}")).unwrap_or_default();
        Fault::new(path.clone(), format!("`{name}` stands in `{}{line}` already", first.name))
            .in_file(&second.name)
            .on_line(line_of(&second.text, &path))
            .hint("names are unique over all files: rename one")
    }

    /// Says in which file and on which line a fault stands, where that is not known yet.
    pub(super) fn locate(&self, fault: &mut Fault) {
        if !fault.is_unplaced() {
            return;
        }
        let owner = fault.at().policy().and_then(|name| self.owners.get(name)).copied().unwrap_or(0);
        let document = &self.all[owner];
        fault.file = Some(document.name.as_str().into());
        fault.line = line_of(&document.text, fault.at());
    }
}

/// What reading files needs.
pub(super) struct Reading<'a> {
    /// Where files are.
    pub(super) sources: &'a Sources,
    /// What was read.
    pub(super) inputs: &'a mut Inputs,
    /// Where faults go.
    pub(super) findings: &'a mut Findings,
}

/// What a configuration was read from.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    contents: blake3::Hasher,
    /// Folders in which a file that comes or goes changes the configuration.
    pub(super) folders: std::collections::BTreeSet<PathBuf>,
}

impl Inputs {
    /// Notes a file's content.
    pub(super) fn note(&mut self, name: &str, content: &str) {
        for part in [name, content] {
            self.contents.update(&(part.len() as u64).to_le_bytes());
            self.contents.update(part.as_bytes());
        }
    }

    /// Another content gives another hash.
    pub(super) fn hash(&self) -> blake3::Hash {
        self.contents.finalize()
    }
}

/// Whether a text is a file of policies, as `include` takes it.
pub fn is_policies(name: &str, text: &str) -> bool {
    let keys = || parse(text).ok().map(|tree| tree.keys().any(|key| KEYS.contains(&key.as_str())));
    !is_cases(name) && keys().unwrap_or(false)
}

/// Whether a file of policies holds cases, too.
pub fn has_cases(text: &str) -> bool {
    let cases = parse(text).ok().and_then(|mut tree| tree.remove("cases"));
    cases.is_some_and(|cases| matches!(cases.kind, ValueKind::Array(cases) if !cases.is_empty()))
}

/// The policies of files that no configuration includes, as `include` would take them.
///
/// # Errors
/// All faults there are, each with its file and path.
pub fn policies_of(files: &[(String, String)]) -> Result<BTreeMap<String, PolicyConfig>, Faults> {
    let mut findings = Findings::default();
    let nothing = Document { name: String::new(), text: String::new() };
    let mut documents =
        Documents { all: vec![nothing], tree: Map::new(), owners: BTreeMap::new(), included: Vec::new() };
    for (name, text) in files {
        let document = Document { name: name.clone(), text: text.clone() };
        match parse(text) {
            Ok(tree) => documents.take(&Path::of(&["include"]), document, tree, &mut findings),
            Err(fault) => findings.faults.push(fault.in_file(name)),
        }
    }
    let tree = layers::tree(&documents.tree);
    let mut shaped = Findings::default();
    Shape::new().check(&tree, &mut shaped);
    // Nothing but policies was asked for.
    shaped.faults.retain(|fault| fault.at().policy().is_some());
    shaped.faults.iter_mut().for_each(|fault| documents.locate(fault));
    findings.faults.extend(shaped.faults);
    let policies = tree.get("policies").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    match serde_json::from_value(policies) {
        Ok(policies) if findings.faults.is_empty() => Ok(policies),
        Ok(_) => Err(findings.into_faults(file_names(files))),
        Err(error) => {
            if findings.faults.is_empty() {
                findings.faults.push(Fault::new(Path::default(), error.to_string()));
            }
            Err(findings.into_faults(file_names(files)))
        }
    }
}

fn file_names(files: &[(String, String)]) -> String {
    files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("`, `")
}
