//! Values that are judged one by one.

use std::collections::BTreeMap;

use plimsoll_engine::KeepAlive;

use super::{LONGEST_FORMAT, OptionError};
use crate::config::Lifetime;
use crate::cut::cut;

pub(super) fn keep_alive(given: &Lifetime) -> Result<KeepAlive, OptionError> {
    let wanted =
        "`keep_alive` must be a time such as `5m`, a number of seconds, 0 (not at all) or -1 (for ever)";
    given.read().ok_or_else(|| OptionError::new("keep_alive", wanted))
}

/// A format is judged by its length before it is parsed.
pub(super) fn bounded(format: &str) -> Result<(), OptionError> {
    if format.len() <= LONGEST_FORMAT {
        return Ok(());
    }
    let message = format!("`response_format` is {} bytes, at most {LONGEST_FORMAT} are taken", format.len());
    Err(OptionError::new("response_format", message))
}

pub(super) fn within(
    param: &str,
    value: Option<f32>,
    range: std::ops::RangeInclusive<f32>,
) -> Result<Option<f32>, OptionError> {
    match value {
        Some(value) if !range.contains(&value) => Err(OptionError::new(
            param,
            format!("`{param}` is {value}, must be from {} to {}", range.start(), range.end()),
        )),
        value => Ok(value),
    }
}

pub(super) fn bias(bias: Option<&BTreeMap<String, f32>>) -> Result<Vec<(u32, f32)>, OptionError> {
    bias.into_iter()
        .flatten()
        .map(|(token, bias)| {
            let token = token.parse().map_err(|_| {
                OptionError::new("logit_bias", format!("`logit_bias`: `{}` is not a token id", cut(token)))
            })?;
            Ok((token, within("logit_bias", Some(*bias), -100.0..=100.0)?.unwrap_or_default()))
        })
        .collect()
}
