//! API keys of callers: who has one comes in, it goes no further, and its owner is told apart by name.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use plimsoll_tests::http::get_with;
use plimsoll_tests::mock::Mock;
use plimsoll_tests::{Reply, Sidecar, plimsoll, post_with};
use serde_json::{Value, json};

use crate::artifacts::{body, id, long};
use crate::tooling::stdout;

/// A key that `plimsoll key new` made, and its hash.
pub(crate) fn new_key() -> (String, String) {
    let made: Value = serde_json::from_str(&stdout(plimsoll().args(["key", "new", "--json"]))).unwrap();
    let part = |name: &str| made[name].as_str().expect("a text").to_owned();
    (part("key"), part("hash"))
}

/// What a program prints that reads this.
fn piped(command: &mut Command, input: &str) -> (bool, String) {
    let mut process =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn a_key_is_made_once_and_its_hash_is_what_others_compute() {
    let (key, hash) = new_key();
    assert_ne!(new_key().0, key);
    let (_, judged) = piped(&mut Command::new("sha256sum"), &key);
    assert_eq!(hash, format!("sha256:{}", judged.split_whitespace().next().unwrap()));
    assert_eq!(piped(plimsoll().args(["key", "hash"]), &format!("{key}\n")), (true, format!("{hash}\n")));
    let (good, said) = piped(plimsoll().args(["key", "hash"]), "password");
    assert!(!good && said.contains("can be guessed") && !said.contains("password"), "{said}");
}

/// Two callers, and a route for each and one for both; the last one is open.
fn sidecar(mock: &Mock, alice: &str, ci: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
keys: {{ alice: '{alice}', ci: '{ci}' }}
upstreams: {{ other: {{ url: '{}', context: 8000 }} }}
routes:
  - {{ name: hers, match: {{ path: /v1/chat/*, model: hers }}, upstream: other, policy: agent, keys: [alice] }}
  - {{ name: both, match: {{ path: '/v1/*' }}, upstream: other, policy: agent, keys: ['*'] }}
  - {{ name: open, upstream: other }}
",
        mock.url
    ))
}

fn chat(sidecar: &Sidecar, path: &str, model: &str, headers: &[(&str, &str)]) -> Reply {
    let mut body = body(&long());
    body["model"] = model.into();
    post_with(&format!("{}{path}", sidecar.data_url), body.to_string().into_bytes(), headers)
}

const CHAT: &str = "/v1/chat/completions";

#[test]
fn who_is_refused_while_sending_hears_it_and_may_go_on() {
    let mock = Mock::start(Vec::new());
    let ((_, alices), (_, cis)) = (new_key(), new_key());
    let sidecar = sidecar(&mock, &alices, &cis);
    let mut client = TcpStream::connect(sidecar.data_url.strip_prefix("http://").unwrap()).unwrap();
    let body = vec![b' '; 300_000];
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    for _ in 0..3 {
        client.write_all(head.as_bytes()).unwrap();
        let mut answer = BufReader::new(client.try_clone().unwrap());
        let (mut line, mut length) = (String::new(), 0);
        answer.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 401 "), "{line}");
        while line != "\r\n" {
            line.clear();
            answer.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut told = vec![0; length];
        answer.read_exact(&mut told).unwrap();
        assert!(told.starts_with(b"{\"error\""), "{}", String::from_utf8_lossy(&told));
        // Only now it sends what was refused, and asks again on the same connection.
        client.write_all(&body).unwrap();
    }
    assert_eq!(mock.seen().len(), 0);
}

#[test]
fn a_route_takes_who_bears_its_key() {
    let mock = Mock::start(Vec::new());
    let ((alice, alices), (ci, cis)) = (new_key(), new_key());
    let sidecar = sidecar(&mock, &alices, &cis);
    let refused = |reply: &Reply, status: u16, code: &str| {
        assert_eq!(
            (reply.status, reply.json()["error"]["code"].as_str()),
            (status, Some(code)),
            "{}",
            reply.text()
        );
        assert!(!reply.text().contains(&alice) && !reply.text().contains(&ci), "{}", reply.text());
    };
    let missing = chat(&sidecar, CHAT, "m", &[]);
    refused(&missing, 401, "invalid_api_key");
    assert_eq!(missing.header("www-authenticate"), "Bearer");
    refused(
        &chat(&sidecar, CHAT, "m", &[("authorization", "Bearer sk-none-of-ours")]),
        401,
        "invalid_api_key",
    );
    refused(&chat(&sidecar, CHAT, "m", &[("authorization", &alices)]), 401, "invalid_api_key");
    refused(&chat(&sidecar, CHAT, "hers", &[("x-api-key", &ci)]), 403, "key_not_allowed");
    // Another spelling of the path leads to no other route.
    for path in [
        "//v1/chat/completions",
        "/v1/./chat/completions",
        "/x/../v1/chat/completions",
        "/%761/chat/completions",
    ] {
        refused(&chat(&sidecar, path, "m", &[]), 401, "invalid_api_key");
    }
    assert_eq!(mock.seen().len(), 0);
    for (model, header, value, route) in [
        ("hers", "authorization", format!("Bearer {alice}"), "hers"),
        ("m", "authorization", format!("bearer {ci}"), "both"),
        ("m", "x-api-key", ci.clone(), "both"),
        ("m", "api-key", alice.clone(), "both"),
    ] {
        let reply = chat(&sidecar, CHAT, model, &[(header, &value), ("x-team", "t")]);
        assert_eq!(
            (reply.status, reply.header("x-plimsoll-route").as_str()),
            (200, route),
            "{}",
            reply.text()
        );
        let seen = mock.seen().pop().unwrap();
        assert!(!format!("{:?}", seen.headers).contains("plim-"), "{:?}", seen.headers);
        assert_eq!(seen.headers["x-team"], "t");
    }
    // A provider's key beside ours is the provider's.
    let both = [("authorization", "Bearer sk-theirs"), ("x-api-key", ci.as_str())];
    assert_eq!(chat(&sidecar, CHAT, "m", &both).status, 200);
    let seen = mock.seen().pop().unwrap();
    assert_eq!(seen.headers["authorization"], "Bearer sk-theirs");
    assert!(seen.headers.get("x-api-key").is_none());
    assert_eq!(
        get_with(&format!("{}/any", sidecar.data_url), &[]).status,
        200,
        "the open route asks for none"
    );
}

#[test]
fn what_is_kept_belongs_to_the_keys_owner() {
    let mock = Mock::start(Vec::new());
    let ((alice, alices), (ci, cis)) = (new_key(), new_key());
    let sidecar = sidecar(&mock, &alices, &cis);
    let bearer = format!("Bearer {alice}");
    assert_eq!(chat(&sidecar, CHAT, "m", &[("authorization", &bearer)]).status, 200);
    let url = format!("{}/v1/context/artifacts/{}", sidecar.data_url, id(&mock));
    // Whichever way she sends it.
    for headers in [("authorization", bearer.as_str()), ("x-api-key", alice.as_str())] {
        assert_eq!(get_with(&url, &[headers]).ok()["text"], json!(long()));
    }
    assert_eq!(get_with(&url, &[("x-api-key", ci.as_str())]).status, 404);
    assert_eq!(get_with(&url, &[("authorization", "Bearer sk-none-of-ours")]).status, 401);
    assert_eq!(get_with(&url, &[]).status, 401);
}
