//! The path of a request, composed once: accept -> identify -> parse -> count -> govern -> admit -> forward -> stream.
//!
//! Each step takes what the step before it makes, so that a missing or misplaced step does not compile:
//! `Request<Body> -> Received -> Identified -> Call -> Counted -> Governed -> Admitted -> Response<Body>`.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;

use crate::body::Body;
use crate::live::Shared;
use crate::{admit, cors, count, forward, govern, identify, parse, read_tool, record, respond};

/// The data listener's whole path.
pub type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Composes the path, outermost first.
pub fn stack(shared: Arc<Shared>) -> Stack {
    let path = ServiceBuilder::new()
        // Outermost: one record a request, whatever becomes of it; finished when the answer's last byte leaves.
        .layer(record::layer(shared.clone()))
        // Around all answers, refusals too: a page must be able to read why. A preflight asks for nothing behind it.
        .layer(cors::layer(shared.clone()))
        // Below the record, so that the record sees the status; above all steps: the one place where errors get one.
        .layer(respond::layer())
        // The head alone decides which routes may take it: no body is read for a path nobody serves, or in a full house.
        .filter(move |received| identify::identify(&shared, received))
        // The body is read once; its model chooses the route.
        .filter_async(parse::parse)
        // Counting stands before governing: policies decide by tokens.
        .filter_async(|call| async { Ok::<_, Infallible>(count::count(call).await) })
        // A model's own reads of what was shortened are answered here. Outside of governing: every round fits the window.
        .layer(read_tool::layer())
        // Summaries run here, under permits of their own, before the call's own permit is asked for.
        .filter_async(govern::govern)
        // Last before the work: memory is held only by what runs.
        .filter_async(admit::admit)
        .service_fn(forward::forward);
    BoxCloneSyncService::new(path)
}
