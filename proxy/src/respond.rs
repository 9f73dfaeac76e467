//! The one place where an error becomes a status and a body, in the caller's dialect.

mod fault;

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use plimsoll_engine::{AdmitError, CheckpointError, GrammarError};
use plimsoll_policies::{CountError, Refusal};
use serde_json::{Value, json};
use tower::{BoxError, Layer, Service};

use crate::admit::{AdmitFault, NotAdmitted};
use crate::body::{Body, BodyError, full};
use crate::dialect::{Dialect, DialectError};
use crate::explain::ExplainError;
use crate::forward::{EngineFailed, NoSuchModel, UpstreamError};
use crate::govern::GovernError;
use crate::identify::{HeadError, IdentifyError};
use crate::inquiry::InquiryError;
use crate::kept::{self, KeptError};
use crate::keys::KeyError;
use crate::parse::CallError;
use crate::record::Received;
use crate::redirect::RedirectError;
use crate::slot_files::FolderError;
use crate::slots::SlotsError;

pub use fault::{Fault, Overflow};

/// Anthropic's status for a server that has too much to do.
const OVERLOADED: u16 = 529;

impl Fault {
    /// The status in a dialect.
    fn status_in(&self, dialect: Dialect) -> StatusCode {
        match (dialect, self.status) {
            (Dialect::Anthropic, StatusCode::SERVICE_UNAVAILABLE) => {
                StatusCode::from_u16(OVERLOADED).unwrap_or(self.status)
            }
            _ => self.status,
        }
    }
}

