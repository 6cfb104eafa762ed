//! What can be asked for, as `OpenAPI` 3.1: the routes of the gateway, and one operation for each tool that is known.
//!
//! ```text
//!   base.json    the routes, their parameters, what a problem looks like
//!   + tools      as the catalog remembers them; `?refresh=true` has it learn them
//!   + problems   one response per status, out of the kinds that there are
//! ```
//!
//! A tool's schemas stand in `components` as its server wrote them, but for references within them, which must say where
//! they stand now. Nobody is shown what they may not use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::accept::Media;
use super::body::Body;
use super::json::Pieces;
use super::problem::{Kind, Problem, Refusal};
use super::rest::{Asker, good};
use super::{OwnRoute, Service, authority};
use crate::auth::Principal;
use crate::catalog::Catalog;
use crate::exchange::{ListKind, Listed, Outcome, RawJson};

/// What is the same for every gateway.
const BASE: &str = include_str!("openapi/base.json");

/// What a name in a path is written with: the unreserved characters of RFC 3986, section 2.3, stay.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The parts of [`BASE`].
#[derive(Deserialize)]
struct Base {
    paths: Map<String, Value>,
    parameters: Value,
    headers: Value,
    responses: Map<String, Value>,
    schemas: Map<String, Value>,
    security: Value,
}

/// One server, and its tools as far as they are known.
struct Known {
    name: Arc<str>,
    tools: Result<Arc<Listed>, String>,
}

impl Service {
    /// The document, as this caller may see it. `refresh`: lists that are not known are learned, each by a call.
    pub(super) async fn openapi(&self, asker: Asker<'_>, refresh: bool) -> Result<Response<Body>, Problem> {
        let allowed = self.servers.iter().filter(|catalog| asker.who.may_use(catalog.name()));
        let known =
            futures_util::future::join_all(allowed.map(|catalog| known(catalog, &asker, refresh))).await;
        let may_call = |own: &&OwnRoute| asker.who.may_use(&own.server) && asker.who.may_call(&own.tool);
        let own = self.config.routes.iter().filter(may_call).collect();
        let browser = self.config.browser.as_ref();
        let browser =
            browser.is_some_and(|api| asker.who.may_use(&api.server) && asker.who.may_call(&api.tool));
        let mut document = Document::begin(own, browser, self.config.gate.asks());
        document.name_servers(&known);
        Ok(good(document.finish(&known, &asker.who), Media::Json))
    }
}

async fn known(catalog: &Catalog, asker: &Asker<'_>, refresh: bool) -> Known {
    let name = Arc::clone(catalog.name());
    if !refresh {
        let unknown = || "its tools were not listed yet".to_owned();
        return Known { tools: catalog.known(ListKind::Tools).ok_or_else(unknown), name };
    }
    let Ok(caller) = asker.caller(catalog) else {
        return Known { name, tools: Err("it could not be asked".to_owned()) };
    };
    let answer = catalog.list(caller, ListKind::Tools).await;
    let failure = answer.failure;
    let tools = match (failure, answer.steps.into_iter().next()) {
        (Some(error), _) | (None, Some(Err(error))) => Err(error.name().to_owned()),
        (None, Some(Ok(Outcome::Listed(listed)))) => Ok(listed),
        (None, _) => Err("it answered with no list".to_owned()),
    };
    Known { name, tools }
}

/// Whether `?refresh=true` is said.
pub(super) fn asks_to_refresh(query: Option<&str>) -> Result<bool, Refusal> {
    let mut said = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    match said.find(|(name, _)| name == "refresh").as_ref().map(|(_, value)| &**value) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Refusal::malformed("`refresh` is true or false")),
    }
}

/// The document in the making.
struct Document {
    base: Base,
    /// The schemas of tools, by their names in `components`.
    schemas: Vec<(String, RawJson)>,
    names: BTreeSet<String>,
    paths: BTreeMap<String, Pieces>,
    tokens: bool,
    unlisted: Vec<Value>,
}

/// What we look into of a tool.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tool<'a> {
    name: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(borrow, default)]
    input_schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output_schema: Option<&'a RawValue>,
}

