use proptest::prelude::*;

use super::{Piece, ToolCallFormat};

/// What a whole answer comes to: texts and fragments joined.
fn pieces(chunks: &[&str]) -> Vec<Piece> {
    let mut parser = ToolCallFormat::Hermes.parser();
    let mut pieces: Vec<Piece> = chunks.iter().flat_map(|chunk| parser.push(chunk)).collect();
    pieces.extend(parser.finish());
    join(pieces)
}

fn join(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (Some(Piece::Text(last)), Piece::Text(text)) => last.push_str(&text),
            (
                Some(Piece::CallArguments { json_fragment: last, .. }),
                Piece::CallArguments { json_fragment, .. },
            ) => {
                last.push_str(&json_fragment);
            }
            (_, piece) => joined.push(piece),
        }
    }
    joined
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

fn call(index: usize, name: &str, arguments: &str) -> [Piece; 3] {
    [
        Piece::CallStart { index, name: name.to_owned() },
        Piece::CallArguments { index, json_fragment: arguments.to_owned() },
        Piece::CallEnd { index },
    ]
}

#[test]
fn a_call_is_taken_apart() {
    let answer =
        "<tool_call>\n{\"name\": \"get\", \"arguments\": {\"id\": \"ORD-1\", \"n\": [1, {}]}}\n</tool_call>";
    assert_eq!(pieces(&[answer]), call(0, "get", r#"{"id": "ORD-1", "n": [1, {}]}"#));
}

#[test]
fn text_around_calls_stays_and_layout_goes() {
    let one = r#"<tool_call>{"name":"a","arguments":{}}</tool_call>"#;
    let two = "<tool_call>\n{\"name\": \"b\"}\n</tool_call>";
    let answer = format!("Let me see.\n{one}\n{two}\n\nDone.");
    let mut expected = vec![text("Let me see.")];
    expected.extend(call(0, "a", "{}"));
    expected.extend(call(1, "b", "{}"));
    expected.push(text("\n\nDone."));
    assert_eq!(pieces(&[&answer]), expected);
    assert_eq!(pieces(&[&format!(" \n{one}\n")]), call(0, "a", "{}"));
}

#[test]
fn arguments_stream_as_they_are_written() {
    let mut parser = ToolCallFormat::Hermes.parser();
    assert_eq!(parser.push("<tool_call>\n{\"name\": \"get\", \"argu"), []);
    let start = Piece::CallStart { index: 0, name: "get".to_owned() };
    let fragment = |text: &str| Piece::CallArguments { index: 0, json_fragment: text.to_owned() };
    assert_eq!(parser.push("ments\": {\"a"), [start, fragment("{\"a")]);
    assert_eq!(parser.push("\": 1}"), [fragment("\": 1}")]);
    assert_eq!(parser.push("}"), [Piece::CallEnd { index: 0 }]);
    assert_eq!(parser.push("\n</tool_call>"), []);
    assert_eq!(parser.finish(), []);
}

#[test]
fn arguments_may_be_a_text_come_first_or_be_null() {
    let answer = r#"<tool_call>{"name": "f", "arguments": "{\"a\": \"\ud83d\ude00\\n\"}"}</tool_call>"#;
    assert_eq!(pieces(&[answer]), call(0, "f", r#"{"a": "😀\n"}"#));
    let answer = r#"<tool_call>{"arguments": {"a": 1}, "id": 7, "name": "f"}</tool_call>"#;
    assert_eq!(pieces(&[answer]), call(0, "f", r#"{"a": 1}"#));
    let answer = r#"<tool_call>{"name": "f", "arguments": null}</tool_call>"#;
    assert_eq!(pieces(&[answer]), call(0, "f", "{}"));
}

#[test]
fn a_mark_inside_a_string_is_no_mark() {
    let answer = r#"<tool_call>{"name": "say", "arguments": {"t": "</tool_call><tool_call>{"}}</tool_call>"#;
    assert_eq!(pieces(&[answer]), call(0, "say", r#"{"t": "</tool_call><tool_call>{"}"#));
}

#[test]
fn what_is_no_call_comes_back_as_text() {
    for answer in [
        "",
        "plain < text <tool",
        "<tool_call>",
        "<tool_call>\n{\"name\": \"f\"",
        "<tool_call>\n{\"name\": \"f\"}}\n",
        "<tool_call>[1]</tool_call>",
        "<tool_call>get_x\n<arg_key>a</arg_key></tool_call>",
        "a\n<tool_call>{\"name\": 3, \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"parameters\": {}}</tool_call>",
        "<tool_call>{\"arguments\": {}}</tool_call>",
        "<tool_call>{'name': 'f', 'arguments': {}}</tool_call>",
        "</tool_call>",
        "<<tool_call>>",
        "{\"name\": \"f\", \"arguments\": {}}",
    ] {
        let expected: Vec<Piece> = if answer.contains("}}\n") {
            // Complete before the superfluous brace.
            call(0, "f", "{}").into_iter().chain([text("}\n")]).collect()
        } else if answer.is_empty() {
            Vec::new()
        } else {
            vec![text(answer)]
        };
        assert_eq!(pieces(&[answer]), expected, "{answer}");
    }
}

#[test]
fn a_good_call_behind_a_bad_one_is_found() {
    let answer = "<tool_call>{\"name: 1</tool_call>\n<tool_call>{\"name\": \"f\"}</tool_call>";
    let mut expected = vec![text("<tool_call>{\"name: 1</tool_call>")];
    expected.extend(call(0, "f", "{}"));
    assert_eq!(pieces(&[answer]), expected);
}

#[test]
fn broken_arguments_leave_the_call_without_an_end() {
    let answer = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": tru}}</tool_call>";
    let expected = [
        Piece::CallStart { index: 0, name: "f".to_owned() },
        Piece::CallArguments { index: 0, json_fragment: "{\"a\": tru".to_owned() },
        text("}}</tool_call>"),
    ];
    assert_eq!(pieces(&[answer]), expected);
    let cut = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"x";
    assert_eq!(
        pieces(&[cut])[1..],
        [Piece::CallArguments { index: 0, json_fragment: "{\"a\": \"x".to_owned() }]
    );
    assert_eq!(pieces(&[cut]).len(), 2);
}

/// Answers made of parts of calls, in and out of order.
fn answers() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "<tool_call>",
        "</tool_call>",
        "\n",
        " ",
        "{\"name\": \"f\", \"arguments\": ",
        "{\"a\": [1, \"é\"]}",
        "\"{\\\"a\\\": 1}\"",
        "}",
        "{",
        "\"",
        ",",
        "\"name\": \"g\"",
        "\"arguments\": {}",
        "text",
        "<tool_",
        "call>",
        "null",
        "\\",
        "😀",
    ]);
    prop::collection::vec(parts, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn cutting_makes_no_difference(answer in answers(), seed in prop::collection::vec(1_usize..6, 1..20)) {
        let mut chunks = Vec::new();
        let mut rest = answer.as_str();
        for size in seed.iter().cycle() {
            let Some((at, _)) = rest.char_indices().nth(*size) else { break };
            let (chunk, left) = rest.split_at(at);
            chunks.push(chunk);
            rest = left;
        }
        chunks.push(rest);
        prop_assert_eq!(pieces(&chunks), pieces(&[&answer]));
    }

    #[test]
    fn without_calls_all_text_comes_back(answer in answers()) {
        let pieces = pieces(&[&answer]);
        let started = pieces.iter().any(|piece| !matches!(piece, Piece::Text(_)));
        if !started {
            let texts: String = pieces.iter().map(|piece| match piece { Piece::Text(text) => text.as_str(), _ => "" }).collect();
            prop_assert_eq!(texts, answer);
        }
    }

    #[test]
    fn ended_calls_have_valid_arguments_and_nothing_is_invented(answer in answers()) {
        let mut open: Option<String> = None;
        for piece in pieces(&[&answer]) {
            match piece {
                Piece::CallStart { .. } => open = Some(String::new()),
                Piece::CallArguments { json_fragment, .. } => open.as_mut().unwrap().push_str(&json_fragment),
                Piece::CallEnd { .. } => {
                    let arguments = open.take().unwrap();
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&arguments).is_ok(), "{}", arguments);
                }
                Piece::Text(text) => prop_assert!(answer.contains(text.as_str()), "{}", text),
                Piece::Thinking(thought) => prop_assert!(false, "{}", thought),
            }
        }
    }

    #[test]
    fn any_call_comes_through(name in "[^\\s]{1,8}", key in ".{0,6}", value in ".{0,12}", before in "[a-z ]{0,8}") {
        let arguments = serde_json::json!({key: value});
        let object = serde_json::json!({"name": name, "arguments": arguments});
        let answer = format!("{before}\n<tool_call>\n{object}\n</tool_call>");
        let found = pieces(&[&answer]);
        let [start, fragment, _] = call(0, &name, &arguments.to_string());
        prop_assert!(found.contains(&start) && found.contains(&fragment), "{:?}", found);
    }
}
