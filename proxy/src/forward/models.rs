//! The list of models that the embedded engines serve.

use std::sync::Arc;

use http::Response;
use serde_json::json;
use thiserror::Error;

use crate::body::Body;
use crate::cut::cut;
use crate::live::{Embedded, Live};
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
    let entry = |engine: &Arc<Embedded>| {
        json!({
            "id": engine.name,
            "object": "model",
            "created": engine.loaded_at,
            "owned_by": "plimsoll",
            // vLLM's name, which clients read to learn the window.
            "max_model_len": engine.engine.context(),
        })
    };
    let Some(id) = id else {
        let entries: Vec<_> = live.engines().map(entry).collect();
        return Ok(respond::json(&json!({"object": "list", "data": entries})));
    };
    // An upstream's key is an id too, as in requests.
    let named = || live.engines().find(|engine| engine.name == id);
    let found = named().or_else(|| live.engines().find(|engine| engine.answers_to(id)));
    let found = found.ok_or_else(|| NoSuchModel {
        model: cut(id).into_owned(),
        served: live.served_models().join(", "),
    })?;
    Ok(respond::json(&entry(found)))
}
