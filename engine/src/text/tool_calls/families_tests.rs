//! Calls of each family, as vLLM's tests of its tool parsers have them, and the templates that tell the families.

use serde_json::{Value, json};

use super::{Piece, ToolCallFormat, detect};
use crate::text::template::tests::compile;

use ToolCallFormat::{
    DeepSeek, DeepSeekPlain, FunctionTag, Hermes, Json, Lfm2, Llama, Mistral, MistralNamed, Pythonic,
};

/// An answer's text, its calls, and whether each call came to its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) text: String,
    pub(super) calls: Vec<(String, String, bool)>,
}

pub(super) fn read(format: ToolCallFormat, chunks: &[&str]) -> Read {
    let names = ["get_weather", "f", "g", "add", "searchTool", "getOpenIncidentsTool", "register_user", "h"];
    let mut parser = format.parser_for(&names.map(str::to_owned).into());
    let mut pieces: Vec<Piece> = chunks.iter().flat_map(|chunk| parser.push(chunk)).collect();
    pieces.extend(parser.finish());
    let mut read = Read::default();
    for piece in pieces {
        match piece {
            Piece::Text(text) => read.text.push_str(&text),
            Piece::Thinking(thoughts) => panic!("{thoughts}"),
            Piece::CallStart { index, name } => {
                assert_eq!(index, read.calls.len());
                read.calls.push((name, String::new(), false));
            }
            Piece::CallArguments { index, json_fragment } => read.calls[index].1.push_str(&json_fragment),
            Piece::CallEnd { index } => read.calls[index].2 = true,
        }
    }
    read
}

pub(super) fn calls(format: ToolCallFormat, answer: &str) -> Vec<(String, Value)> {
    let read = read(format, &[answer]);
    assert_eq!(read.text, "", "{answer}");
    let parsed = |(name, arguments, ended): (String, String, bool)| {
        assert!(ended, "{answer}");
        (name, serde_json::from_str(&arguments).unwrap())
    };
    read.calls.into_iter().map(parsed).collect()
}

pub(super) fn one(name: &str, arguments: Value) -> Vec<(String, Value)> {
    vec![(name.to_owned(), arguments)]
}

