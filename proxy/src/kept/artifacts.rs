//! Originals of shortened tool results: in memory within a limit of bytes, on disk where a folder is configured, each
//! for a time after it was last sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_policies::{Conversation, artifact_id};
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::disk::Folder;
use super::{Caller, KeptFolderError};
use crate::config;

/// Bytes that an entry takes beside its text: key, entry, slots of the cache.
const OVERHEAD: u64 = 256;
/// How many results are expected: a few KiB each.
const AVERAGE: u64 = 8 * 1024;

/// Originals by caller and id.
pub struct Artifacts {
    memory: Cache<Key, Entry, Bytes, DefaultHashBuilder, Evictions>,
    disk: Option<Arc<Folder>>,
    ttl: Duration,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: Arc<AtomicU64>,
    swept: Mutex<Instant>,
}

type Key = (Caller, String);

/// An original and when it was last sent.
#[derive(Clone)]
struct Entry {
    text: Arc<str>,
    at: Instant,
}

/// The store as metrics show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readings {
    /// Bytes in memory.
    pub memory: u64,
    /// Bytes on disk; none without a folder.
    pub disk: Option<u64>,
    /// Originals that were asked for and there.
    pub hits: u64,
    /// Originals that were asked for and not there.
    pub misses: u64,
    /// Originals that gave way to others in memory.
    pub evictions: u64,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, (caller, id): &Key, entry: &Entry) -> u64 {
        (caller.as_str().len() + id.len() + entry.text.len()) as u64 + OVERHEAD
    }
}

