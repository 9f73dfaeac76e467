//! Rounding a time down.

use std::sync::LazyLock;

use regex::Regex;

/// A time of day, or a count of seconds, rounded down to a whole `interval` of seconds; every other character stays.
/// None where the piece holds no time, or one that no clock shows.
pub(crate) fn rounded(kind: &str, text: &str, interval: u64) -> Option<String> {
    match kind {
        "timestamp" => {
            let number: u64 = text.parse().ok()?;
            // Thirteen digits are milliseconds.
            let step = if text.len() > 10 { interval * 1000 } else { interval };
            Some((number - number % step).to_string())
        }
        "time" => rounded_clock(text, interval),
        _ => None,
    }
}

static CLOCK: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?i)([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?)?(?: ?([ap])m)?";
    Regex::new(pattern).expect("the pattern is a constant. This is a bug.")
});

fn rounded_clock(text: &str, interval: u64) -> Option<String> {
    // In ISO 8601 the clock follows the T, and an offset may follow the clock.
    let start = text.find('T').map_or(0, |at| at + 1);
    let clock = CLOCK.captures(&text[start..])?;
    let number = |group: usize| clock.get(group).map_or(Some(0), |found| found.as_str().parse::<u64>().ok());
    let (hour, minute, second) = (number(1)?, number(2)?, number(3)?);
    let half = clock.get(5).map(|half| half.as_str().to_ascii_lowercase());
    let hours = if half.is_some() { 1..=12 } else { 0..=23 };
    if !hours.contains(&hour) || minute > 59 || second > 60 {
        return None;
    }
    // A leap second belongs to the minute that it ends.
    let second = second.min(59);
    let hour = match half.as_deref() {
        Some("a") => hour % 12,
        Some(_) => hour % 12 + 12,
        None => hour,
    };
    let seconds = hour * 3600 + minute * 60 + second;
    let seconds = seconds - seconds % interval;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let shown = if half.is_some() { (hour + 11) % 12 + 1 } else { hour };
    let mut rounded = text.to_owned();
    // From the end, so that no place moves.
    let mut put = |group: usize, value: String| {
        if let Some(found) = clock.get(group) {
            rounded.replace_range(start + found.start()..start + found.end(), &value);
        }
    };
    // Its case stays where the half does.
    if half.as_deref().is_some_and(|half| (half == "a") != (hour < 12)) {
        put(5, if hour < 12 { "a" } else { "p" }.to_owned());
    }
    put(4, "0".repeat(clock.get(4).map_or(0, |fraction| fraction.len())));
    put(3, format!("{second:02}"));
    put(2, format!("{minute:02}"));
    let width = clock[1].len();
    put(1, format!("{shown:0width$}"));
    Some(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_down() {
        let hour = [
            ("15:23:45", "15:00:00"),
            ("9:05:59", "9:00:00"),
            ("2024-05-15T15:23:45.125Z", "2024-05-15T15:00:00.000Z"),
            ("2024-05-15T15:23+02:30", "2024-05-15T15:00+02:30"),
            ("3:59 PM", "3:00 PM"),
            ("12:30 am", "12:00 am"),
        ];
        for (text, want) in hour {
            assert_eq!(rounded("time", text, 3600).as_deref(), Some(want));
        }
        assert_eq!(rounded("time", "3:59 pm", 24 * 3600).as_deref(), Some("12:00 am"));
        assert_eq!(rounded("time", "15:23:45", 900).as_deref(), Some("15:15:00"));
        assert_eq!(rounded("timestamp", "1715785245", 3600).as_deref(), Some("1715785200"));
        assert_eq!(rounded("timestamp", "1715785245123", 60).as_deref(), Some("1715785200000"));
        assert_eq!(rounded("uuid", "0f8fad5b", 3600), None);
    }

    #[test]
    fn leap_seconds_stay_in_their_minute_and_what_is_no_time_stays() {
        let rounded = |text: &str, interval| rounded("time", text, interval);
        assert_eq!(rounded("9999-12-31T23:59:60Z", 60).as_deref(), Some("9999-12-31T23:59:00Z"));
        assert_eq!(rounded("9999-12-31T23:59:60Z", 3600).as_deref(), Some("9999-12-31T23:00:00Z"));
        for text in ["2024-05-15T99:99:99Z", "24:00:00", "12:60:00", "12:00:61", "13:05 pm", "0:30 am"] {
            assert_eq!(rounded(text, 60), None, "{text}");
        }
    }
}
