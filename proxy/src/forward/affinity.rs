//! Which replica a conversation belongs to: rendezvous hashing of what stays the same over its life.
//!
//! Every Plimsoll before the same replicas chooses alike, without a store. A replica that leaves moves its own
//! conversations alone, one that comes takes its share of each.

use http::Uri;
use plimsoll_policies::{Conversation, Message, Role, SUMMARY_HEADER};

/// What a conversation is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u64);

impl Key {
    /// Of a conversation: its tools and the system messages that it begins with, as they are sent, and its first user
    /// message as the client wrote it, since policies may shorten that one later on. Nothing where no user speaks.
    pub(super) fn of(conversation: &Conversation) -> Option<Self> {
        let user = conversation.first_user()?;
        Some(Self::new(conversation.tools(), conversation.messages(), user.text()))
    }

    /// Of a prompt of our own that continues a governed conversation.
    pub(super) fn of_messages(tools: Option<&str>, messages: &[Message]) -> Option<Self> {
        let user = messages.iter().find(|message| message.role() == Role::User)?.text();
        // A summary may stand at its end, where templates want roles to alternate.
        let own = user.split_once(&format!("\n\n{SUMMARY_HEADER}\n")).map_or(user, |(own, _)| own);
        Some(Self::new(tools, messages, own))
    }

    fn new(tools: Option<&str>, messages: &[Message], user: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut part = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        part(tools.unwrap_or_default());
        let system = messages.iter().take_while(|message| message.role().is_system());
        system.for_each(|message| part(message.json()));
        part(user);
        Self(first(&hasher.finalize()))
    }

    /// How well a replica suits: of all, the one with the highest score is the conversation's own.
    pub(super) fn score(self, seed: u64) -> u64 {
        mix(self.0 ^ seed)
    }
}

/// What a replica is known by.
pub(super) fn seed(url: &Uri) -> u64 {
    first(&blake3::hash(url.to_string().as_bytes()))
}

fn first(hash: &blake3::Hash) -> u64 {
    let bytes = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(bytes)
}

/// The finalizer of `MurmurHash3`: a change of one bit changes each bit of the result in half of the cases.
fn mix(mut x: u64) -> u64 {
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        x = (x ^ (x >> 33)).wrapping_mul(factor);
    }
    x ^ (x >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(body: &str) -> Option<Key> {
        Key::of(&Conversation::parse_chat(body.into()).unwrap())
    }

    #[test]
    fn a_conversation_keeps_its_key_as_it_grows() {
        let begun = r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"one"}"#;
        let grown = [
            format!("{begun}]}}"),
            format!(
                r#"{begun},{{"role":"assistant","content":"two"}},{{"role":"user","content":"three"}}]}}"#
            ),
            format!(r#"{begun}], "model": "other", "temperature": 1}}"#),
        ];
        let keys: Vec<_> = grown.iter().map(|body| key(body)).collect();
        assert!(keys[0].is_some() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        for other in ["s1", "one1"] {
            let from = &other[..other.len() - 1];
            assert_ne!(key(&grown[0].replace(&format!("\"{from}\""), &format!("\"{other}\""))), keys[0]);
        }
        assert_ne!(key(&grown[0].replace("{\"messages", "{\"tools\":[{}],\"messages")), keys[0]);
        assert_eq!(key(r#"{"messages":[{"role":"system","content":"s"}]}"#), None);
    }

    #[test]
    fn a_question_of_ours_has_the_key_of_its_conversation() {
        let body = r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"one"}]}"#;
        let merged = format!(r#"{{"role":"user","content":"one\n\n{SUMMARY_HEADER}\nmuch"}}"#);
        let messages = [
            Message::from_json(r#"{"role":"system","content":"s"}"#),
            Message::from_json(merged),
            Message::user("summarise"),
        ];
        assert_eq!(Key::of_messages(None, &messages), key(body));
    }
}
