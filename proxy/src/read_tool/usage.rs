//! The usage of several rounds together.

use serde_json::Value;

/// Adds the numbers of a usage object to a sum, member by member.
pub(super) fn add(sum: &mut Value, usage: &Value) {
    match (sum, usage) {
        (Value::Object(sum), Value::Object(usage)) => {
            for (name, value) in usage {
                add(sum.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (sum @ Value::Number(_), Value::Number(_)) => {
            let both = sum.as_u64().zip(usage.as_u64()).map(|(sum, more)| sum.saturating_add(more));
            if let Some(both) = both {
                *sum = both.into();
            }
        }
        (sum @ Value::Null, usage) => *sum = usage.clone(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_add_up_wherever_they_stand() {
        let mut sum = Value::Null;
        add(&mut sum, &json!({"prompt_tokens": 3, "details": {"cached": 1}, "tier": "a"}));
        add(&mut sum, &json!({"prompt_tokens": 4, "details": {"cached": 2, "audio": 5}, "cost": 0.5}));
        assert_eq!(
            sum,
            json!({"prompt_tokens": 7, "details": {"cached": 3, "audio": 5}, "tier": "a", "cost": 0.5})
        );
    }
}
