//! Listeners.

use std::net::SocketAddr;

use super::super::address::{Address, UNIX};
use super::super::faults::Fault;
use super::super::hosts::Hosts;
use super::super::path::Path;
use super::super::raw::{self, Raw};
use super::super::valid::{Cors, Listen};
use super::Check;

/// Bytes of a unix socket's path, its end included (`sockaddr_un`).
const LONGEST_SOCKET: usize = 108;

impl Check<'_> {
    pub(super) fn listen(&mut self, raw: &raw::Listen) -> Option<Listen> {
        let at = Path::of(&["listen"]);
        let data = self.address(at.key("data"), &raw.data);
        let transparent = self.transparent(&at.key("transparent"), raw);
        let admin = self.address(at.key("admin"), &raw.admin);
        let token = raw.admin_token.clone();
        if let Some(token) = &token {
            self.credential(at.key("admin_token"), token);
        }
        let caller_header = self.header(at.key("caller_header"), raw.caller_header.as_deref());
        let socket_mode = u32::from_str_radix(&raw.socket_mode, 8).unwrap_or(0o660);
        let cors = raw.cors.as_ref().map(|cors| self.cors(&at.key("cors").key("origins"), cors));
        let (data, admin) = (data?, admin?);
        let any_port = matches!(data, Address::Tcp(address) if address.port() == 0);
        if data == admin && !any_port {
            self.fault(
                at.key("admin"),
                format!("`{admin}` is the data listener's address"),
                "the admin listener needs its own",
            );
        }
        if !admin.is_local() && token.is_none() {
            self.fault(
                at.key("admin_token"),
                format!("is missing: `{admin}` can be reached from other machines"),
                "set it, such as `${PLIMSOLL_ADMIN_TOKEN}`, or listen on 127.0.0.1",
            );
        }
        let hosts = self.hosts(&at.key("hosts"), &raw.hosts, &data);
        let cors = match cors {
            Some(cors) => Some(cors?),
            None => None,
        };
        Some(Listen { data, transparent, admin, socket_mode, admin_token: token, caller_header, hosts, cors })
    }

    /// An address of its own; sockets' files are not redirected to.
    fn transparent(&mut self, at: &Path, raw: &raw::Listen) -> Option<SocketAddr> {
        let text = raw.transparent.as_ref()?;
        if [&raw.data, &raw.admin].contains(&text) && !text.ends_with(":0") {
            self.fault(at.clone(), format!("`{text}` is another listener's address"), "it needs its own");
        }
        match self.address(at.clone(), text)? {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) => {
                self.fault(
                    at.clone(),
                    format!("`{text}` is a file"),
                    "connections are redirected to addresses",
                );
                None
            }
        }
    }

    /// Warns of servers to which no redirected connection goes on.
    pub(super) fn redirected(&mut self, raw: &Raw) {
        if raw.listen.transparent.is_none() {
            return;
        }
        for (name, upstream) in &raw.upstreams {
            let urls = upstream.url.iter().chain(upstream.urls.iter().flatten());
            for url in urls.filter_map(|url| url.parse::<http::Uri>().ok()) {
                let why = if url.scheme_str() != Some("http") {
                    "it speaks TLS"
                } else if matches!(url.path(), "" | "/") {
                    continue;
                } else {
                    "its URL has a path"
                };
                let message = format!("connections redirected on their way to `{url}` are refused: {why}");
                self.findings.warn(Fault::new(Path::of(&["upstreams", name]), message));
            }
        }
    }

    fn address(&mut self, at: Path, text: &str) -> Option<Address> {
        if let Some(path) = text.strip_prefix(UNIX) {
            let path = self.path(path);
            if text == UNIX || path.as_os_str().len() >= LONGEST_SOCKET {
                let hint = "`unix:/run/plimsoll/data.sock`; the path has at most 107 bytes";
                self.fault(at, format!("`{text}` is not an address"), hint);
                return None;
            }
            return Some(Address::Unix(path));
        }
        let address: Option<SocketAddr> = text.parse().ok();
        if address.is_none() {
            let hint = "an IP address and a port: `127.0.0.1:7480`, `0.0.0.0:7480` or `[::1]:7480`; \
                        or a socket: `unix:/run/plimsoll/data.sock`";
            self.fault(at, format!("`{text}` is not an address"), hint);
        }
        address.map(Address::Tcp)
    }

    fn header(&mut self, at: Path, name: Option<&str>) -> Option<http::HeaderName> {
        let name = name?;
        let header = name.parse().map_err(|_| {
            Fault::new(at, format!("`{name}` is not the name of a header")).hint("such as `x-user`")
        });
        self.findings.take(header)
    }

    fn hosts(&mut self, at: &Path, names: &[String], data: &Address) -> Hosts {
        for (index, name) in names.iter().enumerate() {
            let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            if name != "*" && (name.is_empty() || !name.chars().all(plain)) {
                let hint = "a name without scheme and port, such as `llm.example.com`; `*`: every name";
                self.fault(at.index(index), format!("`{name}` is not the name of a host"), hint);
            }
        }
        let open = names.is_empty() && !data.is_loopback_tcp();
        if open || names.iter().any(|name| name == "*") { Hosts::Any } else { Hosts::Local(names.to_vec()) }
    }

    fn cors(&mut self, at: &Path, raw: &raw::Cors) -> Option<Cors> {
        let globs: Vec<_> = raw
            .origins
            .iter()
            .enumerate()
            .map(|(index, origin)| self.glob(at.index(index), origin.trim_end_matches('/')))
            .collect();
        let origins = globs.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Cors {
            any: raw.origins.iter().any(|origin| origin == "*"),
            patterns: raw.origins.clone(),
            origins,
        })
    }
}