#[test]
fn llama_writes_objects() {
    let query = |text: &str| json!({"query": text});
    for (answer, wanted) in [
        (
            r#"{"name": "searchTool", "parameters": {"query": "q", "limit": 10}}"#,
            one("searchTool", json!({"query": "q", "limit": 10})),
        ),
        (
            r#"<|python_tag|>{"name": "searchTool", "parameters": {"query": "q"}}"#,
            one("searchTool", query("q")),
        ),
        (r#"{"name": "searchTool", "arguments": {"query": "test"}}"#, one("searchTool", query("test"))),
        (r#"{"type": "function", "name": "f", "parameters": {}}"#, one("f", json!({}))),
        (
            r#"{"name": "searchTool", "parameters": {"query": "test1"}} ; {"name": "getOpenIncidentsTool", "parameters": {}} ; {"name": "searchTool", "parameters": {"query": "test2"}}"#,
            vec![
                ("searchTool".to_owned(), query("test1")),
                ("getOpenIncidentsTool".to_owned(), json!({})),
                ("searchTool".to_owned(), query("test2")),
            ],
        ),
        (
            r#"{"name": "searchTool", "parameters": {"query": "test {value} [complex]","nested": {"inner": "more {brackets}"}}}"#,
            one(
                "searchTool",
                json!({"query": "test {value} [complex]", "nested": {"inner": "more {brackets}"}}),
            ),
        ),
        (
            r#"{"name": "f", "parameters": {"text": "He said \"Hello {world}\""}}"#,
            one("f", json!({"text": "He said \"Hello {world}\""})),
        ),
    ] {
        assert_eq!(calls(Llama, answer), wanted, "{answer}");
    }
}

#[test]
fn pythonic_calls_become_json() {
    let more = "register_user(name='John Doe', age=37, address={'city': 'San Francisco', 'state': 'CA'}, role=None, passed_test=True, aliases=['John', 'Johnny'])";
    let more_json = r#"{"name": "John Doe", "age": 37, "address": {"city": "San Francisco", "state": "CA"}, "role": null, "passed_test": true, "aliases": ["John", "Johnny"]}"#;
    let weather = "get_weather(city='San Francisco', metric='celsius')";
    let weather_json = r#"{"city": "San Francisco", "metric": "celsius"}"#;
    for (answer, wanted) in [
        (format!("[{weather}]"), vec![("get_weather", weather_json)]),
        (format!("[{more}]"), vec![("register_user", more_json)]),
        ("[get_weather()]".to_owned(), vec![("get_weather", "{}")]),
        ("[f(additional_data={})]".to_owned(), vec![("f", r#"{"additional_data": {}}"#)]),
        ("[f(steps=[])]".to_owned(), vec![("f", r#"{"steps": []}"#)]),
        (
            r#"[get_weather(city='Martha\'s Vineyard', metric='\"cool units\"')]"#.to_owned(),
            vec![("get_weather", r#"{"city": "Martha's Vineyard", "metric": "\"cool units\""}"#)],
        ),
        (format!("[{weather}, {more}]"), vec![("get_weather", weather_json), ("register_user", more_json)]),
        (
            "<|python_start|>[f(city='LA', metric='C')]<|python_end|>".to_owned(),
            vec![("f", r#"{"city": "LA", "metric": "C"}"#)],
        ),
        (
            "<|python_start|>[f(city='LA',metric='C'),g(age=9)]".to_owned(),
            vec![("f", r#"{"city": "LA", "metric": "C"}"#), ("g", r#"{"age": 9}"#)],
        ),
        (
            "[ f( a = -1.5e3 , b=.5, c=[1,2,], d={'x':true,}, e='\\u00e9\\n\\d', ) ]".to_owned(),
            vec![("f", r#"{"a": -1.5e3, "b": 0.5, "c": [1, 2], "d": {"x": true}, "e": "é\n\\d"}"#)],
        ),
        (
            r"[f(a='\ud83d\ude00', b='\ud83dx')]".to_owned(),
            vec![("f", "{\"a\": \"😀\", \"b\": \"\u{fffd}x\"}")],
        ),
    ] {
        let wanted: Vec<_> = wanted.iter().map(|(n, a)| ((*n).to_owned(), (*a).to_owned(), true)).collect();
        assert_eq!(read(Pythonic, &[&answer]), Read { text: String::new(), calls: wanted }, "{answer}");
    }
}

#[test]
fn lfm2_writes_either_between_marks() {
    for inside in [r#"[{"name": "f", "arguments": {"a": 1}}]"#, "[f(a=1)]", " [ f(a=1) ]"] {
        let answer = format!("<|tool_call_start|>{inside}<|tool_call_end|>");
        assert_eq!(calls(Lfm2, &answer), one("f", json!({"a": 1})), "{answer}");
        let answer = format!("{answer}Checking the status.");
        assert_eq!(read(Lfm2, &[&answer]).text, "Checking the status.");
    }
}

#[test]
fn mistral_writes_a_list_or_names() {
    let sum = json!({"a": 3.5, "b": 4});
    for answer in [
        r#"[TOOL_CALLS][{"name": "add", "arguments":{"a": 3.5, "b": 4}}]"#,
        r#"[TOOL_CALLS]  [ {"arguments" : {"a": 3.5, "b": 4}, "name":"add" } ]"#,
        r#"[TOOL_CALLS] [{"name": "add", "arguments": {"a": 3.5, "b": 4}, "id": "plimsoll1"}]"#,
        r#"[TOOL_CALLS]add{"a": 3.5, "b": 4}"#,
        r#"[TOOL_CALLS]add[ARGS]{"a": 3.5, "b": 4}"#,
        r#"[TOOL_CALLS]add[CALL_ID]plimsoll1[ARGS]{"a": 3.5, "b": 4}"#,
    ] {
        assert_eq!(calls(Mistral, answer), one("add", sum.clone()), "{answer}");
    }
    for answer in [
        r#"[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments":{}}]"#,
        r#"[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}"#,
    ] {
        let wanted = vec![("f".to_owned(), json!({"a": 1})), ("g".to_owned(), json!({}))];
        assert_eq!(calls(Mistral, answer), wanted, "{answer}");
    }
}

#[test]
fn deepseek_writes_between_marks() {
    let fenced = |name: &str, arguments: &str| {
        format!(
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"
        )
    };
    let answer = format!(
        "<｜tool▁calls▁begin｜>{}\n{}<｜tool▁calls▁end｜>",
        fenced("f", r#"{"city": "Tokyo"}"#),
        fenced("g", r#"{"path": "C:\\Users", "n": [1, {}]}"#),
    );
    let wanted = vec![
        ("f".to_owned(), json!({"city": "Tokyo"})),
        ("g".to_owned(), json!({"path": "C:\\Users", "n": [1, {}]})),
    ];
    assert_eq!(calls(DeepSeek, &answer), wanted);
    let plain = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"city\": \"Tokyo\"}<｜tool▁call▁end｜><｜tool▁call▁begin｜>g<｜tool▁sep｜>{\"path\": \"C:\\\\Users\", \"n\": [1, {}]}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    assert_eq!(calls(DeepSeekPlain, plain), wanted);
    // As vLLM's list of malformed outputs: no call comes to its end.
    let cut = answer.replace("\"}\n", "\"\n");
    assert!(read(DeepSeek, &[&cut]).calls.iter().any(|(name, _, ended)| name == "f" && !ended), "{cut}");
    let bare = "<｜tool▁calls▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"city\": \"Tokyo\"}\n```<｜tool▁calls▁end｜>";
    assert_eq!(read(DeepSeek, &[bare]), Read { text: bare.to_owned(), calls: Vec::new() });
}

#[test]
fn others_are_read_too() {
    let answer = "<function=f>{\"a\": \"</function>\"}</function>";
    assert_eq!(calls(FunctionTag, answer), one("f", json!({"a": "</function>"})));
    for answer in [
        r#"{"name": "f", "arguments": {"a": 1}}"#,
        r#" [{"name": "f", "parameters": {"a": 1}}]"#,
        r#"{"name": "f", "parameters": "{\"a\": 1}"}"#,
    ] {
        assert_eq!(calls(Json, answer), one("f", json!({"a": 1})), "{answer}");
    }
}

#[test]
fn what_is_no_call_comes_back_unchanged() {
    for (format, answer) in [
        (Llama, r#"{"answer": 42}"#),
        (Llama, r#"{"name": "Oslo", "parameters": {}}"#),
        (Llama, r#"Call {"name": "f", "parameters": {}}"#),
        (Llama, "<|python_tag|>print(1)"),
        (Llama, "{ int x; }"),
        (Llama, " {"),
        (Json, r#"[1, 2]"#),
        (Json, r#"{"name": "f", "age": 3}"#),
        (Json, "[]"),
        (Pythonic, "[1] as in the paper"),
        (Pythonic, "[link](https://example.com)"),
        (Pythonic, "[unknown(a=1)]"),
        (Pythonic, "[]"),
        (Pythonic, "See [f(a=1)]"),
        (Mistral, "[TOOL_CALLS] and then prose"),
        (Mistral, "[TOOL_CALLS]two words{}"),
        (Mistral, "[TOOL_"),
        (DeepSeek, "<｜tool▁calls▁begin｜>"),
        (FunctionTag, "<function=f>()</function>"),
        (Hermes, "<tool_call>x"),
        (Lfm2, "<|tool_call_start|>[ [f()]<|tool_call_end|>"),
        (Lfm2, "<|tool_call_start|>[1]"),
    ] {
        let wanted = Read { text: answer.to_owned(), calls: Vec::new() };
        assert_eq!(read(format, &[answer]), wanted, "{format:?}");
    }
}

#[test]
fn a_call_that_was_cut_off_has_no_end() {
    for (format, answer, arguments) in [
        (Llama, r#"{"name": "f", "parameters": {"a": "x"#, r#"{"a": "x"#),
        (Pythonic, "[f(a='x', b=[1, 2", r#"{"a": "x", "b": [1, "#),
        (Pythonic, "[f(a=x)]", r#"{"a": "#),
        (Mistral, r#"[TOOL_CALLS]f[ARGS]{"a""#, r#"{"a""#),
        (Json, r#"[{"name": "f", "arguments": {"#, "{"),
    ] {
        assert_eq!(
            read(format, &[answer]).calls,
            [("f".to_owned(), arguments.to_owned(), false)],
            "{answer}"
        );
    }
}

#[test]
fn text_around_calls_stays() {
    let answer = r#"{"name": "f", "parameters": {}} Would you like more?"#;
    assert_eq!(read(Llama, &[answer]).text, " Would you like more?");
    let answer = "Let me see.\n[TOOL_CALLS]f{}\nDone";
    assert_eq!(read(Mistral, &[answer]).text, "Let me see.\nDone");
    let broken = r#"[TOOL_CALLS][{"name": "f", "arguments": {}}, oops"#;
    assert_eq!(
        read(Mistral, &[broken]),
        Read { text: ", oops".into(), calls: vec![("f".into(), "{}".into(), true)] }
    );
}

/// How published templates write a call, each in its own line.
const WRITTEN: [(&str, ToolCallFormat); 11] = [
    (
        r#"{{ '<tool_call>\n{"name": "' + f.name + '", "arguments": ' }}{{ f.arguments | tojson }}{{ '}\n</tool_call>' }}"#,
        Hermes,
    ),
    (
        r#"{{ '{"name": "' + f.name + '", ' }}{{ '"parameters": ' }}{{ f.arguments | tojson }}{{ "}" }}"#,
        Llama,
    ),
    (
        r#"{{ '<|python_tag|>{"name": "' + f.name + '", "parameters": ' }}{{ f.arguments | tojson }}{{ "}" }}"#,
        Llama,
    ),
    (
        "[{{ f.name + '(' }}{% for p in f.arguments %}{{ p + '=' }}{{ '%s' | format(f.arguments[p]) }}{% if not loop.last %}, {% endif %}{% endfor %})]",
        Pythonic,
    ),
    (
        "[{{ f.name + '(' }}{% for p in f.arguments %}{{ p + '=\"' }}{{ '%s' | format(f.arguments[p]) }}\"{% endfor %})]",
        Pythonic,
    ),
    (
        r#"{{ '[TOOL_CALLS] [' }}{% set out = f | tojson %}{{ out[:-1] }}{{ ', "id": "abcdefghi"}]' }}"#,
        Mistral,
    ),
    (
        "{{ '[TOOL_CALLS]' + f.name + '[ARGS]' + (f.arguments if f.arguments is string else f.arguments | tojson) }}",
        MistralNamed,
    ),
    (
        "{{ '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>' + f.name + '\\n```json\\n' + f.arguments + '\\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>' }}",
        DeepSeek,
    ),
    (
        "{{ '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + f.name + '<｜tool▁sep｜>' + f.arguments + '<｜tool▁call▁end｜><｜tool▁calls▁end｜>' }}",
        DeepSeekPlain,
    ),
    (
        "<|tool_call_start|>[{{ f.name }}({% for p in f.arguments %}{{ p }}={{ f.arguments[p] }}{% endfor %})]<|tool_call_end|>",
        Lfm2,
    ),
    ("{{ '<function=' + f.name + '>' }}{{ f.arguments | tojson }}</function>", FunctionTag),
];

#[test]
fn the_template_tells_the_family() {
    let frame = |call: &str| {
        format!(
            "{{% for t in tools or [] %}}{{{{ t | tojson }}}}{{% endfor %}}{{% for m in messages %}}{{{{ '<|' + m.role + '|>' }}}}\
             {{% if m.tool_calls %}}{{% set f = m.tool_calls[0].function %}}{call}{{% else %}}{{{{ m.content }}}}{{% endif %}}<|end|>\
             {{% endfor %}}{{% if add_generation_prompt %}}<|assistant|>{{% endif %}}"
        )
    };
    for (call, format) in WRITTEN {
        let templates = compile(&[("default", &frame(call))]).unwrap();
        assert_eq!(detect(&templates), Some(format), "{call}");
    }
    let silent = compile(&[("default", &frame("{{ m.content }}"))]).unwrap();
    assert_eq!(detect(&silent), Some(Json));
    let marked = frame("{{ m.content }}").replace("{{ t | tojson }}", "<|tool_list_start|>{{ t | tojson }}");
    assert_eq!(detect(&compile(&[("default", &marked)]).unwrap()), Some(Lfm2));
    let without = compile(&[("default", "{% for m in messages %}{{ m.content }}{% endfor %}")]).unwrap();
    assert_eq!(detect(&without), None);
}
