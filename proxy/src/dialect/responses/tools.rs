//! Tools of the Responses API as those of chat completions, and back.

use plimsoll_policies::json::{Span, elements};

use crate::dialect::raw::{Object, spliced};

/// Members of a function that the model is shown.
const SHOWN: [&str; 4] = ["name", "description", "parameters", "strict"];

/// The tools in chat completions' form; what is no function stays as it is. None where there is no list.
pub(super) fn chat(tools: &str) -> Option<String> {
    let tools: Vec<String> = elements(tools)?.into_iter().map(|tool| chat_tool(&tools[tool])).collect();
    Some(format!("[{}]", tools.join(",")))
}

fn chat_tool(tool: &str) -> String {
    let Some(object) = function(tool) else { return tool.to_owned() };
    let members: Vec<String> = object
        .members()
        .filter(|(name, raw)| SHOWN.contains(name) && *raw != "null")
        .map(|(name, raw)| format!("\"{name}\":{raw}"))
        .collect();
    format!(r#"{{"type":"function","function":{{{}}}}}"#, members.join(","))
}

fn function(tool: &str) -> Option<Object<'_>> {
    Object::of(tool).filter(|object| object.string("type").as_deref() == Some("function"))
}

/// The tools after an edit that reorders them or the keys of their schemas, or takes some away: `edited` is their chat
/// form now.
pub(super) fn back(original: &str, edited: &str) -> String {
    let mut left: Vec<&str> =
        elements(original).unwrap_or_default().into_iter().map(|span| &original[span]).collect();
    let tools: Vec<String> = elements(edited)
        .unwrap_or_default()
        .into_iter()
        .map(|span| {
            let new = &edited[span];
            let same = left.iter().position(|old| is_of(old, new));
            same.map_or_else(|| new.to_owned(), |at| tool_back(left.remove(at), new))
        })
        .collect();
    format!("[{}]", tools.join(","))
}

/// Whether a tool in chat form is this one.
fn is_of(old: &str, new: &str) -> bool {
    match (function(old), chat_function(new)) {
        (Some(old), Some(new)) => old.raw("name") == new.raw("name"),
        (None, None) => old == new,
        _ => false,
    }
}

fn chat_function(tool: &str) -> Option<Object<'_>> {
    Object::of(tool)?.get("function")?.object()
}

/// A tool whose schema may have other text; the rest of it stays.
fn tool_back(old: &str, new: &str) -> String {
    let edit = |name| -> Option<(Span, String)> {
        let (place, now) = (function(old)?.span(name)?, chat_function(new)?.raw(name)?);
        (old[place.clone()] != *now).then(|| (place, now.to_owned()))
    };
    let edits: Vec<_> = ["description", "parameters"].into_iter().filter_map(edit).collect();
    spliced(old, 0..old.len(), edits)
}

/// `tool_choice` in chat completions' form.
pub(super) fn choice(raw: &str) -> String {
    if let Some(allowed) =
        Object::of(raw).filter(|object| object.string("type").as_deref() == Some("allowed_tools"))
    {
        let tools = allowed.raw("tools").unwrap_or("[]");
        let tools: Vec<String> =
            elements(tools).unwrap_or_default().into_iter().map(|tool| choice(&tools[tool])).collect();
        let (mode, tools) = (allowed.raw("mode").unwrap_or("null"), tools.join(","));
        return format!(r#"{{"type":"allowed_tools","allowed_tools":{{"mode":{mode},"tools":[{tools}]}}}}"#);
    }
    let named = function(raw).and_then(|object| object.raw("name"));
    named.map_or_else(
        || raw.to_owned(),
        |name| format!(r#"{{"type":"function","function":{{"name":{name}}}}}"#),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOLS: &str = r#"[ {"type":"function","name":"b","strict":null,"parameters":{"z":1,"a":2},"x":0},
      {"type":"web_search"}, {"name":"a","type":"function","description":"d"}]"#;

    #[test]
    fn functions_are_nested_and_others_stay() {
        assert_eq!(
            chat(TOOLS).unwrap(),
            r#"[{"type":"function","function":{"name":"b","parameters":{"z":1,"a":2}}},{"type":"web_search"},{"type":"function","function":{"name":"a","description":"d"}}]"#
        );
        assert_eq!((chat("null"), chat("{}"), chat("[]")), (None, None, Some("[]".to_owned())));
        assert_eq!(
            choice(r#"{"type":"function","name":"f"}"#),
            r#"{"type":"function","function":{"name":"f"}}"#
        );
        assert_eq!(
            choice(r#"{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]}"#),
            r#"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"f"}}]}}"#
        );
        assert_eq!((choice("\"auto\"").as_str(), choice("{}").as_str()), ("\"auto\"", "{}"));
    }

    #[test]
    fn sorted_tools_keep_their_own_text() {
        let sorted = r#"[{"type":"function","function":{"name":"a","description":"d"}},{"type":"function","function":{"name":"b","parameters":{"a":2,"z":1}}},{"type":"web_search"}]"#;
        assert_eq!(
            back(TOOLS, sorted),
            r#"[{"name":"a","type":"function","description":"d"},{"type":"function","name":"b","strict":null,"parameters":{"a":2,"z":1},"x":0},{"type":"web_search"}]"#
        );
    }
}
