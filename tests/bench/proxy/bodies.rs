//! Chats of the sizes that are compared: runs of an agent, each time with one message more than is known of them.

use bytes::Bytes;
use plimsoll_tests::agent::run_of_an_agent;

/// A size: its name, bytes, messages, and requests a second that all of the fast ones keep up with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) name: &'static str,
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
    pub(crate) rate: f64,
}

/// All sizes.
pub(crate) const SIZES: [Size; 4] = [
    Size { name: "1 KB", bytes: 1 << 10, messages: 6, rate: 400.0 },
    Size { name: "32 KB", bytes: 32 << 10, messages: 26, rate: 200.0 },
    Size { name: "256 KB", bytes: 256 << 10, messages: 200, rate: 80.0 },
    Size { name: "1 MB", bytes: 1 << 20, messages: 800, rate: 25.0 },
];

/// A conversation up to its last message.
pub(crate) struct Conversation {
    head: String,
    tail: String,
}

impl Conversation {
    /// One of this size, whose texts are of this salt alone.
    pub(crate) fn new(size: Size, salt: usize, stream: bool) -> Self {
        let mut body = run_of_an_agent(size.messages, size.bytes, salt);
        let fields = body.as_object_mut().expect("a chat");
        let messages = fields.remove("messages").expect("a chat has messages").to_string();
        fields.insert("stream".to_owned(), stream.into());
        // The messages come last, as nobody minds.
        let rest = body.to_string();
        let head = format!("{},\"messages\":{}", rest.trim_end_matches('}'), messages.trim_end_matches(']'));
        Self { head, tail: "]}".to_owned() }
    }

    /// It, grown by a message.
    pub(crate) fn grown(&self, turn: usize) -> Bytes {
        let message = format!(r#",{{"role":"user","content":"And what of case {turn}?"}}"#);
        [self.head.as_str(), &message, &self.tail].concat().into()
    }
}

/// A chat to see whether someone answers.
pub(crate) fn small() -> Bytes {
    Bytes::from_static(br#"{"model":"demo","messages":[{"role":"user","content":"Hello"}]}"#)
}
