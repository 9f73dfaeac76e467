//! Listeners.

use std::net::SocketAddr;

use super::super::path::Path;
use super::super::raw;
use super::super::valid::Listen;
use super::Check;

impl Check<'_> {
    pub(super) fn listen(&mut self, raw: &raw::Listen) -> Option<Listen> {
        let at = Path::of(&["listen"]);
        let data = self.address(at.key("data"), &raw.data);
        let admin = self.address(at.key("admin"), &raw.admin);
        let token = raw.admin_token.clone();
        if let Some(token) = &token {
            self.credential(at.key("admin_token"), token);
        }
        let caller_header = raw.caller_header.as_ref().map(|name| name.parse::<http::HeaderName>());
        if let Some(Err(_)) = caller_header {
            let name = raw.caller_header.as_deref().unwrap_or_default();
            self.fault(
                at.key("caller_header"),
                format!("`{name}` is not the name of a header"),
                "such as `x-user`",
            );
        }
        let (data, admin) = (data?, admin?);
        if data == admin && data.port() != 0 {
            self.fault(
                at.key("admin"),
                format!("`{admin}` is the data listener's address"),
                "the admin listener needs its own port",
            );
        }
        if !admin.ip().is_loopback() && token.is_none() {
            self.fault(
                at.key("admin_token"),
                format!("is missing: `{admin}` can be reached from other machines"),
                "set it, such as `${PLIMSOLL_ADMIN_TOKEN}`, or listen on 127.0.0.1",
            );
        }
        let caller_header = caller_header.and_then(Result::ok);
        Some(Listen { data, admin, admin_token: token, caller_header })
    }

    fn address(&mut self, at: Path, text: &str) -> Option<SocketAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            let hint = "an IP address and a port: `127.0.0.1:7480`, `0.0.0.0:7480` or `[::1]:7480`";
            self.fault(at, format!("`{text}` is not an address"), hint);
        }
        address
    }
}
