//! Options that are one word of a few.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Type of the KV cache's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KvDtype {
    /// As the model's graph has them.
    #[default]
    Auto,
    /// 32 bits.
    Fp32,
    /// 16 bits.
    Fp16,
}

/// Dialect of an HTTP upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// OpenAI chat completions and what is compatible with it.
    #[default]
    Openai,
    /// Anthropic's Messages.
    Anthropic,
    /// Ollama's own API: `/api/chat`, `/api/generate`.
    Ollama,
}

impl Dialect {
    /// The name in the configuration, which traces use as the name of the provider too.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Ollama => "ollama",
        }
    }
}

/// Which replica of an HTTP upstream a conversation goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// By what stays at its beginning: always the same one.
    #[default]
    Prefix,
    /// Whichever has least to do.
    None,
}

/// Versions of HTTP that an upstream is spoken to by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HttpVersions {
    /// HTTP/2 where TLS agrees on it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone, without TLS too.
    Http2,
}

/// Whether a policy's edits are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The edited request is sent.
    #[default]
    Enforce,
    /// The policy runs and reports; the original is sent.
    Shadow,
    /// No policy runs.
    Off,
}

/// What happens to a body that is not JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnparsable {
    /// Answered with 400.
    #[default]
    Reject,
    /// Forwarded as it came, to HTTP upstreams only.
    Pass,
}

/// Transport of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    /// Protobuf over HTTP.
    #[default]
    Http,
    /// gRPC.
    Grpc,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Version of the `gen_ai.*` names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GenAiNames {
    /// The newest.
    #[default]
    #[serde(rename = "latest")]
    Latest,
    /// Semantic conventions 1.36.
    #[serde(rename = "v1.36")]
    V1_36,
}
