//! Does a value conform to a schema of our document? The part of JSON Schema that the document uses, and a
//! panic on any other, so that nothing passes unchecked.

use serde_json::{Map, Value};

/// Check against a named schema.
pub(super) fn check(document: &Value, name: &str, value: &Value) {
    check_schema(document, &document["components"]["schemas"][name], value);
}

/// Check against a schema.
pub(super) fn check_schema(document: &Value, schema: &Value, value: &Value) {
    if let Err(problem) = conforms(document, schema, value) {
        panic!("{problem}\nvalue: {value}\nschema: {schema:#}");
    }
}

fn conforms(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = schema
        .as_object()
        .ok_or_else(|| format!("there is no schema: {schema}"))?;
    for (keyword, rule) in schema {
        match keyword.as_str() {
            "$ref" => {
                let pointer = rule.as_str().expect("a text").trim_start_matches('#');
                let schema = document
                    .pointer(pointer)
                    .ok_or(format!("{rule} leads nowhere"))?;
                conforms(document, schema, value)?;
            }
            "type" => has_type(rule, value)?,
            "enum" => {
                let allowed = rule.as_array().expect("a list");
                check_that(allowed.contains(value), || {
                    format!("{value} is not one of {rule}")
                })?;
            }
            "const" => check_that(rule == value, || format!("{value} is not {rule}"))?,
            "oneOf" | "anyOf" => {
                let schemas = rule.as_array().expect("a list");
                let fits = schemas
                    .iter()
                    .filter(|each| conforms(document, each, value).is_ok());
                let fits = fits.count();
                let right = if keyword == "oneOf" {
                    fits == 1
                } else {
                    fits > 0
                };
                check_that(right, || {
                    format!("{value} fits {fits} of {}", schemas.len())
                })?;
            }
            "allOf" => {
                for each in rule.as_array().expect("a list") {
                    conforms(document, each, value)?;
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    conforms(document, rule, item)?;
                }
            }
            "properties" => properties(document, rule, value)?,
            "required" => {
                for name in rule.as_array().expect("a list") {
                    let name = name.as_str().expect("a text");
                    let there = value
                        .as_object()
                        .is_none_or(|object| object.contains_key(name));
                    check_that(there, || format!("{name} is missing in {value}"))?;
                }
            }
            "minimum" => {
                let large_enough = value
                    .as_f64()
                    .is_none_or(|number| rule.as_f64().is_none_or(|least| number >= least));
                check_that(large_enough, || format!("{value} is below {rule}"))?;
            }
            "description" | "format" | "title" | "example" | "default" | "additionalProperties" => {
            }
            other => panic!("the check does not know {other}: teach it"),
        }
    }
    Ok(())
}

/// Every property conforms, and there is none that the schema does not know.
fn properties(document: &Value, rule: &Value, value: &Value) -> Result<(), String> {
    let empty = Map::new();
    let known = rule.as_object().expect("an object");
    for (name, value) in value.as_object().unwrap_or(&empty) {
        let schema = known
            .get(name)
            .ok_or_else(|| format!("{name} is not in the schema"))?;
        conforms(document, schema, value).map_err(|problem| format!("{name}: {problem}"))?;
    }
    Ok(())
}

fn has_type(rule: &Value, value: &Value) -> Result<(), String> {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("there is no type {other}"),
    };
    let fits = match rule {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        other => panic!("{other} is no type"),
    };
    check_that(fits, || format!("{value} is not of type {rule}"))
}

fn check_that(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}
