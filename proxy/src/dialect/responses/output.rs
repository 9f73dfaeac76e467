//! The items of an answer in the making, with the events that tell of them.

use plimsoll_engine::text::Piece;
use serde_json::{Map, Value, json};

use crate::forward::Part;
use crate::stream::likelihoods;

/// The items of one answer.
pub(super) struct Output {
    /// Ids of the items are made of it.
    id: String,
    items: Vec<Item>,
    /// The last item, while it grows.
    open: bool,
    /// Blank text that may turn out to stand before a call, and log probabilities that were not told yet.
    held: (String, Vec<Value>),
}

struct Item {
    id: String,
    kind: Kind,
    /// Its text, or its arguments.
    text: String,
    status: &'static str,
}

enum Kind {
    Reasoning,
    Message(Vec<Value>),
    Call { id: String, name: String },
}

impl Item {
    fn json(&self) -> Value {
        let Self { id, text, status, .. } = self;
        match &self.kind {
            Kind::Reasoning => {
                let content = if text.is_empty() { Vec::new() } else { vec![self.part()] };
                json!({"id": id, "type": "reasoning", "summary": [], "content": content, "status": status})
            }
            Kind::Message(_) => {
                let content = if *status == "in_progress" { Vec::new() } else { vec![self.part()] };
                json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
            }
            Kind::Call { id: call, name } => json!({
                "id": id, "type": "function_call", "status": status, "call_id": call, "name": name, "arguments": text,
            }),
        }
    }

    fn part(&self) -> Value {
        match &self.kind {
            Kind::Message(logprobs) => {
                json!({"type": "output_text", "text": self.text, "annotations": [], "logprobs": logprobs})
            }
            _ => json!({"type": "reasoning_text", "text": self.text}),
        }
    }
}

