//! A validator's errors in words: the wrong key by its name, what was expected, and what was meant.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::paths::{Location, LocationSegment};
use serde_json::Value;

use super::super::faults::{Fault, list, near};
use super::super::path::{Path, Segment};
use super::types_of;

/// What one error says; several faults where it names several keys.
pub(super) fn explain(root: &Value, tree: &Value, error: &ValidationError<'_>) -> Vec<Fault> {
    let at = locate(tree, error.instance_path());
    let node = node_of(root, error);
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            unexpected.iter().map(|key| unknown(&at, key, keys_of(node))).collect()
        }
        Kind::Required { property } => vec![missing(&at, property.as_str().unwrap_or_default(), node)],
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            Alternatives { root, tree, at: &at, value: error.instance(), context }.explain()
        }
        Kind::Type { .. } => vec![wrong_type(at, error.instance(), &types_of(node), node)],
        Kind::Constant { expected_value } => {
            vec![no_such_choice(at, error.instance(), &choices([expected_value.as_ref()]))]
        }
        Kind::Enum { options } => {
            vec![no_such_choice(at, error.instance(), &choices(options.as_array().into_iter().flatten()))]
        }
        kind => vec![out_of_range(at, error, kind, node)],
    }
}

fn locate(tree: &Value, location: &Location) -> Path {
    let mut value = Some(tree);
    let mut path = Path::default();
    for segment in location.segments() {
        let text = segment.to_string();
        let next = match (value, &segment) {
            // A key of digits looks like an element's number.
            (Some(Value::Object(_)), _) | (_, LocationSegment::Property(_)) => Segment::Key(text),
            (_, LocationSegment::Index(index)) => Segment::Index(*index),
        };
        value = value.and_then(|value| match &next {
            Segment::Key(key) => value.get(key),
            Segment::Index(index) => value.get(index),
        });
        path.0.push(next);
    }
    path
}

/// The schema node whose keyword failed.
fn node_of<'a>(root: &'a Value, error: &ValidationError<'_>) -> &'a Value {
    let pointer = error.schema_path().as_str();
    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    root.pointer(parent).unwrap_or(&Value::Null)
}

fn keys_of(node: &Value) -> Vec<&str> {
    let properties = node.get("properties").and_then(Value::as_object);
    properties.into_iter().flat_map(|map| map.keys().map(String::as_str)).collect()
}

fn unknown(at: &Path, key: &str, known: Vec<&str>) -> Fault {
    Fault::new(at.key(key), "unknown option").maybe_hint(near(key, known))
}

fn missing(at: &Path, key: &str, node: &Value) -> Fault {
    let description = node.pointer(&format!("/properties/{key}/description")).and_then(Value::as_str);
    Fault::new(at.key(key), "is missing").maybe_hint(description.map(one_line))
}

fn one_line(text: &str) -> String {
    let text = text.trim().trim_end_matches('.').replace('\n', " ");
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_lowercase().to_string()).unwrap_or_default();
    first + letters.as_str()
}

fn wrong_type(at: Path, value: &Value, types: &[String], node: &Value) -> Fault {
    let expected = names(types);
    let fault = match value {
        Value::Null => {
            let map = types.iter().any(|kind| kind == "object");
            let hint = "leave the key out to keep the default";
            Fault::new(at, format!("is empty, expected {expected}")).hint(if map {
                format!("{hint}, or write `{{}}`")
            } else {
                hint.to_owned()
            })
        }
        value if is_secret(node) => Fault::new(at, format!("expected {expected}, got {}", kind(value))),
        value => Fault::new(at, format!("expected {expected}, got {}", shown(value))),
    };
    fault.maybe_hint(example(node))
}

/// `writeOnly` marks credentials.
fn is_secret(node: &Value) -> bool {
    node.get("writeOnly") == Some(&Value::Bool(true))
}

fn example(node: &Value) -> Option<String> {
    let examples = node.get("examples")?.as_array()?;
    let shown: Vec<String> = examples.iter().map(plain).collect();
    Some(format!("for example {}", list(shown.iter().map(String::as_str))))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn names(types: &[String]) -> String {
    let words: Vec<&str> = types.iter().filter(|kind| *kind != "null").map(|kind| name(kind)).collect();
    words.join(" or ")
}

fn name(kind: &str) -> &str {
    match kind {
        "object" => "a map",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        other => other,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool(_) | Value::Number(_) | Value::String(_) => format!("`{}`", plain(value)),
        other => kind(other).to_owned(),
    }
}

fn choices<'a>(values: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    values.into_iter().filter(|value| !value.is_null()).map(plain).collect()
}

fn no_such_choice(at: Path, value: &Value, choices: &[String]) -> Fault {
    let known = list(choices.iter().map(String::as_str));
    let fault = Fault::new(at, format!("expected one of {known}, got {}", shown(value)));
    match value.as_str().and_then(|text| near(text, choices.iter().map(String::as_str))) {
        Some(hint) if hint.starts_with("did") => fault.hint(hint),
        _ => fault,
    }
}

