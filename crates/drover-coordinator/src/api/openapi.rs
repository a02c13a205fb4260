//! The OpenAPI 3.1 document, made from the route table and the types' own schemas.

use super::{Route, table};
use crate::access::Needs;
use axum::Json;
use drover_model::api::Problem;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Serves the document.
pub async fn document() -> Json<Value> {
    Json(build())
}

/// Builds the document.
pub(crate) fn build() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|s| s.definitions_path = "/components/schemas".into())
        .into_generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths: Map<String, Value> = Map::new();
    for route in table() {
        let operation = operation(&route, &mut generator, &problem);
        let item = paths.entry(route.path.to_owned()).or_insert_with(|| json!({}));
        item[route.method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "drover coordinator", "version": env!("CARGO_PKG_VERSION"), "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" } },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator, problem: &schemars::Schema) -> Value {
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    if route.command {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": true, "schema": { "type": "string", "maxLength": 128 },
            "description": "Names this command: sent twice it is done once, and the first answer comes back",
        }));
    }
    for q in route.query {
        parameters.push(json!({
            "name": q.name, "in": "query", "required": q.required, "description": q.description,
            "schema": { "type": q.kind },
        }));
    }
    let success = match route.response {
        Some(of) => {
            json!({ "description": "done", "content": { "application/json": { "schema": of(generator) } } })
        }
        None => json!({ "description": "done" }),
    };
    let mut operation = json!({
        "summary": route.summary,
        "operationId": format!("{}{}", route.method, route.path.replace(['/', '{', '}', '.'], "_")),
        "parameters": parameters,
        "responses": {
            "200": success,
            "default": { "description": "refused or failed", "content": { "application/problem+json": { "schema": problem } } },
        },
    });
    if let Needs::Role(role) = route.needs {
        operation["x-drover-role"] = json!(role);
        operation["security"] = json!([{ "token": [] }, {}]);
    }
    if let Some(of) = route.request {
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": of(generator) } } });
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_document_resolves() {
        let document = build();
        let text = document.to_string();
        let defined = document["components"]["schemas"].as_object().unwrap();
        let mut seen = 0;
        for part in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(defined.contains_key(name), "no schema {name}");
            seen += 1;
        }
        assert!(seen > 20, "only {seen} references");
        assert_eq!(document["paths"].as_object().unwrap().len(), super::super::table().len());
    }

    #[test]
    fn whatever_is_paged_says_how() {
        let document = build();
        let mut paged = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let answer = item["get"]["responses"]["200"]["content"]["application/json"]["schema"].to_string();
            if !answer.contains("schemas/Page") {
                continue;
            }
            let of = item["get"]["parameters"].as_array().unwrap();
            let names: Vec<_> = of.iter().filter(|p| p["in"] == "query").map(|p| p["name"].clone()).collect();
            assert!(names.contains(&json!("cursor")) && names.contains(&json!("limit")), "{path}: {names:?}");
            paged.push(path.as_str());
        }
        assert!(paged.len() >= 3, "{paged:?}");
    }
}