impl Output {
    /// An answer without items; `id` is what is unique in the answer's own id.
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), items: Vec::new(), open: false, held: Default::default() }
    }

    /// The items as they are.
    pub(super) fn json(&self) -> Vec<Value> {
        self.items.iter().map(Item::json).collect()
    }

    /// Adds a part of the answer; gives what is to be told of it.
    pub(super) fn add(&mut self, part: &Part) -> Vec<Value> {
        self.held.1.extend(likelihoods(&part.logprobs));
        let mut events = Vec::new();
        for piece in &part.pieces {
            match piece {
                Piece::Thinking(text) => self.thought(text, &mut events),
                Piece::Text(text) => self.text(text, &mut events),
                Piece::CallStart { index, name } => self.call(*index, name, &mut events),
                Piece::CallArguments { json_fragment, .. } => {
                    self.grow(json_fragment, "response.function_call_arguments.delta", &mut events);
                }
                Piece::CallEnd { .. } => self.close("completed", &mut events),
            }
        }
        if let Some(finished) = part.finished {
            self.finish(finished, &mut events);
        }
        events
    }

    /// The answer has ended: what is open is whole, or was cut off. An answer that says nothing says so by an empty
    /// message.
    fn finish(&mut self, reason: &str, events: &mut Vec<Value>) {
        let status = if reason == "length" { "incomplete" } else { "completed" };
        if self.items.is_empty() {
            self.message(events);
        }
        self.close(status, events);
    }

    fn thought(&mut self, text: &str, events: &mut Vec<Value>) {
        if !matches!(self.items.last(), Some(Item { kind: Kind::Reasoning, .. }) if self.open) {
            self.close("completed", events);
            self.begin("rs", Kind::Reasoning, events);
            events.push(
                self.part_event("response.content_part.added", json!({"type": "reasoning_text", "text": ""})),
            );
        }
        self.grow(text, "response.reasoning_text.delta", events);
    }

    /// Blank text is held back: what stands between calls alone is no message.
    fn text(&mut self, text: &str, events: &mut Vec<Value>) {
        let says = self.in_message();
        if !says && self.held.0.trim().is_empty() && text.trim().is_empty() {
            self.held.0.push_str(text);
            return;
        }
        if !says {
            self.message(events);
        }
        self.grow(text, "response.output_text.delta", events);
    }

    fn in_message(&self) -> bool {
        self.open && matches!(self.items.last(), Some(Item { kind: Kind::Message(_), .. }))
    }

    /// A message begins, with what was held back.
    fn message(&mut self, events: &mut Vec<Value>) {
        self.close("completed", events);
        self.begin("msg", Kind::Message(Vec::new()), events);
        let part = json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []});
        events.push(self.part_event("response.content_part.added", part));
        let held = std::mem::take(&mut self.held.0);
        if !held.is_empty() {
            self.grow(&held, "response.output_text.delta", events);
        }
    }

    fn call(&mut self, index: usize, name: &str, events: &mut Vec<Value>) {
        self.close("completed", events);
        self.held.0.clear();
        let id = format!("call_{}_{index}", self.id);
        self.begin("fc", Kind::Call { id, name: name.to_owned() }, events);
    }

    fn begin(&mut self, prefix: &str, kind: Kind, events: &mut Vec<Value>) {
        let id = format!("{prefix}_{}_{}", self.id, self.items.len());
        let item = Item { id, kind, text: String::new(), status: "in_progress" };
        events.push(json!({
            "type": "response.output_item.added", "output_index": self.items.len(), "item": item.json(),
        }));
        self.items.push(item);
        self.open = true;
    }

    /// More text, or more arguments, of the open item.
    fn grow(&mut self, delta: &str, event: &str, events: &mut Vec<Value>) {
        let Some(item) = self.items.last_mut() else { return };
        item.text.push_str(delta);
        let mut told = Map::new();
        told.insert("delta".to_owned(), delta.into());
        if let Kind::Message(logprobs) = &mut item.kind {
            let new = std::mem::take(&mut self.held.1);
            logprobs.extend(new.iter().cloned());
            told.insert("logprobs".to_owned(), new.into());
        }
        events.push(self.event(event, told));
    }

    /// Ends the open item.
    fn close(&mut self, status: &'static str, events: &mut Vec<Value>) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let at = self.items.len() - 1;
        let item = &mut self.items[at];
        item.status = status;
        let (text, part) = (item.text.clone(), item.part());
        let told = |name: &str| Map::from_iter([(name.to_owned(), Value::from(text.clone()))]);
        match &self.items[at].kind {
            Kind::Call { name, .. } => {
                let mut told = told("arguments");
                told.insert("name".to_owned(), name.as_str().into());
                events.push(self.event("response.function_call_arguments.done", told));
            }
            Kind::Message(logprobs) => {
                let mut told = told("text");
                told.insert("logprobs".to_owned(), logprobs.as_slice().into());
                events.push(self.event("response.output_text.done", told));
                events.push(self.part_event("response.content_part.done", part));
            }
            Kind::Reasoning => {
                events.push(self.event("response.reasoning_text.done", told("text")));
                events.push(self.part_event("response.content_part.done", part));
            }
        }
        let item = self.items[at].json();
        events.push(json!({"type": "response.output_item.done", "output_index": at, "item": item}));
    }

    fn part_event(&self, kind: &str, part: Value) -> Value {
        self.event(kind, Map::from_iter([("part".to_owned(), part)]))
    }

    /// An event of the last item.
    fn event(&self, kind: &str, told: Map<String, Value>) -> Value {
        let at = self.items.len() - 1;
        let item = &self.items[at];
        let mut event = json!({"type": kind, "item_id": item.id, "output_index": at});
        if let Some(event) = event.as_object_mut() {
            if !matches!(item.kind, Kind::Call { .. }) {
                event.insert("content_index".to_owned(), 0.into());
            }
            event.extend(told);
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(pieces: Vec<Piece>) -> Part {
        Part { pieces, ..Part::default() }
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn call(index: usize, arguments: &[&str]) -> Vec<Piece> {
        let fragment =
            |fragment: &&str| Piece::CallArguments { index, json_fragment: (*fragment).to_owned() };
        let start = Piece::CallStart { index, name: "ls".to_owned() };
        std::iter::once(start)
            .chain(arguments.iter().map(fragment))
            .chain([Piece::CallEnd { index }])
            .collect()
    }

    /// An answer of these parts that ends for this reason: its events' types, and its items.
    fn answer(parts: Vec<Vec<Piece>>, finished: &'static str) -> (Vec<Value>, Vec<Value>) {
        let mut output = Output::new("1");
        let mut events: Vec<_> = parts.into_iter().flat_map(|pieces| output.add(&part(pieces))).collect();
        events.extend(output.add(&Part { finished: Some(finished), ..Part::default() }));
        (events, output.json())
    }

    fn kinds(items: &[Value]) -> Vec<&str> {
        items.iter().filter_map(|item| item["type"].as_str()).collect()
    }

    #[test]
    fn thoughts_a_text_and_calls_are_items_in_their_order() {
        let thoughts = vec![Piece::Thinking("h".to_owned()), Piece::Thinking("m".to_owned())];
        let parts =
            vec![thoughts, vec![text("So")], vec![text(": ")], call(0, &["{\"a\"", ":1}"]), call(1, &["{}"])];
        let (events, items) = answer(parts, "stop");
        assert_eq!(kinds(&items), ["reasoning", "message", "function_call", "function_call"]);
        assert_eq!(items[0]["content"], json!([{"type": "reasoning_text", "text": "hm"}]));
        assert_eq!(items[1]["content"][0]["text"], "So: ");
        assert_eq!((&items[2]["arguments"], &items[2]["call_id"]), (&json!("{\"a\":1}"), &json!("call_1_0")));
        assert_eq!(items[3]["call_id"], "call_1_1");
        assert!(items.iter().all(|item| item["status"] == "completed"));
        // Each item's events stand together, and its last one has it whole.
        let places: Vec<_> = events.iter().filter_map(|event| event["output_index"].as_u64()).collect();
        assert!(places.is_sorted());
        let done = events
            .iter()
            .filter(|event| event["type"] == "response.output_item.done")
            .map(|event| event["item"].clone());
        assert_eq!(done.collect::<Vec<_>>(), items);
        let of_thoughts = [
            "response.output_item.added",
            "response.content_part.added",
            "response.reasoning_text.delta",
            "response.reasoning_text.delta",
            "response.reasoning_text.done",
            "response.content_part.done",
            "response.output_item.done",
        ];
        assert_eq!(kinds(&events)[..7], of_thoughts);
    }

    #[test]
    fn blanks_around_calls_are_no_messages() {
        let parts = vec![vec![text("\n")], call(0, &["{}"]), vec![text("\n"), text(" ")], call(1, &["{}"])];
        assert_eq!(kinds(&answer(parts, "stop").1), ["function_call", "function_call"]);
        let (_, items) = answer(vec![vec![text("\n")], vec![text("hi")]], "stop");
        assert_eq!(items[0]["content"][0]["text"], "\nhi");
        let (_, items) = answer(vec![vec![text(" ")]], "stop");
        assert_eq!(items[0]["content"][0]["text"], " ");
    }

    #[test]
    fn what_is_cut_off_is_incomplete() {
        let mut cut = call(0, &["{\"a\""]);
        cut.pop();
        let (events, items) = answer(vec![cut], "length");
        assert_eq!((&items[0]["status"], &items[0]["arguments"]), (&json!("incomplete"), &json!("{\"a\"")));
        assert_eq!(events.last().map(|event| event["item"]["status"].clone()), Some("incomplete".into()));
        assert_eq!(answer(Vec::new(), "stop").1[0]["content"][0]["text"], "");
    }
}
