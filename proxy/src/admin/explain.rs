//! `/explain`: what a policy did, or would do, with a request.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection, StringRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::Admin;
use crate::cut::cut;
use crate::explain::{self, ExplainError, Show};
use crate::respond;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    route: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    messages: bool,
    #[serde(default, deserialize_with = "flag")]
    diff: bool,
}

impl Wanted {
    fn show(&self) -> Show {
        Show { messages: self.messages, diff: self.diff }
    }
}

/// `1` and `0` are what `curl` users write.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match &*String::deserialize(deserializer)? {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(de::Error::custom(format!("`{}` must be `true`, `false`, `1` or `0`", cut(other)))),
    }
}

/// What was done with a request of the last ones, by the id in its answer's head.
pub(super) async fn kept(
    State(admin): State<Admin>,
    id: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Value>, ExplainError> {
    let Path(id) = id.map_err(|error| ExplainError::Query(error.body_text()))?;
    let Query(wanted) = wanted.map_err(|error| ExplainError::Query(error.body_text()))?;
    let live = admin.live();
    match live.explained.get(&id) {
        Some(entry) => Ok(Json(entry.to_json(wanted.show()))),
        None => Err(ExplainError::NotKept { id: cut(&id).into_owned(), keep: live.explain.keep }),
    }
}

/// What the live configuration would do with a request. No model runs, nothing is forwarded.
pub(super) async fn posted(
    State(admin): State<Admin>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    body: Result<String, StringRejection>,
) -> Result<Json<Value>, ExplainError> {
    let Query(wanted) = wanted.map_err(|error| ExplainError::Query(error.body_text()))?;
    let body = body.map_err(|error| ExplainError::Body {
        long: error.status() == StatusCode::PAYLOAD_TOO_LARGE,
        message: error.body_text(),
    })?;
    let live = admin.live();
    let explain = move || {
        let explained = explain::live(&live, wanted.route.as_deref(), body.into())?;
        Ok::<_, ExplainError>(explained.to_json(wanted.show()))
    };
    Ok(Json(tokio::task::spawn_blocking(explain).await.map_err(ExplainError::Crashed)??))
}

impl IntoResponse for ExplainError {
    fn into_response(self) -> Response {
        let fault = respond::explain(&self);
        (fault.status, Json(fault.body())).into_response()
    }
}
