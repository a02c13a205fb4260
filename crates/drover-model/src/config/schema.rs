//! JSON Schema of the files that people write, so that an editor completes and checks them.
//!
//! Made from the same tables as the decoder. It describes one document; what needs several (references, quorums) and what
//! compares fields is for `config validate`.

use super::decode::rules;
use super::shapes::dataset::DATASET;
use super::shapes::region::REGION;
use super::shapes::runbook::{RUNBOOK, STEP};
use super::shapes::service::SERVICE;
use super::shapes::settings::SETTINGS;
use super::shapes::{Default, Field, Kind, Need, Shape};
use serde_json::{Map, Value, json};

/// The dialect of the schemas.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A length of time with its unit, as `Span` reads it.
const SPAN_PATTERN: &str = "^([0-9]+(d|h|ms|m|s) *)+$";
const PERCENT_PATTERN: &str = "^[0-9]+(\\.[0-9]{0,2})? *%$";
const RATE_PATTERN: &str = "^[0-9]+ *rps$";

/// Schema of one document of a configuration directory.
#[must_use]
pub fn config_schema() -> Value {
    json!({
        "$schema": DIALECT,
        "title": "drover configuration document",
        "oneOf": [object(&REGION), object(&SERVICE), object(&DATASET), object(&SETTINGS)],
    })
}

/// Schema of a runbook file.
#[must_use]
pub fn runbook_schema() -> Value {
    let mut schema = object(&RUNBOOK);
    if let Value::Object(map) = &mut schema {
        map.insert("$schema".into(), json!(DIALECT));
        map.insert("$defs".into(), json!({ "step": keyed(&STEP) }));
    }
    schema
}

