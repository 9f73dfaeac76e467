//! What a request's head must be before anything is asked of it: one host, one way to read its body, no way round.

use http::header::{HOST, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{Method, Version};
use thiserror::Error;

use crate::config::Hosts;
use crate::cut::cut;

/// A head that is not served, whoever asks.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// Proxy-style requests: upstreams come from the config alone.
    #[error("absolute URLs and CONNECT are not served: send the path alone to this address")]
    NotAProxy,
    /// A transfer coding besides one `chunked` would have to be undone: passed on without its name, its bytes are others.
    #[error("transfer-encoding `{0}` is not served: send `chunked` alone, or a content-length")]
    TransferCoding(String),
    /// Two readers could see two hosts.
    #[error("a request names its host once, in `host`")]
    Host,
    /// A name that a stranger may have pointed at this machine (DNS rebinding).
    #[error("`{0}` is no name of this listener: ask by address or as localhost, or add it to `listen.hosts`")]
    ForeignHost(String),
    /// What is said over a socket would be governed by nobody.
    #[error("WebSocket connections are not served: send requests over HTTP")]
    WebSocket,
}

/// Refuses what could be read in two ways, or lead round the rules.
pub(super) fn check(head: &Parts, hosts: &Hosts) -> Result<(), HeadError> {
    // HTTP/2 names scheme and authority beside the path.
    let absolute = head.version < Version::HTTP_2 && head.uri.authority().is_some();
    if head.method == Method::CONNECT || absolute || !head.uri.path().starts_with('/') {
        return Err(HeadError::NotAProxy);
    }
    transfer_coding(&head.headers)?;
    let host = host(head)?;
    if !hosts.take(host) {
        return Err(HeadError::ForeignHost(cut(host).into_owned()));
    }
    if tokens(&head.headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket")) {
        return Err(HeadError::WebSocket);
    }
    Ok(())
}

/// Whether hyper read the whole of the transfer coding: it looks at the last one, and takes off that one alone.
fn transfer_coding(headers: &HeaderMap) -> Result<(), HeadError> {
    if !headers.contains_key(TRANSFER_ENCODING) {
        return Ok(());
    }
    let codings: Vec<&str> = tokens(headers, &TRANSFER_ENCODING).collect();
    match codings[..] {
        [coding] if coding.eq_ignore_ascii_case("chunked") => Ok(()),
        _ => Err(HeadError::TransferCoding(cut(&codings.join(", ")).into_owned())),
    }
}

/// The host asked for; empty where HTTP/1.0 names none (RFC 9112, section 3.2).
fn host(head: &Parts) -> Result<&str, HeadError> {
    if let Some(authority) = head.uri.authority() {
        return Ok(authority.as_str());
    }
    let mut named = head.headers.get_all(HOST).iter();
    match (named.next(), named.next()) {
        (Some(host), None) => host.to_str().map_err(|_| HeadError::Host),
        (None, _) if head.version == Version::HTTP_10 => Ok(""),
        _ => Err(HeadError::Host),
    }
}

/// The members of a list in a header's fields.
fn tokens<'h>(headers: &'h HeaderMap, name: &'static http::HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(version: Version, uri: &str, headers: &[(&str, &str)]) -> Result<(), HeadError> {
        let request = http::Request::builder().version(version).uri(uri);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (head, ()) = request.body(()).expect("a request").into_parts();
        check(&head, &Hosts::Local(vec!["plimsoll.example".to_owned()]))
    }

    #[test]
    fn a_host_is_named_once_and_is_no_strangers() {
        let checked_h1 = |headers: &[(&str, &str)]| checked(Version::HTTP_11, "/x", headers);
        assert_eq!(checked_h1(&[("host", "localhost:7480")]), Ok(()));
        assert_eq!(checked_h1(&[("host", "plimsoll.example")]), Ok(()));
        assert_eq!(checked_h1(&[]), Err(HeadError::Host));
        assert_eq!(checked_h1(&[("host", "a"), ("host", "a")]), Err(HeadError::Host));
        let foreign = Err(HeadError::ForeignHost("evil.example".to_owned()));
        assert_eq!(checked_h1(&[("host", "evil.example")]), foreign);
        assert_eq!(checked(Version::HTTP_10, "/x", &[]), Ok(()));
        assert_eq!(checked(Version::HTTP_2, "http://evil.example/x", &[]), foreign);
        assert_eq!(checked(Version::HTTP_2, "http://127.0.0.1:7480/x", &[]), Ok(()));
        for target in ["http://localhost/x", "localhost", "localhost:80", "*"] {
            assert_eq!(
                checked(Version::HTTP_11, target, &[("host", "localhost")]),
                Err(HeadError::NotAProxy)
            );
        }
    }

    #[test]
    fn one_chunked_is_the_only_transfer_coding() {
        let coded = |codings: &[&str]| {
            let mut headers = vec![("host", "localhost")];
            headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            checked(Version::HTTP_11, "/x", &headers)
        };
        for fine in [&[][..], &["chunked"], &[" Chunked , "]] {
            assert_eq!(coded(fine), Ok(()), "{fine:?}");
        }
        for other in [&["gzip, chunked"][..], &["chunked", "chunked"], &["identity"], &[""]] {
            assert!(matches!(coded(other), Err(HeadError::TransferCoding(_))), "{other:?}");
        }
    }

    #[test]
    fn a_socket_is_refused_and_other_offers_are_let_go() {
        let upgrading = |to| checked(Version::HTTP_11, "/x", &[("host", "localhost"), ("upgrade", to)]);
        assert_eq!(upgrading("h2c"), Ok(()));
        assert_eq!(upgrading("h2c, WebSocket"), Err(HeadError::WebSocket));
    }
}
