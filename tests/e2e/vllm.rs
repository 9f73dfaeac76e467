//! A real vLLM behind us: what a mock cannot judge. `make test-vllm` starts two servers of the demo model.

mod answers;
mod cache;
mod counts;
mod overflow;
mod replicas;
mod talk;

use std::collections::BTreeMap;

use plimsoll_tests::{Sidecar, get};

/// Tokens of the servers' window.
const WINDOW: u64 = 2048;

/// The addresses of the servers.
fn servers() -> [String; 2] {
    let told = std::env::var_os("PLIMSOLL_VLLM").and_then(|told| told.into_string().ok());
    let told = told.expect("`make test-vllm` starts the servers");
    let urls: Vec<_> = told.split_whitespace().map(str::to_owned).collect();
    urls.try_into().expect("two servers")
}

/// A sidecar before these servers, whose window they tell. `x-mode: passed` leaves a request alone, `x-mode: strict`
/// counts and changes nothing.
fn sidecar(urls: &[String], options: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: 'off' }}
upstreams:
  vllm: {{ urls: {urls:?}, context: auto, tokenizer: engine/demo/model, {options} }}
  messages: {{ urls: {urls:?}, context: auto, tokenizer: engine/demo/model, dialect: anthropic }}
policies:
  # Of a budget of 2,040 tokens: cut above 1,500, down to 900.
  marks: {{ extends: chat, steps: [{{ fit_context: {{ high: 0.7353, low: 0.4412 }} }}] }}
routes:
  - {{ name: passed, match: {{ header: {{ x-mode: passed }} }}, upstream: vllm, mode: 'off' }}
  - {{ name: strict, match: {{ header: {{ x-mode: strict }} }}, upstream: vllm, policy: strict }}
  - {{ name: messages, match: {{ path: /v1/messages* }}, upstream: messages, policy: marks }}
  - {{ name: default, upstream: vllm, policy: marks }}
"
    ))
}

/// What a server's prefix cache was asked for, and what it had, in tokens, since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cache {
    queries: u64,
    hits: u64,
}

impl Cache {
    /// As these servers count, together.
    fn of(urls: &[String]) -> Self {
        urls.iter().map(|url| Self::read(&get(&format!("{url}/metrics")).text())).fold(
            Self::default(),
            |sum, one| Self { queries: sum.queries + one.queries, hits: sum.hits + one.hits },
        )
    }

    fn read(metrics: &str) -> Self {
        let counters: BTreeMap<&str, f64> = metrics
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.split('{').next()?, value.parse().ok()?))
            })
            .collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of tokens")]
        let tokens = |name: &str| counters[name] as u64;
        Self {
            queries: tokens("vllm:prefix_cache_queries_total"),
            hits: tokens("vllm:prefix_cache_hits_total"),
        }
    }

    fn since(self, before: Self) -> Self {
        Self { queries: self.queries - before.queries, hits: self.hits - before.hits }
    }

    /// Tokens that were computed.
    fn computed(self) -> u64 {
        self.queries - self.hits
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 tokens")]
    fn ratio(self) -> f64 {
        self.hits as f64 / self.queries as f64
    }
}
