//! Who a request comes from, as far as what is kept is concerned.

use http::header::{HeaderMap, HeaderName};

use crate::keys::KEY_HEADERS;

/// All callers who send neither a key nor the configured header.
const ANONYMOUS: &str = "anonymous";

/// A caller: the hash of the name that its key has in `keys`, else of its API key, else of the configured header's value, else `anonymous`, which all are who send
/// neither. The key itself is not kept, nor can it be told from the hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller(String);

impl Caller {
    /// Reads the headers.
    pub fn of(headers: &HeaderMap, own: Option<&HeaderName>) -> Self {
        let named = KEY_HEADERS.into_iter().chain(own.cloned()).find_map(|name| {
            let value = headers.get(&name)?;
            Some((name, value))
        });
        let Some((name, value)) = named else { return Self(ANONYMOUS.to_owned()) };
        let mut hasher = blake3::Hasher::new_derive_key("plimsoll 2026 caller of the data listener");
        hasher.update(name.as_str().as_bytes()).update(b"\0").update(value.as_bytes());
        Self(hasher.finalize().to_hex()[..32].to_owned())
    }

    /// Whoever bears a key of this name: what is kept outlives a change of the key.
    pub fn named(name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("plimsoll 2026 named caller of the data listener");
        hasher.update(name.as_bytes());
        Self(hasher.finalize().to_hex()[..32].to_owned())
    }

    /// The caller as the name of a folder: letters and digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a folder's name is a caller's.
    pub(super) fn is_name(name: &str) -> bool {
        name == ANONYMOUS || super::is_hash(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(headers: &[(&'static str, &'static str)]) -> Caller {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")));
        Caller::of(&headers.collect(), Some(&HeaderName::from_static("x-user")))
    }

    #[test]
    fn the_key_counts_then_the_header() {
        let key = caller(&[("authorization", "Bearer a")]);
        assert_eq!(key, caller(&[("x-user", "u"), ("authorization", "Bearer a")]));
        let others = [
            caller(&[("authorization", "Bearer b")]),
            caller(&[("x-api-key", "Bearer a")]),
            caller(&[("x-user", "u")]),
            caller(&[("x-user", "v")]),
            caller(&[]),
        ];
        for (index, other) in others.iter().enumerate() {
            assert!(*other != key && !others[..index].contains(other), "{index}");
        }
        assert_eq!(caller(&[("x-other", "u")]).as_str(), "anonymous");
        assert!(!key.as_str().contains("Bearer") && key.as_str().len() == 32);
    }
}
