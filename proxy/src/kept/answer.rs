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
    /// A method that a path of what is kept does not have.
    #[error("{method} is not served at `{path}`: it takes {allow}")]
    Method {
        /// The method asked for.
        method: String,
        /// The path, as the API names it.
        path: &'static str,
        /// The methods it has, comma separated.
        allow: &'static str,
    },
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
/// Path of one of them.
const CHECKPOINT: &str = "/v1/context/checkpoints/{id}";
/// Path of originals.
const ARTIFACT: &str = "/v1/context/artifacts/{id}";

impl Wanted {
    /// Reads a request's head; `None` where it asks for nothing that is kept, or saves a conversation.
    ///
    /// # Errors
    /// A query parameter is malformed, or the path has no such method.
    pub fn of(head: &Parts, kept: &Kept) -> Result<Option<Self>, KeptError> {
        // Not `identify::plain`: an id such as `..%2f..%2fx` is still an id, and none of the upstream's business.
        let parts = head.uri.path().split('/').filter(|part| !part.is_empty());
        let path: String = parts.flat_map(|part| ["/", part]).collect();
        let mut parts = path.strip_prefix("/v1/context/").unwrap_or_default().splitn(2, '/');
        let (kind, id) = (parts.next(), parts.next().map(str::to_owned));
        let refused = |path, allow| KeptError::Method { method: head.method.to_string(), path, allow };
        // hyper leaves out the body of an answer to HEAD.
        let method = if head.method == Method::HEAD { &Method::GET } else { &head.method };
        Ok(Some(match (kind, id, method) {
            (Some("checkpoints"), id, method) if kept.checkpoints.is_some() => match (id, method) {
                (None, &Method::GET) => Self::Checkpoints,
                (None, &Method::POST) => return Ok(None),
                (None, _) => return Err(refused(CHECKPOINTS, "GET, POST")),
                (Some(id), &Method::GET) => Self::Checkpoint(id),
                (Some(id), &Method::DELETE) => Self::Deletion(id),
                (Some(_), _) => return Err(refused(CHECKPOINT, "GET, DELETE")),
            },
            (Some("artifacts"), Some(id), &Method::GET) if kept.artifacts.is_some() => {
                let number = |name| number(head, name);
                let (offset, limit) =
                    (number("offset")?.unwrap_or(0), number("limit")?.unwrap_or(usize::MAX));
                Self::Artifact { id, offset, limit, plain: wants_plain(head) }
            }
            (Some("artifacts"), Some(_), _) if kept.artifacts.is_some() => {
                return Err(refused(ARTIFACT, "GET"));
            }
            _ => return Ok(None),
        }))
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
