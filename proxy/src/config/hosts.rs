//! Names by which a listener may be asked for.

use std::net::IpAddr;

/// Which `Host` headers are taken. A page of another site can have its own name resolve to this machine and ask what
/// listens here (DNS rebinding); its requests carry that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Whatever is named: the listener is meant to be reached by name.
    Any,
    /// Addresses, names that no stranger can register, and these.
    Local(Vec<String>),
}

/// Ends of names that the public DNS never has: RFC 6761 and 8375, ICANN's `internal`, and Kubernetes' `svc`.
const UNREGISTRABLE: [&str; 7] = ["localhost", "local", "internal", "svc", "home.arpa", "test", "invalid"];

impl Hosts {
    /// Whether a `Host` header, with or without a port, is taken. None at all is an old client's.
    pub fn take(&self, host: &str) -> bool {
        let Self::Local(names) = self else { return true };
        let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        // A name without a dot is found by a search list or a file of this network.
        !name.contains('.')
            || bare.parse::<IpAddr>().is_ok()
            || UNREGISTRABLE.iter().any(|end| name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.')))
            || names.iter().any(|known| known.eq_ignore_ascii_case(&name))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_stranger_can_have_are_foreign() {
        let hosts = Hosts::Local(vec!["LLM.example.org".to_owned()]);
        let local = [
            "",
            "localhost",
            "localhost:7480",
            "127.0.0.1:7480",
            "[::1]:7480",
            "::1",
            "10.1.2.3",
            "plimsoll",
            "plimsoll:7480",
            "app.localhost",
            "plimsoll.team.svc",
            "plimsoll.team.svc.cluster.local:7480",
            "host.docker.internal",
            "llm.example.org",
            "LLM.EXAMPLE.ORG.:7480",
            "printer.local",
        ];
        for host in local {
            assert!(hosts.take(host), "{host}");
        }
        let foreign = [
            "evil.example",
            "evil.example:7480",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "x.mylocal",
            "evil.example:80:80",
            "local.example.org",
            "llm.example.org.evil.example",
            "user@evil.example",
        ];
        for host in foreign {
            assert!(!hosts.take(host), "{host}");
            assert!(Hosts::Any.take(host));
        }
    }
}
