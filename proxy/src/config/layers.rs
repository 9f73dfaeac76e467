//! The layers, merged by the `config` crate: file < environment < overrides.
//!
//! That crate splits keys at dots, folds their case and guesses types from texts. A model pattern has
//! dots, a header's name has case and a key of digits is a text; so the sources here are our own:
//! the file's tree goes in as it stands, and an override finds its place by the tree and the schema,
//! and its type by the schema.

use std::collections::BTreeMap;

use config::builder::DefaultState;
use config::{ConfigBuilder, ConfigError, FileFormat, Format, Map, Source, Value as Node, ValueKind};
use serde::Deserialize;
use serde_json::Value;
use yaml_rust2::ScanError;

use super::Sources;
use super::bounds;
use super::documents::Documents;
use super::faults::{Fault, Findings};
use super::interpolate::interpolate;
use super::path::{Path, Segment};
use super::schema::Shape;

/// Prefix of variables that override the file.
const PREFIX: &str = "PLIMSOLL__";

/// The layers as one tree.
pub(super) struct Merged {
    /// The tree.
    pub(super) tree: Value,
    /// What set the values that do not come from the file.
    origins: Vec<(Path, String)>,
}

impl Merged {
    /// Names what set a value that is at fault: a variable or an override, else a file.
    pub(super) fn name_origin(&self, documents: &Documents, fault: &mut Fault) {
        let origin = self.origins.iter().rfind(|(path, _)| path.holds(fault.at()) || fault.at() == path);
        match origin {
            Some((_, origin)) => fault.message.push_str(&format!(" (set by `{origin}`)")),
            None => documents.locate(fault),
        }
    }
}

/// Merges the layers over the files' tree.
///
/// # Errors
/// The fault that leaves no tree at all. Others go to `findings`.
pub(super) fn merge(
    tree: &Map<String, Node>,
    sources: &Sources,
    shape: &Shape,
    findings: &mut Findings,
) -> Result<Merged, Fault> {
    let mut layers = Layers {
        builder: config::Config::builder().add_source(File(tree.clone())),
        origins: Vec::new(),
        shape,
        findings,
    };
    let tree = layers.tree()?;
    layers.fill_in(&tree, &sources.environment);
    layers.environment(&sources.environment)?;
    layers.overrides(&sources.overrides, &sources.environment)?;
    Ok(Merged { tree: layers.tree()?, origins: layers.origins })
}

/// A file's tree.
///
/// # Errors
/// The text is not YAML, no map, or more than is borne.
pub(super) fn parse(text: &str) -> Result<Map<String, Node>, Fault> {
    bounds::check(text)?;
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Map::new());
    }
    FileFormat::Yaml.parse(None, text).map_err(|cause| not_yaml(&*cause))
}

fn not_yaml(cause: &(dyn std::error::Error + 'static)) -> Fault {
    match cause.downcast_ref::<Box<ConfigError>>().map(|error| &**error) {
        Some(ConfigError::Type { .. }) => {
            Fault::new(Path::default(), "the file's root must be a map of options, such as `routes: [...]`")
        }
        // A key that stands twice is shown as the parser's own type.
        _ => Fault::new(
            Path::default(),
            format!("not valid YAML: {cause}").replace("String(\"", "`").replace("\"):", "`:"),
        )
        .on_line(
            cause
                .downcast_ref::<ScanError>()
                .map(|error| u32::try_from(error.marker().line()).unwrap_or(u32::MAX)),
        )
        .hint("indent by spaces; put texts with `: `, `#` or a leading `*` in quotes"),
    }
}

/// A file's tree as JSON.
pub(super) fn tree(tree: &Map<String, Node>) -> Value {
    let merged = config::Config::builder().add_source(File(tree.clone())).build();
    merged.and_then(config::Config::try_deserialize).unwrap_or_default()
}

struct Layers<'a> {
    builder: ConfigBuilder<DefaultState>,
    origins: Vec<(Path, String)>,
    shape: &'a Shape,
    findings: &'a mut Findings,
}

