use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::Understood;
use crate::text::folder::{Folder, Source};
use crate::text::template::{Prompt, Templates};

fn templates(source: &str) -> Templates {
    let source = Source { path: "t".into(), text: source.to_owned() };
    let templates = [("default".to_owned(), source)].into_iter().collect();
    Templates::compile(Folder { templates, ..Folder::default() }).unwrap()
}

fn converted(understood: Understood, message: &Value) -> Value {
    understood.message(message).into_owned()
}

#[test]
fn a_template_shows_what_it_understands() {
    let plain = templates(
        "{% for m in messages %}{% if m.role != 'developer' %}{{ m.role }}: {{ m.content }}
        {%- for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}{% endif %}{% endfor %}",
    );
    assert_eq!(Understood::probe(&plain, false), Understood::default());
    let rich = templates(
        "{% for m in messages %}{{ m.role }}{% if m.content is string %}{{ m.content }}{% else %}
        {%- for p in m.content %}{{ p.text }}{% endfor %}{% endif %}
        {%- for c in m.tool_calls or [] %}{{ c.function.arguments }}{% endfor %}{% endfor %}",
    );
    let all = Understood { argument_texts: true, parts: true, developer: true };
    assert_eq!(Understood::probe(&rich, true), all);
}

#[test]
fn shapes_that_are_not_understood_are_converted() {
    let nothing = Understood::default();
    let message = json!({
        "role": "assistant",
        "content": null,
        "refusal": null,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"b\": 1, \"a\": 1.50}"}},
            {"id": "2", "type": "function", "function": {"name": "g", "arguments": ""}},
            {"id": "3", "type": "function", "function": {"name": "h", "arguments": "{broken"}}
        ]
    });
    let result = converted(nothing, &message);
    assert_eq!(result["content"], "");
    assert!(result.get("refusal").is_none());
    let arguments: Vec<_> =
        result["tool_calls"].as_array().unwrap().iter().map(|call| &call["function"]["arguments"]).collect();
    assert_eq!(arguments, [&json!({"b": 1, "a": 1.5}), &json!({}), &json!("{broken")]);
    let parts = json!({"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
    assert_eq!(converted(nothing, &parts), json!({"role": "system", "content": "a\nb"}));
    let empty = json!({"role": "assistant", "content": "x", "tool_calls": [], "function_call": null});
    assert_eq!(converted(nothing, &empty), json!({"role": "assistant", "content": "x"}));
}

#[test]
fn shapes_that_are_understood_stay() {
    let all = Understood { argument_texts: true, parts: true, developer: true };
    let message = json!({
        "role": "assistant",
        "content": [{"type": "text", "text": "a"}],
        "tool_calls": [{"function": {"name": "f", "arguments": "{\"a\":1}"}}]
    });
    assert_eq!(converted(all, &message), message);
    let developer = json!({"role": "developer", "content": "x", "extra": 1});
    assert_eq!(converted(all, &developer), developer);
}

#[test]
fn odd_messages_pass_through_to_the_template() {
    for message in [json!(null), json!([1]), json!("x"), json!({}), json!({"role": 7, "content": {"a": 1}})] {
        let _ = converted(Understood::default(), &message);
    }
    let none = Map::new();
    let messages = [json!("x")];
    let prompt = Prompt {
        messages: &messages,
        tools: None,
        add_generation_prompt: true,
        kwargs: &none,
        now: SystemTime::UNIX_EPOCH,
    };
    assert!(templates("{{ messages[0].role.deeper }}").render(&prompt).is_err());
}
