//! Compactions: a conversation in short, as items that begin the next request's `input`.
//!
//! The content is called encrypted and is for the server that wrote it alone; ours is the summary's text, encoded so that
//! nobody takes it for text of theirs.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plimsoll_policies::{Tokens, with_header};
use serde_json::{Value, json};

use super::Responses;
use super::items::{Item, Kind, Origin};
use super::parts::Side;
use crate::dialect::raw::{Object, Raw};

/// The type of such an item.
pub(super) const KIND: &str = "compaction";

/// How content of ours begins: its version, so that a later form can be told apart.
const OURS: &str = "plimsoll1.";

/// The text of a compaction of ours as the message that it stands for; none of another server's.
pub(super) fn read(object: &Object<'_>) -> Option<String> {
    let content = object.string("encrypted_content")?;
    let summary = String::from_utf8(STANDARD.decode(content.strip_prefix(OURS)?).ok()?).ok()?;
    Some(with_header(&summary))
}

/// The answer to `POST /v1/responses/compact`: messages of users and instructions among the items as they are, then the
/// summary of all else.
pub(super) fn answer(original: &Responses, summary: &str, tokens: Tokens, written: Tokens) -> Value {
    let id = uuid::Uuid::now_v7().simple().to_string();
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut output: Vec<Value> =
        original.origins.iter().filter_map(|origin| kept(original, origin)).collect();
    for (place, item) in output.iter_mut().enumerate() {
        item["id"] = format!("msg_{id}_{place}").into();
    }
    let content = format!("{OURS}{}", STANDARD.encode(summary));
    output.push(json!({"id": format!("cmp_{id}"), "type": KIND, "encrypted_content": content}));
    json!({
        "id": format!("resp_{id}"),
        "object": "response.compaction",
        "created_at": created,
        "output": output,
        "usage": {
            "input_tokens": tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens + written,
        },
    })
}

/// A message that stays, as an item; `instructions` come anew with each request.
fn kept(original: &Responses, origin: &Origin) -> Option<Value> {
    let body = &*original.body;
    let (role, content) = match origin {
        Origin::Instructions(_) => return None,
        Origin::Text(span) => ("user".to_owned(), &body[span.clone()]),
        Origin::Items(items) => match items.as_slice() {
            [Item { span, kind: Kind::Message(content, Side::Input), .. }] => {
                (Raw::at(body, span).object()?.string("role")?, &body[content.clone()])
            }
            _ => return None,
        },
    };
    let parts = match Raw::whole(content).string() {
        Some(text) => json!([{"type": "input_text", "text": text}]),
        None => serde_json::from_str(content).ok()?,
    };
    Some(json!({"id": null, "type": "message", "status": "completed", "role": role, "content": parts}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::responses::translate;

    #[test]
    fn what_was_written_is_read_as_a_message() {
        let body = r#"{"model":"m","instructions":"Be brief.","input":[{"role":"developer","content":"d"},
            {"role":"user","content":[{"type":"input_text","text":"é"}]},{"role":"assistant","content":"a"},
            {"type":"function_call","call_id":"c","name":"f","arguments":"{}"},
            {"type":"function_call_output","call_id":"c","output":"o"}]}"#;
        let answer = translate(body).unwrap().original.compacted("- a: é", 70, 9).unwrap();
        let [developer, user, compaction] = answer["output"].as_array().unwrap().as_slice() else {
            panic!("{answer}")
        };
        assert_eq!(
            (&developer["role"], &developer["content"][0]["text"]),
            (&json!("developer"), &json!("d"))
        );
        assert_eq!((&user["role"], &user["content"][0]["text"]), (&json!("user"), &json!("é")));
        assert_eq!(
            (&answer["usage"]["total_tokens"], &answer["object"]),
            (&json!(79), &json!("response.compaction"))
        );
        let next =
            json!({"model": "m", "input": [compaction, {"role": "user", "content": "more"}]}).to_string();
        let read = translate(&next).unwrap();
        assert!(read.original.unserved().is_none());
        let chat: Value = serde_json::from_str(&read.json).unwrap();
        assert_eq!(chat["messages"][0], json!({"role": "user", "content": with_header("- a: é")}));
    }

    #[test]
    fn what_another_server_wrote_is_not_read() {
        for content in ["gAAAAB==", "plimsoll1.?", "plimsoll1./w==", ""] {
            let item = json!({"type": "compaction", "encrypted_content": content});
            assert_eq!(read(&Object::of(&item.to_string()).unwrap()), None, "{content}");
            let body = json!({"model": "m", "input": [item]}).to_string();
            let unserved = translate(&body).unwrap().original.unserved().unwrap();
            assert!(unserved.message.contains("only compactions that this server made"), "{unserved}");
        }
    }
}
