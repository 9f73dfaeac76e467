//! Errors as Anthropic's API tells them.

use http::StatusCode;
use serde_json::{Value, json};

use crate::respond::Fault;

/// An error body. What does not fit is told in the words that clients look for.
pub(crate) fn body(fault: &Fault, status: StatusCode, request: &str) -> Value {
    let message = match fault.overflow {
        Some(over) => format!("prompt is too long: {} tokens > {} maximum", over.prompt, over.most),
        None => fault.message.clone(),
    };
    let error = json!({"type": kind(status), "message": message});
    json!({"type": "error", "error": error, "request_id": request})
}

fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}