impl Layers<'_> {
    fn tree(&self) -> Result<Value, Fault> {
        let merged = self.builder.build_cloned().and_then(config::Config::try_deserialize);
        merged.map_err(|error| Fault::new(Path::default(), error.to_string()))
    }

    fn add(&mut self, path: Path, value: Value) {
        let node = Node::deserialize(value).unwrap_or_else(|_| nil());
        let builder = std::mem::take(&mut self.builder);
        self.builder = builder.add_source(Assignment { path, node });
    }

    /// Fills `${NAME}` in, and gives the value the type that its place asks.
    fn fill_in(&mut self, tree: &Value, environment: &BTreeMap<String, String>) {
        for (path, text) in texts(tree) {
            match interpolate(text, environment) {
                Ok(None) => {}
                Ok(Some(filled)) => {
                    let value = typed(&filled, &self.shape.types(&path));
                    self.add(path, value);
                }
                Err(unfilled) => {
                    let fault = Fault::new(path, unfilled.to_string()).hint(unfilled.hint());
                    self.findings.fault(fault);
                }
            }
        }
    }

    fn environment(&mut self, environment: &BTreeMap<String, String>) -> Result<(), Fault> {
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let keys = rest.split("__").map(|key| Segment::Key(key.to_lowercase())).collect();
            self.assign(&Path(keys), name, value)?;
        }
        Ok(())
    }

    fn overrides(&mut self, given: &[String], environment: &BTreeMap<String, String>) -> Result<(), Fault> {
        for text in given {
            match read_override(text, environment) {
                Ok((path, value)) => self.assign(&path, text.split('=').next().unwrap_or(text), &value)?,
                Err(why) => self.findings.fault(
                    Fault::new(Path::of(&[text.split('=').next().unwrap_or(text)]), why)
                        .outside()
                        .hint("an override is `path=value`, such as `routes.default.mode=shadow`"),
                ),
            }
        }
        Ok(())
    }

    fn assign(&mut self, written: &Path, origin: &str, value: &str) -> Result<(), Fault> {
        match place(written, &self.tree()?, self.shape) {
            Ok(path) => {
                let value = typed(value, &self.shape.types(&path));
                self.origins.push((path.clone(), origin.to_owned()));
                self.add(path, value);
            }
            Err(why) => {
                let fault = Fault::new(written.clone(), format!("{why} (set by `{origin}`)")).outside();
                self.findings.fault(fault);
            }
        }
        Ok(())
    }
}

fn read_override(text: &str, environment: &BTreeMap<String, String>) -> Result<(Path, String), String> {
    let (path, value) = text.split_once('=').ok_or("has no `=`")?;
    let filled = interpolate(value, environment).map_err(|unfilled| unfilled.to_string())?;
    Ok((Path::parse(path.trim())?, filled.unwrap_or_else(|| value.to_owned())))
}

/// All texts of a tree.
fn texts(tree: &Value) -> Vec<(Path, &str)> {
    let mut found = Vec::new();
    let mut open = vec![(Path::default(), tree)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::String(text) => found.push((path, text.as_str())),
            Value::Array(items) => {
                open.extend(items.iter().enumerate().map(|(index, item)| (path.index(index), item)));
            }
            Value::Object(map) => open.extend(map.iter().map(|(key, item)| (path.key(key), item))),
            _ => {}
        }
    }
    found
}

/// Where an override belongs: keys are compared without case and punctuation, elements of a list are
/// found by their number or their `name`.
fn place(written: &Path, tree: &Value, shape: &Shape) -> Result<Path, String> {
    let mut path = Path::default();
    let mut value = Some(tree);
    for segment in &written.0 {
        let types = shape.types(&path);
        let found = match value {
            Some(Value::Array(items)) => element(items, segment)?,
            None | Some(Value::Null) if types.iter().any(|kind| kind == "array") => element(&[], segment)?,
            other => key(other, segment, &shape.keys(&path))?,
        };
        value = value.and_then(|value| match &found {
            Segment::Index(index) => value.get(index),
            Segment::Key(key) => value.get(key),
        });
        path.0.push(found);
    }
    Ok(path)
}

fn element(items: &[Value], segment: &Segment) -> Result<Segment, String> {
    let index = match segment {
        Segment::Index(index) => *index,
        Segment::Key(key) => match key.parse() {
            Ok(index) => index,
            Err(_) => named(items, key).ok_or_else(|| format!("the list has no element named `{key}`"))?,
        },
    };
    // One past the end adds an element.
    if index <= items.len() {
        Ok(Segment::Index(index))
    } else {
        Err(format!("the list has {} elements, there is no [{index}]", items.len()))
    }
}

