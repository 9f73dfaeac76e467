//! A canary stands wherever a secret can stand, and must be seen nowhere: not in logs of the finest level, spans, metrics,
//! admin answers, error bodies or what commands print.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use plimsoll_tests::collector::Collector;
use plimsoll_tests::http::{get_with, post_with};
use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::plimsoll;
use tokio::runtime::Runtime;

use crate::keys::new_key;
use crate::tooling::run;

const CANARY: &str = "xyzzy-canary";

/// The process's listeners, by its greeting.
fn addresses(process: &mut Child) -> (String, String) {
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut address = |who: &str| {
        let line = lines.find(|line| line.contains(who)).expect("a greeting");
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address");
        url.trim_end_matches("/v1").trim_end_matches('/').to_owned()
    };
    (address("clients"), address("operators"))
}

/// A canary at each place of the configuration that holds a secret.
fn config(collector: &str, upstream: &str, hash: &str) -> String {
    format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0, admin_token: {CANARY}-token }}
log: {{ level: trace, format: json }}
keys: {{ alice: '{hash}' }}
telemetry: {{ otlp: {{ endpoint: '{collector}', protocol: grpc, headers: {{ x-api-key: {CANARY}-otlp }} }} }}
upstreams:
  good: {{ url: '{upstream}', context: 8000, api_key: {CANARY}-upstream }}
  gone: {{ url: 'http://127.0.0.1:1', context: 8000, api_key: {CANARY}-gone }}
routes:
  - {{ name: gone, match: {{ header: {{ x-to: gone }} }}, upstream: gone, policy: chat }}
  - {{ name: good, upstream: good, policy: chat, keys: [alice] }}
"
    )
}

#[test]
fn a_canary_is_seen_nowhere() {
    let runtime = Runtime::new().unwrap();
    let collector = runtime.block_on(Collector::start()).unwrap();
    let mock = Mock::start(vec![Answer::json("{}"), Answer::json(r#"{"error":"no"}"#).status(401)]);
    let (key, hash) = new_key();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let config = config(&collector.grpc_endpoint, &mock.url, &hash);
    std::fs::write(&file, &config).unwrap();
    let mut command = plimsoll();
    command.args(["serve", "--config"]).arg(&file).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut stderr = process.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut log = String::new();
        stderr.read_to_string(&mut log).map(|_| log)
    });
    let (data, admin) = addresses(&mut process);
    let chat = format!("{data}/v1/chat/completions");
    let body = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#.to_vec();
    let bearer = format!("Bearer {CANARY}-callers");
    let mut told = String::new();
    // Served, refused by the upstream, refused here for another key, and an upstream that is gone.
    for (headers, status) in [
        (vec![("x-api-key", key.as_str()), ("cookie", CANARY)], 200),
        (vec![("x-api-key", key.as_str())], 401),
        (vec![("authorization", bearer.as_str())], 401),
        (vec![("authorization", bearer.as_str()), ("x-to", "gone")], 502),
    ] {
        let reply = post_with(&chat, body.clone(), &headers);
        assert_eq!(reply.status, status, "{}", reply.text());
        told += &format!("{:?}{}", reply.headers, reply.text());
    }
    assert_eq!(
        mock.seen()[0].headers["authorization"],
        format!("Bearer {CANARY}-upstream"),
        "there it belongs"
    );
    let token = format!("Bearer {CANARY}-token");
    for path in ["/state", "/config", "/metrics", "/readyz", "/slots"] {
        told += &get_with(&format!("{admin}{path}"), &[("authorization", &token)]).text();
    }
    told += &get_with(&format!("{admin}/state"), &[("authorization", "Bearer wrong")]).text();
    // A file that holds secrets in the wrong places is refused without showing them.
    let broken = folder.path().join("broken.yaml");
    let misplaced = format!("{config}\nnonsense: 1\n").replace(&hash, &format!("{CANARY}-hash"));
    std::fs::write(&broken, misplaced).unwrap();
    for arguments in [vec!["validate"], vec!["validate", "--json"], vec!["serve"]] {
        for file in [&file, &broken] {
            if arguments[0] == "serve" && file != &broken {
                continue;
            }
            told += &run(plimsoll().args(&arguments).arg("--config").arg(file)).1;
        }
    }
    let arrived = collector.wait_for(|received| {
        received.spans().filter(|span| span.name == "POST /v1/chat/completions").count() >= 4
    });
    told += &format!("{:?}", runtime.block_on(arrived).unwrap().spans().collect::<Vec<_>>());
    process.kill().unwrap();
    process.wait().unwrap();
    told += &log.join().unwrap().unwrap();
    assert!(told.contains("plimsoll.request.caller") && told.contains("alice"), "the caller is told by name");
    for secret in [CANARY, &key] {
        let at = told.find(secret);
        assert!(at.is_none(), "{}", &told[at.unwrap_or(0).saturating_sub(300)..][..600.min(told.len())]);
    }
}
