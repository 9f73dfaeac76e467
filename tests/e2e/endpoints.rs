//! Several servers behind one upstream: each conversation stays where its cache is, and moves only where it must.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_tests::mock::Mock;
use plimsoll_tests::{Reply, Sidecar, get, post_with};
use serde_json::{Value, json};

const CONVERSATIONS: usize = 12;

/// A sidecar before these servers; a server is left out after one failure, for hardly any time.
fn sidecar(mocks: &[&Mock], options: &str) -> Sidecar {
    let urls: Vec<_> = mocks.iter().map(|mock| mock.url.as_str()).collect();
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: 'off' }}
upstreams:
  vllm: {{ urls: {urls:?}, context: 1000, ejection: {{ failures: 1, time: 1ms }}, {options} }}
policies: {{ chat: {{ extends: chat, steps: [{{ reserve_output: {{ default: 200 }} }}] }} }}
routes:
  - {{ name: passed, match: {{ header: {{ x-mode: passed }} }}, upstream: vllm, mode: 'off' }}
  - {{ name: shadowed, match: {{ header: {{ x-mode: shadowed }} }}, upstream: vllm, policy: chat, mode: shadow }}
  - {{ name: default, upstream: vllm, policy: chat }}
"
    ))
}

/// A conversation after some turns.
fn talk(conversation: usize, turns: usize) -> Value {
    let first =
        json!({"role": "user", "content": format!("Conversation <{conversation}>: how deep is the sea?")});
    let later = (1..turns).flat_map(|turn| {
        let answer = format!("Part {turn} of the sea is rather deep. {}", "It is blue and wide. ".repeat(8));
        [
            json!({"role": "assistant", "content": answer}),
            json!({"role": "user", "content": format!("And part {turn}?")}),
        ]
    });
    let system = json!({"role": "system", "content": "You know the sea."});
    let messages: Vec<_> = [system, first].into_iter().chain(later).collect();
    json!({"model": "m", "messages": messages})
}

fn say(sidecar: &Sidecar, body: &Value, headers: &[(&str, &str)]) -> Reply {
    post_with(&format!("{}/v1/chat/completions", sidecar.data_url), body.to_string().into_bytes(), headers)
}

/// Which conversations each server saw, and how many requests.
fn seen(mocks: &[&Mock]) -> Vec<BTreeMap<usize, usize>> {
    let of_mock = |mock: &&Mock| {
        let mut counts = BTreeMap::new();
        for request in mock.seen() {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            let (_, rest) = body.split_once('<').expect("a conversation");
            let number = rest.split_once('>').expect("its number").0.parse().expect("a number");
            *counts.entry(number).or_default() += 1;
        }
        mock.forget();
        counts
    };
    mocks.iter().map(of_mock).collect()
}

/// The server of each conversation, each of which has one.
fn homes(mocks: &[&Mock]) -> BTreeMap<usize, usize> {
    let seen = seen(mocks);
    let places = seen.iter().enumerate().flat_map(|(place, own)| own.keys().map(move |one| (*one, place)));
    let homes: BTreeMap<_, _> = places.clone().collect();
    assert_eq!(places.count(), homes.len(), "a conversation came to several servers: {seen:?}");
    homes
}

#[test]
fn a_conversation_stays_on_its_server_as_it_grows_and_is_cut() {
    let mocks: Vec<_> = (0..3).map(|_| Mock::start(Vec::new())).collect();
    let mocks: Vec<_> = mocks.iter().collect();
    let sidecar = sidecar(&mocks, "");
    let mut actions = BTreeSet::new();
    for turns in 1..16 {
        for conversation in 0..CONVERSATIONS {
            let reply = say(&sidecar, &talk(conversation, turns), &[]);
            assert_eq!(reply.status, 200, "{}", reply.text());
            actions.insert(reply.header("x-plimsoll-actions"));
        }
    }
    assert!(actions.iter().any(|action| action.contains("summarize")), "{actions:?}");
    let governed = homes(&mocks);
    assert_eq!(governed.len(), CONVERSATIONS);
    assert!(governed.values().collect::<BTreeSet<_>>().len() > 1, "{governed:?}");
    // Who passes or watches alone sends it to the same server.
    for mode in ["passed", "shadowed"] {
        for conversation in 0..CONVERSATIONS {
            let reply = say(&sidecar, &talk(conversation, 3), &[("x-mode", mode)]);
            assert_eq!((reply.status, reply.header("x-plimsoll-route")), (200, mode.to_owned()));
        }
        assert_eq!(homes(&mocks), governed, "{mode}");
    }
    // Another sidecar before the same servers chooses alike, in whatever order it knows them.
    let reversed: Vec<_> = mocks.iter().rev().copied().collect();
    let other = self::sidecar(&reversed, "");
    (0..CONVERSATIONS).for_each(|conversation| drop(say(&other, &talk(conversation, 2), &[])));
    assert_eq!(homes(&mocks), governed);
}