fn named(items: &[Value], name: &str) -> Option<usize> {
    let is_it = |item: &Value| item.get("name").and_then(Value::as_str).is_some_and(|own| alike(own, name));
    items.iter().position(is_it)
}

fn key(value: Option<&Value>, segment: &Segment, known: &[&str]) -> Result<Segment, String> {
    let Segment::Key(written) = segment else { return Err("is not a list".to_owned()) };
    if written.is_empty() {
        return Err("a key is missing".to_owned());
    }
    let present = value.and_then(Value::as_object);
    let exact = present.is_some_and(|map| map.contains_key(written)) || known.contains(&written.as_str());
    let mut keys =
        present.into_iter().flat_map(|map| map.keys().map(String::as_str)).chain(known.iter().copied());
    let found = if exact { None } else { keys.find(|key| alike(key, written)) };
    Ok(Segment::Key(found.unwrap_or(written).to_owned()))
}

/// Whether two keys are the same but for case and punctuation, which variables' names lack.
fn alike(one: &str, other: &str) -> bool {
    let fold = |c: char| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    one.chars().map(fold).eq(other.chars().map(fold))
}

/// The text as a value of the type that its place asks; a text where it fits none.
fn typed(text: &str, types: &[String]) -> Value {
    let asks = |kind: &str| types.iter().any(|asked| asked == kind);
    let trimmed = text.trim();
    if asks("boolean")
        && let Ok(value) = trimmed.parse::<bool>()
    {
        return Value::Bool(value);
    }
    if (asks("integer") || asks("number"))
        && let Ok(value) = trimmed.parse::<i64>()
    {
        return value.into();
    }
    if asks("number")
        && let Ok(value) = trimmed.parse::<f64>()
    {
        return value.into();
    }
    if asks("null") && trimmed == "null" {
        return Value::Null;
    }
    if asks("array") && trimmed.starts_with('[') || asks("object") && trimmed.starts_with('{') {
        return flow(trimmed).unwrap_or_else(|| text.into());
    }
    text.into()
}

/// A list or a map written in one line.
fn flow(text: &str) -> Option<Value> {
    let mut map = FileFormat::Yaml.parse(None, &format!("value: {text}")).ok()?;
    Value::deserialize(map.remove("value")?).ok()
}

/// The file's tree.
#[derive(Clone, Debug)]
struct File(Map<String, Node>);

impl Source for File {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Node>, ConfigError> {
        Ok(self.0.clone())
    }

    // The default would take a key with a dot for a path.
    fn collect_to(&self, cache: &mut Node) -> Result<(), ConfigError> {
        *cache = Node::new(None, ValueKind::Table(self.0.clone()));
        Ok(())
    }
}

/// One value at its place.
#[derive(Clone, Debug)]
struct Assignment {
    path: Path,
    node: Node,
}

impl Source for Assignment {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Node>, ConfigError> {
        let mut root = Node::new(None, ValueKind::Table(Map::new()));
        self.collect_to(&mut root)?;
        root.into_table()
    }

    fn collect_to(&self, cache: &mut Node) -> Result<(), ConfigError> {
        *self.path.0.iter().fold(cache, child) = self.node.clone();
        Ok(())
    }
}

/// The child at a segment, made where it is not there.
fn child<'a>(node: &'a mut Node, segment: &Segment) -> &'a mut Node {
    match segment {
        Segment::Key(key) => {
            if !matches!(node.kind, ValueKind::Table(_)) {
                node.kind = ValueKind::Table(Map::new());
            }
            match node.kind {
                ValueKind::Table(ref mut map) => map.entry(key.clone()).or_insert_with(nil),
                _ => node,
            }
        }
        Segment::Index(index) => {
            if !matches!(node.kind, ValueKind::Array(_)) {
                node.kind = ValueKind::Array(Vec::new());
            }
            match node.kind {
                ValueKind::Array(ref mut items) => {
                    items.resize_with(items.len().max(index + 1), nil);
                    &mut items[*index]
                }
                _ => node,
            }
        }
    }
}

fn nil() -> Node {
    Node::new(None, ValueKind::Nil)
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
