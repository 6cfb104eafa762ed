//! A JSON Schema of the configuration file, for editors: one for each format.
//!
//! What may stand under each key is said in the tables below; what the key means is taken from the page that people
//! read, `docs/configuration.md`. The tests hold both to the keys that the reader of files asks for.

use serde_json::{Map, Value, json};

use super::routes::RESPONSES;
use super::sandbox::PRESETS;
use super::server::{HOMES, ON_DISCONNECT, PROTOCOLS, TEARDOWNS, VALIDATE};
use super::strategy::STRATEGIES;
use super::{Choice, MetricsFor};

/// The page that says what each key means.
const PAGE: &str = include_str!("../../docs/configuration.md");

/// The format of the file that a schema is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// spawnling.toml
    Toml,
    /// The {"mcpServers": {...}} of other MCP clients, with our own keys under "spawnling"
    Json,
}

/// What may stand under a key.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    /// A text, or several.
    TextOrTexts,
    Count,
    Duration,
    Size,
    Flag,
    Share,
    /// One part in a hundred, or more, in words such as `"10%"`.
    Percentage,
    /// A user's name or number.
    User,
    /// One of some words.
    Words(fn() -> Vec<&'static str>),
    /// One of some words, or several.
    SomeWords(fn() -> Vec<&'static str>),
    /// Variables and what they are set to.
    Variables,
    /// A table of these keys.
    Table(&'static Section),
    /// A list of tables of these keys.
    List(&'static Section),
    /// Tables of these keys, by name.
    Tables(&'static Section),
}

/// One table of a file: where the page speaks of it, and its keys.
struct Section {
    heading: &'static str,
    required: &'static [&'static str],
    keys: &'static [(&'static str, Kind)],
}

const GATEWAY: Section = Section {
    heading: "The gateway",
    required: &[],
    keys: &[
        ("listen", Kind::TextOrTexts),
        ("max_connections", Kind::Count),
        ("header_timeout", Kind::Duration),
        ("body_timeout", Kind::Duration),
        ("write_timeout", Kind::Duration),
        ("in_flight", Kind::Size),
        ("socket_mode", Kind::Text),
        ("tls", Kind::Table(&TLS)),
        ("concurrent", Kind::Count),
        ("starts", Kind::Count),
        ("memory_pressure", Kind::Percentage),
        ("containment", Kind::Words(|| Choice::ALL.map(|(name, _)| name).to_vec())),
        ("drain", Kind::Duration),
        ("otlp", Kind::Text),
        ("body_limit", Kind::Size),
        ("hosts", Kind::Texts),
        ("receipts", Kind::Count),
        ("metrics", Kind::Words(|| words(MetricsFor::ALL))),
        ("servers", Kind::Tables(&SERVER)),
        ("browser_agent", Kind::Table(&BROWSER_AGENT)),
        ("tokens", Kind::List(&TOKEN)),
        ("routes", Kind::List(&ROUTE)),
    ],
};

const SERVER: Section = Section {
    heading: "A server",
    required: &["command"],
    keys: &[
        ("command", Kind::Text),
        ("args", Kind::Texts),
        ("cwd", Kind::Text),
        ("env", Kind::Variables),
        ("pass_env", Kind::Texts),
        ("secret_env", Kind::Texts),
        ("header_env", Kind::Variables),
        ("home", Kind::Words(|| words(HOMES))),
        ("strategy", Kind::Words(|| words(STRATEGIES))),
        ("standby", Kind::Table(&STANDBY)),
        ("pool", Kind::Table(&POOL)),
        ("protocol", Kind::Words(|| words(PROTOCOLS))),
        ("deadline", Kind::Duration),
        ("open_deadline", Kind::Duration),
        ("on_disconnect", Kind::Words(|| words(ON_DISCONNECT))),
        ("validate", Kind::Words(|| words(VALIDATE))),
        ("list_ttl", Kind::Duration),
        ("required", Kind::Flag),
        ("teardown", Kind::Words(|| words(TEARDOWNS))),
        ("eof_grace", Kind::Duration),
        ("term_grace", Kind::Duration),
        ("limits", Kind::Table(&LIMITS)),
        ("sandbox", Kind::Table(&SANDBOX)),
    ],
};

/// Whether a server has a key of this name that other clients do not know.
pub(super) fn is_key_of_server(name: &str) -> bool {
    SERVER.keys.iter().any(|(key, _)| *key == name)
}

/// Whether the gateway has a key of this name.
pub(super) fn is_key_of_gateway(name: &str) -> bool {
    GATEWAY.keys.iter().any(|(key, _)| *key == name)
}

const STANDBY: Section = Section {
    heading: "Standbys of a server",
    required: &[],
    keys: &[("min", Kind::Count), ("max", Kind::Count), ("max_age", Kind::Duration)],
};

const POOL: Section = Section {
    heading: "Pool of a server",
    required: &[],
    keys: &[("uses", Kind::Count), ("max_age", Kind::Duration), ("idle", Kind::Duration)],
};

const LIMITS: Section = Section {
    heading: "Limits of a server",
    required: &[],
    keys: &[
        ("concurrent", Kind::Count),
        ("queue", Kind::Count),
        ("queue_timeout", Kind::Duration),
        ("output", Kind::Size),
        ("stderr", Kind::Size),
        ("memory", Kind::Size),
        ("processes", Kind::Count),
        ("cpu", Kind::Share),
        ("cpu_time", Kind::Duration),
        ("open_files", Kind::Count),
        ("file_size", Kind::Size),
        ("scratch", Kind::Size),
    ],
};

const SANDBOX: Section = Section {
    heading: "Sandbox of a server",
    required: &[],
    keys: &[
        ("preset", Kind::SomeWords(|| words(PRESETS))),
        ("read", Kind::Texts),
        ("write", Kind::Texts),
        ("network", Kind::Flag),
        ("private_tmp", Kind::Flag),
        ("seccomp", Kind::Flag),
        ("no_new_privs", Kind::Flag),
        ("user", Kind::User),
        ("best_effort", Kind::Flag),
    ],
};

const TLS: Section = Section {
    heading: "TLS",
    required: &["cert", "key"],
    keys: &[("cert", Kind::Text), ("key", Kind::Text), ("client_ca", Kind::Text)],
};

const BROWSER_AGENT: Section = Section {
    heading: "The original API",
    required: &[],
    keys: &[("server", Kind::Text), ("tool", Kind::Text)],
};

const TOKEN: Section = Section {
    heading: "Tokens",
    required: &["name"],
    keys: &[
        ("name", Kind::Text),
        ("value", Kind::Text),
        ("value_file", Kind::Text),
        ("value_env", Kind::Text),
        ("servers", Kind::Texts),
        ("tools", Kind::Texts),
        ("concurrent", Kind::Count),
        ("diagnostics", Kind::Flag),
    ],
};

const ROUTE: Section = Section {
    heading: "Routes of your own",
    required: &["path", "server", "tool"],
    keys: &[
        ("path", Kind::Text),
        ("server", Kind::Text),
        ("tool", Kind::Text),
        ("arguments", Kind::Variables),
        ("response", Kind::Words(|| words(RESPONSES))),
    ],
};

/// The keys of a server that other clients know, too: in their format these stand apart from ours.
const LAUNCH: [&str; 4] = ["command", "args", "cwd", "env"];

fn words<T>(words: &[(&'static str, T)]) -> Vec<&'static str> {
    words.iter().map(|(word, _)| *word).collect()
}

/// The schema, as text.
pub(crate) fn schema(format: Format) -> String {
    let mut schema = match format {
        Format::Toml => table(&GATEWAY, |_| true),
        Format::Json => shared(),
    };
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
        schema.insert("title".to_owned(), "The configuration of spawnling".into());
    }
    format!("{schema:#}\n")
}

/// The file of other clients: whatever they write, and what we read of it.
fn shared() -> Value {
    let mut server = table(&SERVER, |key| LAUNCH.contains(&key));
    let own = table(&SERVER, |key| !LAUNCH.contains(&key));
    // One that is reached by a url has no command, and is passed over.
    let _ = server.as_object_mut().map(|server| server.remove("required"));
    server["additionalProperties"] = true.into();
    server["properties"]["spawnling"] = own;
    let servers = json!({ "type": "object", "additionalProperties": server });
    let gateway = table(&GATEWAY, |key| key != "servers");
    json!({
        "type": "object",
        "properties": { "mcpServers": servers, "servers": servers, "spawnling": gateway },
    })
}

fn table(section: &Section, wanted: impl Fn(&str) -> bool) -> Value {
    let keys = section.keys.iter().filter(|(key, _)| wanted(key));
    let properties: Map<String, Value> = keys
        .map(|(key, kind)| {
            let mut value = value(*kind);
            if let Some(meaning) = meaning(section.heading, key) {
                value["description"] = meaning.into();
            }
            ((*key).to_owned(), value)
        })
        .collect();
    let required: Vec<&str> = section.required.iter().copied().filter(|key| wanted(key)).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn value(kind: Kind) -> Value {
    // What stands for something else may stand for anything.
    let or_expansion = |value: Value| json!({ "anyOf": [value, { "type": "string", "pattern": r"\$\{" }] });
    let text = json!({ "type": "string" });
    match kind {
        Kind::Text => text,
        Kind::Texts => json!({ "type": "array", "items": text }),
        Kind::TextOrTexts => json!({ "anyOf": [text, { "type": "array", "items": text }] }),
        Kind::Count => or_expansion(json!({ "type": "integer", "minimum": 0 })),
        Kind::Duration => or_expansion(json!({ "type": "string", "pattern": r"^[0-9]+(ms|s|m|h)$" })),
        Kind::Size => or_expansion(json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": r"^[0-9]+(KiB|MiB|GiB)$" },
        ]})),
        Kind::Flag => or_expansion(json!({ "type": "boolean" })),
        Kind::Share => or_expansion(json!({ "anyOf": [
            { "type": "number", "exclusiveMinimum": 0 },
            { "type": "string", "pattern": r"^[0-9]+%$" },
        ]})),
        Kind::Percentage => or_expansion(json!({ "type": "string", "pattern": r"^[0-9]+%$" })),
        Kind::User => json!({ "type": ["string", "integer"] }),
        Kind::Words(words) => or_expansion(json!({ "enum": words() })),
        Kind::SomeWords(words) => {
            let one = or_expansion(json!({ "enum": words() }));
            json!({ "anyOf": [one, { "type": "array", "items": one }] })
        }
        Kind::Variables => {
            json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "null"] } })
        }
        Kind::Table(section) => table(section, |_| true),
        Kind::List(section) => json!({ "type": "array", "items": table(section, |_| true) }),
        Kind::Tables(section) => {
            json!({ "type": "object", "additionalProperties": table(section, |_| true) })
        }
    }
}

