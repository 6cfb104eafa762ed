//! The protocol revisions this server speaks, and by which of them a request is to be served.   (pure)
//!
//! A request that names a version in its `_meta` is modern, whatever its method; `initialize` opens a legacy session.
//! In the dual era both are served on the same pipe, in any order.

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::wire::RpcError;

/// The modern revision.
pub(super) const MODERN: &str = "2026-07-28";

/// Which eras this process speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Era {
    /// Both: `initialize` as well as requests that carry their version.
    Dual,
    /// Only sessions opened by `initialize` (2024-11-05 to 2025-11-25).
    Legacy,
    /// Only requests that carry their version (2026-07-28).
    Modern,
}

/// A revision, in order of time, for what came with which is asked by comparing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Revision {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
    V2026_07_28,
}

impl Revision {
    /// The legacy revision to answer an `initialize` with: the one asked for, or the newest.
    pub(super) fn negotiate(asked: &str) -> Revision {
        [Revision::V2024_11_05, Revision::V2025_03_26, Revision::V2025_06_18]
            .into_iter()
            .find(|revision| revision.name() == asked)
            .unwrap_or(Revision::V2025_11_25)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Revision::V2024_11_05 => "2024-11-05",
            Revision::V2025_03_26 => "2025-03-26",
            Revision::V2025_06_18 => "2025-06-18",
            Revision::V2025_11_25 => "2025-11-25",
            Revision::V2026_07_28 => MODERN,
        }
    }

    pub(super) fn is_modern(self) -> bool {
        self == Revision::V2026_07_28
    }
}

/// What a request says about itself beside its parameters.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Meta {
    #[serde(default, rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<Value>,
    #[serde(default, rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<Value>,
    /// The lowest level of log message wanted; a modern request without it gets none.
    #[serde(default, rename = "io.modelcontextprotocol/logLevel")]
    pub(super) log_level: Option<String>,
    #[serde(default, rename = "progressToken")]
    pub(super) progress_token: Option<Box<RawValue>>,
}

impl Meta {
    pub(super) fn is_modern(&self) -> bool {
        self.version.is_some()
    }

    /// Whether a modern client declared a capability with this request.
    pub(super) fn declares(&self, capability: &str) -> bool {
        self.capabilities.as_ref().is_some_and(|all| all.get(capability).is_some_and(Value::is_object))
    }
}

/// Decides by which revision a request is served; `session` is the one that `initialize` settled, if any.
///
/// # Errors
///
/// The error to answer with, when it can be served by none.
pub(super) fn judge(
    era: Era,
    session: Option<Revision>,
    method: &str,
    meta: &Meta,
) -> Result<Revision, RpcError> {
    match (era, &meta.version) {
        (Era::Legacy, _) => judge_legacy(session, method),
        (_, Some(version)) => judge_modern(version, meta),
        (Era::Modern, None) => Err(lacks("protocolVersion")),
        (Era::Dual, None) if method == "server/discover" => Err(lacks("protocolVersion")),
        (Era::Dual, None) => judge_legacy(session, method),
    }
}

fn judge_legacy(session: Option<Revision>, method: &str) -> Result<Revision, RpcError> {
    match (session, method) {
        (Some(_), "initialize") => Err(RpcError::new(-32600, "the session is initialized already")),
        (None, "server/discover") => Err(no_method(method)),
        (None, "initialize" | "ping") => Ok(Revision::V2025_11_25),
        (None, _) => Err(RpcError::invalid_params("send initialize first")),
        (Some(revision), _) => Ok(revision),
    }
}

fn judge_modern(version: &Value, meta: &Meta) -> Result<Revision, RpcError> {
    let Some(version) = version.as_str() else { return Err(lacks("protocolVersion")) };
    if version != MODERN {
        return Err(unsupported(version));
    }
    if !meta.capabilities.as_ref().is_some_and(Value::is_object) {
        return Err(lacks("clientCapabilities"));
    }
    Ok(Revision::V2026_07_28)
}

fn lacks(key: &str) -> RpcError {
    RpcError::invalid_params(format!(
        "params._meta lacks io.modelcontextprotocol/{key}, or it has the wrong type"
    ))
}

/// The error for a version that is not spoken.
pub(super) fn unsupported(requested: &str) -> RpcError {
    RpcError::new(-32022, "unsupported protocol version")
        .with(json!({"supported": [MODERN], "requested": requested}))
}

/// The error for a method that does not exist in the era of the request.
pub(super) fn no_method(method: &str) -> RpcError {
    RpcError::new(-32601, format!("method not found: {method}"))
}

