//! Who may ask: listeners, hosts, pages and keys.

use std::path::Path;

use super::tests::{faults, parse, with};
use super::*;

fn listen(text: &str) -> Listen {
    parse(&with(&format!("listen: {{{text}}}"))).expect("valid").config.listen
}

#[test]
fn a_listener_is_an_address_or_a_socket() {
    let sockets = listen("data: 'unix:/run/d.sock', admin: 'unix:run/a.sock', socket_mode: '0600'");
    assert_eq!(sockets.data, Address::Unix("/run/d.sock".into()));
    let Address::Unix(admin) = &sockets.admin else { panic!("{:?}", sockets.admin) };
    assert!(admin.is_absolute() && admin.ends_with(Path::new("run/a.sock")), "{admin:?}");
    assert_eq!((sockets.socket_mode, sockets.admin_token), (0o600, None));
    assert_eq!(listen("").socket_mode, 0o660);
    for (text, said) in [
        ("data: 'unix:'", "`unix:` is not an address"),
        ("data: 'unix:/a', admin: 'unix:/a'", "`unix:/a` is the data listener's address"),
        ("socket_mode: rw-rw----", "socket_mode"),
        ("socket_mode: '0888'", "socket_mode"),
    ] {
        let faults = faults(&with(&format!("listen: {{{text}}}")));
        assert!(faults.contains(said), "{faults}");
    }
    let long = format!("listen: {{data: 'unix:/{}'}}", "x".repeat(107));
    assert!(faults(&with(&long)).contains("at most 107 bytes"));
}

#[test]
fn redirected_connections_come_in_by_an_address_of_their_own() {
    assert_eq!(listen("").transparent, None);
    let address = listen("transparent: '[::]:7481'").transparent.expect("an address");
    assert_eq!(address.to_string(), "[::]:7481");
    for (text, said) in [
        ("transparent: 'unix:/run/t.sock'", "is a file"),
        ("transparent: localhost", "`localhost` is not an address"),
        ("transparent: '127.0.0.1:7480'", "is another listener's address"),
    ] {
        let faults = faults(&with(&format!("listen: {{{text}}}")));
        assert!(faults.contains("listen.transparent") && faults.contains(said), "{faults}");
    }
}

#[test]
fn servers_that_no_redirected_connection_reaches_are_named() {
    let upstreams = "upstreams: {a: {url: 'https://a'}, b: {urls: ['http://b/', 'http://b/v1']}}";
    let routes = "routes: [{name: b, match: {path: /b}, upstream: b}, {name: a, upstream: a}]";
    let text = format!("{upstreams}\n{routes}\nlisten: {{transparent: '127.0.0.1:7481'}}");
    let warnings = parse(&text).expect("valid").warnings;
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("`https://a/` are refused: it speaks TLS"), "{warnings:?}");
    assert!(warnings[1].contains("`http://b/v1` are refused: its URL has a path"), "{warnings:?}");
    assert_eq!(parse(&format!("{upstreams}\n{routes}")).expect("valid").warnings, []);
}

#[test]
fn names_are_asked_of_loopback_listeners_and_where_some_are_said() {
    let asked = |text: &str| !listen(text).hosts.take("evil.example");
    assert!(asked("") && asked("data: '[::1]:1'") && asked("hosts: [llm.example]"));
    assert!(!asked("data: '0.0.0.0:1'") && !asked("data: 'unix:/run/d.sock'") && !asked("hosts: ['*']"));
    assert!(asked("data: '0.0.0.0:1', hosts: [llm.example]"));
    assert!(faults(&with("listen: {hosts: ['http://llm.example']}")).contains("listen.hosts[0]"));
}

#[test]
fn pages_are_known_by_patterns_of_their_origin() {
    let cors = listen("cors: {origins: ['https://chat.example', 'http://localhost:*/']}").cors.expect("some");
    assert!(cors.takes("https://chat.example") && cors.takes("http://localhost:3000") && !cors.any);
    assert!(
        !cors.takes("https://chat.example.org") && !cors.takes("http://chat.example") && !cors.takes("null")
    );
    assert!(listen("cors: {origins: ['*']}").cors.expect("some").any);
    assert!(faults(&with("listen: {cors: {origins: []}}")).contains("listen.cors.origins"));
    assert!(faults(&with("listen: {cors: {}}")).contains("origins"));
}

fn keyed(keys: &str, route: &str) -> String {
    with(&format!("keys: {{{keys}}}")).replace("upstream: a}", &format!("upstream: a, keys: {route}}}"))
}

fn hash(digit: char) -> String {
    format!("'sha256:{}'", digit.to_string().repeat(64))
}

#[test]
fn routes_name_the_keys_that_open_them() {
    let two = format!("a: {}, b: {}", hash('a'), hash('B'));
    let keys = |route: &str| parse(&keyed(&two, route)).expect("valid").config.routes[0].keys.clone();
    assert_eq!(keys("[a]"), ["a"]);
    assert_eq!(keys("['*']"), ["a", "b"]);
    assert_eq!(keys("[]"), Vec::<String>::new());
    let config = parse(&keyed(&two, "['*']")).expect("valid").config;
    assert_eq!((config.keys[0].hash, config.keys[1].hash), ([0xaa; 32], [0xbb; 32]));
    let warned = parse(&keyed(&two, "[a]")).expect("valid").warnings;
    assert_eq!(warned.len(), 1);
    assert!(warned[0].to_string().contains("is asked for by no route"), "{}", warned[0]);
    for (keys, route, said) in [
        (two.clone(), "[c]", "no key is named `c`"),
        (String::new(), "['*']", "there are no keys"),
        (format!("a: {0}, b: {0}", hash('a')), "['*']", "is the key of `a`, too"),
        ("a: sk-canary".to_owned(), "[a]", "is not the hash of a key"),
        (format!("a: {}", hash('g')), "[a]", "is not the hash of a key"),
        (format!("'a b': {}", hash('a')), "['*']", "cannot be a name"),
    ] {
        let faults = faults(&keyed(&keys, route));
        assert!(faults.contains(said) && !faults.contains("canary"), "{faults}");
    }
}