impl Document {
    fn begin(own: Vec<&OwnRoute>, browser: bool, tokens: bool) -> Self {
        let mut base: Base = serde_json::from_str(BASE).expect("a test reads it");
        if !browser {
            base.paths.retain(|path, _| !path.starts_with("/api/") && path != "/health");
        }
        for route in own {
            let reference = |name: &str| json!({"$ref": format!("#/components/responses/{name}")});
            // In an envelope every answer looks alike, whatever its status.
            let responses = match route.response {
                super::RouteResponse::Result => json!({"200": reference("ToolResult")}),
                super::RouteResponse::Envelope => {
                    json!({"200": reference("Envelope"), "default": reference("Envelope")})
                }
            };
            // What pointers pick from may be anything; whatever else is the arguments.
            let body = if route.arguments.is_some() { json!({}) } else { json!({"type": "object"}) };
            let summary = format!("The tool {} of {}, under a path of one's own", route.tool, route.server);
            let operation = json!({
                "operationId": format!("route:{}", route.path), "summary": summary, "tags": ["routes"],
                "requestBody": {"required": true, "content": {"application/json": {"schema": body}}},
                "responses": responses,
                "x-calls": true,
            });
            base.paths.insert(route.path.clone(), json!({ "post": operation }));
        }
        let mut document = Self {
            base,
            schemas: Vec::new(),
            names: BTreeSet::new(),
            paths: BTreeMap::new(),
            tokens,
            unlisted: Vec::new(),
        };
        if tokens {
            // To whom it is shown is configured: by default to whoever asks from this machine, too.
            document.base.paths["/metrics"]["get"]["security"] = json!([{}, {"bearer": []}, {"key": []}]);
        }
        document.add_problems();
        document
    }

    /// Names the servers that a path may name. Where there is none, any name would do as badly as any other.
    fn name_servers(&mut self, known: &[Known]) {
        if !known.is_empty() {
            let names: Vec<&str> = known.iter().map(|known| &*known.name).collect();
            self.base.parameters["server"]["schema"] = json!({"type": "string", "enum": names});
        }
    }

