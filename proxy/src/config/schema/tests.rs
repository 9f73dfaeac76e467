use super::*;

#[test]
fn every_option_is_described() {
    let schema = schema();
    let definitions = schema["$defs"].as_object().expect("definitions").values().chain([&schema]);
    for definition in definitions {
        for (key, option) in definition.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let described = option.get("description").or_else(|| option.get("$ref"));
            assert!(described.is_some(), "`{key}` has no description");
        }
    }
}

#[test]
fn maps_of_options_refuse_unknown_keys() {
    let schema = schema();
    for (name, definition) in schema["$defs"].as_object().expect("definitions") {
        if definition.get("properties").is_some() {
            assert_eq!(definition["additionalProperties"], false, "{name}");
        }
    }
}

#[test]
fn places_know_their_types_and_keys() {
    let shape = Shape::new();
    let path = |text| Path::parse(text).expect("a path");
    assert_eq!(shape.types(&path("limits.body")), ["integer", "string"]);
    assert_eq!(shape.types(&path("routes[0].window")), ["integer", "null"]);
    assert_eq!(shape.types(&path("telemetry.otlp.headers.any")), ["string"]);
    assert_eq!(shape.types(&path("nowhere.at.all")), Vec::<String>::new());
    assert!(shape.keys(&path("telemetry.otlp")).contains(&"endpoint"));
}

/// Editors read it from the repository: `plimsoll validate --schema > config.schema.json` writes it anew.
#[test]
fn the_committed_schema_is_the_generated_one() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config.schema.json");
    let committed = std::fs::read_to_string(file).expect("readable");
    let generated = serde_json::to_string_pretty(&schema()).expect("JSON") + "\n";
    assert!(committed == generated, "write it anew: plimsoll validate --schema > config.schema.json");
}
