//! What is wrong with a configuration: every fault with its path, and a hint where one is known.

use std::fmt;

use serde::Serialize;

use super::path::Path;
use crate::cut::cut_quoted;

/// One thing that is wrong, or hardly meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file; `None` where a variable or an override set the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Box<str>>,
    /// The line in the file, from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Where, such as `routes[2].upstream`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to put it right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Box<str>>,
    #[serde(skip)]
    at: Path,
    /// Whether no file is to blame.
    #[serde(skip)]
    outside: bool,
    /// Whether there was nothing to judge: the file could not be read.
    #[serde(skip)]
    unread: bool,
}

impl Fault {
    pub(super) fn new(at: Path, message: impl Into<String>) -> Self {
        let message = cut_quoted(&message.into());
        Self {
            file: None,
            line: None,
            path: at.to_string(),
            message,
            hint: None,
            at,
            outside: false,
            unread: false,
        }
    }

    /// Says that the file could not be read.
    pub(super) fn unread(self) -> Self {
        Self { unread: true, ..self }
    }

    /// Names the file.
    pub(super) fn in_file(mut self, file: &str) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Names the line.
    pub(super) fn on_line(mut self, line: Option<u32>) -> Self {
        self.line = line.or(self.line);
        self
    }

    /// Says that a variable or an override is at fault, and no file.
    pub(super) fn outside(self) -> Self {
        Self { outside: true, ..self }
    }

    /// Whether it is not known yet which file is at fault.
    pub(super) fn is_unplaced(&self) -> bool {
        self.file.is_none() && !self.outside
    }

    /// Shows another path than the one that is at fault in the merged tree.
    pub(super) fn shown_as(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Puts the fault elsewhere in the merged tree; the path that is shown stays.
    pub(super) fn moved_to(self, at: Path) -> Self {
        Self { at, ..self }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into().into_boxed_str());
        self
    }

    pub(super) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.map(String::into_boxed_str).or(self.hint);
        self
    }

    pub(super) fn at(&self) -> &Path {
        &self.at
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As compilers write it: editors and terminals lead there.
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, _) => {}
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a configuration, in the order of the paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Faults {
    /// The file.
    pub file: String,
    /// At least one.
    pub faults: Vec<Fault>,
}

impl Faults {
    /// Whether the configuration could not be read at all: nothing is known of what it says.
    pub fn unread(&self) -> bool {
        self.faults.iter().any(|fault| fault.unread)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        write!(f, "`{}` has {count} {}", self.file, if count == 1 { "fault" } else { "faults" })?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

/// Faults and warnings as they are found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
}

impl Findings {
    /// Adds a fault, unless a fault at its path or above has said what is wrong already.
    pub(super) fn fault(&mut self, fault: Fault) {
        if !self.faults.iter().any(|known| known.at.holds(&fault.at)) {
            self.faults.push(fault);
        }
    }

    pub(super) fn warn(&mut self, warning: Fault) {
        self.warnings.push(warning);
    }

    /// Takes a value, or its fault.
    pub(super) fn take<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.fault(fault)).ok()
    }

    /// Whether something at this path or below is known to be wrong.
    pub(super) fn touch(&self, path: &Path) -> bool {
        self.faults.iter().any(|fault| path.holds(&fault.at) || fault.at.holds(path))
    }

    /// The faults in the order of their paths, where there are any.
    pub(super) fn into_faults(mut self, file: String) -> Faults {
        self.faults.sort_by(|one, other| one.at.cmp(&other.at));
        Faults { file, faults: self.faults }
    }
}

/// `did you mean` where a known name is near, else the known names.
pub(super) fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    let lower = name.to_lowercase();
    let best = known
        .iter()
        .map(|candidate| (likeness(&lower, &candidate.to_lowercase()), *candidate))
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match best {
        Some((likeness, candidate)) if likeness >= LIKELY => Some(format!("did you mean `{candidate}`?")),
        Some(_) => Some(format!("known here: {}", list(known))),
        None => None,
    }
}

/// Jaro-Winkler sees longer words; one slip of the finger is told by the distance.
fn likeness(one: &str, other: &str) -> f64 {
    let slip = one.len().min(other.len()) > 2 && strsim::osa_distance(one, other) == 1;
    if slip { 1.0 } else { strsim::jaro_winkler(one, other) }
}

/// Likeness from which a name is taken for a misspelling.
const LIKELY: f64 = 0.84;

/// Names in backticks, with commas.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_gets_the_name_that_was_meant() {
        assert_eq!(near("upsteam", ["name", "upstream"]), Some("did you mean `upstream`?".to_owned()));
        assert_eq!(near("ulr", ["name", "url"]), Some("did you mean `url`?".to_owned()));
        assert_eq!(near("Mode", ["name", "mode"]), Some("did you mean `mode`?".to_owned()));
        assert_eq!(near("xyz", ["name", "mode"]), Some("known here: `mode`, `name`".to_owned()));
        assert_eq!(near("xyz", []), None);
    }

    #[test]
    fn a_fault_below_another_adds_nothing() {
        let mut findings = Findings::default();
        findings.fault(Fault::new(Path::of(&["listen"]), "is a list"));
        findings.fault(Fault::new(Path::of(&["listen", "data"]), "is missing"));
        findings.fault(Fault::new(Path::of(&["limits"]), "is a list"));
        let faults = findings.into_faults("c.yaml".to_owned());
        assert_eq!(faults.to_string(), "`c.yaml` has 2 faults\nlimits: is a list\nlisten: is a list");
    }
}
