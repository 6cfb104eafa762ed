//! What this server offers, as its clients and their users get to see it: lists, schemas, texts.   (pure)

use serde_json::{Value, json};

use super::eras::Revision;
use super::faults::{Fault, Faults};
use super::wire::RpcError;

/// Shown to models and people as the server's instructions.
pub(super) const INSTRUCTIONS: &str = "A small server to try things with: echo, add, counter and others show how calls \
    travel, and run_browser_agent fetches a page as text. Nothing is kept between processes.";

/// The capabilities, as far as a revision knows them.
pub(super) fn capabilities(revision: Revision) -> Value {
    let mut all = json!({"tools": {}, "resources": {}, "prompts": {}, "logging": {}});
    if revision >= Revision::V2025_03_26 {
        all["completions"] = json!({});
    }
    all
}

/// All tools, always in the same order.
pub(super) fn tools(revision: Revision, with_fault_tool: bool, faults: &Faults) -> Vec<Value> {
    let mut all = Vec::from(plain_tools());
    all.extend(telling_tools());
    all.push(browser_tool());
    if with_fault_tool {
        all.push(fault_tool());
    }
    if faults.has(&Fault::BrokenSchema) {
        all.extend(broken_tools());
    }
    for tool in all.iter_mut().filter_map(Value::as_object_mut) {
        if revision < Revision::V2025_06_18 {
            tool.remove("title");
            tool.remove("outputSchema");
        }
        if revision < Revision::V2025_03_26 {
            tool.remove("annotations");
        }
    }
    all
}

fn harmless() -> Value {
    json!({"readOnlyHint": true, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false})
}

fn plain_tools() -> [Value; 4] {
    [
        json!({"name": "echo", "title": "Echo", "description": "Returns the message it was given.",
            "inputSchema": {"type": "object", "required": ["message"],
                "properties": {"message": {"type": "string", "description": "What to say back."}}},
            "annotations": harmless()}),
        json!({"name": "raw", "title": "Raw arguments",
            "description": "Returns its arguments as text, byte for byte as they arrived on the wire.",
            "inputSchema": {"type": "object", "properties": {"value": {"description": "Any JSON value."}}},
            "annotations": harmless()}),
        json!({"name": "add", "title": "Add two numbers", "description": "Returns the sum of two numbers.",
            "inputSchema": {"type": "object", "required": ["a", "b"],
                "properties": {"a": {"type": "number", "description": "The first number."},
                               "b": {"type": "number", "description": "The second number."}}},
            "outputSchema": {"type": "object", "required": ["sum"], "properties": {"sum": {"type": "number"}}},
            "annotations": harmless()}),
        json!({"name": "sleep", "title": "Sleep",
            "description": "Waits, and reports progress on the way. Can be cancelled.",
            "inputSchema": {"type": "object", "required": ["seconds"],
                "properties": {
                    "seconds": {"type": "number", "minimum": 0, "maximum": 3600, "description": "How long to wait."},
                    "steps": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 1,
                              "description": "How often progress is reported."}}},
            "annotations": harmless()}),
    ]
}

fn telling_tools() -> [Value; 3] {
    [
        json!({"name": "environment", "title": "Describe this process",
            "description": "Tells what this server process sees: its ids, directory, open descriptors and the names of \
                            its environment variables (of a few harmless ones the value too).",
            "inputSchema": {"type": "object", "properties": {}}, "annotations": harmless()}),
        json!({"name": "counter", "title": "Count calls",
            "description": "Counts the calls of this tool in this process: 1 means that nobody used the process before.",
            "inputSchema": {"type": "object", "properties": {}},
            "outputSchema": {"type": "object", "required": ["count"],
                "properties": {"count": {"type": "integer", "minimum": 1}}},
            "annotations": {"readOnlyHint": false, "destructiveHint": false, "idempotentHint": false,
                            "openWorldHint": false}}),
        json!({"name": "fail", "title": "Fail", "description": "Fails, as a tool that ran but could not do its work.",
            "inputSchema": {"type": "object",
                "properties": {"message": {"type": "string", "description": "What to complain about."}}},
            "annotations": harmless()}),
    ]
}

