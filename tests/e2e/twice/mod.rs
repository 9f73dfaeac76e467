//! Real SDKs twice, straight to a server and through a sidecar before it: where no policy acts the server is sent the same
//! bytes both times, and the SDKs make the same of its answers, its errors and streams that they leave.

mod anthropic;
mod chat;
mod ollama;
mod responses;

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use plimsoll_tests::Sidecar;
use plimsoll_tests::mock::{Answer, Mock, Recorded};
use serde_json::Value;
use tokio::sync::mpsc::Sender;

use crate::tooling::{root, stdout, tool};

const EVENTS: &str = "text/event-stream; charset=utf-8";

/// A server that answers in this order; what it does not finish stays open until its client leaves.
#[derive(Default)]
struct Server {
    answers: Vec<Answer>,
    open: Vec<Sender<Bytes>>,
}

impl Server {
    fn then(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    fn json(self, body: &Value) -> Self {
        self.then(Answer::json(&body.to_string()))
    }

    /// An error of a server, in its own words, with what it says about asking again.
    fn error(self, status: u16, body: &Value, headers: &[(&'static str, &'static str)]) -> Self {
        let answer = Answer::json(&body.to_string()).status(status);
        self.then(headers.iter().fold(answer, |answer, (name, value)| answer.header(name, value)))
    }

    /// An answer whose beginning is all that ever comes of it.
    fn open(mut self, content_type: &'static str, beginning: &str) -> Self {
        let (answer, pieces) = Answer::open(content_type);
        if !beginning.is_empty() {
            pieces.try_send(beginning.to_owned().into()).unwrap();
        }
        self.open.push(pieces);
        self.then(answer)
    }

    fn start(self) -> Running {
        Running { mock: Mock::start(self.answers), open: self.open }
    }
}

struct Running {
    mock: Mock,
    open: Vec<Sender<Bytes>>,
}

impl Running {
    /// What came, once every client that left is gone here too.
    fn seen(self) -> Vec<Recorded> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for pieces in self.open {
            runtime.block_on(pieces.closed());
        }
        self.mock.seen()
    }
}

/// A client: a script of `tests/clients`, with its arguments beside the address.
struct Client {
    script: &'static str,
    arguments: &'static [&'static str],
}

impl Client {
    const fn of(script: &'static str) -> Self {
        Self { script, arguments: &[] }
    }

    /// What it prints of all answers; none where its language is not set up.
    fn run(&self, url: &str) -> Option<String> {
        let script = root().join("tests/clients").join(self.script);
        let mut command = interpreter(&script)?;
        command.arg(script).args(["--base-url", &format!("{url}/v1")]).args(self.arguments);
        Some(stdout(&mut command))
    }
}

/// What runs a script, isolated from the caller's proxies and from bytecode in the tree.
pub(crate) fn interpreter(script: &Path) -> Option<Command> {
    let python = script.extension().is_some_and(|extension| extension == "py");
    if !python {
        tool("tests/clients/node/node_modules/.package-lock.json")?;
    }
    let mut command = Command::new(tool(if python { ".venv/bin/python" } else { ".venv/bin/node" })?);
    command.env("NO_PROXY", "127.0.0.1").env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

fn before(server: &Running, dialect: &str, route: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams:
  other: {{ url: '{}', dialect: {dialect}, context: 100000, timeouts: {{ first_byte: 60s }} }}
routes:
  - {{ name: default, upstream: other, {route} }}
policies:
  capped: {{ steps: [ {{ cap_tool_output: {{ max_tokens: 1500 }} }} ] }}
",
        server.mock.url
    ))
}

/// Headers of one way alone: of the connection, and of the trace that goes on.
fn is_of_the_way(name: &str) -> bool {
    matches!(name, "host" | "connection" | "traceparent" | "tracestate")
}

/// Runs a client straight, and through sidecars whose policies have nothing to do, or may do nothing. Gives what it
/// printed, line by line.
fn alike(client: &Client, dialect: &str, server: fn() -> Server) -> Option<Vec<String>> {
    let direct = server().start();
    let printed = client.run(&direct.mock.url)?;
    let wanted = direct.seen();
    // Ollama's client puts schemas in an order of its own, which `agent` would change.
    let acting = if dialect == "ollama" { "policy: capped" } else { "policy: agent" };
    for route in [acting, "policy: agent, mode: shadow", "mode: 'off'"] {
        let behind = server().start();
        let sidecar = before(&behind, dialect, route);
        let through = client.run(&sidecar.data_url)?;
        for (through, printed) in through.lines().zip(printed.lines()) {
            assert_eq!(through, printed, "{} by {route}", client.script);
        }
        assert_eq!(through.lines().count(), printed.lines().count());
        let seen = behind.seen();
        let lines = |seen: &[Recorded]| seen.iter().map(|one| one.line.clone()).collect::<Vec<_>>();
        assert_eq!(lines(&seen), lines(&wanted), "{} by {route}", client.script);
        for (seen, wanted) in seen.iter().zip(&wanted) {
            let [body, before] = [seen, wanted].map(|one| String::from_utf8_lossy(&one.body));
            assert_eq!(body, before, "{} by {route}", client.script);
            for (name, value) in wanted.headers.iter().filter(|(name, _)| !is_of_the_way(name.as_str())) {
                assert_eq!(seen.headers.get(name), Some(value), "{name}");
            }
        }
    }
    Some(printed.lines().map(str::to_owned).collect())
}

/// Lines that must be told of in what a client printed: that it understood the answers, both times.
fn tells(printed: &[String], wanted: &[&str]) {
    for wanted in wanted {
        assert!(printed.iter().any(|line| line.contains(wanted)), "no `{wanted}` in {printed:#?}");
    }
}

/// What the AI SDK prints of eleven answers, whatever its provider.
fn ai_sdk_tells(printed: &[String]) {
    assert_eq!(printed.len(), 11);
    assert!(printed[0].contains("Hé 😀") && printed[3].contains("text-delta"), "{printed:#?}");
    for (line, call) in [(1, "\"tool-call\""), (4, "\"tool-input-delta\"")] {
        assert!(printed[line].matches(call).count() >= 2, "{}", printed[line]);
    }
    for (line, status) in [(5, 400), (6, 429), (7, 500)] {
        assert!(printed[line].contains(&format!("\"statusCode\":{status}")), "{}", printed[line]);
    }
    assert!(printed[6].contains("\"retry-after\":\"7\"") && printed[8].contains("Again"), "{printed:#?}");
    assert!(printed[9].contains("\"error\"") && printed[10].contains("\"abort\""), "{printed:#?}");
}

/// Events as both OpenAI's Responses and Anthropic send them: each named by its type.
fn named(events: &[Value]) -> String {
    let one =
        |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    events.iter().map(one).collect()
}
