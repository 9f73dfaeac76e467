//! Policies from files of their own: what is merged, and what is said of what cannot be.

use std::fs;
use std::path::Path;

use super::tests::{directory, sources};
use super::*;

const MAIN: &str = "include: [policies.d/*.yaml]
upstreams: { a: { engine: { model: model } } }
routes:
  - { name: r, upstream: a, policy: search }
policies:
  base: { extends: chat }
";

/// A configuration beside files of policies.
fn loaded(main: &str, files: &[(&str, &str)]) -> Result<Loaded, Faults> {
    let directory = directory();
    fs::create_dir(directory.path().join("policies.d")).expect("a folder");
    for (name, text) in files {
        fs::write(directory.path().join("policies.d").join(name), text).expect("written");
    }
    Config::parse(main, &sources(directory.path()))
}

fn said(main: &str, files: &[(&str, &str)]) -> String {
    loaded(main, files).expect_err("a fault").to_string()
}

#[test]
fn policies_of_all_files_are_one_set() {
    let search =
        "policies:\n  search: { extends: base, steps: [ { trim_turns: { keep: 7 } } ] }\ncases: []\n";
    let ops = "policies: { ops: { extends: search } }";
    let files = [
        ("search.yaml", search),
        ("ops.yaml", ops),
        (".hidden.yaml", "x"),
        ("a.test.yaml", "- x"),
        ("notes.txt", "x"),
    ];
    let loaded = loaded(MAIN, &files).expect("valid");
    assert_eq!(loaded.config.policies.keys().collect::<Vec<_>>(), ["base", "ops", "search"]);
    assert_eq!(loaded.config.policies["ops"], loaded.config.policies["search"]);
    assert_eq!(loaded.redacted["policies"]["search"]["extends"], "base");
    let included: Vec<_> =
        loaded.included.iter().map(|one| (one.file.as_str(), one.policies.join(" "))).collect();
    assert_eq!(
        included,
        [("policies.d/ops.yaml", "ops".to_owned()), ("policies.d/search.yaml", "search".to_owned())]
    );
    let warned: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warned, ["policies.d/ops.yaml:1: policies.ops: no route uses it"]);
}

#[test]
fn every_fault_of_every_file_is_told_at_once() {
    let files = [
        ("a.yaml", "policies:\n  base: {}\n  search:\n    steps:\n      - cap_tool: {}\n"),
        ("b.yaml", "policies:\n  x: { extends: y }\n\n  search: {}\n"),
        ("c.yaml", "polices: {}\nroutes: []\n"),
        ("d.yaml", "policies: { y: { extends: x }\n"),
        (
            "e.yaml",
            "policies:\n  y: { extends: x }\n  z: { steps: [ { fit_context: { high: 0.5, low: 0.5 } }, trim_turn ] }\n",
        ),
        ("f.yaml", "policies: []\n"),
    ];
    let main = MAIN
        .replace("include: [policies.d/*.yaml]", "include: [policies.d/*.yaml, none.yaml, 'x/**', 'p[']")
        + "limits: { drain: soon }\n";
    insta::assert_snapshot!(said(&main, &files), @r"
    `config.yaml` has 14 faults
    policies.d/a.yaml:2: policies.base: `base` stands in `config.yaml:6` already
      hint: names are unique over all files: rename one
    policies.d/b.yaml:4: policies.search: `search` stands in `policies.d/a.yaml:3` already
      hint: names are unique over all files: rename one
    policies.d/c.yaml:1: polices: unknown option
      hint: did you mean `policies`?
    policies.d/c.yaml:2: routes: unknown option
      hint: an included file holds `policies`, and `cases` that test them
    policies.d/d.yaml:2: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}' at byte 30 line 2 column 1
      hint: indent by spaces; put texts with `: `, `#` or a leading `*` in quotes
    policies.d/f.yaml:1: policies: expected a map of policies by name
    config.yaml:1: include[1]: file `none.yaml` does not exist
      hint: relative paths start at the configuration's folder
    config.yaml:1: include[2]: `x/**` has `**`: each `*` stands within one name
      hint: such as `policies.d/*.yaml`
    config.yaml:1: include[3]: `p[` is not a pattern: unclosed character class; missing ']'
      hint: such as `policies.d/*.yaml`
    config.yaml:7: limits.drain: `soon` is not a time
      hint: a number and a unit: `500ms`, `30s`, `5m`
    policies.d/a.yaml:5: policies.search.steps[0].cap_tool: unknown option
      hint: did you mean `cap_tool_output`?
    policies.d/b.yaml:2: policies.x.extends: goes in a circle: x -> y -> x
      hint: let one of them extend a preset, or nothing
    policies.d/e.yaml:3: policies.z.steps[0].fit_context: `low: 0.5` must be at least 0 and under `high: 0.5`
    policies.d/e.yaml:3: policies.z.steps[1]: expected one of `normalize_prefix`, `reserve_output`, `memory_budget`, `cap_tool_output`, `drop_images`, `clear_tool_uses`, `clear_thinking`, `dedupe`, `rag_budget`, `trim_turns`, `summarize`, `growth_alert`, `reject_over`, `fit_context`, got `trim_turn`
      hint: did you mean `trim_turns`?
    ");
}

