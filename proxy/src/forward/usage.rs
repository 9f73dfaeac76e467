//! Reads the usage that an HTTP upstream reports, while its answer passes through untouched.

use bytes::Bytes;
use serde::Deserialize;

/// The usage stands at the end of an answer; this much of it is looked at.
const TAIL: usize = 16 * 1024;

/// Tokens as the upstream counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: Option<u64>,
    /// Tokens generated.
    pub completion_tokens: Option<u64>,
    /// How the prompt's tokens divide.
    pub prompt_tokens_details: Option<Details>,
}

/// Part of [`Usage`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Details {
    /// Prompt tokens that came from a cache.
    pub cached_tokens: Option<u64>,
}

/// The end of a body that passes by.
#[derive(Debug, Default)]
pub struct Tail(Vec<u8>);

impl Tail {
    /// Looks at a piece of the body.
    pub fn see(&mut self, data: &Bytes) {
        let data = &data[data.len().saturating_sub(TAIL)..];
        let excess = (self.0.len() + data.len()).saturating_sub(TAIL);
        self.0.drain(..excess.min(self.0.len()));
        self.0.extend_from_slice(data);
    }

    /// The last usage object in what was seen.
    pub fn usage(&self) -> Option<Usage> {
        let text = String::from_utf8_lossy(&self.0);
        let (_, after) = text.rsplit_once("\"usage\"")?;
        let value = after.trim_start().strip_prefix(':')?;
        serde_json::Deserializer::from_str(value).into_iter().next()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(pieces: &[&str]) -> Option<Usage> {
        let mut tail = Tail::default();
        pieces.iter().for_each(|piece| tail.see(&Bytes::from((*piece).to_owned())));
        tail.usage()
    }

    #[test]
    fn finds_the_usage_of_json_and_of_the_last_chunk() {
        let json = r#"{"id":"x","usage": {"prompt_tokens":7,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"#;
        let found = usage(&[json]).unwrap();
        assert_eq!((found.prompt_tokens, found.completion_tokens), (Some(7), Some(2)));
        assert_eq!(found.prompt_tokens_details.unwrap().cached_tokens, Some(4));
        let stream =
            ["data: {\"usage\":null}\n\n", "data: {\"usa", "ge\":{\"prompt_tokens\":1}}\n\ndata: [DONE]\n\n"];
        assert_eq!(usage(&stream).unwrap().prompt_tokens, Some(1));
    }

    #[test]
    fn finds_none_where_there_is_none() {
        assert_eq!(usage(&["{}"]), None);
        assert_eq!(usage(&["\"usage\""]), None);
        assert_eq!(usage(&["{\"usage\":null}"]), None);
    }

    #[test]
    fn keeps_only_the_end() {
        let long = "x".repeat(TAIL * 3);
        assert_eq!(usage(&[&long, "{\"usage\":{\"prompt_tokens\":3}}"]).unwrap().prompt_tokens, Some(3));
    }
}
