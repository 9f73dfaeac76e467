use std::collections::BTreeMap;

use plimsoll_policies::Conversation;
use proptest::prelude::*;

use super::*;
use crate::config::{Affinity, HttpVersions, Retries, Timeouts};

const SECOND: Duration = Duration::from_secs(1);

fn replicas(count: usize, max_load: Option<f64>) -> Endpoints {
    let urls = (0..count).map(|n| format!("http://vllm-{n}:8000").parse().unwrap()).collect();
    Endpoints::new(&config::HttpUpstream {
        urls,
        affinity: Affinity::Prefix,
        max_load,
        http: HttpVersions::Auto,
        retries: Retries { attempts: 2, statuses: Vec::new(), pause: SECOND, longest_pause: SECOND },
        ejection: Ejection { failures: 2, time: 10 * SECOND, longest_time: 60 * SECOND },
        health: None,
        dialect: config::Dialect::Openai,
        api_key: None,
        tokenizer: None,
        ask_context: false,
        context: None,
        timeouts: Timeouts { connect: SECOND, first_byte: SECOND, idle: SECOND, total: None },
        ask_usage: true,
        keepalive: None,
        forward_baggage: false,
        ca_file: None,
    })
}

fn key(conversation: usize) -> Key {
    let body = format!(r#"{{"messages":[{{"role":"user","content":"conversation {conversation}"}}]}}"#);
    Key::of(&Conversation::parse_chat(body.into()).unwrap()).unwrap()
}

/// The replica of each of these conversations.
fn places(endpoints: &Endpoints, conversations: usize) -> Vec<String> {
    let place = |n| endpoints.lease(Some(key(n)), &[], Instant::now()).endpoint().url.to_string();
    (0..conversations).map(place).collect()
}

/// Fails a replica until it is out.
fn put_out(endpoint: &Endpoint) {
    for _ in 0..2 {
        endpoint
            .failed(Instant::now(), &Ejection { failures: 2, time: 10 * SECOND, longest_time: 60 * SECOND });
    }
}

#[test]
fn conversations_spread_evenly_and_one_replica_more_takes_its_share() {
    let (four, five) = (places(&replicas(4, None), 2000), places(&replicas(5, None), 2000));
    let mut shares = BTreeMap::new();
    four.iter().for_each(|place| *shares.entry(place).or_insert(0) += 1);
    // 500 each, with a standard deviation of 19.
    assert!(shares.len() == 4 && shares.values().all(|share| (400..600).contains(share)), "{shares:?}");
    let moved: Vec<_> = four.iter().zip(&five).filter(|(before, after)| before != after).collect();
    assert!(moved.iter().all(|(_, after)| **after == "http://vllm-4:8000/"), "{moved:?}");
    assert!((300..500).contains(&moved.len()), "{}", moved.len());
}

proptest! {
    #[test]
    fn a_replica_that_is_out_moves_its_own_conversations_alone(count in 2_usize..7, out in 0_usize..7) {
        let endpoints = replicas(count, None);
        let before = places(&endpoints, 200);
        let gone = &endpoints.all()[out % count];
        put_out(gone);
        let gone = gone.url.to_string();
        for (before, during) in before.iter().zip(places(&endpoints, 200)) {
            prop_assert!(during != gone);
            prop_assert!(*before == gone || *before == during, "{} moved to {}", before, during);
        }
        endpoints.all()[out % count].answered();
        prop_assert_eq!(before, places(&endpoints, 200));
    }
}

#[test]
fn where_all_are_out_they_are_asked_all_the_same() {
    let endpoints = replicas(3, None);
    let before = places(&endpoints, 50);
    endpoints.all().iter().for_each(|endpoint| put_out(endpoint));
    assert_eq!(before, places(&endpoints, 50));
}

#[test]
fn what_was_tried_comes_last() {
    let (endpoints, now) = (replicas(3, None), Instant::now());
    let mut tried = Vec::new();
    for _ in 0..3 {
        assert!(endpoints.has_other(&tried));
        let lease = endpoints.lease(Some(key(1)), &tried, now);
        assert!(!is_in(&tried, lease.endpoint()));
        tried.push(lease.endpoint().clone());
    }
    assert!(!endpoints.has_other(&tried));
    assert!(Arc::ptr_eq(endpoints.lease(Some(key(1)), &tried, now).endpoint(), &tried[0]));
}

#[test]
fn one_probe_finds_out_and_its_answer_brings_the_conversations_back() {
    let (endpoints, now) = (replicas(2, None), Instant::now());
    let own = endpoints.lease(Some(key(1)), &[], now).endpoint().clone();
    put_out(&own);
    let later = now + 11 * SECOND;
    let mut probe = endpoints.lease(Some(key(1)), &[], later);
    assert!(Arc::ptr_eq(probe.endpoint(), &own));
    let beside = endpoints.lease(Some(key(1)), &[], later);
    assert!(!Arc::ptr_eq(beside.endpoint(), &own), "one request tries it, the others do not wait");
    assert!(probe.settle(Verdict::Answered, later), "it had failed");
    assert!(Arc::ptr_eq(endpoints.lease(Some(key(1)), &[], later).endpoint(), &own));
    // A probe that its client leaves says nothing.
    put_out(&own);
    let later = later + 11 * SECOND;
    drop(endpoints.lease(Some(key(1)), &[], later));
    assert!(Arc::ptr_eq(endpoints.lease(Some(key(1)), &[], later).endpoint(), &own));
}

#[test]
fn requests_without_a_conversation_go_where_least_is_to_do() {
    let (endpoints, now) = (replicas(3, None), Instant::now());
    let leases: Vec<_> = (0..7).map(|_| endpoints.lease(None, &[], now)).collect();
    let mut loads: Vec<_> = endpoints.states(now).iter().map(|state| state.in_flight).collect();
    loads.sort_unstable();
    assert_eq!(loads, [2, 2, 3]);
    drop(leases);
    let mut seen: Vec<_> =
        (0..3).map(|_| endpoints.lease(None, &[], now).endpoint().url.to_string()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3, "with nothing to do they take turns");
    assert!(endpoints.states(now).iter().all(|state| state.in_flight == 0));
}

#[test]
fn a_hot_prefix_does_not_drown_its_replica_where_loads_are_bounded() {
    let now = Instant::now();
    let loads = |max_load| {
        let endpoints = replicas(4, max_load);
        let leases: Vec<_> = (0..40).map(|_| endpoints.lease(Some(key(1)), &[], now)).collect();
        let most = endpoints.states(now).iter().map(|state| state.in_flight).max();
        (most, leases.len())
    };
    assert_eq!(loads(None), (Some(40), 40));
    assert_eq!(loads(Some(1.5)), (Some(15), 40));
}

#[test]
fn attempts_are_counted_by_how_they_ended() {
    let (endpoints, now) = (replicas(1, None), Instant::now());
    for verdict in
        [Verdict::Answered, Verdict::Status, Verdict::Unreachable, Verdict::Broken, Verdict::Timeout]
    {
        endpoints.lease(None, &[], now).settle(verdict, now);
    }
    let state = endpoints.states(now).remove(0);
    let wanted = ["answered", "status", "unreachable", "broken", "timeout"].map(|result| (result, 1));
    assert_eq!(state.attempts, wanted);
    assert_eq!((state.health, state.ejections, state.failures), ("out", 1, 4));
}
