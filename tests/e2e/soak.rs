//! Load of every kind for as long as one likes, with callers that leave at any time: memory does not grow, no slot stays
//! taken, and what was reserved is given back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use plimsoll_tests::http::open;
use plimsoll_tests::process::addresses;
use plimsoll_tests::shared::one_engine;
use plimsoll_tests::{get, plimsoll, post};
use serde_json::{Value, json};

/// Callers at a time: twice as many as slots, so that some wait.
const CALLERS: u64 = 8;
const SLOTS: u64 = 4;
/// Requests between two readings of memory.
const PAUSE: usize = 20;
/// Requests of a soak at least.
const LEAST: usize = 2000;
/// Growth that is none: pages that the allocator has not given back at the moment of a reading.
const NOISE: f64 = 4.0 * 1024.0 * 1024.0;

/// A sidecar in a process of its own, so that the memory is its alone.
struct Process {
    child: Child,
    data: String,
    admin: String,
}

impl Process {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        let model = plimsoll_tests::shared::root().join("engine/demo/model");
        let runtime = plimsoll_tests::shared::root().join(".runtime/libonnxruntime.so");
        let engine =
            format!("model: {}, name: demo, slots: {SLOTS}, threads: 1, context: 1024", model.display());
        let config = one_engine(&engine, "policy: chat, any_model: true")
            .replace(".runtime/libonnxruntime.so", &runtime.display().to_string());
        std::fs::write(&file, config).unwrap();
        let mut command = plimsoll();
        let mut child =
            command.args(["serve", "--config"]).arg(&file).stdout(Stdio::piped()).spawn().unwrap();
        let [data, admin] = addresses(&mut child, ["clients", "operators"]);
        let (data, admin) = (data.trim_end_matches("/v1").to_owned(), admin.trim_end_matches('/').to_owned());
        Self { child, data, admin }
    }

    /// The engine's part of the state.
    fn engine(&self) -> Value {
        get(&format!("{}/state", self.admin)).ok()["upstreams"]["local"].clone()
    }

    /// Waits until nothing runs any more.
    fn rest(&self) -> Value {
        loop {
            let engine = self.engine();
            let busy = engine["slots"].as_array().unwrap().iter().any(|slot| slot["busy"] == true);
            if !busy && engine["queued"] == 0 && engine["kv_reserved_bytes"] == 0 {
                return engine;
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Numbers that look drawn and are the same in each run (xorshift64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn tokens(&mut self, limit: u64) -> Vec<u64> {
        (0..=self.below(limit)).map(|_| 100 + self.below(1500)).collect()
    }
}

/// One caller's requests, until told to end.
fn call(data: &str, seed: u64, end: &AtomicBool, done: &Sender<()>) {
    let mut draw = Draw(seed);
    let mut chat = Vec::new();
    while !end.load(Ordering::Relaxed) {
        let prompt = draw.tokens(700);
        let completion = json!({
            "model": "demo", "prompt": prompt, "max_tokens": 1 + draw.below(40), "ignore_eos": true,
            "stream": draw.below(2) == 0, "temperature": draw.below(3) as f64 / 2.0, "seed": draw.below(9),
        });
        match draw.below(6) {
            0 | 1 => drop(post(&format!("{data}/v1/completions"), &completion).text()),
            2 => leave_within(data, completion, draw.below(2_000)),
            3 => leave_at_once(data, &completion),
            4 => goes_on(data, &mut chat, &mut draw),
            _ => assert_eq!(
                post(&format!("{data}/v1/completions"), &json!({"model": "demo", "prompt": -1})).status,
                400
            ),
        }
        if done.send(()).is_err() {
            return;
        }
    }
}

/// Reads some bytes of a stream, and leaves.
fn leave_within(data: &str, mut request: Value, bytes: u64) {
    request["stream"] = true.into();
    request["max_tokens"] = 300.into();
    let stream = open(&format!("{data}/v1/completions"), request.to_string().into_bytes(), &[]);
    let mut read = Vec::new();
    stream.take(bytes).read_to_end(&mut read).unwrap();
}

/// Sends a request and is gone before anything can be answered.
fn leave_at_once(data: &str, request: &Value) {
    let body = request.to_string();
    let mut connection = TcpStream::connect(data.trim_start_matches("http://")).unwrap();
    write!(
        connection,
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
}

/// The next turn of a conversation that outgrows its window, and begins anew after a while.
fn goes_on(data: &str, chat: &mut Vec<Value>, draw: &mut Draw) {
    if chat.len() > 40 {
        chat.clear();
    }
    let number = draw.below(1000);
    let asked = format!("My number is {number}. What is the KV cache, and what was my last number?");
    chat.push(json!({"role": "user", "content": asked}));
    let request = json!({"model": "demo", "messages": chat, "max_tokens": 30});
    let answer = post(&format!("{data}/v1/chat/completions"), &request).ok();
    chat.push(json!({"role": "assistant", "content": answer["choices"][0]["message"]["content"]}));
}

/// Bytes that each further second takes, by least squares.
fn slope(readings: &[(f64, f64)]) -> f64 {
    let count = readings.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| readings.iter().map(of).sum::<f64>() / count;
    let (time, bytes) = (mean(|reading| reading.0), mean(|reading| reading.1));
    let with = readings.iter().map(|(t, b)| (t - time) * (b - bytes)).sum::<f64>();
    with / readings.iter().map(|(t, _)| (t - time).powi(2)).sum::<f64>()
}

/// Loads a sidecar until `enough` requests have ended or time has passed; gives seconds and bytes beside the KV cache.
fn soak(enough: impl Fn(usize, Duration) -> bool) -> Vec<(f64, f64)> {
    let process = Process::start();
    let (end, started) = (AtomicBool::new(false), Instant::now());
    let mut readings = Vec::new();
    std::thread::scope(|scope| {
        let (done, requests) = channel();
        for caller in 1..=CALLERS {
            let (done, end, data) = (done.clone(), &end, &process.data);
            scope.spawn(move || call(data, caller * 0x9e37_79b9, end, &done));
        }
        drop(done);
        for count in 1.. {
            requests.recv().unwrap();
            if count % PAUSE == 0 {
                let engine = process.engine();
                let bytes = |name: &str| engine[name].as_u64().unwrap() as f64;
                let put_by = engine["offload"]["host_bytes"].as_u64().unwrap() as f64;
                let beside = bytes("process_rss_bytes") - bytes("kv_used_bytes") - put_by;
                readings.push((started.elapsed().as_secs_f64(), beside));
            }
            if enough(count, started.elapsed()) {
                end.store(true, Ordering::Relaxed);
                println!("{count} requests in {:?}", started.elapsed());
                break;
            }
        }
    });
    let rests = process.rest();
    assert_ne!(rests["leak"]["state"], "leak", "{rests}");
    for slot in 0..SLOTS {
        post(&format!("{}/slots/erase", process.admin), &json!({"slot": slot})).ok();
    }
    let empty = process.engine();
    // What conversations began with alike may be kept; they themselves are not.
    let (used, shared) = (&empty["kv_used_bytes"], &empty["kv_sharing"]["bytes"]);
    assert_eq!((used, &empty["kv_reserved_bytes"]), (shared, &0.into()), "{empty}");
    // All slots serve as they did at first.
    for _ in 0..SLOTS {
        let request = json!({"model": "demo", "prompt": [300, 301, 302], "max_tokens": 2});
        post(&format!("{}/v1/completions", process.data), &request).ok();
    }
    readings
}

#[test]
fn callers_that_leave_leave_nothing_behind() {
    assert_eq!(soak(|count, _| count >= 100).len(), 100 / PAUSE);
}

#[test]
fn a_rising_memory_is_seen() {
    let rising: Vec<_> = (0..100).map(|i| (f64::from(i), 1e9 + f64::from(i * 3 + i % 7))).collect();
    assert!((slope(&rising) - 3.0).abs() < 0.1, "{}", slope(&rising));
}

/// Two minutes, or `PLIMSOLL_SOAK_SECONDS`, and no fewer requests than it takes to see every size of prompt and cache.
#[test]
#[ignore = "takes long: `make test-long`"]
fn memory_does_not_grow_under_load() {
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment how long they may take")]
    let told = std::env::var("PLIMSOLL_SOAK_SECONDS").ok();
    let seconds = told.map_or(120, |text| text.parse().unwrap());
    let readings = soak(|count, passed| count >= LEAST && passed >= Duration::from_secs(seconds));
    // The first half fills caches and finds the largest of each thing.
    let warm = &readings[readings.len() / 2..];
    let (first, last) = (warm[0].0, warm[warm.len() - 1].0);
    let growth = slope(warm) * (last - first);
    println!("{} readings, {:.1} KiB of growth over {:.0} s", warm.len(), growth / 1024.0, last - first);
    assert!(growth < NOISE, "{growth} bytes in {} s: {warm:?}", last - first);
}
