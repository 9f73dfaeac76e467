//! The log: one line for each request, and whatever else the process has to say.

use std::io::IsTerminal as _;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::recent::millis;
use super::record::{Outcome, PolicyFacts, RequestRecord};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a level or a list of directives.
    #[error("log level `{level}` is not valid: use error, warn, info, debug, trace, or `target=level` pairs")]
    Level {
        /// As configured.
        level: String,
        /// What the parser says.
        source: ParseError,
    },
    /// This process has a log already.
    #[error("the log is set up already")]
    Twice(#[from] TryInitError),
}

/// Sets up the process' log, on standard error. A bare level is meant for our own crates, others stay at `warn`; a list
/// of `target=level` pairs is taken as it is.
///
/// # Errors
/// `level` cannot be read, or the log is set up already.
pub fn init(format: Format, level: &str) -> Result<(), LogError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => builder.finish().try_init()?,
        Format::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let bare = level.parse::<tracing::Level>().is_ok() || level.eq_ignore_ascii_case("off");
    // The exporters repeat a failure at each attempt; ours is said once.
    let directives = if bare { format!("warn,opentelemetry=off,plimsoll={level}") } else { level.to_owned() };
    EnvFilter::try_new(directives).map_err(|source| LogError::Level { level: level.to_owned(), source })
}

/// Writes a finished request. Failures of ours or of an upstream are warnings; what a client did wrong is not.
pub(super) fn request(record: &RequestRecord, took: Duration, trace_id: Option<&str>) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "plimsoll::request",
                id = record.id,
                trace_id,
                method = %record.method,
                path = record.path,
                route = record.route.as_ref().map(|facts| &*facts.route),
                policy = record.route.as_ref().map(|facts| &*facts.policy),
                mode = record.route.as_ref().map(|facts| facts.mode),
                upstream = record.route.as_ref().map(|facts| &*facts.upstream),
                model = record.route.as_ref().map(|facts| &*facts.model),
                status = record.status,
                outcome = record.outcome.as_str(),
                error = record.error,
                tokens_before = record.context.as_deref().map(|facts| facts.tokens_before),
                tokens_after = record.context.as_deref().map(|facts| facts.tokens_after),
                actions = record.context.as_deref().and_then(actions),
                input_tokens = record.chat.as_ref().and_then(|facts| facts.input_tokens),
                cached_tokens = record.chat.as_ref().and_then(|facts| facts.cached_tokens),
                output_tokens = record.chat.as_ref().and_then(|facts| facts.output_tokens),
                finish = record.chat.as_ref().map(|facts| facts.finish_reasons.join(",")),
                queued_ms = record.queued.map(millis),
                first_token_ms = record.chat.as_ref().and_then(|facts| facts.first_token).map(millis),
                took_ms = millis(took),
                "request"
            )
        };
    }
    match record.outcome {
        Outcome::Failed => line!(warn),
        Outcome::Completed | Outcome::Rejected | Outcome::Disconnected => line!(info),
    }
}

/// `cap_tool_output=3, trim_turns=12`: rules that fired with the messages they touched.
fn actions(facts: &PolicyFacts) -> Option<String> {
    let actions: Vec<String> =
        facts.actions.iter().map(|action| format!("{}={}", action.policy, action.messages)).collect();
    (!actions.is_empty()).then(|| actions.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_bare_level_is_for_our_crates() {
        let shown = filter("debug").expect("valid").to_string();
        assert!(shown.contains("plimsoll=debug") && shown.contains("warn"), "{shown}");
        assert_eq!(filter("hyper=trace").expect("valid").to_string(), "hyper=trace");
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_request_is_one_line() {
        let written = Written::default();
        let writer = written.clone();
        let log =
            tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
        let mut record = RequestRecord::new("req-1".into(), http::Method::POST, Some("/v1/models"));
        record.outcome = Outcome::Failed;
        record.error = Some("upstream_unreachable");
        record.queued = Some(Duration::from_micros(1500));
        tracing::subscriber::with_default(log, || request(&record, Duration::from_millis(2), Some("4bf9")));
        let line = String::from_utf8(written.0.lock().expect("not poisoned").clone()).expect("text");
        assert_eq!(line.lines().count(), 1, "{line}");
        for part in [
            r#""level":"WARN""#,
            r#""id":"req-1""#,
            r#""trace_id":"4bf9""#,
            r#""path":"/v1/models""#,
            r#""error":"upstream_unreachable""#,
            r#""queued_ms":1.5"#,
            r#""took_ms":2.0"#,
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("tokens_before"), "unknown fields are left out: {line}");
    }

    #[test]
    fn a_wrong_level_is_named() {
        let message = filter("plimsoll=loud").expect_err("no level").to_string();
        assert!(message.contains("`plimsoll=loud`"), "{message}");
    }
}