fn out_of_range(at: Path, error: &ValidationError<'_>, kind: &Kind, node: &Value) -> Fault {
    let value = error.instance();
    let got = if is_secret(node) { self::kind(value).to_owned() } else { shown(value) };
    match kind {
        Kind::Minimum { limit } => Fault::new(at, format!("must be at least {limit}, got {got}")),
        Kind::Maximum { limit } => Fault::new(at, format!("must be at most {limit}, got {got}")),
        Kind::ExclusiveMinimum { limit } => Fault::new(at, format!("must be more than {limit}, got {got}")),
        Kind::ExclusiveMaximum { limit } => Fault::new(at, format!("must be less than {limit}, got {got}")),
        Kind::MinLength { .. } | Kind::MinItems { .. } | Kind::MinProperties { .. } => Fault::new(
            at, "is empty",
        )
        .maybe_hint(node.get("description").and_then(Value::as_str).map(one_line).or_else(|| example(node))),
        _ => Fault::new(at, error.masked_with("the value").to_string()),
    }
}

/// A value that fits none of several schemas: told by the one that was meant.
struct Alternatives<'a> {
    root: &'a Value,
    tree: &'a Value,
    at: &'a Path,
    value: &'a Value,
    context: &'a [Vec<ValidationError<'static>>],
}

impl Alternatives<'_> {
    fn explain(&self) -> Vec<Fault> {
        let of_kind: Vec<_> =
            self.context.iter().filter(|branch| !branch.is_empty() && self.is_kind(branch)).collect();
        let inside = of_kind.iter().filter(|branch| branch.iter().all(|error| !self.is_here(error)));
        let meant = inside.min_by_key(|branch| branch.len()).or(if of_kind.len() == 1 {
            of_kind.first()
        } else {
            None
        });
        match meant {
            Some(branch) => branch.iter().flat_map(|error| explain(self.root, self.tree, error)).collect(),
            None if of_kind.is_empty() => vec![self.wrong_kind()],
            None => self.wrong_key(),
        }
    }

    fn is_here(&self, error: &ValidationError<'_>) -> bool {
        locate(self.tree, error.instance_path()) == *self.at
    }

    /// Whether the value is of the kind that a branch describes, whatever is wrong inside.
    fn is_kind(&self, branch: &[ValidationError<'static>]) -> bool {
        branch.iter().filter(|error| self.is_here(error)).all(|error| match error.kind() {
            Kind::Type { .. } | Kind::Constant { .. } | Kind::Enum { .. } => false,
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                context.iter().any(|inner| self.is_kind(inner))
            }
            _ => true,
        })
    }

    /// The errors at this value, those of alternatives inside alternatives included.
    fn leaves<'b>(&self, context: &'b [Vec<ValidationError<'static>>]) -> Vec<&'b ValidationError<'static>> {
        let here = context.iter().flatten().filter(|error| self.is_here(error));
        here.flat_map(|error| match error.kind() {
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => self.leaves(context),
            _ => vec![error],
        })
        .collect()
    }

    /// None of the branches describes a value of this kind.
    fn wrong_kind(&self) -> Fault {
        let errors = self.leaves(self.context);
        let words: Vec<String> = errors
            .iter()
            .flat_map(|error| match error.kind() {
                Kind::Constant { expected_value } => choices([expected_value.as_ref()]),
                Kind::Enum { options } => choices(options.as_array().into_iter().flatten()),
                _ => Vec::new(),
            })
            .collect();
        if !words.is_empty() && !self.value.is_null() && !self.value.is_object() && !self.value.is_array() {
            return no_such_choice(self.at.clone(), self.value, &words);
        }
        let nodes = || errors.iter().map(|error| node_of(self.root, error));
        let mut types: Vec<String> = nodes().flat_map(types_of).collect();
        types.sort_unstable_by(|one, other| other.cmp(one));
        types.dedup();
        if types.is_empty() {
            types.push("string".to_owned());
        }
        let example = nodes().find(|node| node.get("examples").is_some());
        wrong_type(self.at.clone(), self.value, &types, example.unwrap_or(&Value::Null))
    }

    /// Each branch asks for a key of its own, as steps of a policy do.
    fn wrong_key(&self) -> Vec<Fault> {
        let errors = self.context.iter().flatten();
        let known: Vec<&str> = errors.flat_map(|error| keys_of(node_of(self.root, error))).collect();
        let keys: Vec<&str> =
            self.value.as_object().into_iter().flat_map(|map| map.keys().map(String::as_str)).collect();
        let strange: Vec<Fault> = keys
            .iter()
            .filter(|key| !known.contains(key))
            .map(|key| unknown(self.at, key, known.clone()))
            .collect();
        if !strange.is_empty() {
            return strange;
        }
        let fault = Fault::new(self.at.clone(), format!("takes exactly one key, got {}", keys.len()));
        vec![fault.hint(if keys.is_empty() {
            format!("known here: {}", list(known))
        } else {
            EACH.to_owned()
        })]
    }
}

const EACH: &str = "give each key an element of its own: begin its line with `- `";
