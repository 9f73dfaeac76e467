//! Real SDKs, unmodified but for their base URL, against a sidecar that runs the demo model.

use plimsoll_tests::Sidecar;

use crate::tooling::{root, stdout};
use crate::twice::interpreter;

#[test]
fn openai_chats() {
    run_script("chat.py");
}

#[test]
fn openai_calls_a_tool_and_speaks_its_result() {
    run_script("tools.py");
}

#[test]
fn openai_makes_calls_that_must_be_made() {
    run_script("held_tools.py");
}

#[test]
fn openai_holds_sixty_turns_in_a_small_window() {
    run_script("long_chat.py");
}

#[test]
fn openai_understands_the_errors() {
    run_script("errors.py");
}

#[test]
fn openai_completes_text_and_token_ids() {
    run_script("completions.py");
}

#[test]
fn openai_takes_several_answers() {
    run_script("choices.py");
}

#[test]
fn ollama_chats() {
    run_script("ollama_chat.py");
}

#[test]
fn ollama_generates_lists_and_understands_the_errors() {
    run_script("ollama_generate.py");
}

#[test]
fn openai_gets_responses() {
    run_script("responses.py");
}

#[test]
fn langchain_chats_and_calls_by_both_of_openais_apis() {
    run_script("langchain_chat.py");
}

#[test]
fn the_ai_sdk_chats_and_calls_by_each_of_its_providers() {
    run_script("node/embedded.mjs");
}

#[test]
fn openai_has_a_conversation_compacted_and_goes_on() {
    run_script("compaction.py");
}

#[test]
fn anthropic_speaks_calls_counts_and_fails() {
    run_script("messages.py");
}

/// Runs a script of `tests/clients` against a sidecar of its own; its checks are the test.
fn run_script(name: &str) {
    let script = root().join("tests/clients").join(name);
    let Some(mut command) = interpreter(&script) else { return };
    let sidecar = Sidecar::start(&config());
    let base_url = format!("{}/v1", sidecar.data_url);
    print!("{}", stdout(command.arg(script).args(["--base-url", &base_url])));
}

/// The demo model in a window of 2,048 tokens, governed by the `chat` preset.
fn config() -> String {
    let root = root().display();
    format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
runtime: {{ onnxruntime: {root}/.runtime/libonnxruntime.so }}
upstreams:
  local:
    engine: {{ model: {root}/engine/demo/model, name: demo, device: cpu, context: 2048, slots: 4 }}
routes:
  - {{ name: default, upstream: local, policy: chat }}
"
    )
}

#[test]
fn bad_http2_frames_end_as_the_rfc_says() {
    run_script("h2_frames.py");
}