fn object(shape: &Shape) -> Value {
    let mut properties = Map::new();
    for field in shape.fields {
        properties.insert(field.name.to_owned(), property(field));
    }
    let required: Vec<&str> =
        shape.fields.iter().filter(|f| matches!(f.need, Need::Required)).map(|f| f.name).collect();
    json!({
        "title": shape.name,
        "description": shape.doc,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(field: &Field) -> Value {
    let mut schema = kind(&field.kind);
    if let Value::Object(map) = &mut schema {
        map.insert("description".into(), json!(field.doc));
        if let Need::Default(value) = field.need
            && let Some(value) = default(value)
        {
            map.insert("default".into(), value);
        }
    }
    schema
}

fn default(value: Default) -> Option<Value> {
    match value {
        Default::Span(v) => Some(json!(v)),
        Default::Percent(v) => Some(json!(v)),
        Default::Percents(v) => Some(json!(v)),
        Default::Integer(v) => Some(json!(v)),
        Default::Integers(v) => Some(json!(v)),
        Default::Boolean(v) => Some(json!(v)),
        Default::Text(v) => Some(json!(v)),
        Default::Socket(v) => Some(json!(v.to_string())),
        Default::Nothing => Some(json!([])),
        Default::Object | Default::Derived => None,
    }
}

fn kind(of: &Kind) -> Value {
    match of {
        Kind::Text(rule) => match rules::pattern(*rule) {
            Some(pattern) => json!({ "type": "string", "pattern": pattern }),
            None => json!({ "type": "string", "minLength": 1 }),
        },
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Span { .. } => json!({ "type": "string", "pattern": SPAN_PATTERN, "examples": ["30s", "5m"] }),
        Kind::Percent { .. } => json!({ "type": "string", "pattern": PERCENT_PATTERN, "examples": ["5%"] }),
        Kind::Rate => json!({ "type": "string", "pattern": RATE_PATTERN, "examples": ["900rps"] }),
        Kind::Choice([word]) => json!({ "const": word }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::ChoiceOrSpan(words) => {
            json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": SPAN_PATTERN }] })
        }
        Kind::ChoiceOrInteger { words, min, max } => {
            json!({ "anyOf": [{ "enum": words }, { "type": "integer", "minimum": min, "maximum": max }] })
        }
        Kind::Ip => json!({ "type": "string", "examples": ["192.0.2.1", "2001:db8::1"] }),
        Kind::Socket { .. } => json!({ "type": "string", "examples": ["127.0.0.1:7400"] }),
        Kind::List { item, min, max } => {
            let items = kind(item);
            json!({ "type": "array", "items": items, "minItems": min, "maxItems": max })
        }
        Kind::Object(shape) => object(shape),
        Kind::Variants(shapes) => json!({ "oneOf": shapes.iter().map(|s| object(s)).collect::<Vec<_>>() }),
        Kind::Keyed(_) => json!({ "$ref": "#/$defs/step" }),
    }
}

/// A step: its word alone, where it needs nothing more, or the word with its options.
fn keyed(step: &Kind) -> Value {
    let Kind::Keyed(words) = step else { return kind(step) };
    let alone = |body: &Kind| match body {
        Kind::Object(shape) => shape.fields.iter().all(|f| !matches!(f.need, Need::Required)),
        _ => false,
    };
    let bare: Vec<&str> = words.iter().filter(|(_, body)| alone(body)).map(|(w, _)| *w).collect();
    let mut forms = vec![json!({ "enum": bare })];
    for (word, body) in *words {
        let mut value = kind(body);
        if alone(body) {
            value = json!({ "anyOf": [value, { "type": "null" }] });
        }
        forms.push(json!({
            "type": "object",
            "properties": { *word: value },
            "required": [word],
            "additionalProperties": false,
        }));
    }
    json!({ "oneOf": forms })
}

#[cfg(test)]
mod tests {
    //! Decoder, schema and encoder agree: on field names, on defaults, and on which documents are right.

    use super::*;
    use crate::config::decode::tests::{sample_world, shipped_runbooks};
    use crate::config::decode::{self, SourceFile};
    use crate::config::encode;
    use std::collections::{BTreeMap, BTreeSet};

    /// Property names by title of the object, from anywhere in a schema.
    fn properties(schema: &Value, into: &mut BTreeMap<String, BTreeSet<String>>) {
        if let (Some(title), Some(fields)) = (schema["title"].as_str(), schema["properties"].as_object()) {
            into.insert(title.to_owned(), fields.keys().cloned().collect());
        }
        match schema {
            Value::Object(map) => map.values().for_each(|v| properties(v, into)),
            Value::Array(items) => items.iter().for_each(|v| properties(v, into)),
            _ => {}
        }
    }

    /// Does `value` fit `schema`? The words that `kind` and `object` use, without patterns.
    fn fits(schema: &Value, value: &Value, root: &Value) -> bool {
        if let Some(reference) = schema["$ref"].as_str() {
            return fits(root.pointer(&reference[1..]).unwrap(), value, root);
        }
        let some = |word: &str| {
            schema[word].as_array().map(|forms| forms.iter().filter(|f| fits(f, value, root)).count())
        };
        let typed = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_u64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            Some("null") => value.is_null(),
            _ => true,
        };
        let fields = value.as_object().is_none_or(|map| {
            let known = |(k, v): (&String, &Value)| match schema["properties"].get(k) {
                Some(property) => fits(property, v, root),
                None => schema["additionalProperties"] != json!(false),
            };
            map.iter().all(known)
                && schema["required"]
                    .as_array()
                    .is_none_or(|r| r.iter().all(|k| map.contains_key(k.as_str().unwrap())))
        });
        let items = value.as_array().is_none_or(|items| {
            schema.get("items").is_none_or(|item| items.iter().all(|v| fits(item, v, root)))
        });
        let bounds = value.as_f64().is_none_or(|n| {
            schema["minimum"].as_f64().is_none_or(|m| n >= m)
                && schema["maximum"].as_f64().is_none_or(|m| n <= m)
        });
        typed
            && fields
            && items
            && bounds
            && schema.get("const").is_none_or(|c| c == value)
            && schema["enum"].as_array().is_none_or(|words| words.contains(value))
            && some("oneOf").is_none_or(|n| n == 1)
            && some("anyOf").is_none_or(|n| n > 0)
    }

    fn json_of(yaml: &saphyr::Yaml<'_>) -> Value {
        use saphyr::{Scalar, Yaml};
        match yaml {
            Yaml::Value(Scalar::String(s)) => json!(s),
            Yaml::Value(Scalar::Integer(n)) => json!(n),
            Yaml::Value(Scalar::FloatingPoint(n)) => json!(n.into_inner()),
            Yaml::Value(Scalar::Boolean(b)) => json!(b),
            Yaml::Sequence(items) => items.iter().map(json_of).collect(),
            Yaml::Mapping(map) => {
                map.iter().map(|(k, v)| (k.as_str().unwrap().to_owned(), json_of(v))).collect()
            }
            _ => Value::Null,
        }
    }

    fn documents(text: &str) -> Vec<Value> {
        use saphyr::LoadableYamlNode;
        saphyr::Yaml::load_from_str(text).unwrap().iter().map(json_of).collect()
    }

    const EVERY_KIND_OF_CHECK: &str = "\
kind: Service
name: a
dns: {name: a.test}
endpoints: [{region: x, address: 192.0.2.1, port: 1, capacity: 1rps}]
app_checks: [{name: c, path: /}]
metrics: {}
health_check: {kind: https, secret_header: {name: A, file: b}}
traffic: {kind: access_log, path: /a, drained_below: 1rps}
---
kind: Service
name: b
dns: {name: b.test}
endpoints: [{region: x, address: 192.0.2.2, port: 1, capacity: 1rps}]
health_check: {kind: tcp}
traffic: {kind: connections, drained_below: 1}
---
kind: Service
name: c
dns: {name: c.test}
endpoints: [{region: x, address: 192.0.2.3, port: 1, capacity: 1rps}]
traffic: {kind: prometheus, url: 'http://p.test', query: q, drained_below: 1rps}
---
kind: Region
name: x
location: {city: X, latitude: 0, longitude: 0, jurisdiction: X}
agents: [{name: x-1}]
---
kind: Dataset
name: d
holder: x-1
members: [{agent: x-1, peer: '192.0.2.1:7414'}]
---
kind: Settings
dns:
  zone: test
  nameservers: [{name: ns.test, address: 192.0.2.1}]
  instances: [{name: i, control: 127.0.0.1:1, query: 127.0.0.1:2}]
  records: [{id: spf, name: test, type: TXT, values: [v=spf1 -all]}]
  geography: {networks: [{cidr: 192.0.2.0/24, prefer: [x], jurisdiction: X}]}
paging: {webhook: {url: 'https://a.test/', secret_file: s}}
";

    const OTHER_SERVERS: &str = "\
kind: Settings
dns:
  kind: rfc2136
  zone: test
  primary: 192.0.2.1:53
  servers: [{name: ns1, query: 192.0.2.1:53}]
  key: {name: drover, secret_file: s}
  weights: lua
store: {etcd: {endpoints: [http://192.0.2.1:2379]}}
";

    const HOSTED_ZONE: &str = "\
kind: Settings
dns:
  kind: route53
  zone: test
  hosted_zone: Z1
  servers: [{name: ns1, query: 192.0.2.1:53}]
  health_checks:
    status_servers: [{agent: x-1, url: 'http://192.0.2.7:7412'}, {agent: x-2, url: 'http://192.0.2.8:7412'}]
---
kind: Service
name: d
dns: {name: d.test, ttl: 60s}
endpoints: [{region: x, address: lb.test, alias: {hosted_zone: Z2}, port: 1, capacity: 1rps}]
";

    const EVERY_KIND_OF_STEP: &str = "\
kind: Runbook
name: a
purpose: failback
description: d
steps:
  - preflight
  - verify_app
  - approve: {message: m}
  - notify: {message: m}
  - wait: {for: 3s}
  - drained
  - run: {command: [/bin/a], repeatability: observable, observe: [/bin/b]}
  - ramp: [shift_traffic, verify_dns: {}, validate: {}]
";

    #[test]
    fn the_decoder_reads_exactly_the_fields_of_the_schema() {
        let mut described = BTreeMap::new();
        properties(&config_schema(), &mut described);
        properties(&runbook_schema(), &mut described);
        described.retain(|_, fields| !fields.is_empty());
        let files =
            |texts: &[&str]| texts.iter().map(|text| SourceFile::new("f.yaml", *text)).collect::<Vec<_>>();
        let kinds = files(&[EVERY_KIND_OF_CHECK, OTHER_SERVERS, HOSTED_ZONE]);
        let read = decode::asked_of(&kinds, &files(&[EVERY_KIND_OF_STEP]));
        assert_eq!(read, described);
    }

    #[test]
    fn shipped_files_and_what_drover_writes_fit_the_schema() {
        let schema = config_schema();
        let config = decode::load(&sample_world()).unwrap().config;
        let shown = encode::to_yaml(&config);
        let odd = decode::load(&[SourceFile::new("f.yaml", EVERY_KIND_OF_CHECK)]).unwrap().config;
        let texts = sample_world().into_iter().map(|f| f.text).chain([shown, encode::to_yaml(&odd)]);
        for document in texts.flat_map(|t| documents(&t)) {
            assert!(fits(&schema, &document, &schema), "{document:#}");
        }
        let schema = runbook_schema();
        let texts = shipped_runbooks().into_iter().map(|f| f.text).chain([EVERY_KIND_OF_STEP.to_owned()]);
        for document in texts.flat_map(|t| documents(&t)) {
            assert!(fits(&schema, &document, &schema), "{document:#}");
        }
    }

    #[test]
    fn the_schema_refuses_what_the_decoder_refuses() {
        let schema = config_schema();
        let text = sample_world().into_iter().find(|f| f.name.ends_with("services.yaml")).unwrap().text;
        for (from, to) in [
            ("priority: 1 ", "priority: 0 "),
            ("ttl: 30s ", "ttl: 30 "),
            ("capacity: 250rps", "capactiy: 250rps"),
            ("kind: http\n", "kind: htttp\n"),
            ("automatic: true", "automatic: yes please"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            assert!(!fits(&schema, &documents(&changed)[0], &schema), "{to} fits");
        }
    }

    #[test]
    fn the_defaults_of_the_schema_are_those_of_the_decoder() {
        let config = decode::load(&[SourceFile::new("f.yaml", EVERY_KIND_OF_CHECK)]).unwrap().config;
        let written = documents(&encode::to_yaml(&config));
        let schema = config_schema();
        let mut compared = 0;
        for document in &written {
            let kind = &document["kind"];
            let forms = schema["oneOf"].as_array().unwrap();
            let form = forms.iter().find(|f| f["properties"]["kind"]["const"] == *kind).unwrap();
            compared += compare_defaults(form, document);
        }
        assert!(compared > 60, "only {compared} defaults were compared");
    }

    /// Every default of `schema` that `value` holds must be equal to it; counts them.
    fn compare_defaults(schema: &Value, value: &Value) -> usize {
        let Some(fields) = schema["properties"].as_object() else { return 0 };
        let mut compared = 0;
        for (name, property) in fields {
            let Some(inner) = value.get(name) else { continue };
            // Set in the text, because every kind of object had to be there.
            let given = ["app_checks", "agents", "kind"].contains(&name.as_str());
            if let (Some(default), false) = (property.get("default"), given) {
                assert_eq!(default, inner, "{name}");
                compared += 1;
            }
            compared += compare_defaults(property, inner);
        }
        compared
    }
}
