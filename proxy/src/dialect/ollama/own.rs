//! Questions of our own to an Ollama server: one answer, whole, greedily.

use plimsoll_policies::{Message, Tokens};
use serde::Deserialize;
use serde_json::json;

use super::message::made;
use crate::forward::Usage;

/// A chat request. It offers no tools, since none may be called and Ollama knows no way to say so.
pub(crate) fn question(model: &str, messages: &[Message], most: Tokens) -> String {
    let messages: Vec<_> = messages.iter().map(made).collect();
    let (model, messages) = (json!(model), messages.join(","));
    format!(
        r#"{{"model":{model},"messages":[{messages}],"stream":false,"think":false,"options":{{"num_predict":{most},"temperature":0}}}}"#
    )
}

/// The text of an answer, whether it ended for want of room, and what it took; none where it is no answer.
pub(crate) fn answer(body: &[u8]) -> Option<(String, bool, Usage)> {
    #[derive(Deserialize)]
    struct Answer {
        message: Said,
        done_reason: Option<String>,
        prompt_eval_count: Option<u64>,
        eval_count: Option<u64>,
    }
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        content: String,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let usage = Usage { prompt: answer.prompt_eval_count, completion: answer.eval_count, cached: None };
    Some((answer.message.content, answer.done_reason.as_deref() == Some("length"), usage))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_server_is_asked_in_its_own_form() {
        let messages = [
            r#"{"role":"system","content":"Be br\u0069ef"}"#,
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"t","type":"function","function":{"name":"ls","arguments":"{\"a\":1}"}}]}"#,
            r#"{"role":"tool","tool_call_id":"t","name":"ls","content":"r"}"#,
            r#"{"role":"user","content":[{"type":"text","text":"sum"}]}"#,
        ]
        .map(Message::from_json);
        let asked = question("m", &messages, 96);
        assert!(asked.contains(r"br\u0069ef"), "{asked}");
        let wanted = json!({
            "model": "m", "stream": false, "think": false, "options": {"num_predict": 96, "temperature": 0},
            "messages": [
                {"role": "system", "content": "Be brief"},
                {"role": "assistant", "content": "", "tool_calls": [{"id": "t", "function": {"name": "ls", "arguments": {"a": 1}}}]},
                {"role": "tool", "content": "r", "tool_call_id": "t", "tool_name": "ls"},
                {"role": "user", "content": "sum"},
            ],
        });
        assert_eq!(serde_json::from_str::<Value>(&asked).unwrap(), wanted);
    }

    #[test]
    fn its_answer_is_read() {
        let body = br#"{"message":{"role":"assistant","content":"so"},"done_reason":"length","prompt_eval_count":9,"eval_count":2}"#;
        let (text, cut, usage) = answer(body).unwrap();
        assert_eq!((text.as_str(), cut, usage.prompt, usage.completion), ("so", true, Some(9), Some(2)));
        assert!(answer(br#"{"error":"no"}"#).is_none());
    }
}
