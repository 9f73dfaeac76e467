//! The chart's README: its table of values is made from the comments in `values.yaml`.

use std::fs;

use serde_json::Value;

use super::{chart, documents, matches_golden};

const BEGIN: &str = "<!-- values: generated from values.yaml -->\n";
const END: &str = "<!-- end of values -->\n";

/// A default that is longer stands in `values.yaml` alone.
const LONGEST: usize = 60;

/// A value that a comment describes.
struct Documented {
    path: Vec<String>,
    text: String,
}

#[test]
fn the_values_in_the_readme_are_those_of_the_file() {
    let values = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let defaults = documents(&values).remove(0);
    let rows: String = described(&values).iter().map(|value| row(value, &defaults)).collect();
    let path = chart().join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the table's begin");
    let (_, after) = rest.split_once(END).expect("the table's end");
    let table = format!("| value | default | what it is |\n|---|---|---|\n{rows}");
    matches_golden(&path, &format!("{before}{BEGIN}{table}{END}{after}"));
}

#[test]
fn every_value_is_described() {
    let values = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let described = described(&values);
    let mut missing = Vec::new();
    undescribed(&documents(&values)[0], &mut Vec::new(), &described, &mut missing);
    assert!(missing.is_empty(), "without a `# --` comment: {missing:?}");
    assert!(described.len() > 40, "{}", described.len());
}

/// The keys under a `# --` comment, in order. A described key's own keys are its value.
fn described(values: &str) -> Vec<Documented> {
    let mut found: Vec<Documented> = Vec::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut inside: Option<usize> = None;
    for line in values.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if text.is_empty() || inside.is_some_and(|depth| indent > depth) {
            continue;
        }
        inside = None;
        if let Some(more) = text.strip_prefix('#') {
            let more = more.trim_start();
            match more.strip_prefix("-- ") {
                Some(first) => comment = vec![first],
                None if !comment.is_empty() => comment.push(more),
                None => {}
            }
            continue;
        }
        let Some((key, _)) = text.split_once(':') else { continue };
        path.retain(|(depth, _)| *depth < indent);
        path.push((indent, key.to_owned()));
        if !comment.is_empty() {
            let path = path.iter().map(|(_, key)| key.clone()).collect();
            found.push(Documented { path, text: std::mem::take(&mut comment).join(" ") });
            inside = Some(indent);
        }
    }
    found
}

fn row(value: &Documented, defaults: &Value) -> String {
    let path = value.path.join(".");
    let default = defaults.pointer(&format!("/{}", value.path.join("/")));
    let default = default.unwrap_or_else(|| panic!("`{path}` has no default")).to_string();
    let default = if default.len() > LONGEST { "see values.yaml".to_owned() } else { format!("`{default}`") };
    format!("| `{path}` | {} | {} |\n", default.replace('|', "\\|"), value.text.replace('|', "\\|"))
}

fn undescribed(node: &Value, path: &mut Vec<String>, described: &[Documented], missing: &mut Vec<String>) {
    if described.iter().any(|value| value.path == *path) {
        return;
    }
    match node.as_object() {
        Some(map) if !map.is_empty() => {
            for (key, value) in map {
                path.push(key.clone());
                undescribed(value, path, described, missing);
                path.pop();
            }
        }
        _ => missing.push(path.join(".")),
    }
}
