//! Grammars of calls, written for llguidance in its dialect of Lark.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::WHITESPACE;
use super::tools::{Function, Tools};
use crate::text::{Text, ToolCallFormat};

/// Rules in the making.
pub(super) struct Lark<'t> {
    /// Special tokens, which no text stands for.
    special: Vec<(String, u32)>,
    form: ToolCallFormat,
    tools: &'t Tools,
    rules: String,
}

/// A mark at which calls begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trigger {
    pub(super) mark: &'static str,
    /// It counts only as the first of an answer.
    pub(super) at_start: bool,
}

/// The marks that begin a call.
pub(super) fn triggers(form: ToolCallFormat) -> Vec<Trigger> {
    let anywhere = |mark| Trigger { mark, at_start: false };
    let at_start = |mark| Trigger { mark, at_start: true };
    match form {
        ToolCallFormat::Hermes => vec![anywhere("<tool_call>")],
        ToolCallFormat::Llama => vec![anywhere("<|python_tag|>"), at_start("{")],
        ToolCallFormat::Pythonic => vec![anywhere("<|python_start|>"), at_start("[")],
        ToolCallFormat::Lfm2 => vec![anywhere("<|tool_call_start|>")],
        ToolCallFormat::Mistral | ToolCallFormat::MistralNamed => vec![anywhere("[TOOL_CALLS]")],
        ToolCallFormat::DeepSeek | ToolCallFormat::DeepSeekPlain => vec![anywhere("<｜tool▁calls▁begin｜>")],
        ToolCallFormat::FunctionTag => vec![anywhere("<function=")],
        ToolCallFormat::Json => vec![at_start("{"), at_start("[")],
    }
}

impl<'t> Lark<'t> {
    pub(super) fn new(text: &Text, form: ToolCallFormat, tools: &'t Tools) -> Self {
        Self { special: text.special_tokens(), form, tools, rules: String::new() }
    }

    /// A grammar of the calls, or of them and `other`. `layout` allows white space in front.
    pub(super) fn grammar(mut self, other: Option<&Value>, layout: bool) -> Result<String, (String, String)> {
        let calls = self.calls()?;
        let layout = if layout { "layout? " } else { "" };
        let other = other.map_or_else(String::new, |schema| {
            self.rule("other", &format!("%json {}", spaced(schema.clone())));
            format!("| {layout}other")
        });
        self.rule("start", &format!("{layout}calls {other}"));
        self.rule("calls", &calls);
        self.rules.push_str("layout: /[ \\n\\r\\t]{1,8}/\nspace: /[ \\n]/\n");
        Ok(self.rules)
    }

    /// A grammar of one function's arguments alone, to tell whether they are at fault.
    pub(super) fn arguments_alone(mut self, function: &Function) -> Result<String, String> {
        let arguments = self.arguments(0, function)?;
        self.rule("start", &arguments);
        Ok(self.rules)
    }

    fn rule(&mut self, name: &str, body: &str) {
        writeln!(self.rules, "{name}: {body}").expect("a string takes all. This is a bug.");
    }

    /// All calls of an answer.
    fn calls(&mut self) -> Result<String, (String, String)> {
        let mut names = Vec::new();
        for (index, function) in self.tools.functions.iter().enumerate() {
            let fault = |message| (function.name.clone(), message);
            let arguments = self.arguments(index, function).map_err(fault)?;
            let call = self.call(function, &arguments);
            self.rule(&format!("call_{index}"), &call);
            names.push(format!("call_{index}"));
        }
        self.rule("call", &names.join(" | "));
        let several = self.tools.parallel;
        let repeated = |separator: &str| {
            if several { format!("call ({separator} call)*") } else { "call".to_owned() }
        };
        Ok(match self.form {
            ToolCallFormat::Hermes | ToolCallFormat::FunctionTag => repeated("space?"),
            ToolCallFormat::MistralNamed => repeated(""),
            ToolCallFormat::Llama => format!("{}{}", self.optional("<|python_tag|>"), repeated("\"; \"")),
            ToolCallFormat::Pythonic => {
                let (start, end) = (self.optional("<|python_start|>"), self.optional("<|python_end|>"));
                format!("{start}\"[\" {} \"]\" {end}", repeated("\", \""))
            }
            ToolCallFormat::Lfm2 => {
                let (start, end) = (self.literal("<|tool_call_start|>"), self.literal("<|tool_call_end|>"));
                format!("{start} \"[\" {} \"]\" {end}", repeated("\", \""))
            }
            ToolCallFormat::Mistral => {
                format!("{} space? \"[\" {} \"]\"", self.literal("[TOOL_CALLS]"), repeated("\", \""))
            }
            ToolCallFormat::DeepSeek | ToolCallFormat::DeepSeekPlain => {
                let (begin, end) =
                    (self.literal("<｜tool▁calls▁begin｜>"), self.literal("<｜tool▁calls▁end｜>"));
                format!("{begin} {} space? {end}", repeated("space?"))
            }
            ToolCallFormat::Json if several => format!("call | \"[\" {} \"]\"", repeated("\", \"")),
            ToolCallFormat::Json => "call".to_owned(),
        })
    }

