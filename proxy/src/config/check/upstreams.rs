//! Upstreams: either an engine or an address.

use std::collections::BTreeMap;

use http::HeaderValue;

use super::super::path::Path;
use super::super::raw;
use super::super::secret::Secret;
use super::super::valid::Upstream;
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
        match (&raw.engine, raw.is_server()) {
            (Some(engine), false) => {
                self.no_http_options(at, raw);
                self.engine(&at.key("engine"), name, engine).map(|engine| Upstream::Engine(Box::new(engine)))
            }
            (None, true) => self.http(at, raw).map(|server| Upstream::Http(Box::new(server))),
            (Some(_), true) => {
                let given = if raw.url.is_some() { "url" } else { "urls" };
                let message = format!("has both `engine` and `{given}`");
                self.fault(at.clone(), message, "make them two upstreams");
                None
            }
            // A misspelled key has been named already.
            (None, false) if self.findings.touch(at) => None,
            (None, false) => {
                let hint = "`engine: {model: FOLDER}` runs a model here, `url: http://HOST:PORT` forwards to a server";
                self.fault(at.clone(), "has neither `engine` nor `url`", hint);
                None
            }
        }
    }

    fn no_http_options(&mut self, at: &Path, raw: &raw::Upstream) {
        let given = [
            ("affinity", raw.affinity.is_some()),
            ("max_load", raw.max_load.is_some()),
            ("http", raw.http.is_some()),
            ("retries", raw.retries.is_some()),
            ("ejection", raw.ejection.is_some()),
            ("health", raw.health.is_some()),
            ("context_fallback", raw.context_fallback.is_some()),
            ("dialect", raw.dialect.is_some()),
            ("api_key", raw.api_key.is_some()),
            ("tokenizer", raw.tokenizer.is_some()),
            ("context", raw.context.is_some()),
            ("timeouts", raw.timeouts.is_some()),
            ("ask_usage", raw.ask_usage.is_some()),
            ("keepalive", raw.keepalive.is_some()),
            ("forward_baggage", raw.forward_baggage.is_some()),
            ("ca_file", raw.ca_file.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            let hint = if key == "context" { "write it inside `engine`" } else { "" };
            self.fault(at.key(key), "belongs to an upstream with a `url`; this one has an `engine`", hint);
        }
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
