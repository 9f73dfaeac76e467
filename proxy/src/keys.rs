//! API keys of callers: a request is told by the hash of the key that it bears.

use std::sync::Arc;

use constant_time_eq::constant_time_eq_32;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::config;
use crate::live::Route;

/// Headers that carry an API key, the one that counts first.
pub const KEY_HEADERS: [HeaderName; 3] =
    [AUTHORIZATION, HeaderName::from_static("x-api-key"), HeaderName::from_static("api-key")];

/// The keys of a configuration.
#[derive(Debug, Default)]
pub struct Keys(Vec<(Arc<str>, [u8; 32])>);

/// Who a request's keys say that it comes from.
#[derive(Debug, Clone, Default)]
pub struct Bearer {
    /// The caller's name, where one of our keys was borne.
    pub name: Option<Arc<str>>,
    /// Whether any key was borne.
    given: bool,
}

/// A route asks for a key that the request does not bear.
#[derive(Debug, Error)]
pub enum KeyError {
    /// It bears none.
    #[error("no API key was given: send one as `authorization: Bearer KEY` or `x-api-key: KEY`")]
    Missing,
    /// It bears one that is none of ours.
    #[error("the API key is not known here")]
    Unknown,
    /// It bears one that other routes ask for.
    #[error("the key of `{name}` does not open the route `{route}`")]
    OtherRoute {
        /// Whose key it is.
        name: Arc<str>,
        /// The route.
        route: Arc<str>,
    },
}

impl Keys {
    /// Takes over what is configured.
    pub fn new(keys: &[config::Key]) -> Self {
        Self(keys.iter().map(|key| (key.name.as_str().into(), key.hash)).collect())
    }

    /// Finds whose key a request bears. Headers that hold a key of ours are taken out: it is meant for nobody else.
    pub fn take(&self, headers: &mut HeaderMap) -> Bearer {
        let mut bearer = Bearer::default();
        for header in KEY_HEADERS {
            let values = headers.get_all(&header);
            bearer.given |= values.iter().next().is_some();
            let found = values.iter().find_map(|value| self.owner(secret(&header, value)));
            if let Some(name) = found {
                headers.remove(&header);
                bearer.name.get_or_insert(name);
            }
        }
        bearer
    }

    /// Every key is compared, and whole: the time taken tells nothing of them.
    fn owner(&self, key: &[u8]) -> Option<Arc<str>> {
        if self.0.is_empty() {
            return None;
        }
        let given = hash(key);
        let mut owner = None;
        for (name, hash) in &self.0 {
            if constant_time_eq_32(hash, &given) {
                owner = Some(name.clone());
            }
        }
        owner
    }
}

impl Bearer {
    /// Whether a route may be taken.
    ///
    /// # Errors
    /// It asks for a key that was not borne.
    pub fn may_take(&self, route: &Route) -> Result<(), KeyError> {
        match &self.name {
            _ if route.keys.is_empty() => Ok(()),
            Some(name) if route.keys.iter().any(|key| **key == **name) => Ok(()),
            Some(name) => Err(KeyError::OtherRoute { name: name.clone(), route: route.name.clone() }),
            None if self.given => Err(KeyError::Unknown),
            None => Err(KeyError::Missing),
        }
    }
}

/// SHA-256 of a key. Enough, since keys are long and random: there is nothing to be guessed slowly.
pub fn hash(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// The key in a header's value.
fn secret<'v>(header: &HeaderName, value: &'v HeaderValue) -> &'v [u8] {
    let value = value.as_bytes();
    match value.split_at_checked(7) {
        Some((scheme, key)) if *header == AUTHORIZATION && scheme.eq_ignore_ascii_case(b"bearer ") => {
            key.trim_ascii()
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys(vec![("alice".into(), hash(b"key-a")), ("ci".into(), hash(b"key-c"))])
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn our_key_is_known_by_its_hash_and_goes_no_further() {
        for (name, value, owner) in [
            ("authorization", "Bearer key-a", Some("alice")),
            ("authorization", "bearer  key-c", Some("ci")),
            ("x-api-key", "key-c", Some("ci")),
            ("api-key", "key-a", Some("alice")),
            ("x-api-key", "Bearer key-c", None),
            ("authorization", "key-b", None),
            ("authorization", "Bearer key-", None),
            ("x-other", "key-a", None),
        ] {
            let mut headers = headers(&[(name, value), ("x-kept", "1")]);
            let bearer = keys().take(&mut headers);
            assert_eq!(bearer.name.as_deref(), owner, "{name}: {value}");
            assert_eq!(headers.contains_key(name), owner.is_none(), "{name}: {value}");
            assert_eq!(bearer.given, name != "x-other");
            assert!(headers.contains_key("x-kept"));
        }
    }

    #[test]
    fn a_providers_key_beside_ours_is_passed_on() {
        let mut headers = headers(&[("authorization", "Bearer theirs"), ("x-api-key", "key-a")]);
        assert_eq!(keys().take(&mut headers).name.as_deref(), Some("alice"));
        assert!(headers.contains_key("authorization") && !headers.contains_key("x-api-key"));
    }

    /// As `printf key-a | sha256sum` prints it.
    #[test]
    fn the_hash_is_sha256() {
        let digits: String = hash(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