    /// One call.
    fn call(&self, function: &Function, arguments: &str) -> String {
        let name = &function.name;
        let object = |member: &str| {
            let head = format!("{{\"name\": {}, \"{member}\": ", Value::from(name.as_str()));
            format!("{} {arguments} \"}}\"", self.literal(&head))
        };
        let between = |before: &str, behind: &str| {
            format!("{} {arguments} {}", self.literal(before), self.literal(behind))
        };
        match self.form {
            ToolCallFormat::Hermes => {
                let (open, close) = (self.literal("<tool_call>"), self.literal("</tool_call>"));
                format!("{open} space? {} space? {close}", object("arguments"))
            }
            ToolCallFormat::Llama => object("parameters"),
            ToolCallFormat::Mistral | ToolCallFormat::Json => object("arguments"),
            ToolCallFormat::Pythonic | ToolCallFormat::Lfm2 => between(&format!("{name}("), ")"),
            ToolCallFormat::FunctionTag => between(&format!("<function={name}>"), "</function>"),
            ToolCallFormat::MistralNamed => {
                let head = self.literal(&format!("[TOOL_CALLS]{name}"));
                format!("{head} {}{arguments}", self.optional("[ARGS]"))
            }
            ToolCallFormat::DeepSeek => between(
                &format!("<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n"),
                "\n```<｜tool▁call▁end｜>",
            ),
            ToolCallFormat::DeepSeekPlain => {
                between(&format!("<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>"), "<｜tool▁call▁end｜>")
            }
        }
    }

    /// The name of the rule for a function's arguments.
    fn arguments(&mut self, index: usize, function: &Function) -> Result<String, String> {
        let schema = self.tools.schema(function)?;
        let name = format!("arguments_{index}");
        if matches!(self.form, ToolCallFormat::Pythonic | ToolCallFormat::Lfm2) {
            self.keywords(&name, &schema)?;
        } else {
            self.rule(&name, &format!("%json {}", spaced(schema)));
        }
        Ok(name)
    }

    /// Python's keyword arguments in the order of the schema; `{name}` is the rule for all of them.
    fn keywords(&mut self, name: &str, schema: &Value) -> Result<(), String> {
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        if let Some(odd) = ["$ref", "anyOf", "oneOf", "allOf"].iter().find(|key| schema.get(**key).is_some())
        {
            return Err(format!("`parameters.{odd}`: arguments written in Python need plain `properties`"));
        }
        let required = |key: &str| {
            schema["required"].as_array().is_some_and(|keys| keys.iter().any(|required| required == key))
        };
        // `_0`: nothing is written yet; `_1`: something is, and a comma comes first.
        for (place, (key, value)) in properties.iter().enumerate() {
            let identifier = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !identifier {
                return Err(format!("`parameters.properties`: `{key}` is no name in Python"));
            }
            let mut value = value.clone();
            for definitions in ["$defs", "definitions"] {
                if let (Some(all), Some(value)) = (schema.get(definitions), value.as_object_mut()) {
                    value.insert(definitions.to_owned(), all.clone());
                }
            }
            self.rule(&format!("{name}_{place}_value"), &format!("%json {}", spaced(value)));
            let next = place + 1;
            for (written, comma) in ["", ", "].iter().enumerate() {
                let head = self.literal(&format!("{comma}{key}="));
                let mut body = format!("{head} {name}_{place}_value {name}_{next}_1");
                if !required(key) {
                    write!(body, " | {name}_{next}_{written}").expect("a string takes all. This is a bug.");
                }
                self.rule(&format!("{name}_{place}_{written}"), &body);
            }
        }
        let end = properties.len();
        for written in 0..2 {
            self.rule(&format!("{name}_{end}_{written}"), "\"\"");
        }
        self.rule(name, &format!("{name}_0_0"));
        Ok(())
    }

    /// A mark that may be missing, where the vocabulary has it.
    fn optional(&self, mark: &str) -> String {
        let known = self.special.iter().any(|(text, _)| text == mark);
        if known { format!("{}? ", self.literal(mark)) } else { String::new() }
    }

    /// A text as terminals: special tokens by their id, what stands between them as it is.
    fn literal(&self, text: &str) -> String {
        let mut terminals = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let found =
                self.special.iter().filter_map(|(mark, id)| Some((rest.find(mark.as_str())?, mark, *id)));
            let first = found.min_by_key(|(at, mark, _)| (*at, usize::MAX - mark.len()));
            let (plain, mark) = first.map_or((rest.len(), None), |(at, mark, id)| (at, Some((mark, id))));
            if plain > 0 {
                terminals.push(Value::from(&rest[..plain]).to_string());
            }
            rest = &rest[plain..];
            if let Some((mark, id)) = mark {
                terminals.push(format!("<[{id}]>"));
                rest = &rest[mark.len()..];
            }
        }
        terminals.join(" ")
    }
}

/// A schema with bounded white space.
pub(super) fn spaced(mut schema: Value) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("x-guidance".to_owned(), serde_json::json!({"whitespace_pattern": WHITESPACE}));
    }
    schema
}
