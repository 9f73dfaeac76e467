//! Stop strings in a text that comes in pieces.

/// Looks for stop strings in streamed text and holds back what may be the beginning of one.
///
/// The text ends with the first stop string to be complete; of two that end at the same place the longer one counts.
/// How the text is cut into pieces makes no difference.
#[derive(Debug, Clone)]
pub struct StopScanner {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

/// What a [`StopScanner`] lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Text that is certainly before any stop string.
    pub text: String,
    /// The stop string that ended the text. Nothing comes after it.
    pub stop: Option<String>,
}

impl StopScanner {
    /// A scanner for `stops`; empty ones are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: String::new(), stopped: false }
    }

    /// Adds text; returns what can be passed on. After a stop string everything is swallowed.
    pub fn push(&mut self, text: &str) -> Scanned {
        if self.stopped {
            return Scanned { text: String::new(), stop: None };
        }
        self.held.push_str(text);
        if let Some((start, stop)) = self.first_stop() {
            self.stopped = true;
            let mut text = std::mem::take(&mut self.held);
            text.truncate(start);
            return Scanned { text, stop: Some(stop) };
        }
        let rest = self.held.split_off(self.held.len() - self.beginning());
        Scanned { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    /// Ends the text; returns what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string has been found.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Start and text of the stop string that is complete first.
    fn first_stop(&self) -> Option<(usize, String)> {
        let found = self.stops.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)));
        let first = found.min_by_key(|(start, stop)| (start + stop.len(), *start));
        first.map(|(start, stop)| (start, stop.clone()))
    }

    /// Length in bytes of the longest end of the held text that a stop string begins with.
    fn beginning(&self) -> usize {
        let longest = |stop: &String| {
            let mut cuts = stop.char_indices().map(|(at, _)| at).rev();
            cuts.find(|&at| self.held.ends_with(&stop[..at])).unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
#[path = "stops_tests.rs"]
mod tests;
