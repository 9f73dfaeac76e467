//! Answers that a model without any sense makes under a grammar: whatever it draws, what comes out is what was asked.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::*;
use crate::text::Piece;

const EOS: u32 = 0;

/// The demo model's tokenizer with more special tokens, and a template that writes calls in one form.
fn grammars(call: &str, more: &str) -> (Grammars, Arc<Text>) {
    let demo = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model"));
    let mut tokenizer: Value =
        serde_json::from_str(&std::fs::read_to_string(demo.join("tokenizer.json")).unwrap()).unwrap();
    let mut next = tokenizer["model"]["vocab"].as_object().unwrap().len();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    for mark in ["[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "</think>", "<think>", "<｜tool▁sep｜>"] {
        added.push(json!({
            "id": next, "content": mark, "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false,
        }));
        next += 1;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let template = format!(
        "{{% for t in tools or [] %}}{{{{ t | tojson }}}}{{% endfor %}}{{% for m in messages %}}{{{{ '<|' + m.role + '|>' }}}}\
         {{% if m.tool_calls %}}{{% set f = m.tool_calls[0].function %}}{call}{{% else %}}{{{{ m.content }}}}{{% endif %}}\
         {{% endfor %}}{{% if add_generation_prompt %}}<|assistant|>{more}{{% endif %}}"
    );
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let text = Arc::new(Text::load(folder.path()).unwrap());
    (Grammars::new(&text, u32::try_from(next).unwrap(), &[EOS]), text)
}

const HERMES: &str = r#"{{ '<tool_call>\n{"name": "' + f.name + '", "arguments": ' }}{{ f.arguments | tojson }}{{ '}\n</tool_call>' }}"#;

/// One template for each form.
const FORMS: [&str; 10] = [
    HERMES,
    r#"{"name": "{{ f.name }}", "parameters": {{ f.arguments | tojson }}}"#,
    "[{{ f.name }}({% for p in f.arguments %}{{ p }}={{ f.arguments[p] }}{% endfor %})]",
    r#"[TOOL_CALLS] [{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}]"#,
    "[TOOL_CALLS]{{ f.name }}[ARGS]{{ f.arguments | tojson }}",
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ f.name }}\n```json\n{{ f.arguments | tojson }}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{{ f.name }}<｜tool▁sep｜>{{ f.arguments | tojson }}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "<function={{ f.name }}>{{ f.arguments | tojson }}</function>",
    "{{ m.content }}",
    "<|tool_call_start|>[{{ f.name }}({% for p in f.arguments %}{{ p }}={{ f.arguments[p] }}{% endfor %})]<|tool_call_end|>",
];

fn weather() -> Value {
    json!({
        "type": "object",
        "properties": {
            "city": {"enum": ["Oslo", "Lisbon", "São Paulo"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "exact": {"type": "boolean"},
            "note": {"type": "string", "maxLength": 6},
            "place": {"$ref": "#/$defs/place"},
        },
        "$defs": {"place": {"type": "object", "properties": {"x": {"type": "null"}}, "required": ["x"], "additionalProperties": false}},
        "required": ["city", "days", "place"],
        "additionalProperties": false,
    })
}

fn functions(strict: bool) -> Vec<Function> {
    vec![
        Function { name: "get_weather".to_owned(), parameters: Some(weather()), strict },
        Function { name: "now".to_owned(), parameters: None, strict },
    ]
}

fn tools(choice: Choice, strict: bool, parallel: bool) -> Bounds {
    let tools = Tools { functions: functions(strict), choice, parallel, only: false };
    Bounds { tools: Some(tools), ..Bounds::default() }
}

/// Text that stands before what is drawn, and what was drawn, up to the end or 400 tokens.
fn draw(grammars: &Grammars, text: &Text, bounds: &Bounds, said: &str, seed: u64) -> (String, bool) {
    let mut grammar = grammars.compile(bounds).unwrap().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let vocab = grammar.0.tokens.tok_trie().vocab_size();
    let mut tokens = text.encode(said).unwrap().ids().to_vec();
    let mut ended = false;
    for &token in &tokens {
        let mut logits = vec![0.0; vocab];
        grammar.bar(&mut logits).unwrap();
        assert!(logits[token as usize] > f32::NEG_INFINITY, "`{}` is barred", text.decode(&[token], false));
        ended = grammar.take(token).unwrap();
    }
    while !ended && tokens.len() < 400 {
        let mut logits: Vec<f32> = (0..vocab).map(|_| rng.random::<f32>()).collect();
        // The end is likely, once it may come.
        logits[EOS as usize] += 0.999;
        grammar.bar(&mut logits).unwrap();
        let (token, best) = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        assert!(*best > f32::NEG_INFINITY, "nothing may follow `{}`", text.decode(&tokens, false));
        let token = u32::try_from(token).unwrap();
        ended = grammar.take(token).unwrap() || token == EOS;
        if token != EOS {
            tokens.push(token);
        }
    }
    let mut stream = text.decoder(true);
    let mut shown: String = tokens.iter().filter_map(|&token| stream.push(token)).collect();
    shown.extend(stream.finish());
    (shown, ended)
}

/// Thoughts, text, and calls with their arguments; all calls came to their end.
fn read(text: &Text, answer: &str) -> (String, String, Vec<(String, Value)>) {
    let calls =
        text.tool_calls().map(|format| format.parser_for(&["get_weather".into(), "now".into()].into()));
    let mut reader = text.reader(&[], calls);
    let mut pieces = reader.push(answer);
    pieces.extend(reader.finish());
    let (mut thoughts, mut said, mut calls, mut ended) = (String::new(), String::new(), Vec::new(), 0);
    for piece in pieces {
        match piece {
            Piece::Thinking(more) => thoughts.push_str(&more),
            Piece::Text(more) => said.push_str(&more),
            Piece::CallStart { name, .. } => calls.push((name, String::new())),
            Piece::CallArguments { json_fragment, .. } => {
                calls.last_mut().unwrap().1.push_str(&json_fragment);
            }
            Piece::CallEnd { .. } => ended += 1,
        }
    }
    assert_eq!(ended, calls.len(), "{answer}");
    let parsed = |(name, arguments): (String, String)| (name, serde_json::from_str(&arguments).unwrap());
    (thoughts, said, calls.into_iter().map(parsed).collect())
}

fn check(calls: &[(String, Value)], answer: &str) {
    let schema = jsonschema::validator_for(&weather()).unwrap();
    for (name, arguments) in calls {
        let fits = if name == "now" { *arguments == json!({}) } else { schema.is_valid(arguments) };
        assert!(fits && ["now", "get_weather"].contains(&name.as_str()), "{answer}");
    }
}

#[test]
fn a_required_call_fits_its_schema_in_every_form() {
    for form in FORMS {
        let (grammars, text) = grammars(form, "");
        for parallel in [true, false] {
            let bounds = tools(Choice::Required, false, parallel);
            let mut most = 0;
            for seed in 0..6 {
                let (answer, ended) = draw(&grammars, &text, &bounds, "", seed);
                // A model without sense may call without end; one call comes to its end.
                if ended {
                    let (_, said, calls) = read(&text, &answer);
                    assert_eq!(said, "", "{form}: {answer}");
                    assert!(!calls.is_empty() && (parallel || calls.len() == 1), "{form}: {answer}");
                    check(&calls, &answer);
                    most = most.max(calls.len());
                }
            }
            assert!(most > 0, "{form}");
        }
    }
}

#[test]
fn a_strict_call_is_held_from_where_it_begins() {
    for (form, said) in [
        (FORMS[0], "Let me see.\n<tool_call>"),
        (FORMS[0], "a < b <tool_ <tool_call>"),
        (FORMS[1], "{"),
        (FORMS[1], " <|python_tag|>"),
        (FORMS[2], "\n["),
        (FORMS[3], "Well: [TOOL_CALLS]"),
        (FORMS[4], "[TOOL_CALLS]"),
        (FORMS[5], "<｜tool▁calls▁begin｜>"),
        (FORMS[6], "So<｜tool▁calls▁begin｜>"),
        (FORMS[7], "<function="),
        (FORMS[9], "It is <|tool_call_start|>"),
    ] {
        let (grammars, text) = grammars(form, "");
        let mut whole = 0;
        for seed in 0..4 {
            let (answer, ended) = draw(&grammars, &text, &tools(Choice::Auto, true, false), said, seed);
            if ended {
                let (_, before, calls) = read(&text, &answer);
                assert!(calls.len() == 1 && said.starts_with(before.trim_end()), "{form}: {answer}");
                check(&calls, &answer);
                whole += 1;
            }
        }
        assert!(whole > 0, "{form}");
    }
}

#[test]
fn a_token_that_ends_a_mark_goes_on_as_the_grammar_does() {
    let (grammars, text) = grammars(HERMES, "");
    let mut grammar = grammars.compile(&tools(Choice::Auto, true, false)).unwrap().unwrap();
    for &token in text.encode("Well <tool_call").unwrap().ids().iter() {
        assert!(!grammar.take(token).unwrap());
    }
    let trie = grammar.0.tokens.tok_trie().clone();
    let mut logits = vec![0.0; trie.vocab_size()];
    grammar.bar(&mut logits).unwrap();
    let mut barred = 0;
    for (token, logit) in (0..).zip(&logits) {
        let allowed = match trie.token(token) {
            [b'>', rest @ ..] => rest.iter().all(u8::is_ascii_whitespace) || rest.trim_ascii_start() == b"{",
            _ => true,
        };
        assert_eq!(*logit > f32::NEG_INFINITY, allowed, "{}", trie.token_dbg(token));
        barred += usize::from(!allowed);
    }
    assert!(barred > 0);
}

#[test]
fn text_is_free_where_calls_are_the_models_own_choice() {
    let (grammars, text) = grammars(HERMES, "");
    let said = "No call: {\"name\": 1} <tool> [f(a=1)] [TOOL_CALLS] <tool_cal";
    let (answer, _) = draw(&grammars, &text, &tools(Choice::Auto, true, true), said, 1);
    assert!(answer.starts_with("No call: {\"name\": 1}"), "{answer}");
    assert!(grammars.compile(&tools(Choice::Auto, false, true)).unwrap().is_none());
    assert!(grammars.compile(&Bounds::default()).unwrap().is_none());
}

#[test]
fn a_format_beside_tools_holds_the_text() {
    let (grammars, text) = grammars(HERMES, "");
    let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false});
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut bounds = tools(Choice::Auto, true, false);
    bounds.format = Some(Format::JsonSchema(schema));
    let (mut texts, mut called) = (0, 0);
    for seed in 0..24 {
        let (answer, ended) = draw(&grammars, &text, &bounds, "", seed);
        let (_, said, calls) = read(&text, &answer);
        assert!(ended && calls.len() <= 1, "{answer}");
        check(&calls, &answer);
        called += calls.len();
        if calls.is_empty() {
            assert!(validator.is_valid(&serde_json::from_str(&said).unwrap()), "{answer}");
            texts += 1;
        }
    }
    assert!(texts > 0 && called > 0, "{texts} {called}");
}

#[test]
fn thoughts_are_free_and_what_follows_is_held() {
    let (grammars, text) = grammars(HERMES, "<think>");
    assert!(text.thinking().is_some());
    let format =
        Bounds { format: Some(Format::JsonSchema(json!({"enum": [{"a": 1}]}))), ..Bounds::default() };
    for (bounds, calls) in [(format, 0), (tools(Choice::Required, false, false), 1)] {
        let bounds = Bounds { thinking: Some(false), ..bounds };
        let opened = Bounds { thinking: Some(true), ..bounds.clone() };
        for (bounds, said) in [
            (&opened, "I <tool_call> think</think>"),
            (&bounds, "<think>I {think</think>\n\n"),
            (&bounds, ""),
        ] {
            let (answer, ended) = draw(&grammars, &text, bounds, said, 5);
            assert!(ended, "{answer}");
            let answer = if bounds.thinking == Some(true) { format!("<think>{answer}") } else { answer };
            let (_, text_of, called) = read(&text, &answer);
            assert_eq!(called.len(), calls, "{answer}");
            if calls == 0 {
                assert_eq!(serde_json::from_str::<Value>(&text_of).unwrap(), json!({"a": 1}), "{answer}");
            }
        }
        // No end of the answer inside of the thoughts.
        let mut grammar = grammars.compile(&opened).unwrap().unwrap();
        let mut logits = vec![0.0; grammar.0.tokens.tok_trie().vocab_size()];
        grammar.bar(&mut logits).unwrap();
        assert!(logits[EOS as usize] == f32::NEG_INFINITY && logits[400] == 0.0);
    }
}

#[test]
fn what_cannot_be_held_is_told_with_its_place() {
    let (grammars, _) = grammars(HERMES, "");
    let with = |parameters: Value| {
        let mut bounds = tools(Choice::Required, false, true);
        bounds.tools.as_mut().unwrap().functions[1].parameters = Some(parameters);
        grammars.compile(&bounds).unwrap_err().to_string()
    };
    for parameters in [
        json!({"type": "nonsense"}),
        json!(7),
        json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}),
        json!({"properties": {"a": {"$ref": "https://example.com/x"}}}),
    ] {
        let message = with(parameters);
        assert!(message.starts_with("`tools`: function `now`: `parameters"), "{message}");
    }
    let (python, _) = self::grammars(FORMS[2], "");
    let mut bounds = tools(Choice::Required, false, true);
    bounds.tools.as_mut().unwrap().functions[0].parameters = Some(json!({"properties": {"two words": {}}}));
    let message = python.compile(&bounds).unwrap_err().to_string();
    assert_eq!(
        message,
        "`tools`: function `get_weather`: `parameters.properties`: `two words` is no name in Python"
    );
    let mut bounds = tools(Choice::Auto, true, true);
    bounds.format = Some(Format::JsonSchema(json!({"type": "nonsense"})));
    assert_eq!(grammars.compile(&bounds).unwrap_err().param, "response_format");
    let none =
        Bounds { tools: Some(Tools { functions: Vec::new(), ..bounds.tools.unwrap() }), ..Bounds::default() };
    assert_eq!(
        grammars
            .compile(&Bounds {
                tools: none.tools.map(|tools| Tools { choice: Choice::Required, ..tools }),
                ..Bounds::default()
            })
            .unwrap_err()
            .param,
        "tool_choice"
    );
}

#[test]
fn what_was_asked_before_is_kept_and_comes_fresh() {
    let (grammars, text) = grammars(HERMES, "");
    let bounds = tools(Choice::Required, false, false);
    let first = draw(&grammars, &text, &bounds, "", 3);
    assert_eq!(draw(&grammars, &text, &bounds, "", 3), first);
    for parallel in 0..20 {
        let mut other = bounds.clone();
        other.tools.as_mut().unwrap().functions[0].name = format!("f{parallel}");
        grammars.compile(&other).unwrap();
    }
    assert_eq!(grammars.kept.lock().unwrap().len(), KEPT);
    assert_eq!(draw(&grammars, &text, &bounds, "", 3), first);
}
