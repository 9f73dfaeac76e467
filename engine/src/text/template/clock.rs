//! `strftime_now`: the date of the request in a prompt.

use std::time::SystemTime;

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use minijinja::{Error, ErrorKind};

/// `now` in `zone`, written by Python's `format`.
pub(super) fn strftime(format: &str, now: SystemTime, zone: &TimeZone) -> Result<String, Error> {
    let fault = |e: jiff::Error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}"));
    let now = Timestamp::try_from(now).map_err(fault)?.to_zoned(zone.clone());
    strtime::format(format, &now).map_err(fault)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use jiff::tz::TimeZone;

    use super::strftime;

    #[test]
    fn writes_dates_as_python_does() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_782_432_005);
        let write = |format| strftime(format, now, &TimeZone::UTC);
        assert_eq!(write("%d %b %Y").unwrap(), "26 Jun 2026");
        assert_eq!(write("%Y-%m-%d %H:%M:%S").unwrap(), "2026-06-26 00:00:05");
        assert_eq!(write("%A, %B %-d, %Y %I:%M %p").unwrap(), "Friday, June 26, 2026 12:00 AM");
        assert!(write("%!").is_err());
    }
}