    /// One response for each status of a problem; and for whatever makes a call, all that can become of one.
    fn add_problems(&mut self) {
        let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        for kind in Kind::ALL {
            let facts = kind.facts();
            by_status
                .entry(facts.status.as_u16())
                .or_default()
                .push(format!("`{}`: {}", facts.name, facts.title));
        }
        for (status, kinds) in by_status {
            let mut response = json!({
                "description": kinds.join("; "),
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            });
            if matches!(status, 429 | 503) {
                response["headers"] = json!({"Retry-After": {"$ref": "#/components/headers/RetryAfter"}});
            }
            self.base.responses.insert(format!("Problem{status}"), response);
        }
        let problems = problems();
        for item in self.base.paths.values_mut() {
            for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
                let Some(operation) = operation.as_object_mut() else { continue };
                operation.remove("x-enveloped");
                let calls = operation.remove("x-calls").is_some();
                if calls {
                    operation.entry("parameters").or_insert_with(of_calls);
                }
                let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
                let Some(responses) = responses.filter(|responses| !responses.contains_key("default")) else {
                    continue;
                };
                // What any request may be told: that it is malformed, or comes from a foreign page.
                for (status, problem) in &problems {
                    if calls || matches!(&**status, "400" | "403") {
                        responses.entry(status.as_str()).or_insert_with(|| problem.clone());
                    }
                }
            }
        }
    }

    /// Adds every tool that may be called.
    fn add_tools(&mut self, server: &str, listed: &Listed, who: &Principal) {
        for item in &listed.items {
            let Ok(tool) = item.read::<Tool<'_>>() else { continue };
            if authority::may_see(who, ListKind::Tools, item) {
                self.add_tool(server, &tool);
            }
        }
    }

    fn add_tool(&mut self, server: &str, tool: &Tool<'_>) {
        let encoded = |text: &str| utf8_percent_encode(text, SEGMENT).to_string();
        let path = format!("/v1/servers/{}/tools/{}", encoded(server), encoded(&tool.name));
        // Of two tools of one name only one can be called.
        if self.paths.contains_key(&path) {
            return;
        }
        let input = self.add_schema(&format!("{server}.{}.arguments", tool.name), tool.input_schema);
        let mut result = json!({"$ref": "#/components/schemas/CallToolResult"});
        if tool.output_schema.is_some() {
            let output = self.add_schema(&format!("{server}.{}.structured", tool.name), tool.output_schema);
            result = json!({"allOf": [result, {"properties": {"structuredContent": {"$ref": output}}}]});
        }
        let mut answer = self.base.responses["ToolResult"].clone();
        answer["content"]["application/json"]["schema"] = result;
        let mut responses = problems();
        responses.insert("200".to_owned(), answer);
        let operation = json!({
            "operationId": format!("{server}/{}", tool.name),
            "summary": tool.title.as_ref().unwrap_or(&tool.name),
            "description": tool.description.as_deref().unwrap_or_default(),
            "tags": [server],
            "parameters": of_calls(),
            "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": input}}}},
            "responses": responses,
        });
        self.paths.insert(path, Pieces::object([("post", Pieces::of(&operation))]));
    }

    /// Puts a schema into `components`, and says where it stands.
    fn add_schema(&mut self, wish: &str, schema: Option<&RawValue>) -> String {
        // What a name there may hold: OpenAPI 3.1.0, section 4.8.7.
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let plain: String = wish.chars().map(|letter| if allowed(letter) { letter } else { '_' }).collect();
        let mut name = plain.clone();
        let mut number = 1;
        while self.base.schemas.contains_key(&name) || !self.names.insert(name.clone()) {
            number += 1;
            name = format!("{plain}-{number}");
        }
        let here = format!("#/components/schemas/{name}");
        self.schemas.push((name, schema.map_or_else(RawJson::empty_object, |schema| placed(schema, &here))));
        here
    }

    fn finish(mut self, known: &[Known], who: &Principal) -> Pieces {
        for Known { name, tools } in known {
            match tools {
                Ok(listed) => self.add_tools(name, listed, who),
                Err(why) => self.unlisted.push(json!({"server": &**name, "why": why})),
            }
        }
        let Self { base, schemas, paths, tokens, unlisted, .. } = self;
        let info = json!({
            "title": "Spawnling",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "MCP servers behind HTTP: a fresh process for every request. Tools are here as far as their \
                lists are known; `x-spawnling-unlisted` names the servers whose are not. Getting \
                `/v1/servers/{server}/tools`, or this document with `?refresh=true`, starts them once and learns them.",
        });
        let plain = base.paths.iter().map(|(path, item)| (path.as_str(), Pieces::of(item)));
        // A tool's own path comes behind those of the gateway, none of which it can be.
        let tools: Vec<(String, Pieces)> = paths.into_iter().collect();
        let mut all: Vec<(&str, Pieces)> = plain.collect();
        let (names, items): (Vec<String>, Vec<Pieces>) = tools.into_iter().unzip();
        all.extend(names.iter().map(String::as_str).zip(items));
        let own = base.schemas.iter().map(|(name, schema)| (name.as_str(), Pieces::of(schema)));
        let theirs = schemas.iter().map(|(name, schema)| (name.as_str(), Pieces::from(schema)));
        let mut components = vec![
            ("schemas", Pieces::object(own.chain(theirs))),
            ("parameters", Pieces::of(&base.parameters)),
            ("headers", Pieces::of(&base.headers)),
            ("responses", Pieces::of(&base.responses)),
        ];
        if tokens {
            components.push(("securitySchemes", Pieces::of(&base.security)));
        }
        let mut members = vec![
            ("openapi", Pieces::of("3.1.0")),
            ("info", Pieces::of(&info)),
            ("servers", Pieces::of(&json!([{"url": "/"}]))),
            ("paths", Pieces::object(all)),
            ("components", Pieces::object(components)),
            ("x-spawnling-unlisted", Pieces::of(&unlisted)),
        ];
        if tokens {
            members.push(("security", Pieces::of(&json!([{"bearer": []}, {"key": []}]))));
        }
        Pieces::object(members)
    }
}

