//! A real Prometheus scrapes a sidecar, and the dashboard's questions have answers.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use plimsoll_tests::shared::demo;
use plimsoll_tests::{Sidecar, get, post};
use serde_json::Value;

use crate::monitoring::panel;
use crate::status::long_talk;
use crate::tooling::tool;

/// Labels and value.
type Series = (Value, f64);

/// A running Prometheus; ends when dropped.
struct Prometheus {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Prometheus {
    /// Scrapes one address, given as host and port.
    fn start(program: &std::path::Path, target: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prometheus.yml");
        let config = format!(
            "global: {{ scrape_interval: 250ms, scrape_timeout: 250ms }}\n\
             scrape_configs: [{{ job_name: plimsoll, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
        );
        std::fs::write(&file, config).unwrap();
        loop {
            // It cannot be asked which port it took, so it is given one; somebody else may take that meanwhile.
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut process = Command::new(program)
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            while process.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Self { process, url: format!("http://{address}"), _folder: folder };
                }
                std::thread::yield_now();
            }
        }
    }

    /// The answer to a query: labels and value of each series.
    fn query(&self, query: &str) -> Vec<Series> {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/query", self.url), [("query", query)]);
        let reply = get(url.unwrap().as_str());
        if reply.status == 503 {
            // Still starting.
            return Vec::new();
        }
        let answer = reply.ok();
        let series = answer["data"]["result"].as_array().expect("series").iter();
        let value = |one: &Value| one["value"][1].as_str().and_then(|text| text.parse().ok());
        series.map(|one| (one["metric"].clone(), value(one).expect("a number"))).collect()
    }
}

#[test]
fn prometheus_answers_the_dashboard() {
    let Some(program) = tool(".tools/bin/prometheus") else { return };
    let sidecar = Sidecar::start(&demo(1024, "chat"));
    let target = sidecar.admin_url.strip_prefix("http://").expect("an address").to_owned();
    let prometheus = Prometheus::start(&program, &target);
    // Rates need samples on both sides of a request: requests go on until the answer is there.
    let answer = |title: &str, good: &dyn Fn(&[Series]) -> bool| loop {
        post(&format!("{}/v1/chat/completions", sidecar.data_url), &long_talk()).ok();
        let query = panel(title).replace("$__rate_interval", "1m");
        let query =
            ["$namespace", "$instance", "$route"].iter().fold(query, |query, name| query.replace(name, ".*"));
        let series = prometheus.query(&query);
        if good(&series) {
            return series;
        }
    };
    let of = |series: &[Series], label: &str, value: &str| {
        series.iter().find(|(labels, _)| labels[label] == value).map(|&(_, number)| number)
    };
    let stage = |series: &[Series], stage: &str| of(series, "plimsoll_context_stage", stage);
    answer("Requests", &|series| {
        of(series, "http_response_status_code", "200").is_some_and(|rate| rate > 0.0)
    });
    let tokens = answer("Prompt tokens, before and after", &|series| {
        stage(series, "before").is_some_and(|rate| rate > 0.0)
    });
    assert!(stage(&tokens, "after") < stage(&tokens, "before"), "{tokens:?}");
    let memory = answer("Memory by component", &|series| !series.is_empty());
    let state = get(&format!("{}/state", sidecar.admin_url)).ok();
    let weights = &state["upstreams"]["local"]["memory_bytes"]["weights"];
    assert_eq!(of(&memory, "plimsoll_vram_component", "weights"), weights.as_f64());
}
