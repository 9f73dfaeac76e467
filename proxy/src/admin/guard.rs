//! Who may ask the admin listener.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Admin;

/// Beyond loopback a bearer token is required; probes and scrapes carry none and need none.
pub(super) async fn token(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let Some(token) = &admin.0.listen.admin_token else {
        return next.run(request).await;
    };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("");
    // Hashes are compared, so that the time taken tells nothing of the token.
    if blake3::hash(given.as_bytes()) == blake3::hash(token.expose().as_bytes()) {
        return next.run(request).await;
    }
    let wanted = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, wanted, "this listener needs `authorization: Bearer <listen.admin_token>`\n")
        .into_response()
}

/// A page of another site that points its own name at loopback (DNS rebinding) is turned away.
pub(super) async fn host(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
    let listen = &admin.0.listen;
    // No browser opens a unix socket.
    if listen.admin_token.is_none() && listen.admin.is_loopback_tcp() && !is_local(host) {
        return (StatusCode::FORBIDDEN, "ask by address or as localhost\n").into_response();
    }
    next.run(request).await
}

/// Whether a Host header is an address or `localhost`.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.is_empty() || name == "localhost" || bare.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn names_other_than_localhost_are_foreign() {
        for host in ["localhost", "localhost:7490", "127.0.0.1:7490", "[::1]:7490", "10.1.2.3", ""] {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "evil.example:7490", "localhost.evil.example:80"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
