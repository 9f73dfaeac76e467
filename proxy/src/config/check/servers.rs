//! Upstreams over HTTP: addresses, window, patience, retries, health.

use http::uri::PathAndQuery;
use http::{StatusCode, Uri};

use super::super::choices::Dialect;
use super::super::faults::Fault;
use super::super::path::Path;
use super::super::raw;
use super::super::scalar::OrAuto;
use super::super::valid::{Ejection, HealthCheck, HttpUpstream, Retries, Timeouts, Tokenizer};
use super::Check;

/// What a server is asked for its window by, and as long as it does not tell the window.
struct Window {
    ask: bool,
    tokens: Option<u64>,
}

impl Check<'_> {
    pub(super) fn http(&mut self, at: &Path, raw: &raw::Upstream) -> Option<HttpUpstream> {
        if let Some(key) = &raw.api_key {
            self.credential(at.key("api_key"), key);
        }
        let urls = self.addresses(at, raw);
        let window = self.server_window(at, raw);
        let tokenizer = raw.tokenizer.as_ref().map(|text| self.tokenizer(at.key("tokenizer"), text, raw));
        let ca_file = raw.ca_file.as_ref().map(|text| self.file(at.key("ca_file"), text));
        let timeouts = self.timeouts(&at.key("timeouts"), &raw.timeouts.clone().unwrap_or_default());
        let retries = self.retries(&at.key("retries"), &raw.retries.clone().unwrap_or_default());
        let ejection = self.ejection(&at.key("ejection"), &raw.ejection.clone().unwrap_or_default());
        let health = match &raw.health {
            Some(health) => Some(self.health(&at.key("health"), health)?),
            None => None,
        };
        let keepalive = match &raw.keepalive {
            Some(every) => Some(self.some_time(at.key("keepalive"), every)?),
            None => None,
        };
        let Window { ask, tokens } = window?;
        Some(HttpUpstream {
            urls: urls?,
            affinity: raw.affinity.unwrap_or_default(),
            max_load: raw.max_load,
            http: raw.http.unwrap_or_default(),
            retries: retries?,
            ejection: ejection?,
            health,
            dialect: raw.dialect.unwrap_or_default(),
            api_key: raw.api_key.clone(),
            tokenizer: tokenizer.flatten(),
            ask_context: ask,
            context: tokens,
            timeouts: timeouts?,
            ask_usage: raw.ask_usage.unwrap_or(true),
            keepalive,
            forward_baggage: raw.forward_baggage.unwrap_or_default(),
            ca_file: ca_file.flatten(),
        })
    }

    fn tokenizer(&mut self, at: Path, text: &str, raw: &raw::Upstream) -> Option<Tokenizer> {
        if text != "upstream" {
            return self.folder(at, text).map(Tokenizer::Folder);
        }
        let dialect = raw.dialect.unwrap_or_default();
        if dialect == Dialect::Openai {
            return Some(Tokenizer::Upstream);
        }
        let hint = "a model folder counts for servers of any dialect";
        self.fault(at, format!("`upstream` does not go with `dialect: {}`", dialect.as_str()), hint);
        None
    }

    fn addresses(&mut self, at: &Path, raw: &raw::Upstream) -> Option<Vec<Uri>> {
        let (at_all, texts) = match (&raw.url, &raw.urls) {
            (Some(_), Some(_)) => {
                let hint = "`urls` alone takes any number of addresses";
                self.fault(at.clone(), "has both `url` and `urls`", hint);
                return None;
            }
            (Some(url), None) => return self.uri(at.key("url"), url).map(|url| vec![url]),
            (None, urls) => (at.key("urls"), urls.as_deref().unwrap_or_default()),
        };
        let mut read = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let at = at_all.index(index);
            if let Some(first) = texts[..index].iter().position(|other| other == text) {
                self.fault(
                    at.clone(),
                    format!("is the address of urls[{first}] already"),
                    "each replica once",
                );
            }
            read.push(self.uri(at, text));
        }
        // That there is none at all has been named already.
        read.into_iter().collect::<Option<Vec<_>>>().filter(|read| !read.is_empty())
    }

    fn server_window(&mut self, at: &Path, raw: &raw::Upstream) -> Option<Window> {
        let fallback = raw.context_fallback.map(u64::from);
        let given = match &raw.context {
            Some(context) => Some(self.tokens_or_auto(at.key("context"), context)?),
            None => None,
        };
        if given == Some(OrAuto::Auto) {
            return Some(Window { ask: true, tokens: fallback });
        }
        if fallback.is_some() {
            let fault = Fault::new(at.key("context_fallback"), "has no effect without `context: auto`");
            self.findings.warn(fault);
        }
        let tokens = match given {
            Some(OrAuto::Given(tokens)) => Some(u64::from(tokens)),
            _ => None,
        };
        Some(Window { ask: false, tokens })
    }

    fn timeouts(&mut self, at: &Path, raw: &raw::Timeouts) -> Option<Timeouts> {
        let connect = self.some_time(at.key("connect"), &raw.connect);
        let first_byte = self.some_time(at.key("first_byte"), &raw.first_byte);
        let idle = self.some_time(at.key("idle"), &raw.idle);
        let total = match &raw.total {
            Some(total) => Some(self.some_time(at.key("total"), total)?),
            None => None,
        };
        Some(Timeouts { connect: connect?, first_byte: first_byte?, idle: idle?, total })
    }

    fn retries(&mut self, at: &Path, raw: &raw::Retries) -> Option<Retries> {
        let pause = self.some_time(at.key("pause"), &raw.pause);
        let longest_pause = self.some_time(at.key("longest_pause"), &raw.longest_pause);
        let statuses = raw.statuses.iter().filter_map(|&status| StatusCode::from_u16(status).ok()).collect();
        Some(Retries { attempts: raw.attempts, statuses, pause: pause?, longest_pause: longest_pause? })
    }

    fn ejection(&mut self, at: &Path, raw: &raw::Ejection) -> Option<Ejection> {
        let time = self.some_time(at.key("time"), &raw.time);
        let longest_time = self.some_time(at.key("longest_time"), &raw.longest_time);
        Some(Ejection { failures: raw.failures, time: time?, longest_time: longest_time? })
    }

    fn health(&mut self, at: &Path, raw: &raw::HealthCheck) -> Option<HealthCheck> {
        let interval = self.some_time(at.key("interval"), &raw.interval);
        let timeout = self.some_time(at.key("timeout"), &raw.timeout);
        let path = raw.path.parse::<PathAndQuery>().ok().filter(|_| raw.path.starts_with('/'));
        let at = at.key("path");
        // Its absence has been named already.
        if path.is_none() && !self.findings.touch(&at) {
            self.fault(at, format!("`{}` is not a path", raw.path), "such as `/health`");
        }
        Some(HealthCheck { path: path?, interval: interval?, timeout: timeout? })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::tests::{faults, http, parse};
    use super::super::super::{HttpUpstream, Tokenizer, Upstream};

    fn several(urls: &str, options: &str) -> String {
        http(options).replace("url: 'http://h:1'", &format!("urls: {urls}"))
    }

    fn server(text: &str) -> HttpUpstream {
        match parse(text).expect("valid").config.upstreams.remove("h") {
            Some(Upstream::Http(server)) => *server,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_has_one_address_or_several() {
        let one = server(&http(""));
        assert_eq!(one.urls, ["http://h:1"]);
        assert_eq!((one.retries.attempts, one.retries.statuses.len()), (2, 0));
        assert_eq!((one.ejection.failures, one.ejection.time), (3, Duration::from_secs(10)));
        assert_eq!((one.timeouts.total, one.health, one.max_load), (None, None, None));
        assert_eq!(
            (one.tokenizer, server(&http("tokenizer: upstream")).tokenizer),
            (None, Some(Tokenizer::Upstream))
        );
        let two = server(&several("['http://a:1/x', 'https://b']", "retries: {statuses: [503]}"));
        assert_eq!(two.urls, ["http://a:1/x", "https://b"]);
        assert_eq!(two.retries.statuses, [503]);
        for (text, why) in [
            (several("[]", ""), "upstreams.h.urls: "),
            (
                several("['http://a', 'http://a']", ""),
                "upstreams.h.urls[1]: is the address of urls[0] already",
            ),
            (several("['http://a', 'b']", ""), "upstreams.h.urls[1]: "),
            (http("urls: ['http://b']"), "upstreams.h: has both `url` and `urls`"),
            (http("retries: {statuses: [500]}"), "upstreams.h.retries.statuses[0]: "),
            (http("health: {path: health}"), "upstreams.h.health.path: `health` is not a path"),
            (http("health: {}"), "upstreams.h.health.path: is missing"),
            (http("max_load: 0.5"), "upstreams.h.max_load: "),
            (
                http("tokenizer: upstream, dialect: ollama"),
                "upstreams.h.tokenizer: `upstream` does not go with `dialect: ollama`",
            ),
            (http("tokenizer: ./upstream"), "upstreams.h.tokenizer: folder `./upstream` does not exist"),
            (http("keepalive: 0s"), "upstreams.h.keepalive: must be more than zero"),
            (http("timeouts: {total: 0s}"), "upstreams.h.timeouts.total: must be more than zero"),
        ] {
            let said = faults(&text);
            assert!(said.contains(&format!("\n{why}")), "{text}: {said}");
        }
    }

    #[test]
    fn a_server_may_be_asked_for_its_window() {
        let asked = server(&http("context: auto, context_fallback: 8192"));
        assert_eq!((asked.ask_context, asked.context), (true, Some(8192)));
        let told = server(&http("context: 4096"));
        assert_eq!((told.ask_context, told.context), (false, Some(4096)));
        assert!(faults(&http("context: 100")).contains("upstreams.h.context: must be at least 256 tokens"));
        let odd = parse(&http("context: 4096, context_fallback: 8192")).expect("valid");
        assert_eq!(odd.warnings.len(), 1, "{:?}", odd.warnings);
    }
}
