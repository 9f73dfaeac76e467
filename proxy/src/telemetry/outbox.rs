//! Spans that have ended and wait to be written: what a trace costs, its request does not wait for.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use opentelemetry::trace::Span as _;
use opentelemetry_sdk::trace::Span;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Spans of a request as a rule: its own, its policy's and its call's, with two phases.
const TYPICAL: usize = 5;

type Write = Box<dyn FnOnce(&mut Span) + Send + Sync>;

/// A span with what is to be written to it after its end. It is written and handed to the exporter when it is dropped.
pub(super) struct Ended {
    span: Span,
    at: Option<SystemTime>,
    writes: Vec<Write>,
}

impl Ended {
    pub(super) const fn new(span: Span) -> Self {
        Self { span, at: None, writes: Vec::new() }
    }

    /// Has `write` called before the span is handed on.
    pub(super) fn later(&mut self, write: impl FnOnce(&mut Span) + Send + Sync + 'static) {
        self.writes.push(Box::new(write));
    }

    /// When it ended. Untold, it ends as it is dropped.
    pub(super) const fn at(&mut self, at: SystemTime) {
        self.at = Some(at);
    }
}

impl Deref for Ended {
    type Target = Span;

    fn deref(&self) -> &Span {
        &self.span
    }
}

impl DerefMut for Ended {
    fn deref_mut(&mut self) -> &mut Span {
        &mut self.span
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        for write in mem::take(&mut self.writes) {
            write(&mut self.span);
        }
        match self.at {
            Some(at) => self.span.end_with_timestamp(at),
            None => self.span.end(),
        }
    }
}

/// The ended spans of one request. Clones share it. When the last is dropped, the spans are written in a task of their
/// own: on the worker that is sending the answer, that task's turn comes after.
#[derive(Clone)]
pub(super) struct Outbox(Arc<Spans>);

struct Spans {
    ended: Mutex<Vec<Ended>>,
    writers: TaskTracker,
}

impl Outbox {
    /// An empty one, whose task is among `writers`.
    pub(super) fn new(writers: &TaskTracker) -> Self {
        let ended = Mutex::new(Vec::with_capacity(TYPICAL));
        Self(Arc::new(Spans { ended, writers: writers.clone() }))
    }

    pub(super) fn put(&self, ended: Ended) {
        self.0.ended.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        let ended = mem::take(self.ended.get_mut().unwrap_or_else(PoisonError::into_inner));
        // Threads of the engine, and tests, have no runtime: the spans are written here and now.
        if let Ok(runtime) = Handle::try_current() {
            self.writers.spawn_on(async move { drop(ended) }, &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanBuilder, SpanContext, SpanKind, TracerProvider as _};
    use opentelemetry::{KeyValue, Value};
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};

    use super::super::spans::Live;
    use super::*;

    /// Keeps what was exported.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().expect("not poisoned").extend(batch);
            Ok(())
        }
    }

    impl Kept {
        fn names(&self) -> Vec<String> {
            self.0.lock().expect("not poisoned").iter().map(|span| span.name.to_string()).collect()
        }
    }

    /// A span with one under it, that one ended.
    fn pair(writers: &TaskTracker) -> (Kept, SdkTracerProvider, Live) {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
        let tracer = provider.tracer("test");
        let root = SpanBuilder::from_name("root");
        let root = Live::start(Some(&tracer), root, &SpanContext::empty_context()).written_by(writers);
        let mut child = root.child("child", SpanKind::Internal);
        child.later(|span| span.set_attribute(KeyValue::new("late", true)));
        drop(child);
        (kept, provider, root)
    }

    #[tokio::test]
    async fn spans_are_written_when_nobody_waits_any_more() {
        let writers = TaskTracker::new();
        let (kept, _provider, root) = pair(&writers);
        drop(root);
        let after = SystemTime::now();
        assert_eq!(kept.names(), [""; 0], "not before its task has its turn");
        writers.close();
        writers.wait().await;
        assert_eq!(kept.names(), ["child", "root"]);
        let spans = kept.0.lock().expect("not poisoned");
        assert_eq!(spans[0].attributes[0].value, Value::Bool(true));
        assert!(spans.iter().all(|span| span.start_time <= span.end_time && span.end_time <= after));
    }

    #[test]
    fn without_a_runtime_spans_are_written_at_once() {
        let (kept, _provider, root) = pair(&TaskTracker::new());
        assert_eq!(kept.names(), [""; 0]);
        drop(root);
        assert_eq!(kept.names(), ["child", "root"]);
    }
}
