//! How much a file of the configuration may hold: who writes it is trusted with what it says, not with all memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path as FilePath;

use yaml_rust2::parser::{Event, Parser};

use super::faults::Fault;
use super::path::Path;

/// Bytes of a file, at most.
const LONGEST: usize = 4 << 20;

/// Bytes of what a file says once its aliases are written out, at most.
const MOST: u64 = 16 << 20;

/// Bytes that each value counts for, besides its text.
const NODE: u64 = 64;

/// Maps and lists within each other, at most: they are read by recursion.
const DEEPEST: usize = 128;

/// A file's text; of one that is too long as much as shows it.
///
/// # Errors
/// The file cannot be read, or holds no text.
pub(super) fn read(file: &FilePath) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    File::open(file)?.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > LONGEST {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|_| Error::new(ErrorKind::InvalidData, "the file is no UTF-8 text"))
}

/// Whether a text may be made into a tree. A text that is no YAML passes: its parser tells.
///
/// # Errors
/// It is too long, nests too deeply, or its aliases stand for too much.
pub(super) fn check(text: &str) -> Result<(), Fault> {
    if text.len() > LONGEST {
        let message = format!("the file is longer than {} MiB", LONGEST >> 20);
        return Err(Fault::new(Path::default(), message).hint("`include` takes policies from several files"));
    }
    let mut parser = Parser::new_from_str(text);
    let mut tally = Tally::default();
    loop {
        let (event, mark) = match parser.next_token() {
            Ok((Event::StreamEnd, _)) | Err(_) => return Ok(()),
            Ok(next) => next,
        };
        tally.take(&event).map_err(|(message, hint)| {
            let line = u32::try_from(mark.line()).unwrap_or(u32::MAX);
            Fault::new(Path::default(), message).on_line(Some(line)).hint(hint)
        })?;
    }
}

/// What the tree will take, by its events.
#[derive(Default)]
struct Tally {
    /// Bytes of the tree.
    total: u64,
    /// Bytes of the copies that the parser keeps of what has an anchor.
    kept: u64,
    /// Anchors of the maps and lists whose ends have not come, and the total before each.
    open: Vec<(usize, u64)>,
    /// Bytes of what stands at an anchor.
    sizes: HashMap<usize, u64>,
}

impl Tally {
    /// What is wrong, and a hint.
    fn take(&mut self, event: &Event) -> Result<(), (String, &'static str)> {
        match event {
            Event::Scalar(text, _, anchor, _) => {
                self.open.push((*anchor, self.total));
                self.add(NODE + text.len() as u64);
                self.close();
            }
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                self.open.push((*anchor, self.total));
                self.add(NODE);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.add(NODE + self.sizes.get(anchor).copied().unwrap_or(0)),
            _ => {}
        }
        if self.open.len() > DEEPEST {
            let message = format!("more than {DEEPEST} maps and lists stand within each other");
            return Err((message, "no option lies as deep"));
        }
        if self.total.saturating_add(self.kept) > MOST {
            let message = format!("the file says more than {} MiB, with its aliases written out", MOST >> 20);
            return Err((message, "an alias (`*name`) repeats all that stands at its anchor (`&name`)"));
        }
        Ok(())
    }

    fn add(&mut self, bytes: u64) {
        self.total = self.total.saturating_add(bytes);
    }

    fn close(&mut self) {
        let Some((anchor, before)) = self.open.pop() else { return };
        // 0: none.
        if anchor > 0 {
            let size = self.total - before;
            self.kept = self.kept.saturating_add(size);
            self.sizes.insert(anchor, size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each level names the one before nine times.
    fn bomb(levels: usize) -> String {
        let level = |n: usize| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
        "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned()
            + &(1..levels).map(level).collect::<String>()
    }

    #[test]
    fn aliases_that_stand_for_too_much_are_refused_where_they_do() {
        assert_eq!(check(&bomb(4)), Ok(()));
        let fault = check(&bomb(9)).expect_err("a bomb");
        assert_eq!(fault.line, Some(6), "{fault}");
        assert!(fault.message.contains("more than 16 MiB"), "{fault}");
        // One long text, often.
        let long = format!("a: &a {}\nb: [{}]", "x".repeat(1 << 20), "*a, ".repeat(16));
        assert_eq!(check(&long).expect_err("a bomb").line, Some(2));
    }

    #[test]
    fn a_file_is_as_long_and_deep_as_is_bearable() {
        let text = "# comment\n".repeat(LONGEST / 10);
        assert_eq!(check(&text), Ok(()));
        let longer = text + "# one more comment\n";
        assert!(check(&longer).expect_err("too long").message.contains("longer than 4 MiB"));
        let deep = check(&"- ".repeat(100_000)).expect_err("too deep");
        assert!(deep.message.contains("within each other"), "{deep}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &longer).expect("written");
        assert_eq!(read(file.path()).expect("its beginning").len(), LONGEST + 1);
        std::fs::write(file.path(), b"a: \xff").expect("written");
        assert_eq!(read(file.path()).expect_err("no text").kind(), ErrorKind::InvalidData);
    }
}
