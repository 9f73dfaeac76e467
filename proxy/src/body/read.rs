//! Request bodies, read whole within a limit and decoded.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, HeaderMap};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tower::BoxError;

use super::{Body, full, paused};
use crate::cut::cut;

/// At most this many content codings are undone: more is an attack, not a client.
const MAX_CODINGS: usize = 4;

/// Why a request body could not be read.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The body, decoded or not, is longer than `limits.body`.
    #[error("the request body is longer than the limit of {limit} bytes")]
    TooLarge {
        /// Bytes a decoded body may have.
        limit: usize,
    },
    /// A content coding that is not known here.
    #[error("content-encoding `{coding}` is not supported: send `zstd`, `gzip`, `br`, `deflate` or none")]
    UnknownCoding {
        /// The coding as the client spelled it.
        coding: String,
    },
    /// The body does not decode as its content-encoding says.
    #[error("the request body is not valid `{coding}` data")]
    Corrupt {
        /// The coding that failed.
        coding: &'static str,
    },
    /// The client paused for longer than `limits.body_idle`.
    #[error(
        "nothing came of the request body for {}: send it without such a pause",
        humantime::format_duration(*.after)
    )]
    Idle {
        /// The time it had.
        after: Duration,
    },
    /// The client stopped sending.
    #[error("the request body ended early: {0}")]
    Broken(BoxError),
}

/// A request body, read whole.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The bytes as they came, still encoded: what an untouched request forwards.
    pub original: Bytes,
    /// The same bytes decoded; the same buffer where there was no encoding.
    pub decoded: Bytes,
}

/// A body that does not become a payload.
#[derive(Debug)]
pub struct Unread {
    /// Why not.
    pub error: BodyError,
    /// The body as it came, where it is only its coding that is not understood.
    pub body: Option<Body>,
}

impl From<BodyError> for Unread {
    fn from(error: BodyError) -> Self {
        Self { error, body: None }
    }
}

/// Reads a body whole and undoes its content codings. `limit` (bytes) holds for both forms.
pub async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Payload, Unread> {
    // What can be refused by the head alone is: the client need not send it (RFC 9110, section 10.1.1).
    let codings = match codings(headers) {
        Ok(codings) => codings,
        Err(error) => return Err(Unread { error, body: Some(body) }),
    };
    let original = whole(body, limit).await?;
    match decoded(codings, original.clone(), limit).await {
        Ok(decoded) => Ok(Payload { original, decoded }),
        Err(error @ BodyError::Corrupt { .. }) => Err(Unread { error, body: Some(full(original)) }),
        Err(error) => Err(error.into()),
    }
}

/// The bytes as they come.
async fn whole(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge { limit });
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge { limit }),
        Err(error) => {
            let after = paused(error.as_ref());
            Err(after.map_or_else(|| BodyError::Broken(error), |after| BodyError::Idle { after }))
        }
    }
}

/// The bytes without their codings, the last of them first.
async fn decoded(codings: Vec<Coding>, mut bytes: Bytes, limit: usize) -> Result<Bytes, BodyError> {
    for coding in codings.into_iter().rev() {
        bytes = coding.decode(&bytes, limit).await?;
    }
    Ok(bytes)
}

#[derive(Debug, Clone, Copy)]
enum Coding {
    Zstd,
    Gzip,
    Brotli,
    Deflate,
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Deflate => "deflate",
        }
    }

    async fn decode(self, bytes: &[u8], limit: usize) -> Result<Bytes, BodyError> {
        use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
        // One byte more than allowed tells a body at the limit from one beyond it, without unpacking a bomb.
        let room = limit as u64 + 1;
        let mut out = Vec::with_capacity(bytes.len().min(limit));
        let read = match self {
            Self::Zstd => ZstdDecoder::new(bytes).take(room).read_to_end(&mut out).await,
            Self::Gzip => GzipDecoder::new(bytes).take(room).read_to_end(&mut out).await,
            Self::Brotli => BrotliDecoder::new(bytes).take(room).read_to_end(&mut out).await,
            Self::Deflate => ZlibDecoder::new(bytes).take(room).read_to_end(&mut out).await,
        };
        match read {
            Err(_) => Err(BodyError::Corrupt { coding: self.name() }),
            Ok(_) if out.len() > limit => Err(BodyError::TooLarge { limit }),
            Ok(_) => Ok(out.into()),
        }
    }
}

/// The codings a body went through, in the order they were applied.
fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, BodyError> {
    let unknown = |coding: &str| BodyError::UnknownCoding { coding: cut(coding).into_owned() };
    let mut found = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = value.to_str().map_err(|_| unknown("?"))?;
        for coding in value.split(',').map(str::trim).filter(|c| !c.is_empty()) {
            match coding.to_ascii_lowercase().as_str() {
                "identity" => {}
                "zstd" => found.push(Coding::Zstd),
                "gzip" | "x-gzip" => found.push(Coding::Gzip),
                "br" => found.push(Coding::Brotli),
                "deflate" => found.push(Coding::Deflate),
                _ => return Err(unknown(coding)),
            }
        }
    }
    if found.len() > MAX_CODINGS {
        return Err(unknown("more than four codings"));
    }
    Ok(found)
}
