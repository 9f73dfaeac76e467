//! Runs an admitted call on the embedded engine, or forwards it to an HTTP upstream.

pub(crate) mod ask;
mod compact;
mod count;
mod embedded;
pub(crate) mod headers;
mod load;
mod models;
mod tls;
mod client;
mod addresses;
pub(crate) mod own;
mod affinity;
mod belonging;
mod health;
mod endpoints;
mod send;
mod keepalive;
pub(crate) mod tokens;
mod unasked;
pub mod upstream;
pub mod usage;
mod window;
pub mod watch;

use http::Response;
use plimsoll_engine::GenerateError;
use thiserror::Error;
use tower::BoxError;

use crate::admit::Admitted;
use crate::body::{Body, observed};
use crate::govern::AfterAnswer;
use crate::{inquiry, kept};

pub use embedded::{Answer, End, Part, Step, Times};
pub use models::NoSuchModel;
pub use upstream::UpstreamError;
pub use usage::{Seen, Usage, first_of, last_of};

/// The work failed.
#[derive(Debug, Error)]
#[error("the engine failed: {0}")]
pub struct EngineFailed(#[from] GenerateError);

/// Does the work of a call.
pub async fn forward(mut admitted: Admitted) -> Result<Response<Body>, BoxError> {
    let after = admitted.envelope_mut().and_then(|envelope| {
        let next = envelope.next.take()?;
        Some(AfterAnswer::new(envelope.live.preparer.clone(), next))
    });
    let response = match admitted {
        Admitted::Run(run) => embedded::forward(run).await?,
        Admitted::Send(sending) => upstream::forward(sending).await?,
        Admitted::Save(saving) => kept::save(saving).await?,
        Admitted::Count(counting) => count::answer(&counting)?,
        Admitted::Compact(compacting) => compact::answer(compacting).await?,
        Admitted::Kept(kept, caller, wanted) => kept::answer(kept, caller, wanted).await?,
        Admitted::Load(loading) => load::answer(loading).await?,
        Admitted::Tell(live, asked) => inquiry::answer(live, asked).await?,
        Admitted::Models(live, id) => models::answer(&live, id.as_deref())?,
    };
    Ok(match after {
        Some(after) if response.status().is_success() => response.map(|body| observed(body, after)),
        _ => response,
    })
}
