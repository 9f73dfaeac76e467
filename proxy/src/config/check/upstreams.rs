//! Upstreams: either an engine or an address.

use std::collections::BTreeMap;

use http::HeaderValue;

use super::super::path::Path;
use super::super::raw;
use super::super::secret::Secret;
use super::super::valid::{HttpUpstream, Timeouts, Upstream};
use super::Check;

impl Check<'_> {
    pub(super) fn upstreams(&mut self, raw: &BTreeMap<String, raw::Upstream>) -> BTreeMap<String, Upstream> {
        let mut upstreams = BTreeMap::new();
        for (name, upstream) in raw {
            let at = Path::of(&["upstreams", name]);
            self.name(&at, name);
            if let Some(upstream) = self.upstream(&at, name, upstream) {
                upstreams.insert(name.clone(), upstream);
            }
        }
        upstreams
    }

    fn upstream(&mut self, at: &Path, name: &str, raw: &raw::Upstream) -> Option<Upstream> {
        match (&raw.engine, &raw.url) {
            (Some(engine), None) => {
                self.no_http_options(at, raw);
                self.engine(&at.key("engine"), name, engine).map(Upstream::Engine)
            }
            (None, Some(url)) => self.http(at, url, raw).map(Upstream::Http),
            (Some(_), Some(_)) => {
                self.fault(at.clone(), "has both `engine` and `url`", "make them two upstreams");
                None
            }
            // A misspelled key has been named already.
            (None, None) if self.findings.touch(at) => None,
            (None, None) => {
                let hint = "`engine: {model: FOLDER}` runs a model here, `url: http://HOST:PORT` forwards to a server";
                self.fault(at.clone(), "has neither `engine` nor `url`", hint);
                None
            }
        }
    }

    fn no_http_options(&mut self, at: &Path, raw: &raw::Upstream) {
        let given = [
            ("dialect", raw.dialect.is_some()),
            ("api_key", raw.api_key.is_some()),
            ("tokenizer", raw.tokenizer.is_some()),
            ("context", raw.context.is_some()),
            ("timeouts", raw.timeouts.is_some()),
            ("ask_usage", raw.ask_usage.is_some()),
            ("forward_baggage", raw.forward_baggage.is_some()),
            ("ca_file", raw.ca_file.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            let hint = if key == "context" { "write it inside `engine`" } else { "" };
            self.fault(at.key(key), "belongs to an upstream with a `url`; this one has an `engine`", hint);
        }
    }

    fn http(&mut self, at: &Path, url: &str, raw: &raw::Upstream) -> Option<HttpUpstream> {
        if let Some(key) = &raw.api_key {
            self.credential(at.key("api_key"), key);
        }
        let url = self.uri(at.key("url"), url);
        let tokenizer = raw.tokenizer.as_ref().map(|text| self.folder(at.key("tokenizer"), text));
        let ca_file = raw.ca_file.as_ref().map(|text| self.file(at.key("ca_file"), text));
        let timeouts = self.timeouts(&at.key("timeouts"), &raw.timeouts.clone().unwrap_or_default());
        Some(HttpUpstream {
            url: url?,
            dialect: raw.dialect.unwrap_or_default(),
            api_key: raw.api_key.clone(),
            tokenizer: tokenizer.flatten(),
            context: raw.context.map(u64::from),
            timeouts: timeouts?,
            ask_usage: raw.ask_usage.unwrap_or(true),
            forward_baggage: raw.forward_baggage.unwrap_or_default(),
            ca_file: ca_file.flatten(),
        })
    }

    fn timeouts(&mut self, at: &Path, raw: &raw::Timeouts) -> Option<Timeouts> {
        let connect = self.some_time(at.key("connect"), &raw.connect);
        let first_byte = self.some_time(at.key("first_byte"), &raw.first_byte);
        let idle = self.some_time(at.key("idle"), &raw.idle);
        Some(Timeouts { connect: connect?, first_byte: first_byte?, idle: idle? })
    }

    /// A secret that is sent in a header; never shown.
    pub(super) fn credential(&mut self, at: Path, secret: &Secret) {
        if secret.expose().trim().is_empty() {
            self.fault(at, "is empty", "set the variable that it comes from, or leave the option out");
        } else if HeaderValue::from_str(secret.expose()).is_err() || secret.expose().trim() != secret.expose()
        {
            let hint = "look for a space or a line break at an end of it";
            self.fault(at, "has a character that cannot stand in a header", hint);
        }
    }
}
