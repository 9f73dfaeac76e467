use super::*;

fn read(json: &str) -> Result<Options, OptionError> {
    let fields: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(json).unwrap();
    Options::read(fields.iter().map(|(name, raw)| (name.as_str(), raw.get())), &Sampling::default())
}

#[test]
fn everything_may_be_absent_or_null() {
    let options = read(r#"{"temperature":null,"stop":null,"messages":"not looked at","user":5}"#).unwrap();
    assert!(!options.stream && options.max_tokens.is_none() && options.stop.is_empty());
}

#[test]
fn newer_limit_wins() {
    assert_eq!(read(r#"{"max_tokens":5,"max_completion_tokens":7}"#).unwrap().max_tokens, Some(7));
}

#[test]
fn a_wrong_value_is_cut() {
    let error = read(&format!(r#"{{"temperature":"{}"}}"#, "x".repeat(5000))).unwrap_err();
    let shown = "x".repeat(80);
    let want = format!("`temperature`: invalid type: string \"{shown}…\", expected a number");
    assert_eq!(error.message, want);
}

#[test]
fn a_format_has_a_longest_length() {
    let format = |length: usize| {
        let empty = r#"{"type":"json_schema","json_schema":{"schema":{"description":""}}}"#;
        let filled = format!(r#""description":"{}""#, "x".repeat(length - empty.len()));
        let format = empty.replace(r#""description":"""#, &filled);
        assert_eq!(format.len(), length);
        read(&format!(r#"{{"response_format":{format}}}"#))
    };
    assert!(format(LONGEST_FORMAT).unwrap().format.is_some());
    let error = format(LONGEST_FORMAT + 1).unwrap_err();
    assert_eq!(
        (error.param.as_str(), error.message.as_str()),
        ("response_format", "`response_format` is 262145 bytes, at most 262144 are taken")
    );
}

#[test]
fn a_model_is_kept_as_ollama_spells_it() {
    let minutes = |minutes: u64| Some(KeepAlive::For(std::time::Duration::from_secs(60 * minutes)));
    for (json, kept) in [
        ("{}", None),
        (r#"{"keep_alive":"5m"}"#, minutes(5)),
        (r#"{"keep_alive":600}"#, minutes(10)),
        (r#"{"keep_alive":"600"}"#, minutes(10)),
        (r#"{"keep_alive":0}"#, minutes(0)),
        (r#"{"keep_alive":-1}"#, Some(KeepAlive::Always)),
        (r#"{"keep_alive":"-1m"}"#, Some(KeepAlive::Always)),
    ] {
        assert_eq!(read(json).unwrap().keep_alive, kept, "{json}");
    }
}

#[test]
fn faults_name_their_field() {
    for (json, param) in [
        (r#"{"temperature":"hot"}"#, "temperature"),
        (r#"{"temperature":3}"#, "temperature"),
        (r#"{"max_tokens":0}"#, "max_tokens"),
        (r#"{"max_tokens":-1}"#, "max_tokens"),
        (r#"{"n":0}"#, "n"),
        (r#"{"n":9}"#, "n"),
        (r#"{"best_of":2}"#, "best_of"),
        (r#"{"n":2,"best_of":3}"#, "best_of"),
        (r#"{"stop":[""]}"#, "stop"),
        (r#"{"stream_options":{"include_usage":1}}"#, "stream_options.include_usage"),
        (r#"{"response_format":{"type":"xml"}}"#, "response_format"),
        (r#"{"response_format":{"type":"json_schema"}}"#, "response_format"),
        (r#"{"parallel_tool_calls":"no"}"#, "parallel_tool_calls"),
        (r#"{"guided_json":{"type":"object"}}"#, "guided_json"),
        (r#"{"structured_outputs":{"json":{}}}"#, "structured_outputs"),
        (r#"{"modalities":["text","audio"]}"#, "modalities"),
        (r#"{"function_call":{"name":"f"}}"#, "function_call"),
        (r#"{"min_tokens":9,"max_tokens":5}"#, "min_tokens"),
        (r#"{"min_tokens":9,"response_format":{"type":"json_object"}}"#, "min_tokens"),
        (r#"{"tool_choice":"must"}"#, "tool_choice"),
        (r#"{"tool_choice":{"type":"function"}}"#, "tool_choice"),
        (r#"{"tool_choice":{"type":"custom","custom":{"name":"f"}}}"#, "tool_choice"),
        (r#"{"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto"}}}"#, "tool_choice"),
        (r#"{"logit_bias":{"a":1}}"#, "logit_bias"),
        (r#"{"logprobs":21}"#, "logprobs"),
        (r#"{"logprobs":"yes"}"#, "logprobs"),
        (r#"{"logprobs":true,"top_logprobs":21}"#, "top_logprobs"),
        (r#"{"top_logprobs":2}"#, "top_logprobs"),
        (r#"{"keep_alive":"soon"}"#, "keep_alive"),
        (r#"{"keep_alive":true}"#, "keep_alive"),
    ] {
        let error = read(json).unwrap_err();
        assert_eq!(error.param, param, "{json}");
        assert!(!error.message.contains("line") && !error.message.contains("u32"), "{error}");
    }
}

#[test]
fn several_answers_are_counted() {
    let n = |json: &str| read(json).unwrap().n;
    assert_eq!((n("{}"), n(r#"{"n":null}"#), n(r#"{"n":8}"#), n(r#"{"n":3,"best_of":3}"#)), (1, 1, 8, 3));
}

#[test]
fn the_choice_of_tools_is_read() {
    let choice = |json: &str| *read(json).unwrap().tool_choice;
    let of = |mode, only: Option<&[&str]>, parallel| {
        let only = only.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        ToolChoice { mode, only, parallel }
    };
    for (json, wanted) in [
        ("{}", of(CallMode::Auto, None, true)),
        (r#"{"tool_choice":null,"parallel_tool_calls":false}"#, of(CallMode::Auto, None, false)),
        (r#"{"tool_choice":"none"}"#, of(CallMode::None, None, true)),
        (r#"{"tool_choice":"required"}"#, of(CallMode::Required, None, true)),
        (
            r#"{"tool_choice":{"type":"function","function":{"name":"f"}}}"#,
            of(CallMode::Required, Some(&["f"]), false),
        ),
        (
            r#"{"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"f"}}]}}}"#,
            of(CallMode::Auto, Some(&["f"]), true),
        ),
    ] {
        assert_eq!(choice(json), wanted, "{json}");
    }
}