#[derive(Clone)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<Key, Entry> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Key, _: Entry) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Artifacts {
    /// An empty store, or what its folder holds already.
    pub(super) fn open(settings: &config::Artifacts) -> Result<Self, KeptFolderError> {
        let disk = match &settings.disk {
            None => None,
            Some(path) => {
                let folder = Folder::open(path, settings.disk_limit, settings.ttl).map_err(|source| {
                    KeptFolderError { option: "artifacts.disk", folder: path.clone(), source }
                })?;
                Some(Arc::new(folder))
            }
        };
        // One shard: a shard takes no entry larger than itself, and results of a megabyte are what this is for.
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(usize::try_from(settings.memory / AVERAGE).unwrap_or(usize::MAX).max(1))
            .weight_capacity(settings.memory)
            .build()
            .expect("all of the options are given. This is a bug.");
        let evictions = Arc::new(AtomicU64::new(0));
        let memory =
            Cache::with_options(options, Bytes, DefaultHashBuilder::default(), Evictions(evictions.clone()));
        Ok(Self {
            memory,
            disk,
            ttl: settings.ttl,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions,
            swept: Mutex::new(Instant::now()),
        })
    }

    /// Keeps the originals that a governed conversation names, each from now on for its time. `None`: nothing is to be
    /// written to disk; else the writing, which blocks.
    pub fn keep(
        &self,
        caller: &Caller,
        governed: &Conversation,
    ) -> Option<impl FnOnce() + Send + 'static + use<>> {
        let originals = governed.originals();
        let now = Instant::now();
        let mut kept = Vec::with_capacity(originals.len());
        for original in originals {
            // Most of them were sent before: their time begins anew, their text is read once.
            let there = self.memory.get(&(caller.clone(), original.id.clone()));
            let text = there.map_or_else(|| original.message.text().into(), |entry| entry.text);
            self.put(caller, &original.id, text.clone(), now);
            kept.push((original.id, text));
        }
        let disk = self.disk.clone().filter(|_| !kept.is_empty())?;
        let caller = caller.clone();
        Some(move || kept.iter().for_each(|(id, text)| disk.write(&caller, id, text)))
    }

    fn put(&self, caller: &Caller, id: &str, text: Arc<str>, now: Instant) {
        self.sweep(now);
        self.memory.insert((caller.clone(), id.to_owned()), Entry { text, at: now });
    }

    /// The caller's original of this id, if it is still kept. Blocks where it is on disk.
    pub fn get(&self, caller: &Caller, id: &str) -> Option<Arc<str>> {
        let found = self.find(caller, id, Instant::now());
        let count = if found.is_some() { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    fn find(&self, caller: &Caller, id: &str, now: Instant) -> Option<Arc<str>> {
        if !is_id(id) {
            return None;
        }
        let key = (caller.clone(), id.to_owned());
        match self.memory.get(&key) {
            Some(entry) if now.duration_since(entry.at) < self.ttl => return Some(entry.text),
            Some(_) => drop(self.memory.remove(&key)),
            None => {}
        }
        self.disk.as_ref()?.read(caller, id).map(Into::into)
    }

    /// Lets go what is too old, every quarter of the time that things are kept.
    fn sweep(&self, now: Instant) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(*swept) * 4 < self.ttl {
            return;
        }
        *swept = now;
        drop(swept);
        self.memory.retain(|_, entry| now.duration_since(entry.at) < self.ttl);
    }

    /// What metrics show.
    pub fn readings(&self) -> Readings {
        Readings {
            memory: self.memory.weight(),
            disk: self.disk.as_ref().map(|disk| disk.bytes()),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }
}

/// Whether a text has the form of an id: anything else never reaches the disk.
pub(super) fn is_id(id: &str) -> bool {
    let digits = id.strip_prefix("ctx_").unwrap_or_default();
    id.len() == artifact_id("").len()
        && digits.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn store(memory: u64, disk: Option<&std::path::Path>) -> Artifacts {
        let disk = disk.map(std::path::Path::to_owned);
        Artifacts::open(&config::Artifacts { memory, disk, disk_limit: 1 << 20, ttl: HOUR }).expect("opens")
    }

    fn callers() -> (Caller, Caller) {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", "k".parse().expect("a value"));
        (Caller::of(&HeaderMap::new(), None), Caller::of(&headers, None))
    }

    #[test]
    fn each_caller_has_its_own() {
        let (store, (one, other), id) = (store(1 << 20, None), callers(), artifact_id("x"));
        store.put(&one, &id, "text".into(), Instant::now());
        assert_eq!(store.get(&one, &id).as_deref(), Some("text"));
        assert_eq!(store.get(&other, &id), None);
        assert_eq!(store.get(&one, "../../etc/passwd"), None);
        let readings = store.readings();
        assert_eq!((readings.hits, readings.misses, readings.disk), (1, 2, None));
        assert!(readings.memory > 4);
    }

    #[test]
    fn memory_is_bounded_and_large_results_fit() {
        let (store, (caller, _)) = (store(1 << 20, None), callers());
        let id = |n: u64| artifact_id(&n.to_string());
        store.put(&caller, &id(0), "x".repeat(900 << 10).into(), Instant::now());
        assert!(store.get(&caller, &id(0)).is_some());
        for n in 1..200 {
            store.put(&caller, &id(n), "x".repeat(50 << 10).into(), Instant::now());
        }
        let readings = store.readings();
        assert!(readings.memory <= 1 << 20 && readings.evictions > 100, "{readings:?}");
    }

    #[test]
    fn what_is_old_is_gone_and_what_is_sent_again_stays() {
        let (store, (caller, _), start) = (store(1 << 20, None), callers(), Instant::now());
        let (old, again) = (artifact_id("old"), artifact_id("again"));
        store.put(&caller, &old, "old".into(), start);
        store.put(&caller, &again, "again".into(), start);
        store.put(&caller, &again, "again".into(), start + HOUR / 2);
        let later = start + HOUR;
        assert_eq!(store.find(&caller, &again, later).as_deref(), Some("again"));
        // The sweep of any later arrival frees the memory.
        store.put(&caller, &artifact_id("new"), "new".into(), later);
        assert_eq!(store.memory.len(), 2);
        assert_eq!(store.find(&caller, &old, later), None);
    }

    #[test]
    fn the_folder_outlives_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let (caller, other) = callers();
        let text = "line\n".repeat(500);
        let body = format!(
            r#"{{"messages":[{{"role":"tool","tool_call_id":"c","content":{}}}]}}"#,
            serde_json::Value::from(text.as_str())
        );
        let before = Conversation::parse_chat(body.into()).expect("a chat");
        let steps = serde_json::from_str(r#"[{"cap_tool_output":{"max_tokens":60}}]"#).expect("a step");
        let steps: Vec<plimsoll_policies::Step> = steps;
        let chain = plimsoll_policies::Chain::build("t", &steps).naming_originals(true);
        let counter = crate::count::Estimate::new("o200k_base");
        let context = plimsoll_policies::Context {
            limits: plimsoll_policies::Limits::tokens(8000),
            counter: &counter,
            summaries: &plimsoll_policies::NoSummaries,
        };
        let Ok(plimsoll_policies::Verdict::Done { conversation, .. }) = chain.apply(&before, &context) else {
            unreachable!("nothing is asked")
        };
        let first = store(1 << 20, Some(folder.path()));
        first.keep(&caller, &conversation).expect("something to write")();
        let id = conversation.originals()[0].id.clone();
        assert!(first.readings().disk.is_some_and(|bytes| bytes >= 2500));
        let second = store(1 << 20, Some(folder.path()));
        assert_eq!(second.get(&caller, &id).as_deref(), Some(&*text));
        assert_eq!(second.get(&other, &id), None);
    }
}
