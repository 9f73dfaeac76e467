//! Headers as a proxy passes them on.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::config::{Dialect, Secret};

/// Headers that hold for one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes what is meant for this connection alone.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    // Trailers are passed on, so whoever takes them still does; nothing else of it passes a proxy.
    let trailers = headers.get_all(header::TE).iter().filter_map(|te| te.to_str().ok());
    let trailers = trailers.flat_map(|te| te.split(',')).any(|te| te.trim().eq_ignore_ascii_case("trailers"));
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// HTTP/2 may split cookies over fields; anything else takes one field alone (RFC 9113, section 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let pieces: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if pieces.len() < 2 {
        return;
    }
    // Values that stood in fields stand in one field, too.
    if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Anthropic's header of the API key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Headers that carry a caller's credentials.
pub(super) const CREDENTIALS: [HeaderName; 2] = [header::AUTHORIZATION, API_KEY];

/// The version of Anthropic's API that a request is written for.
pub(super) const VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// Of a request's headers those that a question of ours to the same server needs.
pub(crate) fn for_own_questions(headers: &HeaderMap) -> HeaderMap {
    let [authorization, key] = CREDENTIALS;
    let wanted = [authorization, key, VERSION];
    let found = wanted.into_iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
    found.collect()
}

/// An API key as a server of this dialect takes it; it never shows in a log.
pub(super) fn credential(dialect: Dialect, key: &Secret) -> Result<(HeaderName, HeaderValue), http::Error> {
    let (name, value) = match dialect {
        Dialect::Openai | Dialect::Ollama => (header::AUTHORIZATION, format!("Bearer {}", key.expose())),
        Dialect::Anthropic => (API_KEY, key.expose().to_owned()),
    };
    let mut value = HeaderValue::try_from(value)?;
    value.set_sensitive(true);
    Ok((name, value))
}
