//! What a collector that is refused, hangs or is slow adds to a request, against telemetry off: processes side by side,
//! asked in turn. And how long a process takes to end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use plimsoll_tests::figures::quantile;
use plimsoll_tests::http::open;
use plimsoll_tests::mock::Mock;
use plimsoll_tests::process::{greeting, stop_within};
use plimsoll_tests::{plimsoll, post_with, shared};
use serde_json::json;

/// Requests in each state of the collector, where the first argument is no other number.
const ROUNDS: usize = 60_000;
/// Times that all processes are started anew: how one lies in memory makes it faster or slower for as long as it runs.
const STARTS: usize = 6;
/// Rounds whose quantiles are compared. What happens to a machine in a run hits a few such blocks, and not their median.
const BLOCK: usize = 1_000;
/// Rounds before it counts.
const WARM: usize = 300;

/// A sidecar as users run it.
struct Process {
    url: String,
    process: Child,
}

impl Process {
    fn start(mock: &Mock, otlp: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("config.yaml");
        let config = format!(
            "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
runtime: {{ onnxruntime: '{root}/.runtime/libonnxruntime.so' }}
log: {{ level: 'off' }}
telemetry: {{ {otlp} }}
upstreams:
  other: {{ url: '{}', context: 32000 }}
  local: {{ engine: {{ model: '{root}/engine/demo/model', device: cpu, context: 4096 }} }}
routes:
  - {{ name: engine, match: {{ header: {{ x-bench: engine }} }}, upstream: local, policy: chat, any_model: true }}
  - {{ name: default, upstream: other, policy: chat }}
",
            mock.url,
            root = shared::root().display(),
        );
        std::fs::write(&file, config).expect("the configuration can be written");
        let mut command = plimsoll();
        command.arg("serve").arg("--config").arg(&file).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the sidecar starts");
        let url = format!("{}/chat/completions", greeting(&mut process));
        Self { url, process }
    }

    fn ask(&self, body: &[u8]) -> Duration {
        let body = body.to_vec();
        let begun = Instant::now();
        let reply = post_with(&self.url, body, &[]);
        let took = begun.elapsed();
        assert_eq!(reply.status, 200, "{}", reply.text());
        took
    }

    /// From the end of its last stream to that of the process, with a stream open at the signal.
    fn stop(mut self) -> f64 {
        let messages = json!([{"role": "user", "content": "Hello"}]);
        let body = json!({"model": "demo", "messages": messages, "max_tokens": 2000, "ignore_eos": true, "stream": true});
        let stream = open(&self.url, body.to_string().into_bytes(), &[("x-bench", "engine")]);
        stop_within(stream, &self.process);
        let begun = Instant::now();
        assert!(self.process.wait().expect("the process ends").success());
        begun.elapsed().as_secs_f64()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In ms, of each block.
fn quantiles(times: &[Duration], share: f64) -> Vec<f64> {
    let millis = |block: &[Duration]| block.iter().map(|time| time.as_secs_f64() * 1e3).collect::<Vec<_>>();
    times.chunks(BLOCK).filter_map(|block| quantile(&millis(block), share)).collect()
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5).unwrap_or(f64::NAN)
}

/// Nobody listens there.
fn refused() -> String {
    TcpListener::bind("127.0.0.1:0").expect("a port is free").local_addr().expect("an address").to_string()
}

/// Takes connections and never answers.
fn black_hole() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    (listener.local_addr().expect("an address").to_string(), listener)
}

/// Answers each export after two seconds.
fn slow() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || dawdle(stream));
        }
    });
    address
}

fn dawdle(mut stream: TcpStream) {
    let mut buffer = [0; 64 * 1024];
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
        thread::park_timeout(Duration::from_secs(2));
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

/// Asks all processes in turn, `rounds` times after warming up, and adds what each took.
fn ask_all(mock: &Mock, processes: &[Process], rounds: usize, times: &mut [Vec<Duration>]) {
    let text = "The build of the payments service failed in its third stage, see the log of the runner. ";
    for round in 0..WARM + rounds {
        let turns = (0..10).map(|turn| json!({"role": "user", "content": format!("{round}.{turn}: {text}")}));
        let body = json!({"model": "demo", "messages": turns.collect::<Vec<_>>()}).to_string().into_bytes();
        // Whoever comes first in a round meets a colder cache: each does in turn.
        for place in 0..processes.len() {
            let process = (place + round) % processes.len();
            let took = processes[process].ask(&body);
            if round >= WARM {
                times[process].push(took);
            }
        }
        mock.forget();
    }
}

fn main() {
    let rounds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS);
    let mock = Mock::start(Vec::new());
    let (hole, _listener) = black_hole();
    let otlp = |address: &str| format!("otlp: {{ endpoint: 'http://{address}' }}");
    let states = [
        ("telemetry off", "otlp: null".to_owned()),
        ("refused", otlp(&refused())),
        ("black-holed", otlp(&hole)),
        ("slow (2 s)", otlp(&slow())),
    ];
    let start = || states.each_ref().map(|(_, otlp)| Process::start(&mock, otlp));
    let mut times = states.each_ref().map(|_| Vec::with_capacity(rounds));
    for _ in 1..STARTS {
        ask_all(&mock, &start(), rounds / STARTS, &mut times);
    }
    let processes = start();
    ask_all(&mock, &processes, rounds / STARTS, &mut times);
    println!(
        "\n{rounds} requests of 1 KB to each, in turn; ms, and as a ratio of telemetry off: medians over blocks of {BLOCK}"
    );
    for ((name, _), own) in states.iter().zip(&times) {
        print!("{name:14}");
        for (figure, share) in [("p50", 0.5), ("p99", 0.99)] {
            let (off, own) = (quantiles(&times[0], share), quantiles(own, share));
            let ratios: Vec<f64> = own.iter().zip(&off).map(|(own, off)| own / off).collect();
            print!("   {figure} {:.3} ({:.3} x)", median(&own), median(&ratios));
        }
        println!();
    }
    println!("\nfrom the end of the last stream after SIGTERM to that of the process, s (6 are allowed)");
    for ((name, _), process) in states.iter().zip(processes) {
        println!("{name:14} {:.2}", process.stop());
    }
}
