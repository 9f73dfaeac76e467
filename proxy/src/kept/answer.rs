//! Answers requests for what is kept: `/v1/context/...` on the data listener.

use std::sync::Arc;

use http::header::ACCEPT;
use http::request::Parts;
use http::{Method, Response};
use plimsoll_policies::ParseError;
use serde_json::json;
use thiserror::Error;
use tokio::task::JoinError;

use super::{Caller, CheckpointError, Kept, page, shown};
use crate::body::Body;
use crate::{respond, stamp};

/// What a request wants of what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// `GET /v1/context/artifacts/{id}?offset=&limit=`: the original of a shortened tool result.
    Artifact {
        /// The id that stands in the shortened result.
        id: String,
        /// First byte.
        offset: usize,
        /// Bytes at most.
        limit: usize,
        /// The text alone instead of JSON.
        plain: bool,
    },
    /// `GET /v1/context/checkpoints`: what the caller has.
    Checkpoints,
    /// `GET /v1/context/checkpoints/{id}`: one, with its messages.
    Checkpoint(String),
    /// `DELETE /v1/context/checkpoints/{id}`
    Deletion(String),
}

/// What was asked for is not kept, or not asked for well.
#[derive(Debug, Error)]
pub enum KeptError {
    /// No such original, or somebody else's, or no more.
    #[error(
        "no artifact `{0}` is kept for you: it was never yours, its time is over, or it gave way to others"
    )]
    NoArtifact(String),
    /// A query parameter that is no number.
    #[error("`{0}` must be a whole number of bytes")]
    NotANumber(&'static str),
    /// A checkpoint cannot be saved, found or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A saved conversation cannot be put before the request's.
    #[error("the checkpoint does not fit the request: {0}")]
    Resume(#[from] ParseError),
    /// Looking for it panicked.
    #[error("looking for it failed: {0}")]
    Crashed(#[from] JoinError),
}

/// Path of saved conversations.
const CHECKPOINTS: &str = "/v1/context/checkpoints";
/// Path of originals.
const ARTIFACTS: &str = "/v1/context/artifacts/";

impl Wanted {
    /// Reads a request's head; `None` where it asks for nothing that is kept.
    ///
    /// # Errors
    /// A query parameter is malformed.
    pub fn of(head: &Parts, kept: &Kept) -> Result<Option<Self>, KeptError> {
        let path = head.uri.path();
        if kept.checkpoints.is_some()
            && let Some(rest) = path.strip_prefix(CHECKPOINTS)
        {
            let id = rest.strip_prefix('/').filter(|id| !id.is_empty());
            return Ok(match (&head.method, id) {
                (&Method::GET, None) if rest.is_empty() => Some(Self::Checkpoints),
                (&Method::GET, Some(id)) => Some(Self::Checkpoint(id.to_owned())),
                (&Method::DELETE, Some(id)) => Some(Self::Deletion(id.to_owned())),
                _ => None,
            });
        }
        match path.strip_prefix(ARTIFACTS) {
            Some(id) if head.method == Method::GET && kept.artifacts.is_some() => {
                let number = |name| number(head, name);
                let (offset, limit) =
                    (number("offset")?.unwrap_or(0), number("limit")?.unwrap_or(usize::MAX));
                let (id, plain) = (id.to_owned(), wants_plain(head));
                Ok(Some(Self::Artifact { id, offset, limit, plain }))
            }
            _ => Ok(None),
        }
    }
}

fn number(head: &Parts, name: &'static str) -> Result<Option<usize>, KeptError> {
    let pairs = head.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value);
    value.map(|value| value.parse().map_err(|_| KeptError::NotANumber(name))).transpose()
}

/// `text/plain` is asked for, and JSON is not.
fn wants_plain(head: &Parts) -> bool {
    let accepted = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.contains("text/plain") && !accepted.contains("application/json")
}

/// Answers a caller.
pub async fn answer(kept: Arc<Kept>, caller: Caller, wanted: Wanted) -> Result<Response<Body>, KeptError> {
    match wanted {
        Wanted::Artifact { id, offset, limit, plain } => {
            let name = id.clone();
            let find = move || kept.artifacts.as_ref().and_then(|artifacts| artifacts.get(&caller, &name));
            let text = tokio::task::spawn_blocking(find).await?;
            let text = text.ok_or_else(|| KeptError::NoArtifact(shown(&id)))?;
            let page = page(&text, offset, limit);
            if plain {
                let mut response = respond::plain(page.text);
                response.headers_mut().extend(stamp::part(text.len(), page.next));
                return Ok(response);
            }
            Ok(respond::json(&json!({
                "id": id,
                "object": "context.artifact",
                "total_bytes": text.len(),
                "offset": page.offset,
                "next_offset": page.next,
                "text": page.text,
            })))
        }
        checkpoints => {
            Ok(tokio::task::spawn_blocking(move || of_checkpoints(&kept, &caller, &checkpoints)).await??)
        }
    }
}

/// Answers what concerns checkpoints. Blocks.
fn of_checkpoints(kept: &Kept, caller: &Caller, wanted: &Wanted) -> Result<Response<Body>, CheckpointError> {
    let checkpoints = kept.checkpoints.as_ref().ok_or(CheckpointError::Off)?;
    Ok(respond::json(&match wanted {
        Wanted::Checkpoint(id) => {
            let checkpoint = checkpoints.load(caller, id)?;
            let mut answer = json!(checkpoint.info);
            answer["conversation"] = json!({"messages": checkpoint.messages, "tools": checkpoint.tools});
            answer
        }
        Wanted::Deletion(id) => {
            checkpoints.delete(caller, id)?;
            json!({"id": id, "object": "context.checkpoint", "deleted": true})
        }
        Wanted::Checkpoints | Wanted::Artifact { .. } => {
            json!({"object": "list", "data": checkpoints.list(caller)})
        }
    }))
}
