//! A text that must not be shown.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

/// A credential: readable by [`Secret::expose`] alone, masked wherever it is shown or serialised.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Secret(String);

/// What stands in a secret's place.
const MASK: &str = "[redacted]";

impl Secret {
    /// The credential itself, for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    /// `writeOnly` is JSON Schema's own word for it; faults at such a place never show the value.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true, "minLength": 1, "examples": ["${NAME_OF_A_VARIABLE}"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_wherever_it_is_shown() {
        let secret = Secret("canary".to_owned());
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(serde_json::to_string(&secret).expect("serialises"), "\"[redacted]\"");
        assert_eq!(secret.expose(), "canary");
    }
}
