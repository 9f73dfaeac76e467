use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::path::Path;
use super::super::schema::Shape;
use super::*;

const FILE: &str = "
upstreams:
  my-vLLM.eu: { url: http://a, context: 4096 }
routes:
  - { name: q, match: { model: qwen2.5*, header: { X-Team: a } }, upstream: u }
  - { name: default, upstream: u }
";

fn merged(environment: &[(&str, &str)], overrides: &[&str]) -> (Value, Vec<String>) {
    let sources = Sources {
        file: "c.yaml".into(),
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
        directory: ".".into(),
    };
    let mut findings = Findings::default();
    let merged = merge(&parse(FILE).expect("YAML"), &sources, &Shape::new(), &mut findings).expect("a tree");
    (merged.tree, findings.faults.iter().map(ToString::to_string).collect())
}

fn value(tree: &Value, path: &str) -> Value {
    Path::parse(path).expect("a path").find(tree).cloned().unwrap_or_default()
}

#[test]
fn keys_of_the_file_keep_their_dots_and_their_case() {
    let (tree, faults) = merged(&[], &[]);
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(value(&tree, "upstreams.\"my-vLLM.eu\".context"), json!(4096));
    assert_eq!(value(&tree, "routes[0].match"), json!({"model": "qwen2.5*", "header": {"X-Team": "a"}}));
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let environment = [("PLIMSOLL__LIMITS__REQUESTS", "7"), ("PLIMSOLL__LIMITS__CONNECTIONS", "8")];
    let (tree, faults) = merged(&environment, &["limits.requests=9"]);
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(tree["limits"], json!({"requests": 9, "connections": 8}));
}

/// Variables' names have neither case nor dashes nor dots.
#[test]
fn a_variable_finds_its_key() {
    let environment = [
        ("PLIMSOLL__UPSTREAMS__MY_VLLM_EU__CONTEXT", "8192"),
        ("PLIMSOLL__LISTEN__ADMIN_TOKEN", "123"),
        ("PLIMSOLL__ROUTES__0__MATCH__HEADER__X_TEAM", "b"),
        ("PLIMSOLL__ROUTES__DEFAULT__ALLOW_BYPASS", "true"),
        ("PLIMSOLL__ROUTES__DEFAULT__WINDOW", "4096"),
        ("PLIMSOLL_OTHER", "ignored"),
    ];
    let (tree, faults) = merged(&environment, &[]);
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(value(&tree, "upstreams.\"my-vLLM.eu\".context"), json!(8192));
    assert_eq!(value(&tree, "listen.admin_token"), json!("123"), "a secret stays a text");
    assert_eq!(value(&tree, "routes[0].match.header.X-Team"), json!("b"));
    assert_eq!(value(&tree, "routes[1].allow_bypass"), json!(true));
    assert_eq!(value(&tree, "routes[1].window"), json!(4096));
}

#[test]
fn values_take_the_type_that_their_place_asks() {
    let overrides = [
        "telemetry.sample=0.5",
        "telemetry.service_name=42",
        "limits.body=1048576",
        "upstreams.new.engine.context=auto",
        "upstreams.new.engine.threads=null",
        "policies.p.steps=[cap_tool_output, {trim_turns: {keep: 5}}]",
        "routes[2]={name: z, upstream: new}",
        "routes[0].match.header.\"x.y\"=true",
    ];
    let (tree, faults) = merged(&[], &overrides);
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(tree["telemetry"], json!({"sample": 0.5, "service_name": "42"}));
    assert_eq!(tree["limits"]["body"], json!(1_048_576));
    assert_eq!(tree["upstreams"]["new"]["engine"], json!({"context": "auto", "threads": null}));
    assert_eq!(tree["policies"]["p"]["steps"], json!(["cap_tool_output", {"trim_turns": {"keep": 5}}]));
    assert_eq!(tree["routes"][2], json!({"name": "z", "upstream": "new"}));
    assert_eq!(tree["routes"][0]["match"]["header"]["x.y"], json!("true"));
}

#[test]
fn overrides_that_lead_nowhere_are_faults() {
    let environment = [("PLIMSOLL__ROUTES__NOBODY__MODE", "off"), ("PLIMSOLL__LISTEN__", "x")];
    let (_, faults) = merged(&environment, &["limits.body", "routes[7].mode=off", "a..b=1", "limits[0]=1"]);
    insta::assert_snapshot!(faults.join("\n"), @r#"
    listen."": a key is missing (set by `PLIMSOLL__LISTEN__`)
    routes.nobody.mode: the list has no element named `nobody` (set by `PLIMSOLL__ROUTES__NOBODY__MODE`)
    "limits.body": has no `=`
      hint: an override is `path=value`, such as `routes.default.mode=shadow`
    routes[7].mode: the list has 2 elements, there is no [7] (set by `routes[7].mode`)
    "a..b": a key is missing
      hint: an override is `path=value`, such as `routes.default.mode=shadow`
    limits[0]: is not a list (set by `limits[0]`)
    "#);
}

#[test]
fn variables_are_filled_into_the_file() {
    let file =
        "listen: { admin_token: '${TOKEN}' }\nlimits: { requests: '${N:-5}' }\nlog: { level: '${NONE}' }";
    let environment = BTreeMap::from([("TOKEN".to_owned(), "7".to_owned())]);
    let sources = Sources { file: "c".into(), environment, overrides: Vec::new(), directory: ".".into() };
    let mut findings = Findings::default();
    let tree =
        merge(&parse(file).expect("YAML"), &sources, &Shape::new(), &mut findings).expect("a tree").tree;
    assert_eq!(tree["listen"]["admin_token"], json!("7"));
    assert_eq!(tree["limits"]["requests"], json!(5));
    let faults: Vec<String> = findings.faults.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(faults.join("\n"), @r"
    log.level: the environment variable `NONE` is not set
      hint: set it, or give a default: `${NONE:-text}`
    ");
}
