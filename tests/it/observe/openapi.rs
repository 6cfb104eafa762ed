//! What can be asked for, as `OpenAPI`: against the official schema of that format.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Gateway, demo, server};

/// "The description of `OpenAPI` v3.1.x documents", from spec.openapis.org.
const OFFICIAL: &str = include_str!("../../fixtures/openapi/schema-3.1.json");

#[track_caller]
fn check(document: &Value) {
    let official: Value = serde_json::from_str(OFFICIAL).unwrap();
    let official = jsonschema::draft202012::new(&official).unwrap();
    let wrong: Vec<String> =
        official.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut references = BTreeSet::new();
    collect(document, &mut references);
    assert!(!references.is_empty());
    for reference in references.iter().filter(|reference| reference.starts_with('#')) {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let Some(id) = operation["operationId"].as_str() else { continue };
            assert!(ids.insert(id), "{path}: {id} stands twice");
            assert!(operation.as_object().unwrap().keys().all(|key| !key.starts_with("x-")), "{path}");
        }
    }
}

fn collect<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(target) if name == "$ref" => drop(found.insert(target)),
                    other => collect(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

fn tools(document: &Value) -> BTreeSet<&str> {
    let paths = document["paths"].as_object().unwrap().keys();
    paths.filter(|path| path.contains("/tools/") && !path.contains('{')).map(String::as_str).collect()
}

#[test]
fn the_document_is_what_the_format_prescribes_with_one_operation_for_each_tool() {
    let routes = "[[routes]]\npath = \"/own\"\nserver = \"demo\"\ntool = \"echo\"\n";
    let gateway = Gateway::start(&format!("{routes}{}{}", demo(&[]), server("other", &[])));
    // Nothing is started for it, so no tool is known.
    let document = gateway.get("/openapi.json").good();
    check(&document);
    assert_eq!(tools(&document), BTreeSet::new());
    assert_eq!(document["x-spawnling-unlisted"].as_array().unwrap().len(), 2);
    assert!(document["paths"]["/own"]["post"].is_object());
    assert!(document["security"].is_null() && document["paths"]["/api/health"].is_null());
    // A list that somebody asked for is known, and on request all are.
    let listed = gateway.get("/v1/servers/demo/tools").good();
    let document = gateway.get("/openapi.json").good();
    let paths = listed["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap());
    let paths: Vec<String> = paths.map(|name| format!("/v1/servers/demo/tools/{name}")).collect();
    assert_eq!(tools(&document), paths.iter().map(String::as_str).collect());
    let document = gateway.get("/openapi.json?refresh=true").good();
    check(&document);
    assert_eq!(document["x-spawnling-unlisted"], Value::Array(Vec::new()));
    let add = &document["paths"]["/v1/servers/other/tools/add"]["post"];
    let schema = add["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
    assert_eq!(document.pointer(&schema[1..]).unwrap()["required"], serde_json::json!(["a", "b"]));
    assert!(add["responses"]["424"].is_object() && add["responses"]["503"].is_object());
    gateway.get("/openapi.json?refresh=maybe").problem(400, "malformed-request");
    gateway.stop();
}

#[test]
fn a_token_is_shown_what_it_may_use_and_how_it_is_sent() {
    let tokens =
        "[[tokens]]\nname = \"a\"\nvalue = \"token-of-a\"\nservers = [\"demo\"]\ntools = [\"echo\"]\n";
    let gateway = Gateway::start(&format!("{tokens}{}{}", demo(&[]), server("other", &[])));
    gateway.get("/openapi.json").problem(401, "unauthenticated");
    let document =
        gateway.request("GET", "/openapi.json?refresh=true", &[("X-API-Key", "token-of-a")], "").good();
    check(&document);
    assert_eq!(tools(&document), BTreeSet::from(["/v1/servers/demo/tools/echo"]));
    assert!(!document.to_string().contains("other"), "{document}");
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    assert_eq!(document["security"].as_array().unwrap().len(), 2);
    gateway.stop();
}
