use std::path::Path;

use super::*;
use crate::text::shared::shared;

/// A ChatML tokenizer with another template.
fn crafted(template: &str) -> Option<Certificate> {
    let tokenizer = shared("models/tokenizers/chatml")?;
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(tokenizer.join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    Some(of(folder.path()))
}

fn of(folder: &Path) -> Certificate {
    Text::load(folder).unwrap().certificate().unwrap()
}

fn shape<'a>(certificate: &'a Certificate, name: &str) -> &'a Shape {
    certificate.shapes.iter().find(|shape| shape.name == name).unwrap()
}

fn diverging(certificate: &Certificate) -> Vec<&'static str> {
    certificate.shapes.iter().filter(|shape| !shape.holds()).map(|shape| shape.name).collect()
}

const PLAIN: &str =
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

#[test]
fn the_shared_templates_are_stable() {
    for folder in ["models/qwen2/genai", "models/lfm2/genai", "models/tokenizers/chatml", "demo-model/model"]
    {
        let Some(path) = shared(folder) else { return };
        let certificate = of(&path);
        assert_eq!(diverging(&certificate), Vec::<&str>::new(), "{folder}: {certificate:#?}");
        assert!(certificate.stable && certificate.date.is_none(), "{folder}");
        assert_eq!(certificate.reasoning, Reasoning::Ignored, "{folder}");
    }
}

#[test]
fn a_date_is_found_and_shown() {
    for folder in ["models/llama/genai", "models/tokenizers/llama3"] {
        let Some(path) = shared(folder) else { return };
        let certificate = of(&path);
        let date = certificate.date.as_ref().unwrap_or_else(|| panic!("{folder} writes the date"));
        assert!(date.before != date.after && date.token > 0 && date.token < date.of, "{date:?}");
        // A day's own conversations grow by their end.
        assert!(shape(&certificate, "chat").holds(), "{certificate:#?}");
        // Llama 3 takes one call at a time: a refusal is no divergence.
        let refused = &shape(&certificate, "parallel_tools").with_generation_prompt;
        assert!(
            matches!(refused, Stability::Refused { reason } if reason.contains("single tool-calls")),
            "{refused:?}"
        );
    }
}

#[test]
fn a_think_block_in_the_last_turn_alone_is_a_divergence() {
    // As Qwen3 does where thinking is switched off.
    let Some(certificate) = crafted(&PLAIN.replace(
        "assistant\n' }}",
        "assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
    )) else {
        return;
    };
    assert!(!certificate.stable);
    assert_eq!(diverging(&certificate), ["no_thinking"]);
    let shape = shape(&certificate, "no_thinking");
    assert_eq!(shape.without_generation_prompt, Stability::Stable);
    let Stability::Diverges(found) = &shape.with_generation_prompt else { panic!("{shape:?}") };
    assert_eq!(found.request, 1);
    assert!(found.before.contains("think") && found.after.starts_with("Good"), "{found:?}");
}

#[test]
fn reasoning_that_is_dropped_once_its_turn_is_over_is_a_divergence() {
    // As Qwen3 and DeepSeek R1 do: reasoning is written behind the last user message alone.
    let Some(certificate) = crafted(
        "{%- set ns = namespace(query=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.query = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}
{%- if m.reasoning_content and loop.index0 > ns.query %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}
{{- m.content }}{% for call in m.tool_calls or [] %}{{ call | tojson }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ) else {
        return;
    };
    assert_eq!(certificate.reasoning, Reasoning::Dropped);
    assert_eq!(diverging(&certificate), ["thinking_and_tools"], "{certificate:#?}");
    let Stability::Diverges(found) = &shape(&certificate, "thinking_and_tools").without_generation_prompt
    else {
        panic!("{certificate:#?}")
    };
    // Within the tool loop the prompt grows; the next user message takes the thoughts away.
    assert_eq!(found.request, 3);
    assert!(found.before.starts_with('<'), "{found:?}");
}

#[test]
fn a_clock_in_the_midst_and_a_counter_of_messages_are_found() {
    let Some(clock) = crafted(&format!("{PLAIN}{{{{ strftime_now('%d %B %Y') }}}}")) else { return };
    assert!(clock.date.is_some());
    let counter = crafted(&format!("{{{{ messages | length }}}} messages\n{PLAIN}")).unwrap();
    assert!(counter.date.is_none() && !counter.stable);
    let Stability::Diverges(found) = &shape(&counter, "chat").without_generation_prompt else { panic!() };
    assert_eq!((found.request, found.token), (1, 0));
    assert!(found.before.starts_with('1') && found.after.starts_with('3'), "{found:?}");
    let kept = PLAIN.replace("m.content +", "(m.reasoning_content or '') + m.content +");
    let kept = crafted(&kept).unwrap();
    assert_eq!((kept.reasoning, kept.stable), (Reasoning::Kept, true));
}

#[test]
fn a_model_without_a_template_has_no_certificate() {
    let Some(tokenizer) = shared("models/tokenizers/chatml") else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(tokenizer.join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    assert!(Text::load(folder.path()).unwrap().certificate().is_none());
}
