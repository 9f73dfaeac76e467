//! `tests/bench/RESULTS.md`: what was measured, a section a measurement, each written by itself.

use std::fs;

use crate::shared::root;

/// What the file begins with.
const HEAD: &str = "# Results\n\nWritten by the tests and benches that measure; each replaces its own section. On a shared machine only what \
     took turns in one run can be compared.\n";

/// Writes a section, in place of the one of this name that stands there.
///
/// # Panics
/// The file cannot be written.
pub fn write(name: &str, text: &str) {
    let path = root().join("tests/bench/RESULTS.md");
    let former = fs::read_to_string(&path).unwrap_or_else(|_| HEAD.to_owned());
    fs::write(&path, replaced(&former, name, text)).expect("the results can be written");
}

fn replaced(former: &str, name: &str, text: &str) -> String {
    let marks = [format!("<!-- begin {name} -->"), format!("<!-- end {name} -->")];
    let section = format!("{}\n{}\n{}", marks[0], text.trim_end(), marks[1]);
    let found = former.split_once(&marks[0]).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&marks[1])?;
        Some(format!("{before}{section}{after}"))
    });
    found.unwrap_or_else(|| format!("{}\n\n{section}\n", former.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_its_former_self_and_no_other() {
        let first = replaced("# Results\n", "a", "one\n");
        assert_eq!(first, "# Results\n\n<!-- begin a -->\none\n<!-- end a -->\n");
        let both = replaced(&first, "b", "two");
        assert_eq!(both, format!("{}\n\n<!-- begin b -->\ntwo\n<!-- end b -->\n", first.trim_end()));
        assert_eq!(replaced(&both, "a", "three"), both.replace("one", "three"));
    }
}
