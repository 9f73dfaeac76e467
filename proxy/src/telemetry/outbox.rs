//! Spans that have ended and wait to be written: what a trace costs, its request does not wait for.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::Span as _;
use opentelemetry_sdk::trace::Span;

/// How long ended spans are gathered: to wake a thread costs the request that does it more than writing a span would,
/// and what many requests share must not fall on one in a hundred.
const GATHER: Duration = Duration::from_millis(500);
/// Spans that wait at most. Further ones are written by whoever ends them.
const MOST: usize = 4096;
/// Spans that are not gathered any longer.
const MANY: usize = MOST / 2;

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

/// Where ended spans go. Clones share it.
#[derive(Clone)]
pub(super) struct Outbox(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Told when the first span comes, when there are many, and when no more are wanted.
    change: Condvar,
}

#[derive(Default)]
struct Queue {
    ended: Vec<Ended>,
    closed: bool,
}

impl Outbox {
    /// Ends a span.
    pub(super) fn put(&self, ended: Ended) {
        let mut queue = self.0.queue();
        if queue.closed || queue.ended.len() >= MOST {
            drop(queue);
            return drop(ended);
        }
        queue.ended.push(ended);
        if matches!(queue.ended.len(), 1 | MANY) {
            drop(queue);
            self.0.change.notify_one();
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.queue().closed = true;
        self.change.notify_one();
    }

    /// Writes spans until the outbox is closed and empty.
    fn run(&self) {
        let mut room = Vec::new();
        loop {
            let idle = |queue: &mut Queue| queue.ended.is_empty() && !queue.closed;
            let queue = self.change.wait_while(self.queue(), idle).unwrap_or_else(PoisonError::into_inner);
            let gathering = |queue: &mut Queue| queue.ended.len() < MANY && !queue.closed;
            let waited = self.change.wait_timeout_while(queue, GATHER, gathering);
            let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut queue.ended, &mut room);
            let last = queue.closed;
            drop(queue);
            room.clear();
            if last {
                return;
            }
        }
    }
}

/// The thread that writes what comes into an outbox.
pub(super) struct Writer {
    outbox: Outbox,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start() -> std::io::Result<Self> {
        let outbox = Outbox(Arc::default());
        let shared = Arc::clone(&outbox.0);
        let thread = thread::Builder::new().name("plimsoll-spans".into()).spawn(move || shared.run())?;
        Ok(Self { outbox, thread: Mutex::new(Some(thread)) })
    }

    pub(super) const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Writes what has come. Spans that end later are written at once.
    pub(super) fn finish(&self) {
        self.outbox.0.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It has only an error where it panicked, and said so.
        let _ = thread.map(JoinHandle::join);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.outbox.0.close();
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanBuilder, SpanContext, SpanKind, TracerProvider as _};
    use opentelemetry::{KeyValue, Value};
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};

    use super::super::spans::{Live, Tracing};
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

    /// Ends a span, and one under it before.
    fn pair(outbox: &Outbox) -> (Kept, SdkTracerProvider) {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
        let tracer = provider.tracer("test");
        let root = SpanBuilder::from_name("root");
        let tracing = Tracing { tracer, outbox: outbox.clone() };
        let root = Live::start(Some(&tracing), root, &SpanContext::empty_context());
        let mut child = root.child("child", SpanKind::Internal);
        child.later(|span| span.set_attribute(KeyValue::new("late", true)));
        (kept, provider)
    }

    #[test]
    fn spans_are_written_with_the_time_of_their_end() {
        let writer = Writer::start().expect("a thread");
        let (kept, _provider) = pair(writer.outbox());
        let after = SystemTime::now();
        writer.finish();
        assert_eq!(kept.names(), ["child", "root"]);
        let spans = kept.0.lock().expect("not poisoned");
        assert_eq!(spans[0].attributes[0].value, Value::Bool(true));
        assert!(spans.iter().all(|span| span.start_time <= span.end_time && span.end_time <= after));
    }

    #[test]
    fn spans_that_end_late_are_written_at_once() {
        let writer = Writer::start().expect("a thread");
        writer.finish();
        assert_eq!(pair(writer.outbox()).0.names(), ["child", "root"]);
    }

    #[test]
    fn spans_of_a_flood_are_written_by_those_who_end_them() {
        let outbox = Outbox(Arc::default());
        for _ in 0..MOST / 2 {
            assert_eq!(pair(&outbox).0.names(), [""; 0], "nobody writes");
        }
        assert_eq!(pair(&outbox).0.names(), ["child", "root"]);
    }
}
