//! `/slots`: the engines' conversations.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::Admin;
use crate::live::Live;
use crate::respond;
use crate::slots::{self, Action, SlotsError, Target};

pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<Value>, SlotsError> {
    blocking(admin, slots::list).await
}

pub(super) async fn act(
    State(admin): State<Admin>,
    action: Result<Path<Action>, PathRejection>,
    target: Result<Json<Target>, JsonRejection>,
) -> Result<Json<Value>, SlotsError> {
    let Path(action) = action.map_err(|error| SlotsError::Target(error.body_text()))?;
    let Json(target) = target.map_err(|error| SlotsError::Target(error.body_text()))?;
    blocking(admin, move |live| slots::act(live, action, &target)).await
}

/// Files are read and written, and the engine is waited for: not on a thread that serves others.
async fn blocking(
    admin: Admin,
    work: impl FnOnce(&Live) -> Result<Value, SlotsError> + Send + 'static,
) -> Result<Json<Value>, SlotsError> {
    let live = admin.live();
    let done = tokio::task::spawn_blocking(move || work(&live)).await;
    done.map_err(|_| SlotsError::Crashed)?.map(Json)
}

impl IntoResponse for SlotsError {
    fn into_response(self) -> Response {
        let fault = respond::slots(&self);
        (fault.status, Json(fault.body())).into_response()
    }
}
