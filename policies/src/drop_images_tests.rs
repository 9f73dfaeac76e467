use serde_json::{Value, json};

use crate::support::{Counter, parse, run, steps};
use crate::{Chain, Conversation, NoSummaries, Report};

fn url(image: &str) -> Value {
    json!({"type": "image_url", "image_url": {"url": image}})
}

/// Turns of a question with an image and an answer, and a last question.
fn chat(turns: usize) -> Conversation {
    let image = format!("data:image/png;base64,{}==", "A".repeat(2000 - 2));
    let mut messages = Vec::new();
    for turn in 0..turns {
        let text = json!({"type": "text", "text": format!("q{turn}")});
        messages.push(json!({"role": "user", "content": [text, url(&image)], "x": 1}));
        messages.push(json!({"role": "assistant", "content": "a"}));
    }
    messages.push(json!({"role": "user", "content": "last"}));
    parse(&json!({ "messages": messages }).to_string())
}

fn drop_images(params: &Value, before: &Conversation) -> (Conversation, Report) {
    let chain = Chain::build("test", &steps(&json!([{"drop_images": params}])));
    run(&chain, before, &Counter::default(), &NoSummaries, 80_000).unwrap()
}

fn removed(conversation: &Conversation) -> Vec<bool> {
    let users = conversation.messages().iter().step_by(2);
    users.map(|message| message.text().contains("[plimsoll: image removed")).collect()
}

#[test]
fn older_images_go_in_batches() {
    assert!(!drop_images(&json!({}), &chat(4)).0.is_changed());
    let (after, report) = drop_images(&json!({}), &chat(5));
    assert_eq!(removed(&after), [true, true, true, false, false, false]);
    assert_eq!(
        removed(&drop_images(&json!({}), &chat(7)).0),
        [[true; 3], [false; 3]].concat().into_iter().chain([false; 2]).collect::<Vec<_>>()
    );
    assert_eq!(removed(&drop_images(&json!({}), &chat(8)).0), [[true; 6], [false; 6]].concat()[..9]);
    assert_eq!(after.messages()[0].text(), "q0\n[plimsoll: image removed, 1,498 bytes]");
    assert!(after.messages()[0].json().ends_with(r#""x":1}"#));
    let row = &report.rows[0];
    assert_eq!((row.messages, row.reason.as_str()), (3, "3 images older than the last 2"));
}

#[test]
fn what_was_not_answered_stays() {
    let body = json!({"messages": [{"role": "user", "content": [url("a"), url("b"), url("c")]}]});
    let params = json!({"keep_last": 0, "slack": 0});
    assert!(!drop_images(&params, &parse(&body.to_string())).0.is_changed());
}

#[test]
fn an_address_is_never_told() {
    let mut link = url("https://files.example/secret.png?token=abc");
    link["cache_control"] = json!({"type": "ephemeral"});
    let parts =
        json!([link, url("data:text/plain,abcde"), url("data:"), {"type": "image_url", "image_url": 7}]);
    let messages = json!([{"role": "user", "content": parts}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]);
    let before = parse(&json!({ "messages": messages }).to_string());
    let (after, _) = drop_images(&json!({"keep_last": 0, "slack": 0}), &before);
    let want = "[plimsoll: image removed, given as a link]\n[plimsoll: image removed, 5 bytes]\n\
                [plimsoll: image removed]\n[plimsoll: image removed]";
    assert_eq!(after.messages()[0].text(), want);
    assert!(after.messages()[0].json().contains(r#""cache_control":{"type":"ephemeral"}"#));
}
