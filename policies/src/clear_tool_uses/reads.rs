//! Which results are reads of a file, and which of them no longer hold.

use std::collections::HashMap;

use crate::conversation::{Field, Message, decode, last, members};
use crate::error_output::is_error;
use crate::{ToolCall, conversation};

/// Arguments that name a file.
const PATHS: [&str; 6] = ["file_path", "path", "filename", "file_name", "file", "target_file"];
/// Words in the name of a tool, or in its argument `command`, that tell what it does to a file.
const READS: [&str; 4] = ["read", "view", "cat", "open"];
const EDITS: [&str; 12] = [
    "edit", "write", "replace", "patch", "insert", "create", "append", "delete", "remove", "move", "rename",
    "undo",
];

/// What a call does to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Read,
    Edit,
}

/// The reads of each file that still hold.
#[derive(Debug, Default)]
pub(super) struct Reads {
    files: HashMap<String, Vec<Read>>,
}

/// A result that shows a file.
#[derive(Debug)]
struct Read {
    place: usize,
    tool: String,
    arguments: String,
}

impl Reads {
    /// Takes in the result of a call; `place` is its number. Gives the places of reads that no longer hold.
    pub(super) fn arrive(&mut self, place: usize, call: &ToolCall, result: &Message) -> Vec<usize> {
        let Some((deed, path, whole)) = deed(call) else { return Vec::new() };
        // A call that failed changed nothing and showed nothing.
        if is_error(result) {
            return Vec::new();
        }
        let reads = self.files.entry(path).or_default();
        if deed == Deed::Edit {
            return reads.drain(..).map(|read| read.place).collect();
        }
        let shown = |read: &Read| whole || (read.tool == call.name && read.arguments == call.arguments);
        let outdated = reads.iter().filter(|read| shown(read)).map(|read| read.place).collect();
        reads.retain(|read| !shown(read));
        reads.push(Read { place, tool: call.name.clone(), arguments: call.arguments.clone() });
        outdated
    }
}

/// What a call does, to which file, and whether to all of it.
fn deed(call: &ToolCall) -> Option<(Deed, String, bool)> {
    let arguments = call.arguments.as_str();
    let fields = members(arguments)?;
    let text =
        |name: &str| decode(&arguments[last(arguments, &fields, name)?.value.clone()]).map(|text| text.text);
    let path = PATHS.iter().find_map(|name| text(name))?;
    // A tool that does several things says which in `command`.
    let named = text("command").filter(|command| deed_of(command).is_some());
    let deed = deed_of(named.as_deref().unwrap_or(&call.name))?;
    let extent = |field: &Field| {
        let key = &arguments[field.key.clone()];
        !PATHS.iter().chain(&["command"]).any(|name| conversation::key_is(key, name))
            && &arguments[field.value.clone()] != "null"
    };
    Some((deed, path, !fields.iter().any(extent)))
}

fn deed_of(name: &str) -> Option<Deed> {
    let has = |words: &[&str]| split(name).iter().any(|word| words.contains(&word.as_str()));
    match (has(&EDITS), has(&READS)) {
        (true, _) => Some(Deed::Edit),
        (false, true) => Some(Deed::Read),
        (false, false) => None,
    }
}

/// The words of a name: `readFile`, `read_file` and `fs.read-file` have the same.
fn split(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: None, name: name.to_owned(), arguments: arguments.to_owned() }
    }

    fn result(text: &str) -> Message {
        Message::from_json(format!(r#"{{"role":"tool","content":"{text}"}}"#))
    }

    #[test]
    fn deeds() {
        let cases = [
            ("Read", r#"{"file_path":"a"}"#, Some((Deed::Read, "a", true))),
            ("readFile", r#"{"path":"a","offset":3}"#, Some((Deed::Read, "a", false))),
            ("fs.read-file", r#"{"path":"a","limit":null}"#, Some((Deed::Read, "a", true))),
            (
                "str_replace_based_edit_tool",
                r#"{"command":"view","path":"a"}"#,
                Some((Deed::Read, "a", true)),
            ),
            (
                "str_replace_based_edit_tool",
                r#"{"command":"str_replace","path":"a"}"#,
                Some((Deed::Edit, "a", true)),
            ),
            ("Write", r#"{"file_path":"a","content":"x"}"#, Some((Deed::Edit, "a", false))),
            ("search", r#"{"path":"a"}"#, None),
            ("thread_list", r#"{"path":"a"}"#, None),
            ("read", "{}", None),
            ("read", "a", None),
        ];
        for (name, arguments, want) in cases {
            let want = want.map(|(deed, path, whole)| (deed, path.to_owned(), whole));
            assert_eq!(deed(&call(name, arguments)), want, "{name} {arguments}");
        }
    }

    #[test]
    fn edits_and_later_reads_outdate() {
        let mut reads = Reads::default();
        let (whole, part) = (r#"{"path":"a"}"#, r#"{"path":"a","offset":9}"#);
        assert!(reads.arrive(0, &call("read", whole), &result("x")).is_empty());
        assert!(reads.arrive(1, &call("read", part), &result("x")).is_empty(), "a part shows not all");
        assert_eq!(reads.arrive(2, &call("read", part), &result("x")), [1], "the same part again");
        assert!(reads.arrive(3, &call("read", whole), &result("Error: gone")).is_empty());
        assert_eq!(reads.arrive(4, &call("read", whole), &result("x")), [0, 2]);
        assert!(reads.arrive(5, &call("edit", r#"{"path":"b"}"#), &result("done")).is_empty());
        assert!(reads.arrive(6, &call("edit", whole), &result("Error: no match")).is_empty());
        assert_eq!(reads.arrive(7, &call("edit", whole), &result("done")), [4]);
        assert!(reads.arrive(8, &call("edit", whole), &result("done")).is_empty());
    }
}
