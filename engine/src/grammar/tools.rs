//! The tools that an answer may or must call.

use serde_json::{Value, json};

/// A function that can be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// JSON schema of its arguments; none: it takes none.
    pub parameters: Option<Value>,
    /// Its calls are held to the schema wherever calls are held to a form at all.
    pub strict: bool,
}

/// Whether the answer calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// As the model decides.
    Auto,
    /// It must, and each call is held to its function's schema.
    Required,
}

/// Functions and how they may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Tools {
    /// The functions.
    pub functions: Vec<Function>,
    /// Whether one must be called.
    pub choice: Choice,
    /// More than one call in an answer.
    pub parallel: bool,
    /// The prompt shows more functions than these, which may not be called.
    pub only: bool,
}

impl Tools {
    /// Whether nothing is asked that a grammar would have to hold.
    pub fn free(&self) -> bool {
        let strict = self.functions.iter().any(|function| function.strict);
        self.choice == Choice::Auto && self.parallel && !self.only && !strict
    }

    /// What a function's arguments must be: an object, by its schema where that is to be kept.
    pub(super) fn schema(&self, function: &Function) -> Result<Value, String> {
        if !function.strict && self.choice == Choice::Auto {
            return Ok(json!({"type": "object"}));
        }
        let Some(parameters) = &function.parameters else {
            return Ok(json!({"type": "object", "properties": {}, "additionalProperties": false}));
        };
        let mut schema = parameters.clone();
        let Some(fields) = schema.as_object_mut() else {
            return Err("`parameters` must be a JSON schema, an object".to_owned());
        };
        match fields.get("type") {
            None => {
                fields.insert("type".to_owned(), "object".into());
            }
            Some(kind) if kind == "object" => {}
            Some(kind) => return Err(format!("`parameters.type` must be `object`, found `{kind}`")),
        }
        Ok(schema)
    }
}
