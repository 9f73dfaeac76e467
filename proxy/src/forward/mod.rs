//! Runs an admitted call on the embedded engine, or forwards it to an HTTP upstream.

mod embedded;
mod models;
mod tls;
mod unasked;
pub mod upstream;
mod usage;

use http::Response;
use plimsoll_engine::GenerateError;
use thiserror::Error;
use tower::BoxError;

use crate::admit::Admitted;
use crate::body::Body;
use crate::kept;

pub use embedded::{Answer, End, Part, Step};
pub use models::NoSuchModel;
pub use upstream::UpstreamError;

/// The work failed.
#[derive(Debug, Error)]
#[error("the engine failed: {0}")]
pub struct EngineFailed(#[from] GenerateError);

/// Does the work of a call.
pub async fn forward(admitted: Admitted) -> Result<Response<Body>, BoxError> {
    match admitted {
        Admitted::Run(run) => embedded::forward(run).await,
        Admitted::Send(sending) => Ok(upstream::forward(sending).await?),
        Admitted::Save(saving) => Ok(kept::save(saving).await?),
        Admitted::Kept(kept, caller, wanted) => Ok(kept::answer(kept, caller, wanted).await?),
        Admitted::Models(live, id) => Ok(models::answer(&live, id.as_deref())?),
    }
}