fn browser_tool() -> Value {
    json!({"name": "run_browser_agent", "title": "Run browser agent (text-mode stand-in)",
        "description": "Fetches the page that the task names and returns its title, text and links. A text-mode \
                        stand-in for a browser agent: it runs no scripts and does nothing else that the task asks.",
        "inputSchema": {"type": "object", "required": ["task"],
            "properties": {
                "task": {"type": "string", "description": "What to do, with a web address in it: Go to example.com"},
                "add_infos": {"type": "string", "description": "Further information; searched for an address too."}}},
        "annotations": {"readOnlyHint": true, "destructiveHint": false, "idempotentHint": true, "openWorldHint": true}})
}

fn fault_tool() -> Value {
    json!({"name": "fault", "title": "Misbehave",
        "description": "Misbehaves to order, for tests of the client.",
        "inputSchema": {"type": "object", "required": ["kind"],
            "properties": {
                "kind": {"type": "string", "enum": super::fault_tool::KINDS},
                "code": {"type": "integer"}, "signal": {"type": "integer", "minimum": 1},
                "bytes": {"type": "integer", "minimum": 0}, "count": {"type": "integer", "minimum": 1},
                "seconds": {"type": "number", "minimum": 0}, "message": {"type": "string"}}},
        "annotations": {"readOnlyHint": false, "destructiveHint": true, "idempotentHint": false, "openWorldHint": false}})
}

/// Tools whose schemas must not harm a client that looks at them. Calling them works like `echo` without a message.
fn broken_tools() -> [Value; 2] {
    [
        json!({"name": "broken", "description": "Has a schema that is no schema.",
            "inputSchema": {"type": "object", "properties": {"x": {"type": "no-such-type", "pattern": "("}},
                            "required": "everything"}}),
        json!({"name": "remote-ref", "description": "Has a schema that refers to the network.",
            "inputSchema": {"type": "object", "properties": {"x": {"$ref": "http://169.254.169.254/schema.json"}}}}),
    ]
}

pub(super) fn resources() -> Vec<Value> {
    vec![
        json!({"uri": "demo://greeting", "name": "greeting", "title": "A greeting", "description": "Says hello.",
                "mimeType": "text/plain"}),
    ]
}

pub(super) fn resource_templates() -> Vec<Value> {
    vec![json!({"uriTemplate": "demo://echo/{word}", "name": "echo", "title": "An echo",
                "description": "Holds the word that its address names.", "mimeType": "text/plain"})]
}

pub(super) fn prompts() -> Vec<Value> {
    vec![json!({"name": "greet", "title": "Greet somebody", "description": "Asks for a friendly greeting.",
                "arguments": [{"name": "name", "description": "Whom to greet.", "required": true}]})]
}

/// The contents of a resource.
pub(super) fn read_resource(uri: &str, revision: Revision) -> Result<Value, RpcError> {
    let text = match (uri, uri.strip_prefix("demo://echo/")) {
        ("demo://greeting", _) => "Hello from the demo server.",
        (_, Some(word)) if !word.is_empty() => word,
        _ => {
            let code = if revision.is_modern() { -32602 } else { -32002 };
            return Err(RpcError::new(code, format!("resource not found: {uri}")).with(json!({"uri": uri})));
        }
    };
    Ok(json!({"contents": [{"uri": uri, "mimeType": "text/plain", "text": text}]}))
}

/// The messages of a prompt.
pub(super) fn get_prompt(name: &str, arguments: &Value) -> Result<Value, RpcError> {
    if name != "greet" {
        return Err(RpcError::invalid_params(format!("unknown prompt: {name}")));
    }
    let Some(whom) = arguments.get("name").and_then(Value::as_str) else {
        return Err(RpcError::invalid_params("the prompt greet needs the argument name, a string"));
    };
    let text = format!("Please greet {whom} in a friendly way.");
    Ok(json!({"description": "A friendly greeting.",
              "messages": [{"role": "user", "content": {"type": "text", "text": text}}]}))
}

