//! `include`: which files a pattern names.

use std::path::{Component, Path, PathBuf};

use globset::GlobBuilder;

use super::documents::Inputs;

/// How files of test cases end: a pattern passes over them.
const CASES: &str = ".test.yaml";

/// Whether a file holds nothing but cases of `plimsoll policy test`.
pub fn is_cases(name: &str) -> bool {
    name.ends_with(CASES)
}

/// A pattern of files, relative to the file that has it.
pub(super) struct Pattern<'a> {
    /// As written: `*`, `?`, `[..]` and `{..}` within one name each.
    pub(super) text: &'a str,
    /// The folder of the configuration, as the configuration is named.
    pub(super) beside: &'a Path,
    /// What a relative `beside` starts from.
    pub(super) directory: &'a Path,
}

/// What a pattern matches.
pub(super) struct Found {
    /// Files, in the order of their names.
    pub(super) files: Vec<PathBuf>,
    /// What has a name that matches, and cannot be included: what it is.
    pub(super) skipped: Vec<(PathBuf, &'static str)>,
}

impl Pattern<'_> {
    /// The files, in the order of their names. A link leads where it points; names with a leading dot are named or not
    /// at all: the versions of a Kubernetes volume stand in such folders.
    ///
    /// # Errors
    /// What is wrong with the pattern, and a hint.
    pub(super) fn find(&self, inputs: &mut Inputs) -> Result<Found, (String, String)> {
        if self.text.is_empty() {
            return Err(("is empty".to_owned(), "such as `policies.d/*.yaml`".to_owned()));
        }
        let mut found = vec![self.beside.to_owned()];
        let mut is_pattern = false;
        for part in Path::new(self.text).components() {
            match part {
                Component::Normal(name) if name.to_string_lossy().contains(['*', '?', '[', '{']) => {
                    is_pattern = true;
                    found = self.matching(&found, &name.to_string_lossy(), inputs)?;
                }
                // An absolute part replaces what is there.
                part => found.iter_mut().for_each(|path| path.push(part)),
            }
        }
        if !is_pattern {
            found.iter().filter_map(|file| file.parent()).for_each(|folder| self.note(folder, inputs));
            return match found.first().filter(|file| !self.real(file).is_file()) {
                Some(_) => {
                    let hint = "relative paths start at the configuration's folder".to_owned();
                    Err((format!("file `{}` does not exist", self.text), hint))
                }
                None => Ok(Found { files: found, skipped: Vec::new() }),
            };
        }
        found.retain(|file| !is_cases(&file.to_string_lossy()));
        let (files, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|file| self.real(file).is_file());
        let skipped = others.into_iter().filter_map(|path| self.odd(&path).map(|what| (path, what)));
        Ok(Found { files, skipped: skipped.collect() })
    }

    /// What stands at a path where no file does; `None`: nothing.
    fn odd(&self, path: &Path) -> Option<&'static str> {
        let real = self.real(path);
        let entry = std::fs::symlink_metadata(&real).ok()?;
        Some(match std::fs::metadata(&real) {
            Ok(there) if there.is_dir() => "a folder",
            Err(_) if entry.is_symlink() => "a link that leads nowhere",
            _ => "no regular file",
        })
    }

    /// The entries of `folders` that a name's pattern takes.
    fn matching(
        &self,
        folders: &[PathBuf],
        name: &str,
        inputs: &mut Inputs,
    ) -> Result<Vec<PathBuf>, (String, String)> {
        let fault =
            |why: String| (format!("`{}` {why}", self.text), "such as `policies.d/*.yaml`".to_owned());
        if name.contains("**") {
            return Err(fault("has `**`: each `*` stands within one name".to_owned()));
        }
        let glob = GlobBuilder::new(name).backslash_escape(false).build();
        let glob =
            glob.map_err(|error| fault(format!("is not a pattern: {}", error.kind())))?.compile_matcher();
        let mut found = Vec::new();
        for folder in folders {
            self.note(folder, inputs);
            // A folder that is not there has no files.
            let entries = std::fs::read_dir(self.real(folder)).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name());
            let taken = names
                .filter(|name| !name.to_string_lossy().starts_with('.') && glob.is_match(Path::new(name)));
            found.extend(taken.map(|name| folder.join(name)));
        }
        found.sort();
        Ok(found)
    }

    fn note(&self, folder: &Path, inputs: &mut Inputs) {
        inputs.folders.insert(self.real(folder));
    }

    fn real(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }
}