/// What the page says of a key: the last cell of its row, without the markup.
fn meaning(heading: &str, key: &str) -> Option<String> {
    let section = PAGE.split(&format!("\n## {heading}\n")).nth(1)?;
    let section = section.split("\n## ").next()?;
    let row = section.lines().find(|line| line.starts_with(&format!("| `{key}` ")))?;
    let cell = row.trim_end_matches(['|', ' ']).rsplit(" | ").next()?.trim();
    Some(plain(cell))
}

/// A text without the targets of its links.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("](") {
        let (start, label) = before.rsplit_once('[').unwrap_or((before, ""));
        out = out + start + label;
        rest = link.split_once(')').map_or("", |(_, rest)| rest);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::super::complaint::Ledger;
    use super::super::env::Environment;
    use super::super::file;
    use super::super::server::Around;
    use super::*;

    /// The keys that the reader of files asks for in the table that ends `text`.
    fn asked_for(text: &str) -> BTreeSet<String> {
        let text = format!("{text}qqqqqqqq = 1\n");
        let ledger = Ledger::of_file("f.toml".to_owned(), text.clone());
        let environment = Environment::default();
        let around = Around { environment: &environment, base: Path::new("/") };
        file::read(Path::new("f.toml"), &text, around, &ledger);
        let said = ledger.close().expect_err("a key that is unknown").to_string();
        let known = said.split("qqqqqqqq: unknown key; known here: ").nth(1).expect("the keys");
        known.lines().next().unwrap_or_default().split(", ").map(ToOwned::to_owned).collect()
    }

    const SECTIONS: [(&Section, &str); 10] = [
        (&GATEWAY, ""),
        (&SERVER, "[servers.a]\ncommand = \"x\"\n"),
        (&STANDBY, "[servers.a]\ncommand = \"x\"\n[servers.a.standby]\n"),
        (&POOL, "[servers.a]\ncommand = \"x\"\n[servers.a.pool]\n"),
        (&LIMITS, "[servers.a]\ncommand = \"x\"\n[servers.a.limits]\n"),
        (&SANDBOX, "[servers.a]\ncommand = \"x\"\n[servers.a.sandbox]\n"),
        (&TOKEN, "[servers.a]\ncommand = \"x\"\n[[tokens]]\n"),
        (&ROUTE, "[servers.a]\ncommand = \"x\"\n[[routes]]\n"),
        (&TLS, "[tls]\n"),
        (&BROWSER_AGENT, "[servers.a]\ncommand = \"x\"\n[browser_agent]\n"),
    ];

    #[test]
    fn the_schema_has_exactly_the_keys_that_are_read_and_says_what_each_means() {
        for (section, text) in SECTIONS {
            let keys: BTreeSet<String> = section.keys.iter().map(|(key, _)| (*key).to_owned()).collect();
            assert_eq!(keys, asked_for(text), "{}", section.heading);
            for key in keys {
                let said = meaning(section.heading, &key);
                assert!(said.as_ref().is_some_and(|said| said.len() > 5), "{key}: {said:?}");
                assert!(said.is_some_and(|said| !said.contains("](")), "{key}");
            }
        }
    }

    #[test]
    fn links_lose_their_targets() {
        assert_eq!(plain("[limits](#limits) of `a`, [b](c) [1]"), "limits of `a`, b [1]");
    }
}
