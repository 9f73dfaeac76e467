use serde_json::json;

use crate::support::{Counter, Memory, parse, run, steps};
use crate::{Chain, Outcome, Report};

fn normalize(params: &serde_json::Value, body: &str) -> (String, Report) {
    let chain = Chain::build("test", &steps(&json!([{"normalize_prefix": params}])));
    let memory = Memory::default();
    let first = run(&chain, &parse(body), &Counter::default(), &memory, 8000).unwrap();
    let (after, report) = run(&chain, &parse(body), &Counter::default(), &memory, 8000).unwrap();
    assert_eq!(first.1, report);
    (after.to_json().to_string(), report)
}

const BODY: &str = r#"{"tools":[{"function":{"name":"b"}}, {"function":{"name":"a","parameters":{"z":1,"a":2}}}],
 "messages":[{"role":"system","content":"It is 2024-05-15 15:00:00."},{"role":"user","content":"2024-05-15"}]}"#;

#[test]
fn tools_get_one_order() {
    let (json, report) = normalize(&json!({}), BODY);
    let tools = r#"[{"function":{"name":"a","parameters":{"a":2,"z":1}}}, {"function":{"name":"b"}}]"#;
    assert!(json.starts_with(&format!("{{\"tools\":{tools},\n ")), "{json}");
    assert_eq!(report.actions(), [("normalize_prefix", 2)]);
    assert_eq!(report.rows[0].prefix_kept, 2);
}

#[test]
fn volatile_text_is_reported_and_stays() {
    let (json, report) =
        normalize(&json!({"sort_tools": false, "canonical_schema": false, "patterns": ["It is"]}), BODY);
    assert_eq!(json, BODY);
    let want = "volatile in the system prompt: 1 date (first at byte 6), 1 time (first at byte 17), 1 pattern \
                (first at byte 0); a change there makes the whole prompt new";
    assert_eq!((report.rows[0].reason.as_str(), report.rows[0].outcome), (want, Outcome::Unchanged));
    assert!(report.actions().is_empty());
}
