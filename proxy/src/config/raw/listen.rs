//! Listeners.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::secret::Secret;

/// Listeners.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct Listen {
    /// Address of the data listener, where clients send requests: an IP address and a port, or `unix:/path/of/socket`.
    /// Default `127.0.0.1:7480`.
    #[schemars(example = &"127.0.0.1:7480", example = &"unix:/run/plimsoll/data.sock")]
    pub(in super::super) data: String,
    /// Address of a listener for plain HTTP connections that the kernel redirected here on their way to an upstream, by
    /// `iptables -j REDIRECT` or nftables' `redirect`: routes that lead to the upstream at their original address
    /// (`SO_ORIGINAL_DST`) take their requests; connections to other addresses, and those that were not redirected, are
    /// refused. Leave the proxy's own connections out of the redirection. `plimsoll serve --transparent` sets
    /// `127.0.0.1:7481`. Default null: none.
    #[schemars(example = &"127.0.0.1:7481")]
    pub(in super::super) transparent: Option<String>,
    /// Address of the admin listener: health, metrics, state, explain. Default `127.0.0.1:7490`.
    #[schemars(example = &"127.0.0.1:7490", example = &"unix:/run/plimsoll/admin.sock")]
    pub(in super::super) admin: String,
    /// Who may connect to unix sockets, as the mode of their files in octal. Default `"0660"`: owner and group.
    #[schemars(regex(pattern = r"^0?[0-7]{3}$"), example = &"0660")]
    pub(in super::super) socket_mode: String,
    /// Bearer token of the admin listener; needed where `admin` can be reached from other machines. Default none.
    pub(in super::super) admin_token: Option<Secret>,
    /// Header that tells callers apart who send no API key (`authorization`, `x-api-key`, `api-key`). What is kept for
    /// a caller is given to that caller only; without key and header all are one. Default none.
    #[schemars(example = &"x-user")]
    pub(in super::super) caller_header: Option<String>,
    /// Further names of the data listener in requests' `Host`. A listener on loopback takes addresses, names without a
    /// dot, and names under `localhost`, `local`, `internal`, `svc`, `test` or `home.arpa`, and refuses others with 403,
    /// since a page of another site may have pointed its own name here. Elsewhere every name is taken unless some are
    /// said here. `"*"`: every name. Default none.
    #[schemars(example = &["llm.example.com"])]
    pub(in super::super) hosts: Vec<String>,
    /// Web pages that may ask the data listener. Default null: cross-origin rules are the upstream's own.
    pub(in super::super) cors: Option<Cors>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            data: "127.0.0.1:7480".to_owned(),
            transparent: None,
            admin: "127.0.0.1:7490".to_owned(),
            socket_mode: "0660".to_owned(),
            admin_token: None,
            caller_header: None,
            hosts: Vec::new(),
            cors: None,
        }
    }
}

/// Web pages that may ask the data listener (CORS). Preflights are answered here; other pages' requests get 403.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["origins"]))]
pub(in super::super) struct Cors {
    /// Patterns of their origins, in which `*` stands for any text: `https://chat.example.com`, `http://localhost:*`.
    #[schemars(length(min = 1), example = &["https://chat.example.com", "http://localhost:*"])]
    pub(in super::super) origins: Vec<String>,
}
