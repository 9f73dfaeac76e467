//! The dashboard and the alerts that the chart brings: valid, tested, and about metrics that a sidecar really has.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use plimsoll_tests::shared::{demo, json};
use plimsoll_tests::{Sidecar, get, post};
use regex::Regex;
use serde_json::{Value, json};

use crate::charts::{chart, section, template, validate, validator};
use crate::status::long_talk;
use crate::tooling::{stdout, tool};

/// Labels that Prometheus or its operator adds, and `le`, which histograms have by nature.
const GIVEN: [&str; 4] = ["job", "namespace", "instance", "le"];

#[test]
fn the_rules_are_valid_and_do_what_their_cases_say() {
    let Some(promtool) = tool(".tools/bin/promtool") else { return };
    let rules = chart().join("rules");
    stdout(Command::new(&promtool).current_dir(&rules).args(["check", "rules", "plimsoll.yaml"]));
    stdout(Command::new(&promtool).current_dir(&rules).args(["test", "rules", "plimsoll_test.yaml"]));
    let cases = fs::read_to_string(rules.join("plimsoll_test.yaml")).unwrap();
    let alerts = fs::read_to_string(rules.join("plimsoll.yaml")).unwrap();
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(cases.contains(&format!("alertname: {alert}\n")), "no case fires {alert}");
    }
}

#[test]
fn the_dashboards_queries_are_valid() {
    let Some(promtool) = tool(".tools/bin/promtool") else { return };
    let rules: Vec<_> = queries()
        .iter()
        .enumerate()
        .map(|(at, query)| {
            let query = query.replace("$__rate_interval", "5m");
            json!({"record": format!("query{at}"), "expr": query})
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yaml");
    fs::write(&file, json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).unwrap();
    stdout(Command::new(promtool).args(["check", "rules"]).arg(file));
}

#[test]
fn metrics_and_labels_that_are_asked_for_exist() {
    let alerts = fs::read_to_string(chart().join("rules/plimsoll.yaml")).unwrap();
    let alerts = Regex::new(r"(?s)expr:(.*?)\n        (?:for|labels):")
        .unwrap()
        .captures_iter(&alerts)
        .map(|found| found[1].to_owned())
        .collect::<Vec<_>>();
    let metrics = real_metrics();
    let (mut names, mut labels) = (BTreeSet::new(), BTreeSet::new());
    for query in queries().iter().chain(&variables()).chain(&alerts) {
        let (named, labelled) = asked_for(query);
        names.extend(named);
        labels.extend(labelled);
    }
    assert!(alerts.len() == 11 && names.len() > 15 && labels.len() > 8, "{names:?} {labels:?}");
    for name in names {
        let found = metrics
            .lines()
            .any(|line| line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        assert!(found, "no sidecar has the metric {name}:\n{metrics}");
    }
    for label in labels.iter().filter(|label| !GIVEN.contains(&label.as_str())) {
        let found = metrics.contains(&format!("{{{label}=")) || metrics.contains(&format!(",{label}="));
        assert!(found, "no metric has the label {label}:\n{metrics}");
    }
}

#[test]
fn the_chart_brings_both_as_they_are() {
    let (Some(helm), Some(validator)) = (tool(".tools/bin/helm"), validator()) else { return };
    let plain = stdout(&mut template(&helm));
    assert!(!plain.contains("dashboards") && !plain.contains("PrometheusRule"), "{plain}");
    let enabled = "dashboards.enabled=true,rules.enabled=true";
    let rendered = stdout(template(&helm).args(["--set", enabled]));
    let dashboard: Value = serde_json::from_str(&section(&rendered, "plimsoll.json: |")).unwrap();
    assert_eq!(dashboard, self::dashboard());
    let rules = fs::read_to_string(chart().join("rules/plimsoll.yaml")).unwrap();
    let rule =
        rendered.split("---\n").find(|object| object.contains("kind: PrometheusRule")).expect("a rule");
    assert_eq!(section(rule, "spec:").trim_end(), rules.trim_end());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rendered.yaml");
    fs::write(&file, rendered).unwrap();
    validate(&validator, &file, "1.33");
}

fn dashboard() -> Value {
    json(&chart().join("dashboards/plimsoll.json"))
}

/// The queries of all panels.
fn queries() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect()
}

/// The first query of the panel with this title.
pub(crate) fn panel(title: &str) -> String {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let mut titled = panels.filter(|panel| panel["title"] == title && panel["targets"].is_array());
    let panel = titled.next().unwrap_or_else(|| panic!("no panel `{title}`"));
    panel["targets"][0]["expr"].as_str().expect("an expression").to_owned()
}

/// What the variables' choices are read from.
fn variables() -> Vec<String> {
    let dashboard = dashboard();
    let list = dashboard["templating"]["list"].as_array().expect("variables");
    list.iter().filter_map(|variable| variable["definition"].as_str()).map(str::to_owned).collect()
}

/// Names of metrics and of labels in a query.
fn asked_for(query: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let all = |pattern: &str, text: &str| -> BTreeSet<String> {
        Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
    };
    let mut labels = all(r"([a-z_]+)\s*(?:=~|!=|=)", query);
    for list in all(r"\bby \(([^)]*)\)", query).iter().chain(&all(r"^label_values\(.*, (\w+)\)", query)) {
        labels.extend(list.split(',').map(|label| label.trim().to_owned()));
    }
    let bare = Regex::new(r"\{[^}]*\}|\bby \([^)]*\)|, \w+\)$").unwrap().replace_all(query, "");
    (all(r"\b((?:plimsoll|gen_ai|http)_\w+)", &bare), labels)
}

/// The metrics of a sidecar that cut and answered one request and failed to forward another.
fn real_metrics() -> String {
    let away = "  away: { url: 'http://127.0.0.1:1', dialect: openai, context: 1024 }\nroutes:\n  \
                - { name: away, match: { header: { x-team: away } }, upstream: away, policy: chat }\n";
    let config = demo(1024, "chat").replace("routes:\n", away);
    let sidecar = Sidecar::start(&config);
    let url = format!("{}/v1/chat/completions", sidecar.data_url);
    post(&url, &long_talk()).ok();
    let short = json!({"model": "demo", "messages": [{"role": "user", "content": "Hello"}]});
    let failed = plimsoll_tests::post_with(&url, short.to_string().into_bytes(), &[("x-team", "away")]);
    assert_eq!(failed.status, 502);
    // A record is written when its last holder is dropped, which may be after the answer arrived.
    loop {
        let metrics = get(&format!("{}/metrics", sidecar.admin_url)).text();
        if metrics.contains("error_type=") && metrics.contains("plimsoll_context_tokens_removed") {
            return metrics;
        }
        std::thread::yield_now();
    }
}
