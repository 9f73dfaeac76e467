//! Tools in another order, or with their schemas in another: each keeps its bytes but for what changed, and caches end
//! where they ended.

use plimsoll_policies::json::Span;

use crate::dialect::raw::{Edits, Object, Raw};

/// Writes the tools of a conversation in place of the client's.
pub(super) fn write(object: &Object<'_>, before: Option<&str>, after: Option<&str>, edits: &mut Edits) {
    let Some(own) = object.get("tools").and_then(|tools| tools.elements()) else { return };
    let list = |text: Option<&str>| -> Vec<String> {
        let elements = text.and_then(|text| Raw::whole(text).elements()).unwrap_or_default();
        elements.iter().map(|tool| tool.text.to_owned()).collect()
    };
    let (before, after) = (list(before), list(after));
    let (Some(first), Some(last)) = (own.first(), own.last()) else { return };
    let mut left: Vec<bool> = vec![true; own.len()];
    let mut written = Vec::with_capacity(after.len());
    for (place, tool) in after.iter().enumerate() {
        let found = found(&before, tool, &left);
        let text = match found.and_then(|at| Some((at, own.get(at)?))) {
            Some((at, raw)) => {
                left[at] = false;
                cached(&edited(raw, &before[at], tool), own.get(place), raw)
            }
            None => rendered(tool),
        };
        written.push(text);
    }
    let span: Span = first.span().start..last.span().end;
    edits.put(span, written.join(","));
}

/// The client's tool that one was: as it is, else by its name.
fn found(before: &[String], tool: &str, left: &[bool]) -> Option<usize> {
    let free = |at: &usize| left.get(*at).is_some_and(|free| *free);
    let same = (0..before.len()).filter(free).find(|at| before[*at] == tool);
    same.or_else(|| (0..before.len()).filter(free).find(|at| name(&before[*at]) == name(tool)))
}

fn name(tool: &str) -> Option<String> {
    let tool = Raw::whole(tool).object()?;
    tool.get("function")
        .and_then(|function| function.object()?.string("name"))
        .or_else(|| tool.string("name"))
}

/// A tool whose schema is in another order.
fn edited(raw: &Raw<'_>, before: &str, after: &str) -> String {
    let parameters =
        Raw::whole(after).object().and_then(|tool| tool.get("function")?.object()?.get("parameters"));
    let schema = raw.object().and_then(|tool| tool.get("input_schema"));
    match (schema, parameters) {
        (Some(schema), Some(parameters)) if before != after => {
            let (from, to) = (schema.at - raw.at, schema.at - raw.at + schema.text.len());
            [&raw.text[..from], parameters.text, &raw.text[to..]].concat()
        }
        _ => raw.text.to_owned(),
    }
}

/// The tool with the cache mark of the place it stands at now.
fn cached(text: &str, place: Option<&Raw<'_>>, own: &Raw<'_>) -> String {
    let mark = |raw: &Raw<'_>| raw.object()?.get("cache_control").map(|mark| mark.text.to_owned());
    let (wanted, has) = (place.and_then(mark), mark(own));
    if wanted == has {
        return text.to_owned();
    }
    let Some(bare) = Raw::whole(text).object().map(|tool| tool.without("cache_control")) else {
        return text.to_owned();
    };
    match (wanted, bare.strip_suffix('}')) {
        (Some(mark), Some(open)) => format!("{open},\"cache_control\":{mark}}}"),
        _ => bare,
    }
}

/// A function as a tool.
fn rendered(tool: &str) -> String {
    let function = Raw::whole(tool).object().and_then(|tool| tool.get("function")?.object());
    let Some(function) = function else { return tool.to_owned() };
    let names = [("name", "name"), ("description", "description"), ("parameters", "input_schema")];
    let members =
        names.iter().filter_map(|(own, name)| Some(format!("\"{name}\":{}", function.get(own)?.text)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// All tools of a raw OpenAI array, as this dialect has them.
pub(crate) fn all(tools: &str) -> String {
    let tools = Raw::whole(tools).elements().unwrap_or_default();
    format!("[{}]", tools.iter().map(|tool| rendered(tool.text)).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::super::request::translated_tool;
    use super::*;

    #[test]
    fn functions_and_tools_are_the_same_both_ways() {
        let tool = r#"{"name":"f","description":"d","input_schema":{"type":"object"}}"#;
        let object = Raw::whole(tool).object().expect("an object");
        assert_eq!(rendered(&translated_tool(&object)), tool);
        assert_eq!(all(&format!("[{}]", translated_tool(&object))), format!("[{tool}]"));
    }
}
