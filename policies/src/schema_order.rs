//! Tools in one order: sorted by name, with the keys of their schemas sorted.
//!
//! Only order changes: keys, values and arrays keep their original text.

use crate::conversation::{Field, Span, decode, elements, last, members};

/// The tools array in its canonical order, and how many tools are not as they were; none where it is already.
pub(crate) fn canonical(tools: &str, sort: bool, schemas: bool) -> Option<(String, usize)> {
    let spans = elements(tools)?;
    let mut list: Vec<(String, String)> = spans
        .iter()
        .map(|span| {
            let raw = &tools[span.clone()];
            let tool = if schemas { with_sorted_schema(raw) } else { None };
            (name(raw).unwrap_or_default(), tool.unwrap_or_else(|| raw.to_owned()))
        })
        .collect();
    if sort {
        list.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    let touched = list.iter().zip(&spans).filter(|((_, tool), span)| *tool != tools[(*span).clone()]).count();
    (touched > 0).then(|| (rejoined(tools, &spans, &list), touched))
}

/// The array with other elements between the same separators.
fn rejoined(tools: &str, spans: &[Span], list: &[(String, String)]) -> String {
    let mut text = String::with_capacity(tools.len());
    let mut done = 0;
    for (span, (_, tool)) in spans.iter().zip(list) {
        text.push_str(&tools[done..span.start]);
        text.push_str(tool);
        done = span.end;
    }
    text.push_str(&tools[done..]);
    text
}

/// The tool's name: of its `function`, else its own.
fn name(tool: &str) -> Option<String> {
    let own = |raw: &str| {
        let fields = members(raw)?;
        decode(&raw[last(raw, &fields, "name")?.value.clone()]).map(|decoded| decoded.text)
    };
    function(tool).and_then(|span| own(&tool[span])).or_else(|| own(tool))
}

fn function(tool: &str) -> Option<Span> {
    let fields = members(tool)?;
    last(tool, &fields, "function").map(|field| field.value.clone())
}

/// The tool with its `parameters` sorted; none where they are already.
fn with_sorted_schema(tool: &str) -> Option<String> {
    let holder = function(tool).unwrap_or(0..tool.len());
    let fields = members(&tool[holder.clone()])?;
    let schema = last(&tool[holder.clone()], &fields, "parameters")?.value.clone();
    let schema = holder.start + schema.start..holder.start + schema.end;
    let sorted = sorted(&tool[schema.clone()], MAX_DEPTH)?;
    Some([&tool[..schema.start], &sorted, &tool[schema.end..]].concat())
}

/// Schemas nest a few levels; what is deeper is not one, and stays.
const MAX_DEPTH: usize = 64;

/// An object with its keys sorted at every depth; none where nothing moves. Arrays stay as they are, and so do
/// objects with a key twice: their order has a meaning.
fn sorted(object: &str, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    let fields = members(object)?;
    let key = |field: &Field| decode(&object[field.key.clone()]).map(|decoded| decoded.text);
    let keys: Vec<String> = fields.iter().map(key).collect::<Option<_>>()?;
    let mut order: Vec<usize> = (0..fields.len()).collect();
    order.sort_by(|a, b| keys[*a].cmp(&keys[*b]));
    if order.windows(2).any(|pair| keys[pair[0]] == keys[pair[1]]) {
        return None;
    }
    let inner: Vec<Option<String>> =
        fields.iter().map(|field| sorted(&object[field.value.clone()], depth)).collect();
    if order.is_sorted() && inner.iter().all(Option::is_none) {
        return None;
    }
    let mut text = String::with_capacity(object.len());
    let mut done = 0;
    for (place, index) in order.into_iter().enumerate() {
        let (here, field) = (&fields[place], &fields[index]);
        text.push_str(&object[done..here.key.start]);
        text.push_str(&object[field.key.start..field.value.start]);
        text.push_str(inner[index].as_deref().unwrap_or(&object[field.value.clone()]));
        done = here.value.end;
    }
    text.push_str(&object[done..]);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_order_changes() {
        let tools = r#"[ {"type":"function","function":{"name":"b","parameters":{"z":1.50,"a":{"y":[{"q":1,"b":2}],"c":1E3}}}},
  {"function":{"name":"a"}} ]"#;
        let want = r#"[ {"function":{"name":"a"}},
  {"type":"function","function":{"name":"b","parameters":{"a":{"c":1E3,"y":[{"q":1,"b":2}]},"z":1.50}}} ]"#;
        assert_eq!(canonical(tools, true, true), Some((want.to_owned(), 2)));
        assert_eq!(canonical(want, true, true), None);
        assert_eq!(canonical(tools, false, false), None);
    }

    #[test]
    fn odd_tools_stay() {
        for tools in ["null", "[]", r#"[17, {"name":5}]"#, r#"[{"parameters":{"b":1,"a":2,"a":3}}]"#] {
            assert_eq!(canonical(tools, true, true), None, "{tools}");
        }
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = format!(r#"[{{"parameters":{}1{}}}]"#, r#"{"a":"#.repeat(50_000), "}".repeat(50_000));
        assert_eq!(canonical(&deep, true, true), None);
    }
}
