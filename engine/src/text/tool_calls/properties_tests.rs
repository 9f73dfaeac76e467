//! What holds of any answer in any family.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::ToolCallFormat::{self, FunctionTag, Llama, Mistral, Pythonic};
use super::families_tests::{Read, calls, one, read};

fn formats() -> impl Strategy<Value = ToolCallFormat> {
    prop::sample::select(ToolCallFormat::ALL.to_vec())
}

/// Answers made of parts of calls, in and out of order.
fn answers() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "<tool_call>",
        "</tool_call>",
        "<|python_tag|>",
        "<|python_start|>",
        "<|tool_call_start|>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "<function=",
        ">",
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "```json\n",
        "```",
        "{\"name\": \"f\", \"parameters\": ",
        "{\"name\": \"f\", \"arguments\": ",
        "{\"a\": [1, \"é\"]}",
        "f(",
        "a=1",
        "b='x\\n'",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ";",
        " ",
        "\n",
        "f",
        "text",
        "'",
        "\"",
        "\\",
        "😀",
        "<",
        "[TOOL",
    ]);
    prop::collection::vec(parts, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn cutting_makes_no_difference(
        format in formats(),
        answer in answers(),
        sizes in prop::collection::vec(1_usize..6, 1..10),
    ) {
        let (mut chunks, mut rest) = (Vec::new(), answer.as_str());
        for size in sizes.iter().cycle() {
            let Some((at, _)) = rest.char_indices().nth(*size) else { break };
            chunks.push(&rest[..at]);
            rest = &rest[at..];
        }
        chunks.push(rest);
        prop_assert_eq!(read(format, &chunks), read(format, &[&answer]));
    }

    #[test]
    fn without_calls_all_text_comes_back_and_ended_calls_are_valid(format in formats(), answer in answers()) {
        let read = read(format, &[&answer]);
        if read.calls.is_empty() {
            prop_assert_eq!(&read.text, &answer);
        }
        for (name, arguments, ended) in &read.calls {
            prop_assert!(!name.is_empty());
            if *ended {
                prop_assert!(serde_json::from_str::<Value>(arguments).is_ok(), "{}", arguments);
            }
        }
    }

    #[test]
    fn python_strings_are_told_as_they_are(value in ".{0,16}") {
        let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
        let answer = format!("[f(a='{quoted}')]");
        prop_assert_eq!(calls(Pythonic, &answer), one("f", json!({"a": value})));
    }

    #[test]
    fn arguments_are_passed_on_byte_by_byte(value in ".{0,12}", number in -1e9_f64..1e9) {
        let arguments = format!("{{ \"a\" :{}, \"b\":[{number:.3}] }}", json!(value));
        for (format, answer) in [
            (Llama, format!("{{\"name\": \"f\", \"parameters\": {arguments}}}")),
            (Mistral, format!("[TOOL_CALLS]f[ARGS]{arguments}")),
            (FunctionTag, format!("<function=f>{arguments}</function>")),
        ] {
            let wanted = Read { text: String::new(), calls: vec![("f".into(), arguments.clone(), true)] };
            prop_assert_eq!(read(format, &[&answer]), wanted);
        }
    }
}
