use super::*;

use plimsoll_policies::{Chain, Context, Limits, resolve};

use crate::count::Estimate;
use crate::explain;

const CASE: &str = r"
- name: a question passes
  policy: agent
  window: 2048
  given:
    - { role: user, content: What is the KV cache? }
  want:
";

fn checked(want: &str) -> Checked {
    let cases = read(&format!("{CASE}    {want}\n")).unwrap();
    let steps = resolve("agent", &BTreeMap::new()).unwrap();
    let counter = Estimate::new("o200k_base");
    let context =
        Context { limits: Limits::tokens(cases[0].window), counter: &counter, summaries: &explain::NONE };
    let given = cases[0].given.request(None).unwrap();
    cases[0].want.check(&explain::apply(&Chain::build("agent", &steps), &given, &context))
}

#[test]
fn what_came_is_what_was_wanted() {
    for want in [
        "actions: {}",
        "tokens_after: { max: 100 }",
        "messages: [{ content: What is the KV cache?, role: user }]",
        "{ contains: [KV cache], lacks: [summary] }",
    ] {
        let checked = checked(want);
        assert!(checked.passed(), "{want}:\n{}", checked.diff());
    }
}

#[test]
fn what_differs_is_shown() {
    for (want, lines) in [
        ("actions: { cap_tool_output: 1 }", vec!["-    \"cap_tool_output\": 1"]),
        ("tokens_after: 7", vec!["-  \"tokens_after\": 7", "+  \"tokens_after\": 13"]),
        ("messages: [{ role: user, content: Why? }]", vec!["-      \"content\": \"Why?\""]),
        ("contains: [ORD-1]", vec!["-    \"ORD-1\""]),
        ("lacks: [KV]", vec!["-    \"KV\""]),
        ("refused: true", vec!["-  \"refused\": true", "+  \"refused\": false"]),
    ] {
        let checked = checked(want);
        let diff = checked.diff();
        assert!(!checked.passed() && lines.iter().all(|line| diff.contains(line)), "{want}:\n{diff}");
    }
}

#[test]
fn members_replace_those_of_the_file() {
    let given: Given = serde_json::from_value(json!({"file": "x.json", "max_tokens": 5})).unwrap();
    let text = r#"{"messages":[{"role":"user","content":"u"}],"max_tokens":900}"#;
    let request = given.request(Some(text.into())).unwrap();
    assert_eq!((request.output_limit(), request.messages().len()), (Some(5), 1));
}

#[test]
fn a_bad_case_is_told_with_its_place() {
    for (text, part) in [
        (format!("{CASE}    action: {{}}"), "action"),
        (format!("{CASE}    actions: null"), "wants nothing"),
        (CASE.replace("policy: agent", "policy: [trim]") + "    refused: true", "trim"),
        (CASE.replace("policy: agent", "policy: { step: [] }") + "    refused: true", "`step`"),
        (CASE.replace("    - { role: user", "    xyz: { role: user") + "    refused: true", "neither"),
        (format!("{CASE}    tokens_after: few"), "`{ max: TOKENS }`"),
        ("- name: [".to_owned(), "line 1"),
    ] {
        let told = read(&text).unwrap_err();
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
}
