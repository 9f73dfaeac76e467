//! Conversations of every shape that clients send, and some that they should not.

use proptest::prelude::*;

/// One piece of a history: the JSON of its messages. `@` stands for the message's number.
pub(crate) type Unit = Vec<String>;

/// A body with this history.
pub(crate) fn body(units: &[Unit], limit: Option<u64>) -> String {
    let messages: Vec<String> = units
        .iter()
        .flatten()
        .enumerate()
        .map(|(number, message)| message.replacen("\"@\"", &number.to_string(), 1))
        .collect();
    let limit = limit.map_or(String::new(), |limit| format!(",\n  \"max_tokens\": {limit}"));
    format!(
        "{{ \"model\":\"m\", \"messages\": [\n  {}\n ],\"seed\":1.50,\"x\":1E3, \"seed\": 2,\"tools\":{TOOLS}{limit}}} ",
        messages.join(" ,\n  ")
    )
}

/// An image part.
pub(crate) const IMAGE: &str = r#"{"type":"image_url","image_url":{"url":"data:x"}}"#;

const TOOLS: &str = r#"[{"type":"function","function":{"name":"b","parameters":{"type":"object","properties":{"y":{"type":"string"},"a":{"enum":["z","a"]}}}}}, {"type":"function","function":{"name":"a"}}]"#;

/// A history of up to `most` units; it may begin with instructions.
pub(crate) fn history(most: usize) -> impl Strategy<Value = Vec<Unit>> {
    (prop::option::weighted(0.8, system()), prop::collection::vec(unit(), 1..most))
        .prop_map(|(system, units)| system.into_iter().chain(units).collect())
}

fn unit() -> impl Strategy<Value = Unit> {
    prop_oneof![
        6 => user(),
        5 => assistant(),
        5 => exchange(),
        1 => orphan(),
        1 => thinking(),
        1 => reading(),
        1 => documents(),
        1 => repeated(),
        1 => odd(),
        1 => system(),
    ]
}

