//! The window that an upstream's own server tells: of vLLM and SGLang, llama.cpp, Ollama.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use plimsoll_policies::Tokens;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::endpoints::Endpoint;
use super::headers::credential;
use super::upstream::{HttpUpstream, appended};
use crate::body::{Body, full};

/// How long a server may take to tell.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer longer than this many bytes tells nothing.
const MOST: usize = 4 * 1024 * 1024;
/// Models of one Ollama that are asked for.
const MODELS: usize = 32;

/// What a server told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    tokens: Tokens,
    /// The path that told it.
    by: &'static str,
}

/// What the servers of an upstream told last.
#[derive(Default)]
pub(super) struct LearntWindow(ArcSwapOption<Told>);

impl HttpUpstream {
    /// The window in tokens: as the servers tell, where they are asked and do, else as configured.
    pub fn window(&self) -> Option<Tokens> {
        self.told().map(|told| told.tokens).or(self.settings.context)
    }

    /// Where the window comes from: a path of the server, `fallback` or `configured`; nothing where it is not known.
    pub fn window_from(&self) -> Option<&'static str> {
        let otherwise = if self.settings.ask_context { "fallback" } else { "configured" };
        self.told().map(|told| told.by).or(self.settings.context.map(|_| otherwise))
    }

    fn told(&self) -> Option<Arc<Told>> {
        self.window.0.load_full()
    }

    /// Asks all replicas. Of several windows the smallest counts: whatever fits it fits everywhere. What was told before
    /// stays as long as nothing else is told. True where it is known.
    pub(super) async fn learn_window(&self) -> bool {
        let asked = self.endpoints.all().iter().map(|endpoint| self.told_by(endpoint));
        let told = futures_util::future::join_all(asked).await.into_iter().flatten();
        let Some(told) = told.min_by_key(|told| told.tokens) else { return self.told().is_some() };
        if self.told().is_none_or(|former| *former != told) {
            tracing::info!(target: "plimsoll", upstream = self.name, window = told.tokens, by = told.by,
                "the server told its window");
            self.window.0.store(Some(Arc::new(told)));
        }
        true
    }

    async fn told_by(&self, endpoint: &Endpoint) -> Option<Told> {
        let told = |tokens, by| Some(Told { tokens, by });
        if let Some(tokens) = self.read::<Models>(endpoint, "/v1/models").await.and_then(Models::window) {
            return told(tokens, "/v1/models");
        }
        if let Some(tokens) = self.read::<Props>(endpoint, "/props").await.and_then(Props::window) {
            return told(tokens, "/props");
        }
        if let Some(tokens) = self.read::<Running>(endpoint, "/api/ps").await.and_then(Running::window) {
            return told(tokens, "/api/ps");
        }
        let Tags { models } = self.read(endpoint, "/api/tags").await?;
        let shown = models.into_iter().take(MODELS).map(|model| self.shown(endpoint, model.name));
        let windows = futures_util::future::join_all(shown).await;
        told(windows.into_iter().flatten().min()?, "/api/show")
    }

    /// The window of a model that Ollama has not loaded.
    async fn shown(&self, endpoint: &Endpoint, model: String) -> Option<Tokens> {
        let body = Bytes::from(json!({ "model": model }).to_string());
        let path = PathAndQuery::from_static("/api/show");
        let request = self.question(endpoint, Method::POST, &path, body)?;
        self.json::<Shown>(request).await?.window()
    }

    async fn read<T: DeserializeOwned>(&self, endpoint: &Endpoint, path: &'static str) -> Option<T> {
        let path = PathAndQuery::from_static(path);
        self.json(self.question(endpoint, Method::GET, &path, Bytes::new())?).await
    }

    /// A request of our own about the server.
    pub(super) fn question(
        &self,
        endpoint: &Endpoint,
        method: Method,
        path: &PathAndQuery,
        body: Bytes,
    ) -> Option<Request<Body>> {
        let uri = appended(&endpoint.url, Some(path)).ok()?;
        let mut request = Request::builder().method(method).uri(uri).body(full(body)).ok()?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = &self.settings.api_key {
            let (name, value) = credential(self.settings.dialect, key).ok()?;
            headers.insert(name, value);
        }
        Some(request)
    }

    async fn json<T: DeserializeOwned>(&self, request: Request<Body>) -> Option<T> {
        let read = async {
            let response: Response<Incoming> = self.client.request(request).await.ok()?;
            if !response.status().is_success() {
                return None;
            }
            let body = Limited::new(response.into_body(), MOST).collect().await.ok()?.to_bytes();
            serde_json::from_slice(&body).ok()
        };
        tokio::time::timeout(PATIENCE, read).await.ok().flatten()
    }
}

