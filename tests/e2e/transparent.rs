//! Connections that the kernel redirects: `plimsoll serve --transparent` behind real rules of iptables. Each test runs its
//! own program again in a network namespace of its own, which takes root.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use plimsoll_tests::mock::Mock;
use plimsoll_tests::process::addresses;
use plimsoll_tests::{Reply, plimsoll, post_with};
use serde_json::json;

use crate::tooling::{root, run, stdout, tool};

/// Set in the namespace.
const INSIDE: &str = "PLIMSOLL_TEST_NAMESPACE";

/// The group that the rules leave alone, and the sidecar's.
const GROUP: u32 = 7480;

/// Addresses of servers (RFC 5737, RFC 3849), all of this machine there.
const SERVERS: [&str; 4] = ["198.51.100.7/32", "198.51.100.8/32", "198.51.100.9/32", "2001:db8::7/128"];

/// Runs a test where it may change rules: in a namespace. Skipped, with a note, where there can be none.
fn isolated(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        network();
        return test();
    }
    if tool(".tools/bin/iptables").is_none() {
        return;
    }
    let (allowed, said) = run(Command::new("unshare").args(["--net", "true"]));
    if !allowed {
        eprintln!("skipped: a network namespace takes root and a kernel that has them: {said}");
        return;
    }
    let mut again = Command::new("unshare");
    again.arg("--net").arg(std::env::current_exe().unwrap()).env(INSIDE, "1");
    let (passed, printed) = run(again.args(["--exact", &format!("transparent::{name}"), "--nocapture"]));
    assert!(passed && printed.contains("1 passed"), "{printed}");
}

/// The loopback interface, with the servers' addresses.
fn network() {
    let ip = |arguments: &str| {
        stdout(Command::new(root().join(".tools/bin/busybox")).arg("ip").args(arguments.split(' ')));
    };
    ip("link set lo up");
    SERVERS.iter().filter(|server| has_ipv6() || !server.contains("::")).for_each(|server| {
        ip(&format!("addr add {server} dev lo"));
    });
}

fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// Redirects what others than the sidecar's group send to port 8000 of addresses.
fn redirect(iptables: &str, to: &str) {
    let rule = format!(
        "-t nat -A OUTPUT -p tcp -d {to} --dport 8000 -m owner ! --gid-owner {GROUP} -j REDIRECT --to-ports 7481"
    );
    stdout(Command::new(root().join(".tools/bin").join(iptables)).args(rule.split(' ')));
}

/// `plimsoll serve --transparent`, ended with the test.
struct Transparent {
    process: Child,
    /// Where redirected connections come in.
    url: String,
    _config: tempfile::NamedTempFile,
}

impl Transparent {
    fn serve(flag: &str, group: u32, upstreams_and_routes: &str) -> Self {
        use std::os::unix::process::CommandExt;
        let mut config = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        let listen = "listen: { data: 127.0.0.1:0, admin: 127.0.0.1:0 }\nlog: { level: error }";
        write!(config, "{listen}\n{upstreams_and_routes}").unwrap();
        let mut command = plimsoll();
        command.args(["serve", flag, "--config"]).arg(config.path()).gid(group).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let [url] = addresses(&mut process, ["redirected"]);
        Self { process, url, _config: config }
    }
}

impl Drop for Transparent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A chat of so many turns.
fn chat(turns: usize) -> String {
    let turn = |turn: usize| {
        let role = if turn.is_multiple_of(2) { "user" } else { "assistant" };
        json!({"role": role, "content": format!("turn {turn}: {}", "some words ".repeat(40))})
    };
    json!({"messages": (0..turns).map(turn).collect::<Vec<_>>(), "model": "m"}).to_string()
}

fn ask(server: &str, path: &str, body: &str) -> Reply {
    // Foreign to a listener on loopback; the client believes to ask its server.
    post_with(&format!("http://{server}{path}"), body.as_bytes().to_vec(), &[("host", "models.example")])
}

const CHAT: &str = "/v1/chat/completions";

