use plimsoll_engine::text::Piece;

use super::*;
use crate::forward::Times;

fn answer(endpoint: Endpoint) -> Box<Answer> {
    Box::new(Answer {
        endpoint,
        model: "m".to_owned(),
        asked: Instant::now(),
        id: "r".to_owned(),
        logprobs: false,
        context: None,
        said: Said::default(),
    })
}

fn part(pieces: Vec<Piece>) -> Part {
    Part { tokens: vec![5], pieces, ..Part::default() }
}

fn end() -> End {
    let times =
        Times { prefill: Duration::from_millis(3), decode: Duration::from_millis(7), ..Times::default() };
    End {
        finish: "stop",
        stop: None,
        prompt: 11,
        cached: 4,
        completion: 2,
        dropped: 0,
        reasoning: None,
        times,
    }
}

fn parts() -> Vec<Part> {
    let text = |text: &str| Piece::Text(text.to_owned());
    let fragment = |json: &str| Piece::CallArguments { index: 0, json_fragment: json.to_owned() };
    vec![
        part(vec![Piece::Thinking("hm".to_owned())]),
        part(vec![text("Let me see."), Piece::CallStart { index: 0, name: "f".to_owned() }]),
        part(vec![fragment(r#"{"a":"#)]),
        part(vec![fragment("1}"), Piece::CallEnd { index: 0 }]),
    ]
}

#[test]
fn a_stream_has_whole_calls_and_its_figures_at_the_end() {
    let mut reply = answer(Endpoint::Chat);
    let lines: Vec<Value> = parts().iter().flat_map(|part| reply.chunks(part)).collect();
    let messages: Vec<&Value> = lines.iter().map(|line| &line["message"]).collect();
    assert_eq!(messages[0], &json!({"role": "assistant", "content": "", "thinking": "hm"}));
    assert_eq!(messages[1], &json!({"role": "assistant", "content": "Let me see."}));
    let call = json!({"id": "call_r_0", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}});
    assert_eq!(messages[2], &json!({"role": "assistant", "content": "", "tool_calls": [call]}));
    assert!(lines.len() == 3 && lines.iter().all(|line| line["done"] == false && line["model"] == "m"));
    let last = reply.closing(&end()).remove(0);
    assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!("stop")));
    assert_eq!((&last["prompt_eval_count"], &last["eval_count"]), (&json!(11), &json!(2)));
    assert_eq!(
        (&last["prompt_eval_duration"], &last["eval_duration"]),
        (&json!(3_000_000), &json!(7_000_000))
    );
}

#[test]
fn a_whole_answer_says_what_the_stream_says() {
    let mut reply = answer(Endpoint::Chat);
    parts().into_iter().for_each(|part| reply.collect(part));
    let whole = reply.whole(&end());
    let call = json!({"id": "call_r_0", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}});
    let message =
        json!({"role": "assistant", "content": "Let me see.", "thinking": "hm", "tool_calls": [call]});
    assert_eq!((&whole["message"], &whole["done"]), (&message, &json!(true)));
    let mut reply = answer(Endpoint::Generate);
    parts().into_iter().for_each(|part| reply.collect(part));
    let whole = reply.whole(&end());
    assert_eq!((&whole["response"], &whole["thinking"]), (&json!("Let me see."), &json!("hm")));
    assert_eq!(whole.get("message"), None);
}

/// A call that was cut off is no call, and is not lost.
#[test]
fn a_call_without_an_end_is_text() {
    let mut reply = answer(Endpoint::Chat);
    parts().into_iter().take(3).for_each(|part| reply.collect(part));
    let whole = reply.whole(&End { finish: "length", ..end() });
    assert_eq!(whole["message"]["content"], r#"Let me see.{"name": "f", "arguments": {"a":"#);
    assert_eq!((whole["message"].get("tool_calls"), &whole["done_reason"]), (None, &json!("length")));
}

#[test]
fn nothing_asked_is_answered_in_the_form_of_the_endpoint() {
    let chat = loaded(Endpoint::Chat, "m");
    assert_eq!((&chat["done_reason"], &chat["message"]["content"]), (&json!("load"), &json!("")));
    assert_eq!(loaded(Endpoint::Generate, "m")["response"], "");
}
