//! A conversation that grows turn by turn. What both sides say is written beforehand, so that every way to hold it
//! short is measured on the same history.

use serde_json::{Value, json};

/// Tokens that each answer may have.
pub(super) const ANSWER: u64 = 8;

const PLACES: [&str; 7] = ["harbour", "market", "river", "station", "garden", "library", "bridge"];
const THINGS: [&str; 5] = ["boat", "letter", "lamp", "clock", "map"];

/// The request after so many turns of the conversation of this name.
pub(super) fn after(turns: usize, name: &str) -> Value {
    let system = json!({"role": "system", "content": format!("You keep the diary {name}.")});
    let turns = (1..=turns).flat_map(|turn| [question(turn), answer(turn)]);
    let mut messages: Vec<_> = std::iter::once(system).chain(turns).collect();
    messages.pop();
    json!({"model": "demo", "max_tokens": ANSWER, "temperature": 0, "messages": messages})
}

fn question(turn: usize) -> Value {
    let place = PLACES[turn % PLACES.len()];
    json!({"role": "user", "content": format!("Day {turn}: we went to the {place}. What did we find there?")})
}

fn answer(turn: usize) -> Value {
    let (place, thing) = (PLACES[turn % PLACES.len()], THINGS[turn % THINGS.len()]);
    let text =
        format!("On day {turn} you found a {thing} near the {place}, and you kept it for the next day.");
    json!({"role": "assistant", "content": text})
}