#[test]
fn a_server_that_dies_moves_its_own_conversations_until_it_is_back() {
    let mut mocks: Vec<_> = (0..3).map(|_| Mock::start(Vec::new())).collect();
    let sidecar = sidecar(&mocks.iter().collect::<Vec<_>>(), "");
    let all = || (0..CONVERSATIONS).map(|one| say(&sidecar, &talk(one, 2), &[]).status);
    assert!(all().all(|status| status == 200));
    let before = homes(&mocks.iter().collect::<Vec<_>>());
    let dead = before[&0];
    let url = mocks[dead].url.clone();
    drop(mocks.remove(dead));
    assert!(all().all(|status| status == 200), "another one answers for it");
    let living: Vec<_> = mocks.iter().collect();
    let during = homes(&living);
    let place = |home: usize| if home > dead { home - 1 } else { home };
    for (conversation, home) in before.iter().filter(|(_, home)| **home != dead) {
        assert_eq!(during[conversation], place(*home), "{conversation} had no reason to move");
    }
    let endpoints =
        get(&format!("{}/state", sidecar.admin_url)).ok()["upstreams"]["vllm"]["endpoints"].clone();
    assert_ne!(endpoints[dead]["health"], "in", "{endpoints}");
    let attempts = &endpoints[dead]["attempts"];
    let failed = ["unreachable", "broken"].map(|result| attempts[result].as_u64().unwrap());
    assert!(failed.iter().sum::<u64>() > 0, "{endpoints}");
    mocks.insert(dead, Mock::revived(&url, &[]));
    // Its time is up soon, and one of its own conversations tries it.
    while mocks[dead].seen().is_empty() {
        assert!(all().all(|status| status == 200));
    }
    mocks.iter().for_each(Mock::forget);
    assert!(all().all(|status| status == 200));
    assert_eq!(homes(&mocks.iter().collect::<Vec<_>>()), before, "they are all back");
}

#[test]
fn what_is_no_conversation_is_shared_out() {
    let mocks: Vec<_> = (0..3).map(|_| Mock::start(Vec::new())).collect();
    let mocks: Vec<_> = mocks.iter().collect();
    let sidecar = sidecar(&mocks, "");
    for _ in 0..9 {
        assert_eq!(get(&format!("{}/v1/models", sidecar.data_url)).status, 200);
    }
    let counts: Vec<_> = mocks.iter().map(|mock| mock.seen().len()).collect();
    assert_eq!(counts, [3, 3, 3]);
    // Without affinity conversations are shared out, too.
    mocks.iter().for_each(|mock| mock.forget());
    let sidecar = self::sidecar(&mocks, "affinity: none");
    for _ in 0..9 {
        assert_eq!(say(&sidecar, &talk(1, 1), &[]).status, 200);
    }
    assert!(seen(&mocks).iter().all(|own| own.get(&1) == Some(&3)));
}

#[test]
fn bytes_that_are_passed_stay_as_they_are_before_several_servers() {
    let mocks = [Mock::start(Vec::new()), Mock::start(Vec::new())];
    let sidecar = sidecar(&mocks.iter().collect::<Vec<_>>(), "");
    let odd = r#"{ "x":1E3, "messages" : [ {"content":"h\u0069","role":"user"} ],"dup":1,"dup":2 }"#;
    let reply = post_with(
        &format!("{}/v1/chat/completions", sidecar.data_url),
        odd.as_bytes().to_vec(),
        &[("x-mode", "passed")],
    );
    assert_eq!(reply.status, 200);
    let seen: Vec<_> = mocks.iter().flat_map(Mock::seen).collect();
    assert_eq!((seen.len(), &seen[0].body[..]), (1, odd.as_bytes()));
}

#[test]
fn the_metrics_tell_how_each_server_fares() {
    let (well, dead) = (Mock::start(Vec::new()), Mock::start(Vec::new()));
    let urls = [well.url.clone(), dead.url.clone()];
    let sidecar = sidecar(&[&well, &dead], "affinity: none");
    drop(dead);
    for _ in 0..4 {
        assert_eq!(say(&sidecar, &talk(1, 1), &[]).status, 200);
    }
    let metrics = get(&format!("{}/metrics", sidecar.admin_url)).text();
    let value = |name: &str, url: &str, result: &str| -> f64 {
        let found = metrics.lines().find(|line| {
            let end = format!("plimsoll_upstream_endpoint=\"{url}\"");
            line.starts_with(name) && line.contains(&end) && line.contains(result)
        });
        let line = found.unwrap_or_else(|| panic!("no {name} of {url} in {metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let attempts = "plimsoll_upstream_endpoint_attempts_total";
    assert_eq!(value(attempts, &urls[0], "\"answered\""), 4.0);
    let failed = ["\"unreachable\"", "\"broken\""].map(|result| value(attempts, &urls[1], result));
    assert!(failed.iter().sum::<f64>() >= 1.0, "{metrics}");
    assert!(value("plimsoll_upstream_endpoint_ejections_total", &urls[1], "") >= 1.0);
    assert_eq!(value("plimsoll_upstream_endpoint_up", &urls[0], ""), 1.0);
    assert_eq!(value("plimsoll_upstream_endpoint_active_requests", &urls[0], ""), 0.0);
}

#[test]
fn a_health_check_leaves_out_and_lets_in_without_a_request() {
    let mocks = [Mock::start(Vec::new()), Mock::start(Vec::new())];
    let urls = [mocks[0].url.clone(), mocks[1].url.clone()];
    let sidecar = sidecar(&mocks.iter().collect::<Vec<_>>(), "health: { path: /health, interval: 5ms }");
    let health = |wanted: &str| loop {
        let state = get(&format!("{}/state", sidecar.admin_url)).ok();
        let endpoint = state["upstreams"]["vllm"]["endpoints"][1].clone();
        if endpoint["health"] == wanted && (wanted == "in" || endpoint["ejections"].as_u64() > Some(1)) {
            break endpoint;
        }
        std::thread::yield_now();
    };
    assert_eq!(health("in")["url"], urls[1]);
    let [kept, dropped] = mocks;
    drop(dropped);
    health("out");
    let revived = Mock::revived(&urls[1], &[]);
    health("in");
    for mock in [&kept, &revived] {
        while mock.seen().is_empty() {
            std::thread::yield_now();
        }
        assert!(mock.seen().iter().all(|seen| seen.line == "GET /health"));
    }
}
