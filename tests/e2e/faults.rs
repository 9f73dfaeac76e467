//! What is odd or broken, in every dialect, on the embedded engine and before an upstream: refused in the caller's own
//! words, or forwarded as it came.

use std::io::Write as _;

use plimsoll_tests::mock::Mock;
use plimsoll_tests::shared::demo;
use plimsoll_tests::{Reply, Sidecar, post_with};
use serde_json::Value;

/// The most bytes that a body may have here.
const LIMIT: usize = 64 * 1024;

/// A path that takes conversations or prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Chat,
    Completions,
    Responses,
    Messages,
    OllamaChat,
    OllamaGenerate,
}

use Path::{Chat, Completions, Messages, OllamaChat, OllamaGenerate, Responses};

const PATHS: [Path; 6] = [Chat, Completions, Responses, Messages, OllamaChat, OllamaGenerate];

impl Path {
    fn url(self) -> &'static str {
        match self {
            Chat => "/v1/chat/completions",
            Completions => "/v1/completions",
            Responses => "/v1/responses",
            Messages => "/v1/messages",
            OllamaChat => "/api/chat",
            OllamaGenerate => "/api/generate",
        }
    }

    fn upstream(self) -> &'static str {
        match self {
            Chat | Completions | Responses => "openai",
            Messages => "anthropic",
            OllamaChat | OllamaGenerate => "ollama",
        }
    }

    /// The member that holds what is said.
    fn member(self) -> &'static str {
        match self {
            Chat | Messages | OllamaChat => "messages",
            Responses => "input",
            Completions | OllamaGenerate => "prompt",
        }
    }

    /// A request that says `text` (raw JSON), `first` among its members, and `within` at the end of its message, where it
    /// has messages.
    fn body(self, first: &str, text: &str, within: &str) -> String {
        let message = format!(r#"[ {{"role":"user","content":{text}{within}}}]"#);
        let options = match self {
            OllamaChat | OllamaGenerate => r#""stream":false,"options":{"num_predict":4},"#,
            _ => "",
        };
        let rest = match self {
            Chat => format!(r#""max_tokens":4,"messages":{message}"#),
            Completions => format!(r#""max_tokens":4,"prompt":{text}{within}"#),
            Responses => format!(r#""max_output_tokens":4,"input":{message}"#),
            Messages => format!(r#""max_tokens":4,"messages":{message}"#),
            OllamaChat => format!(r#""messages":{message}"#),
            OllamaGenerate => format!(r#""prompt":{text}{within}"#),
        };
        format!(r#"{{"model":"demo",{options}{first}{rest}}}"#)
    }

    /// The message of an error in this dialect's form, with the kind or code that its SDKs choose an exception by.
    fn error(self, reply: &Reply) -> (String, String) {
        let body: Value = reply.json();
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{self:?}: {body}")).to_owned();
        match self {
            Chat | Completions | Responses => {
                let error = &body["error"];
                assert!(error["type"].is_string() && error.get("param").is_some(), "{self:?}: {body}");
                (text(&error["message"]), text(&error["code"]))
            }
            Messages => {
                assert!(body["type"] == "error" && body["request_id"].is_string(), "{self:?}: {body}");
                (text(&body["error"]["message"]), text(&body["error"]["type"]))
            }
            OllamaChat | OllamaGenerate => {
                assert_eq!(body.as_object().unwrap().len(), 1, "{self:?}: {body}");
                (text(&body["error"]), String::new())
            }
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It is refused: status, code in OpenAI's form, type in Anthropic's, and words of the message.
    Refused(u16, &'static str, &'static str, &'static str),
    /// It reaches the upstream as it came, or the engine answers it.
    Served,
}

use Fate::{Refused, Served};

const NO_JSON: Fate = Refused(400, "invalid_json", "invalid_request_error", "");

/// A request with a fault, and what becomes of it on the engine, before an upstream, and before one whose route says
/// `on_unparsable: pass`.
struct Fault {
    name: &'static str,
    /// Whether it lies in a member that no dialect has.
    extra: bool,
    body: fn(Path) -> Vec<u8>,
    coding: Option<&'static str>,
    engine: Fate,
    refuse: Fate,
    pass: Fate,
}

/// Which of a fault's fates is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Engine,
    Refuse,
    Pass,
}

const FAULTS: [Fault; 14] = [
    Fault {
        name: "overflow",
        extra: false,
        body: |path| path.body("", &format!("\"{}\"", "amber lamp ".repeat(5500)), "").into(),
        coding: None,
        engine: Refused(400, "context_length_exceeded", "invalid_request_error", "prompt is too long"),
        refuse: Refused(400, "context_length_exceeded", "invalid_request_error", "prompt is too long"),
        pass: Refused(400, "context_length_exceeded", "invalid_request_error", "prompt is too long"),
    },
    Fault {
        name: "oversize",
        extra: false,
        body: |path| path.body(&" ".repeat(LIMIT), "\"hi\"", "").into(),
        coding: None,
        engine: Refused(413, "request_too_large", "request_too_large", "65536 bytes"),
        refuse: Refused(413, "request_too_large", "request_too_large", "65536 bytes"),
        pass: Refused(413, "request_too_large", "request_too_large", "65536 bytes"),
    },
    Fault {
        name: "oversize once decoded",
        extra: false,
        body: |path| deflated(path.body(&" ".repeat(LIMIT), "\"hi\"", "").as_bytes()),
        coding: Some("deflate"),
        engine: Refused(413, "request_too_large", "request_too_large", "65536 bytes"),
        refuse: Refused(413, "request_too_large", "request_too_large", "65536 bytes"),
        pass: Refused(413, "request_too_large", "request_too_large", "65536 bytes"),
    },
    Fault {
        name: "unknown coding",
        extra: false,
        body: |path| path.body("", "\"hi\"", "").into(),
        coding: Some("lzma"),
        engine: Refused(415, "unsupported_content_encoding", "invalid_request_error", "`lzma`"),
        refuse: Refused(415, "unsupported_content_encoding", "invalid_request_error", "`lzma`"),
        pass: Served,
    },
    Fault {
        name: "corrupt coding",
        extra: false,
        body: |path| path.body("", "\"hi\"", "").into(),
        coding: Some("gzip"),
        engine: Refused(400, "invalid_body", "invalid_request_error", "`gzip`"),
        refuse: Refused(400, "invalid_body", "invalid_request_error", "`gzip`"),
        pass: Served,
    },
    Fault {
        name: "bad JSON at depth 10,000",
        extra: false,
        body: |path| path.body(&format!("\"x\":{}", "[".repeat(10_000)), "\"hi\"", "").into(),
        coding: None,
        engine: NO_JSON,
        refuse: NO_JSON,
        pass: Served,
    },
    Fault {
        name: "bad JSON at depth 10,000 of a message",
        extra: false,
        body: |path| path.body("", &"{\"a\":".repeat(10_000), "").into(),
        coding: None,
        engine: NO_JSON,
        refuse: NO_JSON,
        pass: Served,
    },
    Fault {
        name: "depth 10,000",
        extra: false,
        body: |path| {
            path.body(&format!("\"x\":{}{},", "[".repeat(10_000), "]".repeat(10_000)), "\"hi\"", "").into()
        },
        coding: None,
        engine: Served,
        refuse: Served,
        pass: Served,
    },
    Fault {
        name: "invalid UTF-8",
        extra: false,
        body: |path| [b"\xff", path.body("", "\"hi\"", "").as_bytes()].concat(),
        coding: None,
        engine: Refused(400, "invalid_json", "invalid_request_error", "UTF-8"),
        refuse: Refused(400, "invalid_json", "invalid_request_error", "UTF-8"),
        pass: Served,
    },
    Fault {
        name: "invalid UTF-8 in a text",
        extra: false,
        body: |path| {
            let body = path.body("", "\"hi~\"", "");
            body.bytes().map(|byte| if byte == b'~' { 0xff } else { byte }).collect()
        },
        coding: None,
        engine: Refused(400, "invalid_json", "invalid_request_error", "UTF-8"),
        refuse: Refused(400, "invalid_json", "invalid_request_error", "UTF-8"),
        pass: Served,
    },
    Fault {
        name: "duplicate keys, of which the last counts",
        extra: false,
        body: |path| {
            let first = format!(r#""model":"none","model":"demo","{}":7, "#, path.member());
            path.body(&first, "\"ho\"", r#","role":"user" "#).into()
        },
        coding: None,
        engine: Served,
        refuse: Served,
        pass: Served,
    },
    Fault {
        name: "numbers beyond f64",
        extra: false,
        body: |path| {
            path.body(r#""temperature":1e999,"options":{"temperature":1e999},"#, "\"hi\"", "").into()
        },
        coding: None,
        engine: Refused(400, "invalid_value", "invalid_request_error", "temperature"),
        refuse: Served,
        pass: Served,
    },
    Fault {
        name: "depth 10,000 in a message",
        extra: true,
        body: |path| {
            path.body("", "\"hi\"", &format!(",\"x_odd\":{}{}", "[".repeat(10_000), "]".repeat(10_000)))
                .into()
        },
        coding: None,
        engine: Refused(400, "invalid_value", "invalid_request_error", "recursion limit"),
        refuse: Served,
        pass: Served,
    },
    Fault {
        name: "numbers beyond f64 in a message",
        extra: true,
        body: |path| path.body("", "\"hi\"", r#","x_odd":[-1e999,123456789012345678901234567890]"#).into(),
        coding: None,
        engine: Refused(400, "invalid_value", "invalid_request_error", "out of range"),
        refuse: Served,
        pass: Served,
    },
];

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl Fault {
    /// Where a dialect differs from the others.
    fn fate(&self, path: Path, place: Place) -> Fate {
        match (self.name, path, place) {
            // Completions are governed nowhere: a server judges them, and the engine says it in its own words.
            ("overflow", Completions, Place::Engine) => {
                Refused(400, "context_length_exceeded", "", "maximum context length is 1024 tokens")
            }
            ("overflow", Completions, _) => Served,
            // What is no part of a message's form is read by those alone that hand messages on whole.
            (_, Completions | Responses | Messages | OllamaGenerate, Place::Engine) if self.extra => Served,
            (_, _, Place::Engine) => self.engine,
            (_, _, Place::Refuse) => self.refuse,
            (_, _, Place::Pass) => self.pass,
        }
    }

    fn ask(&self, sidecar: &Sidecar, path: Path) -> (Vec<u8>, Reply) {
        let body = (self.body)(path);
        let mut headers = vec![("anthropic-version", "2023-06-01")];
        headers.extend(self.coding.map(|coding| ("content-encoding", coding)));
        let reply = post_with(&format!("{}{}", sidecar.data_url, path.url()), body.clone(), &headers);
        (body, reply)
    }

    fn is_refused(&self, path: Path, place: Place, reply: &Reply, fate: Fate) {
        let Refused(status, code, kind, words) = fate else { unreachable!() };
        let at = format!("{} by {path:?}, {place:?}", self.name);
        assert_eq!(reply.status, status, "{at}: {}", reply.text());
        let (message, told) = path.error(reply);
        let wanted = match path {
            Chat | Completions | Responses => code,
            Messages => kind,
            OllamaChat | OllamaGenerate => "",
        };
        assert_eq!(told, wanted, "{at}: {message}");
        assert!(message.contains(words), "{at}: {message}");
    }
}

#[test]
fn the_engine_refuses_in_each_dialect_and_still_serves() {
    let sidecar = Sidecar::start(&format!("{}limits: {{ body: {LIMIT}B }}\n", demo(1024, "chat")));
    for fault in &FAULTS {
        for path in PATHS {
            let (_, reply) = fault.ask(&sidecar, path);
            match fault.fate(path, Place::Engine) {
                Served => assert_eq!(reply.status, 200, "{} by {path:?}: {}", fault.name, reply.text()),
                fate => fault.is_refused(path, Place::Engine, &reply, fate),
            }
        }
    }
}

fn before(mock: &Mock, path: Path, upstream: &str, route: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
limits: {{ body: {LIMIT}B }}
upstreams: {{ other: {{ url: '{}', dialect: {}, context: 8000, {upstream} }} }}
routes: [ {{ name: default, upstream: other, policy: agent, {route} }} ]
",
        mock.url,
        path.upstream()
    ))
}

/// Counted by an estimate, and by a model folder, which reads more of a request.
fn judged_before(upstream: &str) {
    for (place, route) in [(Place::Refuse, "on_unparsable: reject"), (Place::Pass, "on_unparsable: pass")] {
        for path in PATHS {
            let mock = Mock::start(Vec::new());
            let sidecar = before(&mock, path, upstream, route);
            for fault in &FAULTS {
                let (body, reply) = fault.ask(&sidecar, path);
                let seen = mock.seen();
                mock.forget();
                match fault.fate(path, place) {
                    Served => {
                        let at = format!("{} by {path:?}, {place:?}", fault.name);
                        assert_eq!((reply.status, seen.len()), (200, 1), "{at}: {}", reply.text());
                        assert!(seen[0].body == body, "{at}: the body was changed");
                        let coding =
                            seen[0].headers.get("content-encoding").and_then(|coding| coding.to_str().ok());
                        assert_eq!(coding, fault.coding, "{at}");
                    }
                    fate => {
                        assert_eq!(seen.len(), 0, "{} by {path:?}, {place:?}", fault.name);
                        fault.is_refused(path, place, &reply, fate);
                    }
                }
            }
        }
    }
}

#[test]
fn before_an_upstream_that_is_counted_by_an_estimate() {
    judged_before("");
}

#[test]
fn before_an_upstream_that_is_counted_by_its_model_folder() {
    judged_before("tokenizer: engine/demo/model");
}
