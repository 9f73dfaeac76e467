//! Places in the caller's body for places in the chat form.

use super::items::{Item, Kind, Origin};

/// The member of the caller's body for a member of the chat form.
pub(in crate::dialect) fn renamed(member: &str) -> &str {
    match member {
        "messages" => "input",
        "max_tokens" | "max_completion_tokens" => "max_output_tokens",
        "response_format" => "text.format",
        "logprobs" => "include",
        other => other,
    }
}

/// The place in the caller's body.
pub(super) fn place(origins: &[Origin], param: &str) -> String {
    let Some((slot, rest)) = indexed(param, "messages[") else {
        let end = param.find(['[', '.']).unwrap_or(param.len());
        return format!("{}{}", renamed(&param[..end]), &param[end..]);
    };
    match origins.get(slot) {
        None => format!("input{rest}"),
        Some(Origin::Instructions(_)) => "instructions".to_owned(),
        Some(Origin::Text(_)) => "input".to_owned(),
        Some(Origin::Items(items)) => in_items(items, rest),
    }
}

/// `name[7].rest` as 7 and `.rest`.
fn indexed<'a>(param: &'a str, name: &str) -> Option<(usize, &'a str)> {
    let (index, rest) = param.strip_prefix(name)?.split_once(']')?;
    Some((index.parse().ok()?, rest))
}

fn in_items(items: &[Item], rest: &str) -> String {
    let of = |wanted: fn(&Kind) -> bool, at: usize| {
        let found = items.iter().filter(|item| wanted(&item.kind)).nth(at);
        found.or(items.first()).map_or(0, |item| item.index)
    };
    if let Some((call, rest)) = indexed(rest, ".tool_calls[") {
        let at = of(|kind| matches!(kind, Kind::Call(_)), call);
        return format!("input[{at}]{}", rest.trim_start_matches(".function"));
    }
    let at = of(|kind| matches!(kind, Kind::Message(..) | Kind::Output(_)), 0);
    let output = items.iter().any(|item| matches!(item.kind, Kind::Output(_)));
    match rest.strip_prefix(".content") {
        Some(part) if output => format!("input[{at}].output{part}"),
        _ => format!("input[{at}]{}", rest.replace(".tool_call_id", ".call_id")),
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_policies::json::Span;

    use super::super::parts::Side;
    use super::*;

    const NOWHERE: Span = 0..0;

    #[test]
    fn places_are_those_of_the_caller() {
        let item = |index, kind| Item { index, span: NOWHERE, kind };
        let turn = vec![
            item(1, Kind::Opaque),
            item(2, Kind::Message(NOWHERE, Side::Output)),
            item(3, Kind::Call(None)),
            item(4, Kind::Call(Some(NOWHERE))),
        ];
        let user = vec![item(0, Kind::Message(NOWHERE, Side::Input))];
        let result = vec![item(5, Kind::Output(NOWHERE))];
        let origins =
            [Origin::Instructions(NOWHERE), Origin::Items(user), Origin::Items(turn), Origin::Items(result)];
        for (chat, own) in [
            ("messages", "input"),
            ("messages[0].content", "instructions"),
            ("messages[1]", "input[0]"),
            ("messages[1].content[2]", "input[0].content[2]"),
            ("messages[2].content", "input[2].content"),
            ("messages[2].tool_calls[1]", "input[4]"),
            ("messages[3].tool_call_id", "input[5].call_id"),
            ("messages[3].content[0]", "input[5].output[0]"),
            ("max_completion_tokens", "max_output_tokens"),
            ("response_format", "text.format"),
            ("tools[1]", "tools[1]"),
            ("temperature", "temperature"),
        ] {
            assert_eq!(place(&origins, chat), own, "{chat}");
        }
        assert_eq!(place(&[Origin::Text(NOWHERE)], "messages[0].content"), "input");
    }
}