#[test]
fn a_pattern_without_a_file_is_hardly_meant() {
    let main = MAIN.replace("policy: search", "policy: base");
    let warned = loaded(&main, &[]).expect("valid").warnings;
    assert_eq!(warned[0].to_string(), "config.yaml:1: include[0]: `policies.d/*.yaml` matches no file");
    assert!(said(&MAIN.replace("[policies.d/*.yaml]", "7"), &[]).contains("include: expected a list"));
}

#[test]
fn overrides_and_variables_reach_included_policies() {
    let directory = directory();
    fs::create_dir(directory.path().join("teams")).expect("a folder");
    let text = "policies: { search: { steps: [ { trim_turns: { keep: '${KEEP}' } } ] } }";
    fs::write(directory.path().join("teams/search.yml"), text).expect("written");
    let mut sources = sources(directory.path());
    sources.environment.insert("KEEP".to_owned(), "9".to_owned());
    sources.overrides = vec!["include=[teams/*.yml]".to_owned()];
    let keeps = |sources: &Sources| {
        let loaded = Config::parse(MAIN, sources).unwrap_or_else(|faults| panic!("{faults}"));
        format!("{:?}", loaded.config.policies["search"])
    };
    assert!(keeps(&sources).contains("keep: 9"));
    sources.overrides.push("policies.search.steps[0].trim_turns.keep=11".to_owned());
    assert!(keeps(&sources).contains("keep: 11"));
    sources.overrides[1] = "policies.search.steps[0].trim_turns.keep=none".to_owned();
    let faults = Config::parse(MAIN, &sources).expect_err("a fault").to_string();
    assert!(
        faults.contains("\npolicies.search.steps[0].trim_turns.keep: expected"),
        "no file is at fault: {faults}"
    );
}

/// Beside the configuration, wherever the process was started.
#[test]
fn relative_patterns_start_at_the_configuration() {
    let directory = directory();
    let folder = directory.path().join("etc/policies.d");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("s.yaml"), "policies: { search: {} }").expect("written");
    let sources = Sources { file: "etc/config.yaml".into(), ..sources(directory.path()) };
    let loaded = Config::parse(MAIN, &sources).expect("valid");
    assert_eq!(loaded.included[0].file, "etc/policies.d/s.yaml");
    let absolute = MAIN.replace("policies.d/", &format!("{}/", folder.display()));
    let loaded = Config::parse(&absolute, &sources).expect("valid");
    assert_eq!(Path::new(&loaded.included[0].file), folder.join("s.yaml"));
}

#[cfg(unix)]
#[test]
fn what_matches_and_is_no_file_is_named() {
    let directory = directory();
    let team = directory.path().join("policies.d");
    fs::create_dir_all(team.join("folder.yaml")).expect("a folder");
    std::os::unix::fs::symlink("gone", team.join("link.yaml")).expect("a link");
    let _socket = std::os::unix::net::UnixListener::bind(team.join("socket.yaml")).expect("a socket");
    fs::create_dir(team.join("folder.test.yaml")).expect("a folder");
    let main = MAIN.replace("policy: search", "policy: base");
    let warnings = Config::parse(&main, &sources(directory.path())).expect("valid").warnings;
    let warned: Vec<_> = warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(
        warned,
        [
            "skips `policies.d/folder.yaml`: it is a folder",
            "skips `policies.d/link.yaml`: it is a link that leads nowhere",
            "skips `policies.d/socket.yaml`: it is no regular file",
        ]
    );
}

#[test]
fn a_file_whose_aliases_are_too_much_is_named() {
    let level = |n: u32| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
    let bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned() + &(1..9).map(level).collect::<String>();
    let said = said(MAIN, &[("bomb.yaml", &bomb)]);
    assert!(said.contains("\npolicies.d/bomb.yaml:6: the file says more than 16 MiB"), "{said}");
}
