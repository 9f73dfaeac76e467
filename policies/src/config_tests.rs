use serde_json::json;

use super::*;

fn policies(json: serde_json::Value) -> BTreeMap<String, PolicyConfig> {
    serde_json::from_value(json).unwrap()
}

fn names(steps: &[Step]) -> Vec<&'static str> {
    steps.iter().map(Step::name).collect()
}

#[test]
fn a_step_is_a_name_or_a_map() {
    let config: PolicyConfig = serde_json::from_value(json!({
        "steps": ["trim_turns", {"cap_tool_output": {"max_tokens": 9, "per_tool": {"ls": 5}}}, {"summarize": null}]
    }))
    .unwrap();
    assert_eq!(names(&config.steps), ["trim_turns", "cap_tool_output", "summarize"]);
    assert_eq!(config.steps[0], Step::TrimTurns(TrimTurns { keep: 20, slack: 5, pin_first_user: true }));
    let again: PolicyConfig = serde_json::from_value(serde_json::to_value(&config).unwrap()).unwrap();
    assert_eq!(again, config);
}

#[test]
fn what_is_unknown_is_refused() {
    let refused = [
        (json!({"step": []}), "unknown field `step`"),
        (json!({"steps": ["trim"]}), "unknown variant `trim`"),
        (json!({"steps": [{"trim_turns": {"kep": 1}}]}), "unknown field `kep`"),
        (json!({"steps": [{"summarize": {"with": "openai"}}]}), "unknown variant `openai`"),
        (json!({"steps": [{"summarize": {"timeout": "60"}}]}), "`60` is not a length of time"),
        (json!({"steps": [{"normalize_prefix": {"volatile": "stripp"}}]}), "unknown variant `stripp`"),
        (
            json!({"steps": [{"clear_thinking": {"keep": "none"}}]}),
            "expected `template`, `all`, or a number of turns",
        ),
        (
            json!({"steps": [{"clear_thinking": {"keep": -1}}]}),
            "expected `template`, `all`, or a number of turns",
        ),
        (json!({"steps": [{"dedupe": {"roles": ["system"]}}]}), "unknown variant `system`"),
        (json!({"steps": [{"memory_budget": {"kv": "much"}}]}), "`much` is not a number of bytes"),
        (json!({"steps": [{"normalize_prefix": {"patterns": ["("]}}]}), "`(` is not a regular expression"),
        (json!({"steps": [7]}), "expected a step: its name, or a map of its name to its parameters"),
    ];
    for (config, message) in refused {
        let error = serde_json::from_value::<PolicyConfig>(config).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn presets_have_their_steps() {
    let none = BTreeMap::new();
    let agent = [
        "normalize_prefix",
        "reserve_output",
        "cap_tool_output",
        "clear_tool_uses",
        "clear_thinking",
        "summarize",
        "fit_context",
    ];
    assert_eq!(names(&resolve("agent", &none).unwrap()), agent);
    let chat = resolve("chat", &none).unwrap();
    assert_eq!(names(&chat), [&agent[..3], &["trim_turns"], &agent[5..]].concat());
    let rag = [&agent[..3], &["rag_budget", "trim_turns"], &agent[5..]].concat();
    assert_eq!(names(&resolve("rag", &none).unwrap()), rag);
    assert!(chat.contains(&Step::TrimTurns(TrimTurns { keep: 40, ..TrimTurns::default() })));
    assert_eq!(
        names(&resolve("strict", &none).unwrap()),
        ["normalize_prefix", "reserve_output", "fit_context"]
    );
    assert!(resolve("off", &none).unwrap().is_empty());
}

#[test]
fn extends_replaces_in_place_and_adds_before_the_guard() {
    let all = policies(json!({
        "team": {"extends": "agent", "steps": [{"fit_context": {"high": 0.9}}, {"trim_turns": {"keep": 3}}, {"cap_tool_output": {"max_tokens": 99}}]},
        "sub": {"extends": "team", "steps": [{"trim_turns": {"keep": 4}}]},
        "chat": {"extends": "chat", "steps": [{"trim_turns": {"keep": 7}}]},
        "own": {"steps": [{"fit_context": {"low": 0.5}}, "trim_turns"]},
        "empty": {},
    }));
    let team = resolve("team", &all).unwrap();
    let want = [
        "normalize_prefix",
        "reserve_output",
        "cap_tool_output",
        "clear_tool_uses",
        "clear_thinking",
        "summarize",
        "trim_turns",
        "fit_context",
    ];
    assert_eq!(names(&team), want);
    assert_eq!(team[7], Step::FitContext(FitContext { high: 0.9, ..FitContext::default() }));
    let sub = resolve("sub", &all).unwrap();
    assert_eq!(sub[6], Step::TrimTurns(TrimTurns { keep: 4, ..TrimTurns::default() }));
    assert_eq!(
        resolve("chat", &all).unwrap()[3],
        Step::TrimTurns(TrimTurns { keep: 7, ..TrimTurns::default() })
    );
    assert_eq!(names(&resolve("own", &all).unwrap()), ["trim_turns", "fit_context"]);
    assert_eq!(names(&resolve("empty", &all).unwrap()), ["fit_context"]);
}

#[test]
fn faults_say_where_and_how() {
    let all = policies(json!({
        "a": {"extends": "b"}, "b": {"extends": "a"},
        "twice": {"steps": ["trim_turns", "trim_turns"]},
        "marks": {"steps": [{"fit_context": {"high": 0.5}}]},
        "cap": {"extends": "chat", "steps": [{"cap_tool_output": {"max_tokens": 3}}]},
        "ceiling": {"extends": "chat", "steps": ["reject_over"]},
        "round": {"steps": [{"normalize_prefix": {"volatile": {"round": "7h"}}}]},
        "both": {"steps": [{"fit_context": {"cut": false, "on_overflow": "truncate_middle"}}]},
        "short": {"steps": [{"dedupe": {"min_tokens": 10}}]},
        "docs": {"steps": [{"rag_budget": {"max_fraction": 0.0}}]},
        "shrink": {"steps": [{"growth_alert": {"factor": 1.0}}]},
    }));
    let faults = [
        (
            "none",
            "unknown policy `none`: known are `a`, `agent`, `b`, `both`, `cap`, `ceiling`, `chat`, `docs`, `marks`, `off`, `rag`, `round`, `short`, `shrink`, `strict`, `twice`",
        ),
        ("a", "policy `a` extends itself: `a -> b -> a`; remove one `extends`"),
        ("twice", "step `trim_turns` stands twice in policy `twice`: keep one"),
        ("marks", "policy `marks`, step `fit_context`: `low: 0.6` must be at least 0 and under `high: 0.5`"),
        (
            "cap",
            "policy `cap`, step `cap_tool_output`: a cap of 3 tokens has no room for the marker; use 32 or more",
        ),
        (
            "ceiling",
            "policy `ceiling`, step `reject_over`: `tokens` is missing: write the ceiling, such as `tokens: 32000`",
        ),
        (
            "round",
            "policy `round`, step `normalize_prefix`: `round: 7h` must divide a day and be of a minute to a day, such as `15m` or `1h`",
        ),
        (
            "both",
            "policy `both`, step `fit_context`: `cut: false` and `on_overflow: truncate_middle` cannot both be: keep one",
        ),
        (
            "short",
            "policy `short`, step `dedupe`: `min_tokens: 10` is less than a pointer saves; use 64 or more",
        ),
        ("docs", "policy `docs`, step `rag_budget`: `max_fraction: 0` must be over 0 and at most 1"),
        ("shrink", "policy `shrink`, step `growth_alert`: `factor: 1` must be over 1"),
    ];
    for (name, message) in faults {
        assert_eq!(resolve(name, &all).unwrap_err().to_string(), message);
    }
}

#[test]
fn the_schema_tells_it_all() {
    let schema = serde_json::to_value(schemars::schema_for!(PolicyConfig)).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let cap = &schema["$defs"]["CapToolOutput"];
    assert_eq!(
        (&cap["properties"]["head"]["default"], &cap["additionalProperties"]),
        (&json!(0.3), &json!(false))
    );
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        assert!(definition["description"].is_string(), "{name} has no description");
        for (field, property) in definition["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string() || property["$ref"].is_string(), "{name}.{field}");
        }
    }
}