/// `GET /v1/models` of vLLM and SGLang; of others the length is missing.
#[derive(Deserialize)]
struct Models {
    data: Vec<ModelEntry>,
}

#[derive(Deserialize)]
struct ModelEntry {
    max_model_len: Option<Tokens>,
}

impl Models {
    fn window(self) -> Option<Tokens> {
        self.data.into_iter().filter_map(|model| model.max_model_len).filter(sensible).min()
    }
}

/// `GET /props` of llama.cpp: the window of one slot.
#[derive(Deserialize)]
struct Props {
    default_generation_settings: Generation,
}

#[derive(Deserialize)]
struct Generation {
    n_ctx: Option<Tokens>,
}

impl Props {
    fn window(self) -> Option<Tokens> {
        self.default_generation_settings.n_ctx.filter(sensible)
    }
}

/// `GET /api/ps` of Ollama: the models that are loaded.
#[derive(Deserialize)]
struct Running {
    models: Vec<RunningModel>,
}

#[derive(Deserialize)]
struct RunningModel {
    context_length: Option<Tokens>,
}

impl Running {
    fn window(self) -> Option<Tokens> {
        self.models.into_iter().filter_map(|model| model.context_length).filter(sensible).min()
    }
}

/// `GET /api/tags` of Ollama: the models that there are.
#[derive(Deserialize)]
struct Tags {
    models: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
}

/// `POST /api/show` of Ollama. Its `context_length` is what the model was trained for and not what Ollama gives it.
#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    parameters: String,
}

impl Shown {
    fn window(self) -> Option<Tokens> {
        let line = self.parameters.lines().find_map(|line| line.trim().strip_prefix("num_ctx "));
        line?.trim().parse().ok().filter(sensible)
    }
}

/// Less than this is no window that a server was configured with.
fn sensible(tokens: &Tokens) -> bool {
    *tokens >= 256
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: DeserializeOwned>(body: &str) -> T {
        serde_json::from_str(body).expect("as the server writes it")
    }

    #[test]
    fn the_smallest_of_the_models_that_tell_counts() {
        let vllm = r#"{"object":"list","data":[{"id":"qwen","object":"model","created":1,"owned_by":"vllm",
            "root":"qwen","parent":null,"max_model_len":32768,"permission":[]},
            {"id":"adapter","object":"model","parent":"qwen","max_model_len":null}]}"#;
        assert_eq!(read::<Models>(vllm).window(), Some(32768));
        assert_eq!(read::<Models>(r#"{"data":[{"id":"gpt-4o","object":"model"}]}"#).window(), None);
    }

    #[test]
    fn llama_cpp_tells_the_window_of_a_slot() {
        let props = r#"{"default_generation_settings":{"id":0,"n_ctx":4096,"params":{}},"total_slots":4}"#;
        assert_eq!(read::<Props>(props).window(), Some(4096));
    }

    #[test]
    fn ollama_tells_what_it_gives_and_not_what_the_model_was_trained_for() {
        let ps = r#"{"models":[{"name":"a","context_length":8192},{"name":"b","context_length":4096},{"name":"c"}]}"#;
        assert_eq!(read::<Running>(ps).window(), Some(4096));
        assert_eq!(read::<Running>(r#"{"models":[]}"#).window(), None);
        let show = r#"{"parameters":"stop    \"</s>\"\nnum_ctx                        16384","model_info":{"qwen2.context_length":131072}}"#;
        assert_eq!(read::<Shown>(show).window(), Some(16384));
        assert_eq!(read::<Shown>(r#"{"model_info":{"qwen2.context_length":131072}}"#).window(), None);
    }
}