/// What every call takes.
fn of_calls() -> Value {
    json!([{"$ref": "#/components/parameters/timeout"}, {"$ref": "#/components/parameters/wait"}])
}

/// All that can become of a call that does not go well, by status.
fn problems() -> Map<String, Value> {
    let statuses = Kind::ALL.iter().map(|kind| kind.facts().status.as_u16()).filter(|status| *status != 405);
    let reference = |status| json!({"$ref": format!("#/components/responses/Problem{status}")});
    statuses.map(|status| (status.to_string(), reference(status))).collect()
}

/// A schema as it may stand `here`: what refers to a place within it must say so.
fn placed(schema: &RawValue, here: &str) -> RawJson {
    let text = schema.get();
    let whole = || RawJson::parse(Bytes::copy_from_slice(text.as_bytes())).ok();
    if !text.starts_with(['{', 't', 'f']) {
        return RawJson::empty_object();
    }
    // With an `$id` of its own it is a place of its own: JSON Schema 2020-12, section 8.2.1.
    if !text.contains("$ref") {
        return whole().unwrap_or_else(RawJson::empty_object);
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.get("$id").is_some() => whole().unwrap_or_else(RawJson::empty_object),
        Ok(mut value) => {
            lead(&mut value, here);
            RawJson::of(&value)
        }
        // Too deep, or a number beyond all bounds: nothing can be said of what it allows.
        Err(_) => RawJson::empty_object(),
    }
}

/// Has every `$ref` into this very document lead below `here`.
fn lead(value: &mut Value, here: &str) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(target)
                        if name == "$ref" && (*target == "#" || target.starts_with("#/")) =>
                    {
                        *target = format!("{here}{}", &target[1..]);
                    }
                    other => lead(other, here),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| lead(item, here)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::route::PLACES;

    fn unnamed(path: &str) -> String {
        let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
        parts.collect::<Vec<_>>().join("/")
    }

    #[test]
    fn every_route_is_described() {
        let base: Base = serde_json::from_str(BASE).unwrap();
        let described: BTreeSet<String> = base.paths.keys().map(|path| unnamed(path)).collect();
        assert_eq!(described, PLACES.iter().map(|(path, _)| unnamed(path)).collect());
    }

    #[test]
    fn references_within_a_schema_lead_to_where_it_stands_and_nothing_else_is_touched() {
        let placed = |text: &str| {
            let raw: &RawValue = serde_json::from_str(text).unwrap();
            placed(raw, "#/components/schemas/a").as_str().to_owned()
        };
        for (schema, expected) in [
            (r#"{"maximum":12345678901234567890123}"#, r#"{"maximum":12345678901234567890123}"#),
            (r##"{"$ref":"#/$defs/x"}"##, r##"{"$ref":"#/components/schemas/a/$defs/x"}"##),
            (r##"{"items":[{"$ref":"#"}]}"##, r##"{"items":[{"$ref":"#/components/schemas/a"}]}"##),
            (r#"{"properties":{"$ref":{"type":"string"}}}"#, r#"{"properties":{"$ref":{"type":"string"}}}"#),
            (
                r##"{"$id":"https://x/y","$ref":"#/$defs/x"}"##,
                r##"{"$id":"https://x/y","$ref":"#/$defs/x"}"##,
            ),
            (r#"{"$ref":"https://x/y#/z"}"#, r#"{"$ref":"https://x/y#/z"}"#),
            ("true", "true"),
            ("null", "{}"),
            (r##"{"$ref":"#/a","maximum":1e999}"##, "{}"),
        ] {
            assert_eq!(placed(schema), expected);
        }
    }

    #[test]
    fn two_schemas_never_share_a_name() {
        let mut document = Document::begin(Vec::new(), false, false);
        let names = ["a/b", "a_b", "Problem"].map(|wish| document.add_schema(wish, None));
        assert_eq!(names, ["a_b", "a_b-2", "Problem-2"].map(|name| format!("#/components/schemas/{name}")));
    }
}
