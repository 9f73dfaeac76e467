//! How the families of models write tool calls.

use std::sync::Arc;

use super::ToolCallParser;

/// How a model writes tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolCallFormat {
    /// Hermes, Qwen: an object between `<tool_call>` and `</tool_call>`.
    Hermes,
    /// Llama 3: an object with `parameters`, behind `<|python_tag|>` or as the whole answer; more of them behind `;`.
    Llama,
    /// Llama 3.2 and 4: a Python list of calls, `[f(a=1), g()]`, as the whole answer or behind `<|python_start|>`.
    Pythonic,
    /// LFM2: a Python list, or a list of objects, between `<|tool_call_start|>` and `<|tool_call_end|>`.
    Lfm2,
    /// Mistral up to 2024: `[TOOL_CALLS]` and a list of objects.
    Mistral,
    /// Mistral since then: `[TOOL_CALLS]name[ARGS]{..}` for each call.
    MistralNamed,
    /// DeepSeek V3 and R1: name and fenced arguments between `<｜tool▁call▁begin｜>` and `<｜tool▁call▁end｜>`.
    DeepSeek,
    /// DeepSeek V3.1: the same with `name<｜tool▁sep｜>{..}` between the marks.
    DeepSeekPlain,
    /// Functionary and Llama 3.1's own form for functions: `<function=name>{..}</function>`.
    FunctionTag,
    /// Any other: objects, or a list of them, as the whole answer.
    Json,
}

impl ToolCallFormat {
    /// All families, those with the surest marks first.
    pub(super) const ALL: [Self; 10] = [
        Self::Hermes,
        Self::Lfm2,
        Self::MistralNamed,
        Self::Mistral,
        Self::DeepSeekPlain,
        Self::DeepSeek,
        Self::FunctionTag,
        Self::Llama,
        Self::Pythonic,
        Self::Json,
    ];

    /// A parser for one answer, which takes a call of any name. Use it only where the request offers tools.
    pub fn parser(self) -> ToolCallParser {
        ToolCallParser::new(self.form(), Known::any())
    }

    /// A parser for one answer to a request that offers the functions `names`: where calls have no marks, an object
    /// that names another function is text.
    pub fn parser_for(self, names: &Arc<[String]>) -> ToolCallParser {
        ToolCallParser::new(self.form(), Known(Some(names.clone())))
    }

    /// The marks that must stay visible when tokens become text.
    pub(in crate::text) fn marks(self) -> impl Iterator<Item = &'static str> {
        let form = self.form();
        form.opening.iter().chain(form.closing).chain(form.inside).copied()
    }

    pub(super) fn form(self) -> &'static Form {
        match self {
            Self::Hermes => &HERMES,
            Self::Llama => &LLAMA,
            Self::Pythonic => &PYTHONIC,
            Self::Lfm2 => &LFM2,
            Self::Mistral | Self::MistralNamed => &MISTRAL,
            Self::DeepSeek | Self::DeepSeekPlain => &DEEPSEEK,
            Self::FunctionTag => &FUNCTION_TAG,
            Self::Json => &JSON,
        }
    }
}

/// What a parser looks for.
#[derive(Debug)]
pub(super) struct Form {
    /// Marks before a call or several.
    pub(super) opening: &'static [&'static str],
    /// Characters that begin a call without a mark, at the answer's beginning.
    pub(super) bare: &'static [char],
    /// What stands behind the mark.
    pub(super) inside_is: Inside,
    /// Marks within a call.
    pub(super) inside: &'static [&'static str],
    /// Marks behind the calls, each of which may be missing.
    pub(super) closing: &'static [&'static str],
}

/// What stands behind a mark.
#[derive(Debug, Clone, Copy)]
pub(super) enum Inside {
    /// Objects with a name and one of these members.
    Objects { members: &'static [&'static str], many: Many },
    /// A list of Python calls.
    Pythonic,
    /// A name, known from what stands before the arguments' brace, and the arguments.
    Framed(fn(&str) -> Option<&str>),
    /// Mistral's: a list of objects, or a name and arguments.
    ListOrFramed(fn(&str) -> Option<&str>),
    /// A list of objects or of Python calls.
    ListOrPythonic,
}

/// How many objects there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Many {
    One,
    /// One behind the other, with `;` or `,` between them.
    Chained,
    /// The same, or a list.
    ListOrChained,
}

/// Names of functions; none: any.
#[derive(Debug, Clone)]
pub(super) struct Known(Option<Arc<[String]>>);

impl Known {
    pub(super) fn any() -> Self {
        Self(None)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.iter().any(|known| known == name))
    }
}

const EITHER: &[&str] = &["arguments", "parameters"];

static HERMES: Form = Form {
    opening: &["<tool_call>"],
    bare: &[],
    inside_is: Inside::Objects { members: &["arguments"], many: Many::One },
    inside: &[],
    closing: &["</tool_call>"],
};

static LLAMA: Form = Form {
    opening: &["<|python_tag|>"],
    bare: &['{'],
    inside_is: Inside::Objects { members: EITHER, many: Many::Chained },
    inside: &[],
    closing: &[],
};

static PYTHONIC: Form = Form {
    opening: &["<|python_start|>", "<|python_tag|>"],
    bare: &['['],
    inside_is: Inside::Pythonic,
    inside: &[],
    closing: &["<|python_end|>"],
};

static LFM2: Form = Form {
    opening: &["<|tool_call_start|>"],
    bare: &[],
    inside_is: Inside::ListOrPythonic,
    inside: &[],
    closing: &["<|tool_call_end|>"],
};

static MISTRAL: Form = Form {
    opening: &["[TOOL_CALLS]"],
    bare: &[],
    inside_is: Inside::ListOrFramed(mistral_name),
    inside: &["[CALL_ID]", "[ARGS]"],
    closing: &[],
};

static DEEPSEEK: Form = Form {
    opening: &["<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>", "<｜tool▁call▁begin｜>"],
    bare: &[],
    inside_is: Inside::Framed(deepseek_name),
    inside: &["<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>"],
    closing: &["```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"],
};

static FUNCTION_TAG: Form = Form {
    opening: &["<function="],
    bare: &[],
    inside_is: Inside::Framed(|head| plain(head.trim().strip_suffix('>')?)),
    inside: &[],
    closing: &["</function>"],
};

static JSON: Form = Form {
    opening: &[],
    bare: &['{', '['],
    inside_is: Inside::Objects { members: EITHER, many: Many::ListOrChained },
    inside: &[],
    closing: &[],
};

/// `name`, `name[ARGS]` or `name[CALL_ID]id[ARGS]`.
fn mistral_name(head: &str) -> Option<&str> {
    match head.trim().split_once('[') {
        None => plain(head),
        Some((name, marks)) => marks.ends_with("ARGS]").then(|| plain(name)).flatten(),
    }
}

/// ``function<｜tool▁sep｜>name ```json`` or `name<｜tool▁sep｜>`.
fn deepseek_name(head: &str) -> Option<&str> {
    let (first, second) = head.split_once("<｜tool▁sep｜>")?;
    if second.trim().is_empty() { plain(first) } else { plain(second.trim_end().strip_suffix("```json")?) }
}

/// A name of one word.
fn plain(name: &str) -> Option<&str> {
    let name = name.trim();
    let odd = |c: char| c.is_whitespace() || c.is_control() || "<>{}[]()\"'`".contains(c);
    (!name.is_empty() && !name.contains(odd)).then_some(name)
}
