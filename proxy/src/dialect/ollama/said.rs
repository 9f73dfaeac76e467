//! What an Ollama server answers, as far as a trace wants to know.

use serde::Deserialize;
use serde_json::Value;

use crate::forward::{Seen, Usage, last_of};
use crate::telemetry::Said;

/// A line of a stream, or a whole answer.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    message: Message,
    response: Option<String>,
    thinking: Option<String>,
    done_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Message {
    content: Option<String>,
    thinking: Option<String>,
    #[serde(default)]
    tool_calls: Vec<Call>,
}

#[derive(Deserialize)]
struct Call {
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// The figures at the end. Prompt tokens that came from a cache are counted in with the others and not told apart.
pub(super) fn usage(seen: &Seen) -> Option<Usage> {
    let tail = seen.tail();
    let (prompt, completion) = (last_of(&tail, "prompt_eval_count"), last_of(&tail, "eval_count"));
    (prompt.is_some() || completion.is_some()).then_some(Usage { prompt, completion, cached: None })
}

/// Reads an answer, whole or in lines.
pub(super) fn read(body: &str, said: &mut Said) {
    let mut calls = 0;
    for line in serde_json::Deserializer::from_str(body).into_iter::<Line>().map_while(Result::ok) {
        for thoughts in [line.thinking, line.message.thinking].into_iter().flatten() {
            said.thoughts(&thoughts);
        }
        for text in [line.response, line.message.content].into_iter().flatten() {
            said.text(&text);
        }
        for Call { function } in line.message.tool_calls {
            said.call(calls, &function.name, &function.arguments.to_string());
            calls += 1;
        }
        if let Some(reason) = line.done_reason {
            said.finish(&reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const STREAM: &str = concat!(
        r#"{"message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#,
        "\n",
        r#"{"message":{"role":"assistant","content":"Let me "},"done":false}"#,
        "\n",
        r#"{"message":{"role":"assistant","content":"see","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}}"#,
        "\n",
        r#"{"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":26,"eval_count":7}"#,
        "\n",
    );

    #[test]
    fn a_stream_is_read() {
        let mut said = Said::default();
        read(STREAM, &mut said);
        let mut wanted = Said::default();
        wanted.thoughts("hm");
        wanted.text("Let me see");
        wanted.call(0, "f", r#"{"a":1}"#);
        wanted.finish("stop");
        assert_eq!(said, wanted);
        let mut whole = Said::default();
        read(r#"{"response":"Hi","done":true,"done_reason":"length"}"#, &mut whole);
        let mut wanted = Said::default();
        wanted.text("Hi");
        wanted.finish("length");
        assert_eq!(whole, wanted);
    }

    #[test]
    fn figures_stand_at_the_end() {
        let mut seen = Seen::default();
        seen.see(&Bytes::from(STREAM));
        let found = usage(&seen).unwrap();
        assert_eq!((found.prompt, found.completion), (Some(26), Some(7)));
        assert_eq!(usage(&Seen::default()), None);
    }
}
