use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Prompt, Templates};
use crate::text::error::{TemplateError, TextError};
use crate::text::folder::{Folder, Source};

pub(in crate::text) fn compile(named: &[(&str, &str)]) -> Result<Templates, TextError> {
    let source = |text: &str| Source { path: "folder/chat_template.jinja".into(), text: text.to_owned() };
    let templates = named.iter().map(|(name, text)| ((*name).to_owned(), source(text))).collect();
    let special_tokens = [("bos_token".to_owned(), "<s>".to_owned())].into_iter().collect();
    Templates::compile(Folder { templates, special_tokens })
}

fn render(source: &str, messages: &Value) -> Result<String, TemplateError> {
    render_with(&compile(&[("default", source)]).unwrap(), messages, None)
}

fn render_with(
    templates: &Templates,
    messages: &Value,
    tools: Option<&Value>,
) -> Result<String, TemplateError> {
    templates.render(&Prompt {
        messages: messages.as_array().unwrap(),
        tools,
        add_generation_prompt: true,
        kwargs: json!({"extra": true}).as_object().unwrap(),
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 365),
    })
}

#[test]
fn blocks_are_trimmed_as_transformers_does() {
    let source = "{% for m in messages %}\n    {% if m.role == 'user' %}\n  U\n    {% endif %}\n{{ m.content }}\n{% endfor %}\nend\n";
    let messages = json!([{"role": "user", "content": "a"}, {"role": "x", "content": "b"}]);
    assert_eq!(render(source, &messages).unwrap(), "  U\na\nb\nend");
}

#[test]
fn variables_and_functions_are_there() {
    let source = "{{ bos_token }}{{ eos_token }}|{{ tools is none }}|{{ extra }}|{{ strftime_now('%Y') }}";
    assert_eq!(render(source, &json!([])).unwrap(), "<s>|True|True|1971");
}

#[test]
fn a_mapping_method_wins_over_a_key_of_its_name() {
    let source = "{% for k, v in messages[0].items() %}{{ k }}{% endfor %}{{ messages[0]['items'] }}";
    assert_eq!(render(source, &json!([{"items": 1, "b": 2}])).unwrap(), "itemsb1");
}

#[test]
fn a_refusal_is_told_in_the_templates_own_words() {
    let source =
        "{% macro check(m) %}{{ raise_exception('only ' ~ m ~ ' roles!') }}{% endmacro %}{{ check('user') }}";
    assert_eq!(render(source, &json!([])), Err(TemplateError::Refused("only user roles!".to_owned())));
}

#[test]
fn a_failure_names_its_cause_on_one_line() {
    let Err(TemplateError::Failed(message)) = render("a\n{{ messages[0].a.b }}", &json!([{}])) else {
        panic!("the template must fail");
    };
    assert!(message.contains("undefined") && !message.contains('\n'), "{message}");
}

#[test]
fn endless_templates_end() {
    let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
    assert_eq!(render(loops, &json!([])), Err(TemplateError::Endless));
    let floods = "{% for a in range(9999) %}{{ messages[0] }}{% endfor %}";
    assert_eq!(render(floods, &json!(["x".repeat(100_000)])), Err(TemplateError::Endless));
    let recursive = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
    assert!(render(recursive, &json!([])).is_err());
}

#[test]
fn requests_with_tools_use_their_own_template() {
    let templates = compile(&[("default", "plain"), ("tool_use", "tools: {{ tools | length }}")]).unwrap();
    assert_eq!(render_with(&templates, &json!([]), None).unwrap(), "plain");
    assert_eq!(render_with(&templates, &json!([]), Some(&json!([1, 2]))).unwrap(), "tools: 2");
}

#[test]
fn faults_of_a_template_are_told() {
    let fault = compile(&[("default", "{% if %}")]).err().unwrap();
    assert!(matches!(&fault, TextError::Template { .. }));
    assert!(fault.to_string().contains("folder/chat_template.jinja"), "{fault}");
    let none = compile(&[]).unwrap();
    assert!(none.is_empty());
    assert_eq!(render_with(&none, &json!([]), None), Err(TemplateError::Missing));
}

/// Any JSON of modest size.
pub(in crate::text) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 64.0)),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop::sample::select(vec![
            "role",
            "content",
            "tool_calls",
            "function",
            "name",
            "arguments",
            "type",
            "text",
            "user",
            "tool",
            "items",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4).prop_map(|fields| fields
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #[test]
    fn no_conversation_makes_a_template_panic(
        messages in prop::collection::vec(any_json(), 0..4),
        tools in prop::option::of(any_json()),
    ) {
        let source = "{% for m in messages %}{{ m.role }}{{ m.content | trim }}{% for c in m.tool_calls %}
            {{- c.function.name }}{{ c.function.arguments | tojson(indent=2) }}{% endfor %}{{ m | tojson }}
            {%- for k, v in m.items() %}{{ k }}{{ v }}{% endfor %}{% endfor %}{{ tools | tojson }}{{ messages[1:] }}";
        let templates = compile(&[("default", source)]).unwrap();
        let _ = render_with(&templates, &Value::from(messages), tools.as_ref());
    }

    #[test]
    fn what_tojson_writes_reads_back_the_same(value in any_json()) {
        let rendered = render("{{ messages[0] | tojson }}", &json!([value])).unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&rendered).unwrap(), value);
    }
}
