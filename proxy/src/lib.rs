//! Plimsoll's sidecar: HTTP in, rules over the context, an engine or an upstream, HTTP out.
//!
//! The modules stand in the order of a request's path, which [`stack`] composes:
//! accept -> identify -> parse -> count -> govern -> admit -> forward -> stream, all inside one record.
//!
//! Invariants:
//! - A request that no policy changes reaches an HTTP upstream byte-identical; a changed one differs in the changed
//!   spans alone.
//! - On the embedded engine the prompt that was counted is the prompt that runs.
//! - A status code is chosen in [`respond`] and nowhere else; a span or metric is named in [`telemetry`] and nowhere else.
//! - Upstreams come from the configuration, never from a request. There is no redirect following.
#![forbid(unsafe_code)]

pub mod config;
pub mod cut;
pub mod stack;
pub mod listen;
pub mod redirect;
pub mod accept;
pub mod body;
pub mod kept;
pub mod cors;
pub mod keys;
pub mod identify;
pub mod dialect;
pub mod inquiry;
pub mod parse;
pub mod count;
pub mod read_tool;
pub mod govern;
pub mod admit;
pub mod forward;
pub mod stream;
pub mod record;
pub mod respond;
pub mod stamp;
pub mod telemetry;
pub mod live;
pub mod assemble;
pub mod readings;
pub mod slot_files;
pub mod slots;
pub mod explain;
pub mod replay;
pub mod cases;
pub mod admin;
pub mod proxy;
