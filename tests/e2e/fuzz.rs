//! A short, deterministic run over what `make fuzz` tries for longer: seeds, mutated some thousand times.

use plimsoll_tests::fuzz::{short_run, target};

#[test]
fn chats_are_parsed_and_spliced() {
    short_run(target("chat"));
}

#[test]
fn bodies_of_anthropics_clients_are_parsed_and_spliced() {
    short_run(target("anthropic"));
}

#[test]
fn bodies_of_ollamas_clients_are_parsed_and_spliced() {
    short_run(target("ollama_chat"));
    short_run(target("ollama_generate"));
}

#[test]
fn responses_are_parsed_and_spliced() {
    short_run(target("responses"));
}

#[test]
fn configurations_are_judged() {
    short_run(target("config"));
}

#[test]
fn usage_is_read_off_a_stream() {
    short_run(target("usage"));
}

#[test]
fn tool_calls_are_found_in_text() {
    short_run(target("tool_calls"));
}

#[test]
fn model_folders_are_read_or_refused() {
    short_run(target("model"));
}

#[test]
fn headers_of_checkpoints_are_read_or_refused() {
    short_run(target("checkpoint"));
}
