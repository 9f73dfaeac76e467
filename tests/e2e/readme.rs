//! What README.md shows as output is what comes out.

use std::fs;

use plimsoll_tests::shared::{demo, root};
use plimsoll_tests::{Sidecar, plimsoll, post};
use serde_json::Value;

use crate::tooling::stdout;

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

#[test]
fn the_example_is_explained_as_shown() {
    let readme = readme();
    let explain = ["explain", "--config", "docs/example/config.yaml", "docs/example/conversation.json"];
    assert!(readme.contains(&format!("`plimsoll {}`", explain.join(" "))));
    let printed = stdout(plimsoll().args(explain)).replace(&format!("{}/", root().display()), "");
    let shown: String = printed.lines().flat_map(|line| ["    ", line, "\n"]).collect();
    assert!(readme.contains(&shown), "README.md shows other output than\n{shown}");
    let diff = stdout(plimsoll().args(explain).arg("--diff"));
    let kept = diff.lines().find(|line| line.starts_with('+') && line.contains("ERROR")).unwrap();
    assert!(readme.contains(&format!("    {}\n", kept.trim_start_matches(['+', ' ']))), "{kept}");
}

#[test]
fn the_example_has_the_policy_that_is_shown() {
    let example = fs::read_to_string(root().join("docs/example/config.yaml")).unwrap();
    let policy = &example[example.find("routes:\n").unwrap()..];
    assert!(
        readme().contains(&format!("```yaml\n{policy}```")),
        "README.md shows another policy than\n{policy}"
    );
}

#[test]
fn the_first_request_is_answered_as_shown() {
    let readme = readme();
    let body = readme.split("-d '").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let sidecar = Sidecar::start(&demo(1024, "chat"));
    let reply = post(&format!("{}/v1/chat/completions", sidecar.data_url), &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    for name in ["route", "mode", "policy", "tokens-before", "tokens-after", "actions"] {
        let name = format!("x-plimsoll-{name}");
        let header = format!("    {name}: {}\n", reply.header(&name));
        assert!(readme.contains(&header), "{header}");
    }
    let answer = reply.ok()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&readme).contains(&words(&answer)), "{answer}");
}

#[test]
fn links_and_named_files_are_there() {
    for page in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let named = text.split('`').skip(1).step_by(2).filter(|name| {
            let folders = ["proxy/", "policies/", "engine/", "charts/", "tests/", "docs/"];
            folders.iter().any(|folder| name.starts_with(folder))
                && !name.contains([' ', '*', '{', ':', '<'])
                && !name.contains("NAME")
        });
        let missing: Vec<&str> = links
            .filter(|link| !link.contains("://"))
            .chain(named)
            .filter(|path| !root().join(path).exists())
            .collect();
        assert!(missing.is_empty(), "{page} names {missing:?}");
    }
}