/// Adds what a modern result must carry, and takes away what an old revision does not know.
pub(super) fn dress(mut result: Value, method: &str, revision: Revision) -> Value {
    let Some(members) = result.as_object_mut() else { return result };
    if revision < Revision::V2025_06_18 {
        members.remove("structuredContent");
    }
    if revision.is_modern() {
        dress_modern(members, method);
    }
    result
}

fn dress_modern(members: &mut Map<String, Value>, method: &str) {
    let complete = members.entry("resultType").or_insert_with(|| json!("complete")) == "complete";
    let meta = members.entry("_meta").or_insert_with(|| json!({}));
    meta["io.modelcontextprotocol/serverInfo"] = server_info(Revision::V2026_07_28);
    let lists =
        ["server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list"];
    if complete && (lists.contains(&method) || method == "resources/read") {
        members.insert("ttlMs".to_owned(), json!(if method == "resources/read" { 0 } else { 300_000 }));
        members.insert("cacheScope".to_owned(), json!("public"));
    }
}

/// Who this server says it is.
pub(super) fn server_info(revision: Revision) -> Value {
    let mut info = json!({"name": "spawnling-demo", "version": env!("CARGO_PKG_VERSION")});
    if revision >= Revision::V2025_06_18 {
        info["title"] = json!("Spawnling demo server");
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28",
                           "io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}"#;
    const OLD: &str = r#"{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}"#;
    const BARE: &str = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    const S: Option<Revision> = Some(Revision::V2025_03_26);

    #[test]
    fn a_request_is_served_by_the_era_it_shows() {
        let modern = Ok(Revision::V2026_07_28);
        let cases = [
            (Era::Dual, None, "initialize", "{}", Ok(Revision::V2025_11_25)),
            (Era::Dual, None, "ping", "{}", Ok(Revision::V2025_11_25)),
            (Era::Dual, None, "tools/list", "{}", Err(-32602)),
            (Era::Dual, S, "tools/list", "{}", Ok(Revision::V2025_03_26)),
            (Era::Dual, S, "initialize", "{}", Err(-32600)),
            (Era::Dual, S, "server/discover", "{}", Err(-32602)),
            (Era::Dual, None, "server/discover", GOOD, modern),
            (Era::Dual, S, "tools/call", GOOD, modern),
            (Era::Dual, None, "tools/call", BARE, Err(-32602)),
            (Era::Dual, None, "tools/call", OLD, Err(-32022)),
            (Era::Modern, None, "tools/list", "{}", Err(-32602)),
            (Era::Modern, None, "tools/list", GOOD, modern),
            (Era::Modern, None, "tools/list", OLD, Err(-32022)),
            (Era::Legacy, None, "server/discover", GOOD, Err(-32601)),
            (Era::Legacy, None, "tools/call", GOOD, Err(-32602)),
            (Era::Legacy, S, "tools/call", GOOD, Ok(Revision::V2025_03_26)),
            (Era::Legacy, None, "initialize", GOOD, Ok(Revision::V2025_11_25)),
        ];
        for (era, session, method, meta, expected) in cases {
            let meta: Meta = serde_json::from_str(meta).unwrap();
            let got = judge(era, session, method, &meta).map_err(|error| error.code);
            assert_eq!(got, expected, "{era:?} {session:?} {method} {meta:?}");
        }
    }

    #[test]
    fn a_version_is_echoed_if_known_and_else_the_newest_legacy_one_is_offered() {
        for (asked, answered) in [
            ("2024-11-05", "2024-11-05"),
            ("2025-03-26", "2025-03-26"),
            ("2025-06-18", "2025-06-18"),
            ("2025-11-25", "2025-11-25"),
            ("2026-07-28", "2025-11-25"),
            ("1999-01-01", "2025-11-25"),
        ] {
            assert_eq!(Revision::negotiate(asked).name(), answered);
        }
    }

    #[test]
    fn modern_results_are_dressed_and_old_ones_undressed() {
        let list = dress(json!({"tools": []}), "tools/list", Revision::V2026_07_28);
        assert_eq!((&list["resultType"], &list["cacheScope"]), (&json!("complete"), &json!("public")));
        assert!(
            list["ttlMs"].is_u64() && list["_meta"]["io.modelcontextprotocol/serverInfo"]["name"].is_string()
        );
        let asked = dress(json!({"resultType": "input_required"}), "resources/read", Revision::V2026_07_28);
        assert_eq!((&asked["resultType"], asked.get("ttlMs")), (&json!("input_required"), None));
        let plain = json!({"content": [], "structuredContent": {}});
        assert_eq!(dress(plain.clone(), "tools/call", Revision::V2025_11_25), plain);
        assert_eq!(dress(plain, "tools/call", Revision::V2025_03_26), json!({"content": []}));
    }
}
