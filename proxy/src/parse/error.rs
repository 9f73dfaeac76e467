//! Why a body cannot be served.

use plimsoll_policies::ParseError;
use thiserror::Error;

use super::{MessageError, OptionError};
use crate::body::BodyError;
use crate::dialect::DialectError;
use crate::inquiry::InquiryError;
use crate::kept::{KeptError, RESUME};
use crate::keys::KeyError;

/// The body cannot be served.
#[derive(Debug, Error)]
pub enum CallError {
    /// The bytes did not arrive or do not decode.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Not JSON, or not a chat request.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Not a request of its dialect.
    #[error(transparent)]
    Dialect(#[from] DialectError),
    /// The server that its route leads to speaks another dialect.
    #[error(
        "the upstream `{upstream}` speaks `{its}`, and this request is of `{dialect}`: send it in that dialect, or give \
         the upstream's own by `upstreams.{upstream}.dialect`"
    )]
    OtherDialect {
        /// The upstream's name.
        upstream: String,
        /// Its dialect.
        its: &'static str,
        /// The request's.
        dialect: &'static str,
    },
    /// A field of a completion request is missing or of the wrong form.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A message that the embedded engine cannot take.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The body names no model and the route does not say `any_model`.
    #[error("you must provide a `model`; served here: {served}")]
    NoModel {
        /// The model ids that exist, comma separated.
        served: String,
    },
    /// The model is not served on this route.
    #[error("the model `{model}` does not exist; served here: {served}")]
    UnknownModel {
        /// The model asked for.
        model: String,
        /// The model ids that exist, comma separated.
        served: String,
    },
    /// The route that its model chose asks for another key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A malformed request for what is kept.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// A checkpoint is named by a request that has no messages to put it before.
    #[error(
        "`{RESUME}` puts a saved conversation before the messages of a chat, and this request is none: \
         leave the header out or send a chat"
    )]
    ResumesNothing,
    /// A checkpoint is named by a chat of a dialect that checkpoints are not kept in.
    #[error(
        "`{RESUME}` goes before a chat of this dialect on the embedded engine alone: leave the header out, or send \
         the chat to `/v1/chat/completions`"
    )]
    ResumesElsewhere,
    /// What is asked of an engine is not of the form of its path.
    #[error(transparent)]
    Inquiry(#[from] InquiryError),
    /// The path is not part of any API of the embedded engine.
    #[error("unknown request URL: {method} {path}")]
    UnknownUrl {
        /// The method asked for.
        method: String,
        /// The path asked for.
        path: String,
    },
}
