//! The list of models that the embedded engines serve.

use http::Response;
use serde_json::json;
use thiserror::Error;

use crate::body::Body;
use crate::live::Live;
use crate::respond;

/// A model that nobody serves.
#[derive(Debug, Error)]
#[error("the model `{model}` does not exist; served here: {served}")]
pub struct NoSuchModel {
    model: String,
    served: String,
}

/// One model's entry, or all of them.
pub(super) fn answer(live: &Live, id: Option<&str>) -> Result<Response<Body>, NoSuchModel> {
    let entries: Vec<_> = live
        .engines()
        .map(|engine| {
            json!({
                "id": engine.name,
                "object": "model",
                "created": engine.loaded_at,
                "owned_by": "plimsoll",
                // vLLM's name, which clients read to learn the window.
                "max_model_len": engine.engine.context(),
            })
        })
        .collect();
    let Some(id) = id else {
        return Ok(respond::json(&json!({"object": "list", "data": entries})));
    };
    let found = entries.iter().find(|entry| entry["id"] == id);
    let found =
        found.ok_or_else(|| NoSuchModel { model: id.to_owned(), served: live.served_models().join(", ") })?;
    Ok(respond::json(found))
}