/// A JSON answer with status 200.
pub fn json(value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A text answer with status 200.
pub fn plain(text: &str) -> Response<Body> {
    let mut response = Response::new(full(text.to_owned()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// An answer without a body, with status 204.
pub fn nothing() -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Every request of the path ends in a response: errors are answered here.
pub fn layer<S>() -> impl Layer<S, Service = Responding<S>> + Clone {
    tower::layer::layer_fn(|inner| Responding { inner })
}

/// Answers the errors of an inner service.
#[derive(Clone)]
pub struct Responding<S> {
    inner: S,
}

impl<S> Service<Received> for Responding<S>
where
    S: Service<Received, Response = Response<Body>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Steps are always ready; one that failed says so again when it is called.
        self.inner.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, received: Received) -> Self::Future {
        let (span, dialect) = (received.span.clone(), received.dialect);
        let answer = self.inner.call(received);
        Box::pin(async move {
            let error = match answer.await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let fault = fault(&error);
            let status = fault.status_in(dialect);
            if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
                tracing::warn!(target: "plimsoll", id = span.id(), trace_id = span.logged_trace_id(),
                    error = causes(&error), code = fault.code, "request failed");
                span.failed(status, fault.code);
            } else {
                span.rejected(status, fault.code);
            }
            Ok(fault.response(dialect, &span.id()))
        })
    }
}

/// An error and what lies beneath it, for the log alone.
fn causes(error: &BoxError) -> String {
    let chain = std::iter::successors(Some(error.as_ref() as &dyn Error), |error| (*error).source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What a client is told of an error of any step.
pub fn fault(error: &BoxError) -> Fault {
    let known = None
        .or_else(|| error.downcast_ref().map(identify))
        .or_else(|| error.downcast_ref().map(call))
        .or_else(|| error.downcast_ref().map(govern))
        .or_else(|| error.downcast_ref().map(admit))
        .or_else(|| error.downcast_ref().map(upstream))
        .or_else(|| error.downcast_ref().map(engine))
        .or_else(|| error.downcast_ref().map(model))
        .or_else(|| error.downcast_ref().map(kept))
        .or_else(|| error.downcast_ref().map(inquiry));
    // What is inside stays inside: the log has it.
    known.unwrap_or_else(|| {
        Fault::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            &"the request failed inside the proxy",
        )
    })
}

fn identify(error: &IdentifyError) -> Fault {
    match error {
        IdentifyError::Head(error) => head(error),
        IdentifyError::ForeignOrigin(_) => Fault::new(StatusCode::FORBIDDEN, "origin_not_allowed", error),
        IdentifyError::Key(error) => key(error),
        IdentifyError::Redirect(error) => redirect(error),
        IdentifyError::NoRoute { .. } => Fault::new(StatusCode::NOT_FOUND, "unknown_url", error),
        IdentifyError::Full { .. } => {
            Fault::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", error).again()
        }
    }
}

fn redirect(error: &RedirectError) -> Fault {
    match error {
        RedirectError::Direct => Fault::new(StatusCode::MISDIRECTED_REQUEST, "not_redirected", error),
        RedirectError::NoUpstream(_) => Fault::new(StatusCode::MISDIRECTED_REQUEST, "not_an_upstream", error),
        RedirectError::Loop(_) => Fault::new(StatusCode::LOOP_DETECTED, "redirect_loop", error),
    }
}

fn key(error: &KeyError) -> Fault {
    match error {
        KeyError::Missing | KeyError::Unknown => {
            Fault::new(StatusCode::UNAUTHORIZED, "invalid_api_key", error)
        }
        KeyError::OtherRoute { .. } => Fault::new(StatusCode::FORBIDDEN, "key_not_allowed", error),
    }
}

fn head(error: &HeadError) -> Fault {
    match error {
        HeadError::NotAProxy => Fault::new(StatusCode::BAD_REQUEST, "not_a_proxy", error),
        HeadError::Host => Fault::new(StatusCode::BAD_REQUEST, "invalid_host", error),
        HeadError::ForeignHost(_) => Fault::new(StatusCode::FORBIDDEN, "host_not_allowed", error),
        HeadError::WebSocket => Fault::new(StatusCode::BAD_REQUEST, "websocket_not_supported", error),
        HeadError::TransferCoding(_) => {
            Fault::new(StatusCode::NOT_IMPLEMENTED, "unsupported_transfer_encoding", error)
        }
    }
}

fn call(error: &CallError) -> Fault {
    let fault = |status, code| Fault::new(status, code, error);
    match error {
        CallError::Body(body) => match body {
            BodyError::TooLarge { .. } => fault(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
            BodyError::UnknownCoding { .. } => {
                fault(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_encoding")
            }
            BodyError::Idle { .. } => fault(StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            BodyError::Corrupt { .. } | BodyError::Broken(_) => {
                fault(StatusCode::BAD_REQUEST, "invalid_body")
            }
        },
        CallError::Parse(parse) if parse.is_json() => {
            fault(StatusCode::BAD_REQUEST, "invalid_request").at("messages")
        }
        CallError::Parse(_) => fault(StatusCode::BAD_REQUEST, "invalid_json"),
        CallError::Dialect(DialectError::Form { param, .. }) => {
            fault(StatusCode::BAD_REQUEST, "invalid_value").at(param)
        }
        CallError::Dialect(DialectError::Json(_)) => fault(StatusCode::BAD_REQUEST, "invalid_json"),
        CallError::OtherDialect { .. } => fault(StatusCode::NOT_FOUND, "unsupported_dialect"),
        CallError::Option(option) => fault(StatusCode::BAD_REQUEST, "invalid_value").at(&option.param),
        CallError::Message(message) => fault(StatusCode::BAD_REQUEST, "invalid_value").at(&message.param),
        CallError::NoModel { .. } => fault(StatusCode::BAD_REQUEST, "missing_model").at("model"),
        CallError::UnknownModel { .. } => fault(StatusCode::NOT_FOUND, "model_not_found").at("model"),
        CallError::ResumesNothing | CallError::ResumesElsewhere => {
            fault(StatusCode::BAD_REQUEST, "invalid_value").at(kept::RESUME)
        }
        CallError::UnknownUrl { .. } => fault(StatusCode::NOT_FOUND, "unknown_url"),
        CallError::Key(error) => key(error),
        CallError::Kept(error) => kept(error),
        CallError::Inquiry(error) => inquiry(error),
    }
}

fn model(error: &NoSuchModel) -> Fault {
    Fault::new(StatusCode::NOT_FOUND, "model_not_found", error).at("model")
}

fn kept(error: &KeptError) -> Fault {
    let fault = |status, code| Fault::new(status, code, error);
    match error {
        KeptError::NoArtifact(_) => fault(StatusCode::NOT_FOUND, "artifact_not_found"),
        KeptError::Method { allow, .. } => {
            Fault { allow: Some(allow), ..fault(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed") }
        }
        KeptError::NotANumber(param) => fault(StatusCode::BAD_REQUEST, "invalid_value").at(param),
        KeptError::Checkpoint(kept::CheckpointError::Off) => {
            fault(StatusCode::BAD_REQUEST, "checkpoints_off")
        }
        KeptError::Checkpoint(kept::CheckpointError::NotFound(_)) => {
            fault(StatusCode::NOT_FOUND, "checkpoint_not_found")
        }
        KeptError::Checkpoint(kept::CheckpointError::Full { .. }) => {
            fault(StatusCode::CONFLICT, "too_many_checkpoints")
        }
        KeptError::Checkpoint(kept::CheckpointError::File(_)) => Fault::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "checkpoint_failed",
            &"the checkpoint cannot be stored or read",
        ),
        KeptError::Checkpoint(_) | KeptError::Resume(_) => fault(StatusCode::CONFLICT, "checkpoint_unusable"),
        KeptError::Crashed(_) => fault(StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
    }
}

fn inquiry(error: &InquiryError) -> Fault {
    match error {
        InquiryError::Form { param, .. } => {
            Fault::new(StatusCode::BAD_REQUEST, "invalid_value", error).at(param)
        }
        InquiryError::NotServed(_) => Fault::new(StatusCode::NOT_IMPLEMENTED, "not_served", error),
        InquiryError::Crashed(_) => Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", error),
    }
}

fn govern(error: &GovernError) -> Fault {
    match error {
        GovernError::Refused(Refusal::Count(error)) => count(error),
        GovernError::Refused(refusal) => {
            let overflow = match refusal {
                Refusal::ContextLength(figures) => {
                    Some(Overflow { prompt: figures.prompt, most: figures.budget })
                }
                Refusal::Count(_) => None,
            };
            Fault { overflow, ..too_long(refusal) }
        }
        GovernError::Unsettled { .. } | GovernError::Crashed(_) => {
            Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "policy_failed", error)
        }
    }
}

fn too_long(error: &dyn Display) -> Fault {
    Fault::new(StatusCode::BAD_REQUEST, "context_length_exceeded", error).at("messages")
}

fn count(error: &CountError) -> Fault {
    Fault::new(StatusCode::BAD_REQUEST, "invalid_messages", error).at("messages")
}

fn admit(error: &AdmitFault) -> Fault {
    let param = error.param;
    match &error.why {
        NotAdmitted::TooLong { prompt, context, .. } => {
            // Where the prompt fits, what is asked for the answer is too much.
            let (prompt, most) = (*prompt as u64, u64::from(*context));
            let overflow = (prompt >= most).then_some(Overflow { prompt, most });
            Fault { overflow, ..too_long(error).at(param) }
        }
        NotAdmitted::UnknownToken { .. } => {
            Fault::new(StatusCode::BAD_REQUEST, "invalid_value", error).at("prompt")
        }
        NotAdmitted::Format(GrammarError { param, .. }) => {
            Fault::new(StatusCode::BAD_REQUEST, "invalid_value", error).at(param)
        }
        NotAdmitted::FormatCrashed => {
            Fault::new(StatusCode::BAD_REQUEST, "invalid_value", error).at("response_format")
        }
        NotAdmitted::UnknownTool(_) | NotAdmitted::NoTools => {
            Fault::new(StatusCode::BAD_REQUEST, "invalid_value", error).at("tool_choice")
        }
        NotAdmitted::NoShift(_) => Fault::new(StatusCode::BAD_REQUEST, "invalid_value", error).at("shift"),
        NotAdmitted::ToolsTooLong { .. } => {
            Fault::new(StatusCode::BAD_REQUEST, "invalid_value", error).at("tools")
        }
        NotAdmitted::LeastBesideGrammar => {
            Fault::new(StatusCode::BAD_REQUEST, "invalid_value", error).at("min_tokens")
        }
        NotAdmitted::Count(error) => count(error).at(param),
        NotAdmitted::Memory(AdmitError::TooLarge { .. }) => too_long(error).at(param),
        NotAdmitted::Memory(AdmitError::TooMany { .. }) => {
            Fault::new(StatusCode::BAD_REQUEST, "invalid_value", error).at("n")
        }
        NotAdmitted::Memory(AdmitError::QueueFull { .. })
        | NotAdmitted::Waited(_)
        | NotAdmitted::CompilerBusy(_) => {
            Fault::new(StatusCode::TOO_MANY_REQUESTS, "engine_busy", error).again()
        }
        NotAdmitted::Memory(_) => {
            Fault::new(StatusCode::SERVICE_UNAVAILABLE, "engine_unloaded", error).again()
        }
    }
}

fn upstream(error: &UpstreamError) -> Fault {
    let status = match error {
        UpstreamError::ConnectTimeout { .. }
        | UpstreamError::Timeout { .. }
        | UpstreamError::TotalTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        UpstreamError::Unreachable { .. } | UpstreamError::Broken { .. } => StatusCode::BAD_GATEWAY,
        UpstreamError::Address(_) | UpstreamError::BrokenRequest { .. } => StatusCode::BAD_REQUEST,
        UpstreamError::Idle { .. } => StatusCode::REQUEST_TIMEOUT,
    };
    Fault::new(status, error.code(), error)
}

/// What an operator is told of a request that cannot be explained.
pub fn explain(error: &ExplainError) -> Fault {
    let fault = |status, code| Fault::new(status, code, error);
    match error {
        ExplainError::Parse(parse) if parse.is_json() => {
            fault(StatusCode::BAD_REQUEST, "invalid_request").at("messages")
        }
        ExplainError::Parse(_) => fault(StatusCode::BAD_REQUEST, "invalid_json"),
        ExplainError::Query(_) => fault(StatusCode::BAD_REQUEST, "invalid_value"),
        ExplainError::Body { long: true, .. } => fault(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
        ExplainError::Body { .. } => fault(StatusCode::BAD_REQUEST, "invalid_body"),
        ExplainError::UnknownRoute { .. } => fault(StatusCode::BAD_REQUEST, "unknown_route").at("route"),
        ExplainError::NotKept { .. } => fault(StatusCode::NOT_FOUND, "report_not_found"),
        ExplainError::Crashed(_) => fault(StatusCode::INTERNAL_SERVER_ERROR, "policy_failed"),
    }
}

/// What an operator is told of an error with slots and checkpoints.
pub fn slots(error: &SlotsError) -> Fault {
    let fault = |status, code| Fault::new(status, code, error);
    match error {
        SlotsError::Target(_) | SlotsError::Folder(FolderError::Name(_)) => {
            fault(StatusCode::BAD_REQUEST, "invalid_value")
        }
        SlotsError::Upstream(_) => fault(StatusCode::NOT_FOUND, "unknown_upstream").at("upstream"),
        SlotsError::NoFolder(_) => fault(StatusCode::BAD_REQUEST, "no_checkpoints"),
        SlotsError::Folder(FolderError::Unknown(_)) => {
            fault(StatusCode::NOT_FOUND, "unknown_checkpoint").at("name")
        }
        SlotsError::Engine(error) => checkpoint(error),
        SlotsError::Folder(FolderError::File { .. }) | SlotsError::Crashed => {
            fault(StatusCode::INTERNAL_SERVER_ERROR, "checkpoint_failed")
        }
    }
}

/// What is told of a conversation that cannot be saved or restored.
pub fn checkpoint(error: &CheckpointError) -> Fault {
    let fault = |status, code| Fault::new(status, code, error);
    match error {
        CheckpointError::NoSlot { .. } => fault(StatusCode::NOT_FOUND, "unknown_slot").at("slot"),
        CheckpointError::NotOffloaded { .. } => {
            fault(StatusCode::NOT_FOUND, "unknown_offloaded").at("offloaded")
        }
        CheckpointError::Short { .. } | CheckpointError::Whole { .. } => {
            fault(StatusCode::BAD_REQUEST, "invalid_value").at("tokens")
        }
        CheckpointError::States => fault(StatusCode::BAD_REQUEST, "unsupported_by_model"),
        CheckpointError::NotResident { .. } | CheckpointError::Busy { .. } => {
            fault(StatusCode::CONFLICT, "slot_busy")
        }
        CheckpointError::AllBusy { .. } | CheckpointError::NoRoom { .. } => {
            fault(StatusCode::TOO_MANY_REQUESTS, "engine_busy").again()
        }
        CheckpointError::NotACheckpoint { .. }
        | CheckpointError::Version { .. }
        | CheckpointError::Damaged { .. }
        | CheckpointError::Foreign { .. } => fault(StatusCode::UNPROCESSABLE_ENTITY, "invalid_checkpoint"),
        CheckpointError::Gone => fault(StatusCode::SERVICE_UNAVAILABLE, "engine_unloaded").again(),
        CheckpointError::File { .. }
        | CheckpointError::ModelChanged { .. }
        | CheckpointError::Memory(_)
        | CheckpointError::Load(_) => fault(StatusCode::INTERNAL_SERVER_ERROR, "checkpoint_failed"),
    }
}

fn engine(error: &EngineFailed) -> Fault {
    Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "engine_failed", error)
}
