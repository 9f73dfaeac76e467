//! Originals in a folder: one file each, below the caller's. Whole or not there: written beside and renamed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::Caller;
use super::artifacts::is_id;

/// From this age on nobody writes a file that stands beside its place any more.
const STALE: Duration = Duration::from_secs(3600);
/// Ending of files that are being written.
const BESIDE: &str = "new";

/// A folder of originals within a limit of bytes. Other replicas may write there too.
pub(super) struct Folder {
    path: PathBuf,
    limit: u64,
    ttl: Duration,
    /// Bytes at the last look, and what was written since.
    bytes: AtomicU64,
}

impl Folder {
    /// Makes the folder, readable by its owner alone, and looks what is there.
    pub(super) fn open(path: &Path, limit: u64, ttl: Duration) -> io::Result<Self> {
        private_folder(path)?;
        let folder = Self { path: path.to_owned(), limit, ttl, bytes: AtomicU64::new(0) };
        folder.sweep();
        Ok(folder)
    }

    /// Bytes in the folder, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Writes an original, or renews the time of one that is there. A disk that fails costs the copy, not the request.
    pub(super) fn write(&self, caller: &Caller, id: &str, text: &str) {
        if let Err(error) = self.try_write(caller, id, text) {
            tracing::warn!(target: "plimsoll", %error, folder = %self.path.display(), "an original was not written");
        }
        if self.bytes() > self.limit {
            self.sweep();
        }
    }

    fn try_write(&self, caller: &Caller, id: &str, text: &str) -> io::Result<()> {
        let folder = self.path.join(caller.as_str());
        let file = folder.join(id);
        if let Ok(there) = fs::OpenOptions::new().append(true).open(&file) {
            return there.set_modified(SystemTime::now());
        }
        private_folder(&folder)?;
        write_whole(&file, &[text.as_bytes()])?;
        self.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// An original that is not too old.
    pub(super) fn read(&self, caller: &Caller, id: &str) -> Option<String> {
        let file = self.path.join(caller.as_str()).join(id);
        let age =
            SystemTime::now().duration_since(fs::metadata(&file).ok()?.modified().ok()?).unwrap_or_default();
        if age >= self.ttl {
            let _ = fs::remove_file(&file);
            return None;
        }
        fs::read_to_string(file).ok()
    }

    /// Removes what is too old, then the oldest down to nine tenths of the limit.
    fn sweep(&self) {
        let now = SystemTime::now();
        let (mut files, beside): (Vec<File>, Vec<File>) =
            files(&self.path).into_iter().partition(|file| !file.beside);
        let stale = |file: &&File| now.duration_since(file.modified).is_ok_and(|age| age >= STALE);
        for file in beside.iter().filter(stale) {
            let _ = fs::remove_file(&file.path);
        }
        files.sort_by_key(|file| file.modified);
        let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let most = if bytes > self.limit { self.limit - self.limit / 10 } else { self.limit };
        for file in &files {
            let old = now.duration_since(file.modified).is_ok_and(|age| age >= self.ttl);
            if (old || bytes > most) && fs::remove_file(&file.path).is_ok() {
                bytes -= file.bytes;
            }
        }
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

struct File {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
    /// Whether it was never moved to its place.
    beside: bool,
}

/// The originals of all callers, and what was to become one; everything else is somebody else's.
fn files(path: &Path) -> Vec<File> {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    entries(path)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter(|entry| entry.file_name().to_str().is_some_and(Caller::is_name))
        .flat_map(|caller| entries(&caller.path()).collect::<Vec<_>>())
        .filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?;
            let beside = is_beside(name);
            let about = entry.metadata().ok().filter(|about| about.is_file() && (beside || is_id(name)))?;
            Some(File { path: entry.path(), bytes: about.len(), modified: about.modified().ok()?, beside })
        })
        .collect()
}

/// Whether a name is that of an original that is being written, or was when its process ended.
fn is_beside(name: &str) -> bool {
    let mut parts = name.split('.');
    let known = parts.next().is_some_and(is_id)
        && parts.next().is_some_and(super::is_hash)
        && parts.next() == Some(BESIDE);
    known && parts.next().is_none()
}

/// Makes a folder that only its owner may read.
pub(super) fn private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file, readable by its owner alone, in one step: it is there whole or not at all, also after a crash.
pub(super) fn write_whole(path: &Path, pieces: &[&[u8]]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let beside = path.with_extension(format!("{}.{BESIDE}", uuid::Uuid::now_v7().simple()));
    let written =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).and_then(|mut file| {
            pieces.iter().try_for_each(|piece| file.write_all(piece))?;
            file.sync_all()
        });
    let renamed = written.and_then(|()| fs::rename(&beside, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&beside);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn the_oldest_give_way_and_age_ends_the_rest() {
        let place = tempfile::tempdir().expect("a folder");
        let caller = Caller::of(&HeaderMap::new(), None);
        let hour = Duration::from_secs(3600);
        let folder = Folder::open(place.path(), 5000, hour).expect("opens");
        let file = |n: usize| place.path().join("anonymous").join(format!("ctx_{n:016x}"));
        let age = |n: usize, age: Duration| {
            let file = fs::OpenOptions::new().append(true).open(file(n)).expect("there");
            file.set_modified(SystemTime::now() - age).expect("set");
        };
        for n in 0..4 {
            folder.write(&caller, &format!("ctx_{n:016x}"), &"x".repeat(1000));
            age(n, hour / 2 - Duration::from_secs(n as u64));
        }
        age(3, hour * 2);
        assert_eq!(folder.read(&caller, "ctx_0000000000000003"), None);
        assert!(!file(3).exists());
        for n in 4..7 {
            folder.write(&caller, &format!("ctx_{n:016x}"), &"x".repeat(1000));
        }
        assert!(!file(0).exists() && file(2).exists() && file(6).exists());
        assert!(folder.bytes() <= 5000);
    }

    #[test]
    fn only_its_own_files_are_removed() {
        let place = tempfile::tempdir().expect("a folder");
        let (id, hash) = ("ctx_0000000000000000", "0123456789abcdef0123456789abcdef");
        let old = SystemTime::now() - STALE * 2;
        let write = |path: String, modified: SystemTime| {
            let path = place.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, "x".repeat(1000)).expect("written");
            let file = fs::OpenOptions::new().append(true).open(&path).expect("there");
            file.set_modified(modified).expect("set");
            path
        };
        let others = [
            format!("src/{id}"),
            id.to_owned(),
            "anonymous/notes.txt".to_owned(),
            format!("anonymous/{id}.json"),
            format!("anonymous/{id}.mine.new"),
            format!("{hash}/ckpt_{hash}.json"),
            format!("{hash}0/{id}"),
            format!("{}/{id}", hash.to_uppercase()),
        ];
        let others = others.map(|path| write(path, old));
        let fresh = write(format!("anonymous/{id}.{hash}.new"), SystemTime::now());
        let own = [
            format!("anonymous/{id}"),
            format!("{hash}/{id}"),
            format!("{hash}/ctx_0000000000000001.{hash}.new"),
        ];
        let own = own.map(|path| write(path, old));
        let folder = Folder::open(place.path(), 10, STALE).expect("opens");
        assert!(others.iter().all(|path| path.exists()), "{others:?}");
        assert!(fresh.exists() && own.iter().all(|path| !path.exists()), "{own:?}");
        assert_eq!(folder.bytes(), 0);
    }
}
