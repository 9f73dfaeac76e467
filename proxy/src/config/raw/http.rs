//! How an HTTP upstream is dealt with: patience, retries, health.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::scalar::Time;
use super::time;

/// Patience with an HTTP upstream.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct Timeouts {
    /// To connect, TLS included. Default `10s`.
    pub(in super::super) connect: Time,
    /// From the end of the request to the head of the response. Default `600s`.
    pub(in super::super) first_byte: Time,
    /// Between two pieces of the response. Default `300s`.
    pub(in super::super) idle: Time,
    /// For the whole, retries and the last byte of the response included. Default none.
    pub(in super::super) total: Option<Time>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: time("10s"), first_byte: time("600s"), idle: time("300s"), total: None }
    }
}

/// When a request is sent once more: before anything of an answer was passed on, and never for a client that left.
/// Another server is asked where there is one, the same one after a pause.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct Retries {
    /// How often, at most, after the first attempt. 0: never. Default 2.
    #[schemars(range(max = 10))]
    pub(in super::super) attempts: u32,
    /// Statuses of 502, 503 and 504 that are no answer. Default none: what a server answers is passed on.
    #[schemars(inner(range(min = 502, max = 504)), example = &[502, 503, 504])]
    pub(in super::super) statuses: Vec<u16>,
    /// Pause before the same server is asked again, doubled each time, and shortened by chance by up to a half. Default
    /// `100ms`.
    pub(in super::super) pause: Time,
    /// The longest pause. An answer whose `retry-after` asks for more is passed on. Default `2s`.
    pub(in super::super) longest_pause: Time,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 2, statuses: Vec::new(), pause: time("100ms"), longest_pause: time("2s") }
    }
}

/// When a replica is left out: it could not be reached, broke off, took too long, or answered 502, 503 or 504. After the
/// time one request is its probe. Where all are out, they are asked all the same.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct Ejection {
    /// Failures in a row that put it out. Default 3.
    #[schemars(range(min = 1))]
    pub(in super::super) failures: u32,
    /// For how long at first; doubled by each probe that fails. Default `10s`.
    pub(in super::super) time: Time,
    /// For how long at most. Default `5m`.
    pub(in super::super) longest_time: Time,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 3, time: time("10s"), longest_time: time("5m") }
    }
}

/// Asks each server regularly whether it is well: an answer with status 2xx lets it in again, any other outcome counts
/// as a failure.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["path"]))]
pub(in super::super) struct HealthCheck {
    /// What is asked for by `GET`, after the base address.
    #[schemars(example = &"/health")]
    pub(in super::super) path: String,
    /// How often. Default `10s`.
    pub(in super::super) interval: Time,
    /// How long an answer may take. Default `2s`.
    pub(in super::super) timeout: Time,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { path: String::new(), interval: time("10s"), timeout: time("2s") }
    }
}
