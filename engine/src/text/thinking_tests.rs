use proptest::prelude::*;

use super::*;
use crate::text::template::tests::compile;

const THINK: ThinkingFormat = ThinkingFormat { pair: PAIRS[0] };

fn parted(chunks: &[&str], opened: bool) -> (String, String) {
    let mut parser = THINK.parser(opened);
    let mut parts: Vec<Parted> = chunks.iter().map(|chunk| parser.push(chunk)).collect();
    parts.push(parser.finish());
    let join = |of: fn(&Parted) -> &str| parts.iter().map(of).collect();
    (join(|part| &part.thoughts), join(|part| &part.answer))
}

/// The outputs that vLLM's tests of its `deepseek_r1` and `qwen3` reasoning parsers use; white space at the seams is
/// cut as `DeepSeek`'s own API does.
#[test]
fn thoughts_and_answer_are_parted() {
    for (opened, text, thoughts, answer) in [
        (
            true,
            "This is a reasoning section</think>This is the rest",
            "This is a reasoning section",
            "This is the rest",
        ),
        (true, "This is content", "This is content", ""),
        (true, "This is a reasoning section</think>", "This is a reasoning section", ""),
        (true, "This\nThat</think>This is the rest\nThat", "This\nThat", "This is the rest\nThat"),
        (
            false,
            "<think>This is a reasoning section</think>This is the rest",
            "This is a reasoning section",
            "This is the rest",
        ),
        (
            false,
            "\n<think>This is a reasoning section</think>\nThis is the rest",
            "This is a reasoning section",
            "This is the rest",
        ),
        (false, "<think>\n\n</think>\n\nHi.", "", "Hi."),
        (false, "This is content", "", "This is content"),
        (false, " Hi <think>a</think>", "", " Hi <think>a</think>"),
        (false, "<think>a < b </thi </think> c", "a < b </thi", "c"),
        (false, "<think>cut </thin", "cut </thin", ""),
        (false, "<thin", "", "<thin"),
        (false, "", "", ""),
        (false, "<think>a</think><think>b</think>", "a", "<think>b</think>"),
        (true, "<</think>x", "<", "x"),
    ] {
        assert_eq!(parted(&[text], opened), (thoughts.to_owned(), answer.to_owned()), "{text}");
    }
}

#[test]
fn thoughts_stream_as_they_are_written() {
    let mut parser = THINK.parser(false);
    let thoughts = |text: &str| Parted { thoughts: text.to_owned(), ..Parted::default() };
    assert_eq!(parser.push("<think>"), Parted::default());
    assert!(parser.thinking());
    assert_eq!(parser.push("\nOne "), thoughts("One"));
    assert_eq!(parser.push("two"), thoughts(" two"));
    assert_eq!(parser.push(" </"), Parted::default());
    let rest = Parted { answer: "Done".to_owned(), ..Parted::default() };
    assert_eq!((parser.push("think>\n\nDone"), parser.thinking()), (rest, false));
}

/// What the published templates of reasoning models do, each in a few words.
#[test]
fn the_template_tells_the_marks() {
    let turn = "{% for m in messages %}<|{{ m.role }}|>";
    let plain = "{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
    // Qwen3: thoughts of the running turn apart, empty ones where they are switched off.
    let qwen = format!(
        "{turn}{{% if m.reasoning_content is string %}}{{{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}}}{{% endif %}}{plain}\
         {{% if enable_thinking is defined and enable_thinking is false %}}<think>\n\n</think>\n\n{{% endif %}}"
    );
    // DeepSeek R1: earlier thoughts are cut, the generation prompt opens new ones.
    let cut = "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('</think>')[-1] }}{% endfor %}";
    let r1 = format!("{cut}{{% if add_generation_prompt %}}<|Assistant|><think>\n{{% endif %}}");
    // Magistral: a part of the content.
    let magistral = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}\
         {% if part.type == 'thinking' %}[THINK]{{ part.thinking }}[/THINK]{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}";
    let opened = format!("{turn}{plain}<seed:think>");
    for (template, marks) in [
        (qwen.as_str(), Some("<think>")),
        (&r1, Some("<think>")),
        (cut, Some("<think>")),
        (magistral, Some("[THINK]")),
        (&opened, Some("<seed:think>")),
        (&format!("{turn}{plain}"), None),
        ("{{ raise_exception('no') }}", None),
        ("nothing", None),
    ] {
        let found = detect(&compile(&[("default", template)]).unwrap());
        assert_eq!(found.map(ThinkingFormat::opening), marks, "{template}");
    }
}

#[test]
fn the_prompt_tells_where_the_answer_begins() {
    assert!(THINK.opened_by("<|assistant|><think>\n"));
    assert!(!THINK.opened_by("<|assistant|>\n<think>\n\n</think>\n\n"));
    assert!(!THINK.opened_by("<|assistant|>\n"));
}

proptest! {
    #[test]
    fn cutting_makes_no_difference(
        text in r"(<think>|</think>|</|think|>|<| |\n|a|é){0,12}",
        sizes in prop::collection::vec(1_usize..5, 1..8),
        opened: bool,
    ) {
        let (mut chunks, mut rest) = (Vec::new(), text.as_str());
        for size in sizes.iter().cycle() {
            let Some((at, _)) = rest.char_indices().nth(*size) else { break };
            chunks.push(&rest[..at]);
            rest = &rest[at..];
        }
        chunks.push(rest);
        prop_assert_eq!(parted(&chunks, opened), parted(&[&text], opened));
    }

    #[test]
    fn without_an_opening_mark_nothing_changes(text in r"(</think>|<thin|a| |\n|k>){0,8}") {
        if !text.trim_start().starts_with("<think>") {
            prop_assert_eq!(parted(&[&text], false), (String::new(), text));
        }
    }
}
