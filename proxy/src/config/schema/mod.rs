//! The shape of a configuration: the JSON schema of the raw types, and what it says of a tree.

mod explain;

use jsonschema::Validator;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use serde_json::Value;

use super::faults::Findings;
use super::path::{Path, Segment};
use super::raw::Raw;

/// The JSON schema of `config.yaml`, for editors and for `validate --schema`.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(bound_integers);
    settings.into_generator().into_root_schema_for::<Raw>().to_value()
}

/// `uint32` is a format, which validators ignore; a bound they do not.
fn bound_integers(schema: &mut Schema) {
    let format = schema.get("format").and_then(Value::as_str);
    let maximum = match format {
        Some("uint32") => Some(u64::from(u32::MAX)),
        Some("uint16") => Some(u64::from(u16::MAX)),
        Some("uint8") => Some(u64::from(u8::MAX)),
        _ => None,
    };
    if let Some(maximum) = maximum
        && schema.get("maximum").is_none()
    {
        schema.insert("maximum".to_owned(), maximum.into());
    }
    transform_subschemas(&mut bound_integers, schema);
}

/// The schema, ready to be asked.
pub(super) struct Shape {
    root: Value,
    validator: Validator,
}

impl Shape {
    pub(super) fn new() -> Self {
        let root = schema();
        let validator =
            jsonschema::validator_for(&root).expect("the types give a valid schema. This is a bug.");
        Self { root, validator }
    }

    /// Adds what is wrong with the tree's shape.
    pub(super) fn check(&self, tree: &Value, findings: &mut Findings) {
        let mut faults: Vec<_> = self
            .validator
            .iter_errors(tree)
            .flat_map(|error| explain::explain(&self.root, tree, &error))
            .collect();
        // A fault at a value comes before those below it, which say the same again.
        faults.sort_by(|one, other| one.at().cmp(other.at()));
        faults.into_iter().for_each(|fault| findings.fault(fault));
    }

    /// JSON types that a value at this path may have; empty where the schema does not say.
    pub(super) fn types(&self, path: &Path) -> Vec<String> {
        let mut types: Vec<String> = self.at(path).into_iter().flat_map(types_of).collect();
        types.sort_unstable();
        types.dedup();
        types
    }

    /// Keys that the schema names for a map at this path.
    pub(super) fn keys(&self, path: &Path) -> Vec<&str> {
        let properties = self.at(path).into_iter().filter_map(|node| node.get("properties")?.as_object());
        properties.flat_map(|properties| properties.keys().map(String::as_str)).collect()
    }

    fn at(&self, path: &Path) -> Vec<&Value> {
        path.0.iter().fold(self.expand(&self.root, 0), |nodes, segment| {
            nodes
                .into_iter()
                .filter_map(|node| below(node, segment))
                .flat_map(|node| self.expand(node, 0))
                .collect()
        })
    }

    /// The node and all that it refers to or chooses from.
    fn expand<'a>(&'a self, node: &'a Value, depth: usize) -> Vec<&'a Value> {
        // Types that hold themselves would expand for ever.
        if depth > 8 {
            return Vec::new();
        }
        let referred =
            node.get("$ref").and_then(Value::as_str).and_then(|to| self.root.pointer(to.strip_prefix('#')?));
        let choices =
            ["anyOf", "oneOf", "allOf"].iter().filter_map(|key| node.get(key)?.as_array()).flatten();
        let deeper = referred.into_iter().chain(choices).flat_map(|inner| self.expand(inner, depth + 1));
        std::iter::once(node).chain(deeper).collect()
    }
}

fn below<'a>(node: &'a Value, segment: &Segment) -> Option<&'a Value> {
    match segment {
        Segment::Key(key) => node
            .get("properties")
            .and_then(|known| known.get(key))
            .or_else(|| node.get("additionalProperties")),
        Segment::Index(_) => node.get("items"),
    }
}

/// The types that a schema node names.
fn types_of(node: &Value) -> Vec<String> {
    match node.get("type") {
        Some(Value::String(kind)) => vec![kind.clone()],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