fn system() -> impl Strategy<Value = Unit> {
    (prop::sample::select(vec!["system", "developer"]), text(20)).prop_map(|(role, text)| {
        vec![format!(r#"{{"role":"{role}","n":"@","content":"Today is 2024-05-15. {text}"}}"#)]
    })
}

fn user() -> impl Strategy<Value = Unit> {
    let content = prop_oneof![
        6 => text(60).prop_map(|text| format!("\"{text}\"")),
        1 => text(20).prop_map(|text| format!(r#"[{{"type":"text","text":"{text}"}},{IMAGE}]"#)),
        1 => text(20).prop_map(|text| format!(r#"[{{"type":"text","text":"{text}","cache_control":{{"type":"ephemeral"}}}},{{"type":"input_audio","input_audio":{{"data":"UklG","format":"wav"}}}},{{"type":"text","text":""}}]"#)),
        1 => Just("\"\"".to_owned()),
        1 => Just("[]".to_owned()),
    ];
    content
        .prop_map(|content| vec![format!(r#"{{"n":"@", "role" : "user","content":{content},"extra":1.0}}"#)])
}

fn assistant() -> impl Strategy<Value = Unit> {
    text(60).prop_map(|text| {
        vec![format!(
            r#"{{"role":"assistant","n":"@","content":"first","content":"{text}","tool_calls":[]}}"#
        )]
    })
}

fn exchange() -> impl Strategy<Value = Unit> {
    (1_usize..4, prop::collection::vec((text(400), 0_u8..10), 3), any::<u32>()).prop_map(|(count, results, id)| {
        let calls: Vec<String> = (0..count)
            .map(|call| format!(r#"{{"id":"c{id}-{call}","type":"function","function":{{"name":"look","arguments":"{{\"q\":{call}}}"}}}}"#))
            .collect();
        let asks = format!(r#"{{"role":"assistant","n":"@","content":null,"tool_calls":[{}]}}"#, calls.join(","));
        let answers = results.into_iter().take(count).enumerate().filter(|(_, (_, fate))| *fate > 0).map(
            |(call, (text, fate))| {
                let prefix = if fate == 1 { "Error: " } else { "" };
                format!(r#"{{"role":"tool","n":"@","tool_call_id":"c{id}-{call}","content":"{prefix}{text}"}}"#)
            },
        );
        std::iter::once(asks).chain(answers).collect()
    })
}

/// An answer with its reasoning, as each kind of server spells it.
fn thinking() -> impl Strategy<Value = Unit> {
    (0_usize..4, text(60), text(20)).prop_map(|(kind, thought, text)| {
        let message = match kind {
            0 => format!(r#"{{"role":"assistant","n":"@","reasoning_content":"{thought}","content":"{text}."}}"#),
            1 => format!(r#"{{"role":"assistant","reasoning":"{thought}","n":"@","content":"{text}.","reasoning_details":[{{"type":"reasoning.encrypted","data":"gAAA"}}]}}"#),
            2 => format!(r#"{{"role":"assistant","n":"@","content":[{{"type":"thinking","thinking":"{thought}","signature":"EqQB"}},{{"type":"text","text":"{text}."}}]}}"#),
            _ => r#"{"role":"assistant","n":"@","content":[{"type":"redacted_thinking","data":"EmwK"}]}"#.to_owned(),
        };
        vec![message]
    })
}

/// A file that is read or edited.
fn reading() -> impl Strategy<Value = Unit> {
    let deed = prop::sample::select(vec!["read_file", "edit_file", "view"]);
    (deed, 0_u8..2, text(200), any::<u32>()).prop_map(|(tool, file, text, id)| {
        vec![
            format!(r#"{{"role":"assistant","n":"@","content":"","tool_calls":[{{"id":"r{id}","type":"function","function":{{"name":"{tool}","arguments":"{{\"path\": \"f{file}\"}}"}}}}]}}"#),
            format!(r#"{{"role":"tool","n":"@","tool_call_id":"r{id}","content":"{text}"}}"#),
        ]
    })
}

/// A question with documents, one of them with a score.
fn documents() -> impl Strategy<Value = Unit> {
    prop::collection::vec((text(80), 0_u8..9), 1..5).prop_map(|documents| {
        let documents: Vec<String> = documents
            .into_iter()
            .map(|(text, score)| format!("<document score='0.{score}'>\\n{text}\\n</document>"))
            .collect();
        vec![format!(r#"{{"role":"user","n":"@","content":"{}\nWhich?"}}"#, documents.join("\\n"))]
    })
}

/// A result that says what another may have said before.
fn repeated() -> impl Strategy<Value = Unit> {
    (0_usize..3, 6_usize..20, any::<u32>()).prop_map(|(from, lines, id)| {
        let lines: String = (from..from + lines).map(|line| format!("{line}: fn f{line}() {{ caf\u{e9}({line}) }}\\n")).collect();
        vec![
            format!(r#"{{"role":"assistant","n":"@","content":null,"tool_calls":[{{"id":"d{id}","type":"function","function":{{"name":"show","arguments":"{{}}"}}}}]}}"#),
            format!(r#"{{"role":"tool","n":"@","tool_call_id":"d{id}","content":"{lines}"}}"#),
        ]
    })
}

/// A result of about a megabyte of lines.
pub(crate) fn megabyte() -> Unit {
    let lines: String =
        (0..20_000).map(|line| format!("{line:06} row of a log, caf\u{e9} \\\"q\\\" and more\\n")).collect();
    vec![
        r#"{"role":"assistant","n":"@","content":null,"tool_calls":[{"id":"mb","type":"function","function":{"name":"cat","arguments":"{}"}}]}"#.to_owned(),
        format!(r#"{{"role":"tool","n":"@","tool_call_id":"mb","content":"{lines}"}}"#),
    ]
}

fn orphan() -> impl Strategy<Value = Unit> {
    text(30).prop_map(|text| {
        vec![format!(r#"{{"role":"tool","n":"@","tool_call_id":"nobody","content":"{text}"}}"#)]
    })
}

fn odd() -> impl Strategy<Value = Unit> {
    prop::sample::select(vec![
        r#"{"role":"user","n":"@","content":"lone \ud83d end"}"#,
        r#"{"role":"tool","n":"@","tool_call_id":17,"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#,
        r#"{"role":"ghost","n":"@","content":{"deep":[[[]]]}}"#,
        r#"{"role":"assistant","n":"@","content":null,"tool_calls":[{"id":5},7]}"#,
        r#"{"role":"assistant","n":"@","function_call":{"name":"f","arguments":"{}"}}"#,
        r#"{"role":"function","n":"@","name":"f","content":"r"}"#,
        r#"{"n":"@","content":123456789012345678901234567890}"#,
        r#"{"role":"user","n":"@","content":[{"type":"text","text":"a\udfffb"},{"type":"text","text":"<document>\ud800</document>"}]}"#,
        r#"{"role":"assistant","n":"@","content":"","reasoning_content":"","tool_calls":[]}"#,
        r#"["@"]"#,
        r#""@""#,
    ])
    .prop_map(|json| vec![json.to_owned()])
}

/// JSON string contents of up to `most` words, with the escapes that writers differ in.
fn text(most: usize) -> impl Strategy<Value = String> {
    let words = vec![
        "the",
        "order",
        "ORD-48213",
        "My name is Ada.",
        "/etc/hosts",
        "\\u00e9t\\u00e9",
        "ü",
        "\\/",
        "\\n",
        "line",
        "42",
        "[x]",
        "\\\"q\\\"",
        "\\ud83d\\ude00",
        "decided: blue",
        "needle",
        "\\t",
    ];
    prop::collection::vec(prop::sample::select(words), 0..most).prop_map(|words| words.join(" "))
}
