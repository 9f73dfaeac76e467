//! Has the engine's model there, or gone, where a request asks for nothing else.

use std::time::Duration;

use http::Response;
use plimsoll_engine::{GenerateError, KeepAlive};

use super::EngineFailed;
use crate::body::Body;
use crate::parse::Loading;
use crate::respond;

/// Answers when it is done: weights take seconds.
pub(super) async fn answer(loading: Loading) -> Result<Response<Body>, EngineFailed> {
    let Loading { engine, keep_alive, mut answer } = loading;
    if keep_alive == Some(KeepAlive::For(Duration::ZERO)) {
        answer["done_reason"] = "unload".into();
    }
    let kept = tokio::task::spawn_blocking(move || engine.engine.keep_loaded(keep_alive)).await;
    kept.map_err(|_| GenerateError::Gone)??;
    Ok(respond::json(&answer))
}
