//! Values that are written as one word: sizes, times, and numbers that may be `auto`.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use plimsoll_engine::KeepAlive;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A number of bytes: `32MiB`, `2GB`, or a whole number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Size(pub(super) Word);

/// A time with its unit: `30s`, `5m`, `500ms`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Time(pub(super) String);

/// How long something is kept: a time, a number of seconds, or a negative number for ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Lifetime {
    /// Seconds.
    Seconds(i64),
    /// A time such as `5m`.
    Text(String),
}

impl From<&str> for Lifetime {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Lifetime {
    /// The time; `None` where the text is none.
    pub fn read(&self) -> Option<KeepAlive> {
        let seconds = |seconds: i64| {
            u64::try_from(seconds).map_or(KeepAlive::Always, |s| KeepAlive::For(Duration::from_secs(s)))
        };
        match self {
            Self::Seconds(number) => Some(seconds(*number)),
            Self::Text(text) => match text.trim().parse() {
                Ok(number) => Some(seconds(number)),
                Err(_) if text.starts_with('-') => {
                    humantime::parse_duration(&text[1..]).ok().map(|_| KeepAlive::Always)
                }
                Err(_) => humantime::parse_duration(text).ok().map(KeepAlive::For),
            },
        }
    }
}

/// A number of tokens, or `auto`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TokensOrAuto(pub(super) Word);

/// Memory: `auto`, a number of bytes, or a share such as `80%`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SizeOrShare(pub(super) Word);

/// A text or a whole number, as YAML reads them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Word {
    /// A whole number.
    Whole(u64),
    /// Anything else.
    Text(String),
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl Size {
    /// Bytes; `None` where the text is no size.
    pub(super) fn bytes(&self) -> Option<u64> {
        bytes(&self.0)
    }
}

fn bytes(word: &Word) -> Option<u64> {
    match word {
        Word::Whole(bytes) => Some(*bytes),
        Word::Text(text) => bytesize::ByteSize::from_str(text).ok().map(|size| size.as_u64()),
    }
}

impl Time {
    /// The time; `None` where the text is none.
    pub(super) fn duration(&self) -> Option<Duration> {
        humantime::parse_duration(&self.0).ok()
    }
}

/// What may be left to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrAuto<T> {
    /// `auto`.
    Auto,
    /// A value.
    Given(T),
}

impl TokensOrAuto {
    /// Tokens; `None` where the text is neither a number nor `auto`.
    pub(super) fn tokens(&self) -> Option<OrAuto<u32>> {
        match &self.0 {
            Word::Whole(tokens) => u32::try_from(*tokens).ok().map(OrAuto::Given),
            Word::Text(text) if text == "auto" => Some(OrAuto::Auto),
            Word::Text(_) => None,
        }
    }
}

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// Bytes.
    Bytes(u64),
    /// Per cent.
    Percent(u8),
}

impl SizeOrShare {
    /// The amount; `None` where the text is none.
    pub(super) fn amount(&self) -> Option<OrAuto<Amount>> {
        match &self.0 {
            Word::Text(text) if text == "auto" => Some(OrAuto::Auto),
            Word::Text(text) if text.ends_with('%') => share(text).map(Amount::Percent).map(OrAuto::Given),
            word => bytes(word).map(Amount::Bytes).map(OrAuto::Given),
        }
    }
}

fn share(text: &str) -> Option<u8> {
    text.strip_suffix('%')?.trim_end().parse().ok().filter(|share| (1..=100).contains(share))
}

/// Implements `JsonSchema` for a word: its types and what one looks like.
macro_rules! schema {
    ($type:ident, $schema:tt) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

schema!(Size, { "type": ["string", "integer"], "minimum": 0, "examples": ["32MiB"] });
schema!(Time, { "type": "string", "examples": ["30s"] });
schema!(Lifetime, { "type": ["string", "integer"], "examples": ["5m", 0, -1] });
schema!(TokensOrAuto, { "type": ["string", "integer"], "minimum": 0, "examples": ["auto", 4096] });
schema!(SizeOrShare, { "type": ["string", "integer"], "minimum": 0, "examples": ["auto", "6GiB", "80%"] });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        let read = |text: &str| Size(text.into()).bytes();
        assert_eq!(read("32MiB"), Some(32 << 20));
        assert_eq!(read("2GB"), Some(2_000_000_000));
        assert_eq!(read("12 potatoes"), None);
        assert_eq!(Size(Word::Whole(7)).bytes(), Some(7));
    }

    #[test]
    fn memory_is_an_amount_or_a_share() {
        let read = |text: &str| SizeOrShare(text.into()).amount();
        assert_eq!(read("auto"), Some(OrAuto::Auto));
        assert_eq!(read("80%"), Some(OrAuto::Given(Amount::Percent(80))));
        assert_eq!(read("6GiB"), Some(OrAuto::Given(Amount::Bytes(6 << 30))));
        for wrong in ["0%", "101%", "half", "-1%", "%"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_needs_its_unit() {
        assert_eq!(Time("500ms".to_owned()).duration(), Some(Duration::from_millis(500)));
        assert_eq!(Time("30".to_owned()).duration(), None);
    }

    #[test]
    fn a_lifetime_may_be_endless() {
        let read = |text: &str| Lifetime::from(text).read();
        assert_eq!(read("5m"), Some(KeepAlive::For(Duration::from_secs(300))));
        assert_eq!(read("0"), Some(KeepAlive::For(Duration::ZERO)));
        assert_eq!((read("-1"), read("-5m")), (Some(KeepAlive::Always), Some(KeepAlive::Always)));
        assert_eq!(Lifetime::Seconds(30).read(), Some(KeepAlive::For(Duration::from_secs(30))));
        assert_eq!((read("soon"), read("-soon"), read("")), (None, None, None));
    }

    #[test]
    fn tokens_are_a_number_or_auto() {
        assert_eq!(TokensOrAuto(Word::Whole(1024)).tokens(), Some(OrAuto::Given(1024)));
        assert_eq!(TokensOrAuto("auto".into()).tokens(), Some(OrAuto::Auto));
        assert_eq!(TokensOrAuto("1k".into()).tokens(), None);
        assert_eq!(TokensOrAuto(Word::Whole(u64::MAX)).tokens(), None);
    }
}