#[test]
fn what_goes_to_an_upstream_is_governed_under_its_route() {
    isolated("what_goes_to_an_upstream_is_governed_under_its_route", || {
        let [first, second] = ["198.51.100.7:8000", "198.51.100.9:8000"].map(|at| Mock::revived(at, &[]));
        redirect("iptables", "198.51.100.0/24");
        let sidecar = Transparent::serve(
            "--transparent",
            GROUP,
            "
upstreams:
  first: { url: 'http://198.51.100.7:8000', context: 2000 }
  second: { url: 'http://198.51.100.9:8000' }
routes:
  - { name: chats, match: { path: /v1/* }, upstream: first, policy: chat }
  - { name: default, upstream: second }
",
        );
        assert_eq!(sidecar.url, "http://127.0.0.1:7481");
        let (short, long) = (chat(3), chat(61));
        let answered = ask("198.51.100.7:8000", CHAT, &short);
        assert_eq!((answered.status, answered.header("x-plimsoll-route")), (200, "chats".to_owned()));
        assert_eq!(answered.header("x-plimsoll-actions"), "none");
        let sent = first.only();
        assert_eq!(
            (&*sent.body, &sent.headers["host"]),
            (short.as_bytes(), &"models.example".parse().unwrap())
        );
        first.forget();
        let answered = ask("198.51.100.7:8000", CHAT, &long);
        assert_ne!(answered.header("x-plimsoll-actions"), "none", "{}", answered.text());
        assert!(first.only().body.len() < long.len() / 2);
        // The first route takes the path, and leads to another server.
        let answered = ask("198.51.100.9:8000", CHAT, &long);
        assert_eq!((answered.status, answered.header("x-plimsoll-route")), (200, "default".to_owned()));
        assert_eq!(second.only().body, long);
        // The last route takes the path, and leads to another server.
        let refused = ask("198.51.100.7:8000", "/else", "{}");
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (404, &json!("unknown_url")));
    });
}

#[test]
fn what_goes_elsewhere_is_refused() {
    isolated("what_goes_elsewhere_is_refused", || {
        let [server, other] = ["198.51.100.7:8000", "198.51.100.8:8000"].map(|at| Mock::revived(at, &[]));
        redirect("iptables", "198.51.100.0/24");
        let sidecar = Transparent::serve(
            "--transparent",
            GROUP,
            "
upstreams: { server: { url: 'http://198.51.100.7:8000' } }
routes: [{ name: default, upstream: server }]
",
        );
        let refused = ask("198.51.100.8:8000", CHAT, "{}");
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (421, &json!("not_an_upstream")));
        assert!(refused.text().contains("198.51.100.8:8000"), "{}", refused.text());
        let direct = sidecar.url.trim_start_matches("http://");
        let refused = ask(direct, CHAT, "{}");
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (421, &json!("not_redirected")));
        // What is no HTTP gets no answer.
        let mut client = TcpStream::connect("198.51.100.7:8000").unwrap();
        client.write_all(b"\x16\x03\x01\x00\x05hello").unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert_eq!(answer, b"");
        assert!(server.seen().is_empty() && other.seen().is_empty());
        assert_eq!(ask("198.51.100.7:8000", CHAT, "{}").status, 200);
    });
}

/// The rules do not leave its group alone.
#[test]
fn its_own_connections_are_not_taken_for_a_clients() {
    isolated("its_own_connections_are_not_taken_for_a_clients", || {
        let server = Mock::revived("198.51.100.7:8000", &[]);
        redirect("iptables", "198.51.100.7");
        let _sidecar = Transparent::serve(
            "--transparent",
            GROUP + 1,
            "
upstreams: { server: { url: 'http://198.51.100.7:8000' } }
routes: [{ name: default, upstream: server }]
",
        );
        let refused = ask("198.51.100.7:8000", CHAT, "{}");
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (508, &json!("redirect_loop")));
        assert!(server.seen().is_empty());
    });
}

#[test]
fn upstreams_are_known_by_their_names_addresses() {
    isolated("upstreams_are_known_by_their_names_addresses", || {
        let server = Mock::revived("127.0.0.1:8000", &[]);
        redirect("iptables", "127.0.0.1");
        let _sidecar = Transparent::serve(
            "--transparent=0.0.0.0:7481",
            GROUP,
            "
upstreams: { server: { url: 'http://localhost:8000' } }
routes: [{ name: default, upstream: server }]
",
        );
        assert_eq!(ask("127.0.0.1:8000", CHAT, "{}").status, 200);
        assert_eq!(server.only().body, "{}");
    });
}

#[test]
fn connections_of_ipv6_are_taken_beside_those_of_ipv4() {
    if !has_ipv6() {
        eprintln!("skipped: this kernel has no IPv6");
        return;
    }
    isolated("connections_of_ipv6_are_taken_beside_those_of_ipv4", || {
        let servers = ["[2001:db8::7]:8000", "198.51.100.7:8000"];
        let mocks = servers.map(|server| Mock::revived(server, &[]));
        redirect("iptables", "198.51.100.7");
        redirect("ip6tables", "2001:db8::7");
        let _sidecar = Transparent::serve(
            "--transparent=[::]:7481",
            GROUP,
            "
upstreams:
  six: { url: 'http://[2001:db8::7]:8000' }
  four: { url: 'http://198.51.100.7:8000' }
routes:
  - { name: six, match: { path: /v1/* }, upstream: six }
  - { name: four, upstream: four }
",
        );
        for ((server, mock), route) in servers.iter().zip(&mocks).zip(["six", "four"]) {
            let answered = ask(server, CHAT, "{}");
            assert_eq!((answered.status, answered.header("x-plimsoll-route")), (200, route.to_owned()));
            assert_eq!(mock.only().body, "{}");
        }
    });
}