/// Completions for the one prompt argument and the one template variable.
pub(super) fn complete(reference: &Value, argument: &Value) -> Result<Value, RpcError> {
    let known = match (reference["type"].as_str(), reference["name"].as_str(), reference["uri"].as_str()) {
        (Some("ref/prompt"), Some("greet"), _) => "name",
        (Some("ref/resource"), _, Some("demo://echo/{word}")) => "word",
        _ => return Err(RpcError::invalid_params("nothing of that name can be completed")),
    };
    let (name, begun) = (argument["name"].as_str(), argument["value"].as_str());
    let (Some(name), Some(begun)) = (name, begun) else {
        return Err(RpcError::invalid_params("argument needs name and value, both strings"));
    };
    if name != known {
        return Err(RpcError::invalid_params(format!("unknown argument: {name}")));
    }
    let values: Vec<&str> = ["Ada", "Alan", "Barbara", "Grace", "world"]
        .into_iter()
        .filter(|value| value.to_lowercase().starts_with(&begun.to_lowercase()))
        .collect();
    Ok(json!({"completion": {"total": values.len(), "hasMore": false, "values": values}}))
}

/// Cuts a list into the page that a cursor asks for.
pub(super) fn paged(
    member: &str,
    all: &[Value],
    cursor: Option<&str>,
    faults: &Faults,
) -> Result<Value, RpcError> {
    if faults.has(&Fault::RepeatCursor) {
        return Ok(json!({member: all, "nextCursor": "round-and-round"}));
    }
    let start = match cursor {
        None => 0,
        Some(cursor) => place(cursor)
            .filter(|place| (1..all.len()).contains(place) && faults.page_size().is_some())
            .ok_or_else(|| RpcError::invalid_params("unknown cursor"))?,
    };
    let end = all.len().min(start.saturating_add(faults.page_size().unwrap_or(all.len())));
    let mut page = json!({member: all[start..end]});
    if end < all.len() {
        page["nextCursor"] = json!(format!("{CURSOR}{end:x}"));
    }
    Ok(page)
}

/// What cursors begin with; clients must not care.
const CURSOR: &str = "opaque+/=";

fn place(cursor: &str) -> Option<usize> {
    usize::from_str_radix(cursor.strip_prefix(CURSOR)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_to_the_whole_list() {
        let all: Vec<Value> = (0..7).map(Value::from).collect();
        for size in [1, 2, 3, 7, 8] {
            let faults = Faults::new(&[Fault::PageSize(size)]);
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let page = paged("tools", &all, cursor.as_deref(), &faults).unwrap();
                seen.extend(page["tools"].as_array().unwrap().clone());
                cursor = page["nextCursor"].as_str().map(str::to_owned);
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen, all);
        }
    }

    #[test]
    fn foreign_cursors_are_refused() {
        let all = [json!(1), json!(2)];
        for cursor in ["", "x", "opaque+/=0", "opaque+/=2", "opaque+/=-1", "opaque+/=1"] {
            assert!(paged("tools", &all, Some(cursor), &Faults::new(&[])).is_err());
        }
    }

    #[test]
    fn old_revisions_are_shown_only_what_they_know() {
        let none = Faults::new(&[]);
        let shown = |revision| Value::from(tools(revision, true, &none)).to_string();
        let (first, newest) = (shown(Revision::V2024_11_05), shown(Revision::V2026_07_28));
        assert!(!first.contains("outputSchema") && !first.contains("annotations"));
        assert!(newest.contains("outputSchema") && newest.contains("readOnlyHint"));
    }

    #[test]
    fn unknown_resources_have_the_code_of_their_era() {
        for (revision, code) in [(Revision::V2025_11_25, -32002), (Revision::V2026_07_28, -32602)] {
            assert_eq!(read_resource("demo://nothing", revision).unwrap_err().code, code);
        }
        assert_eq!(
            read_resource("demo://echo/hi", Revision::V2026_07_28).unwrap()["contents"][0]["text"],
            "hi"
        );
    }

    #[test]
    fn completions_begin_as_asked() {
        let reference = json!({"type": "ref/prompt", "name": "greet"});
        let found = complete(&reference, &json!({"name": "name", "value": "a"})).unwrap();
        assert_eq!(found["completion"]["values"], json!(["Ada", "Alan"]));
        assert!(complete(&reference, &json!({"name": "nothing", "value": ""})).is_err());
    }
}
