//! What is asked of which server, and the configuration that puts it behind a gateway. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value as Json;
use toml::{Table, Value};

use super::bare::Bare;

/// The name of a server that no file names.
const ALONE: &str = "default";

/// One server, and the question put to it.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) server: String,
    pub(super) tool: String,
    /// One JSON object, on one line.
    pub(super) arguments: String,
    /// What a configuration says of the server.
    pub(super) table: Table,
}

impl Question {
    /// A server that is only a command.
    pub(super) fn of_command(command: &[String], tool: &str, arguments: &str) -> Result<Self> {
        let (program, args) = command.split_first().context("no command")?;
        let mut table = Table::new();
        table.insert("command".into(), program.as_str().into());
        table.insert("args".into(), args.to_vec().into());
        Self::of_table(ALONE, table, tool, arguments)
    }

    /// A server of a configuration file, of either format; `dir` is where the file lies.
    ///
    /// # Errors
    ///
    /// What cannot be read, or has no such server. JSON with comments is not read here.
    pub(super) fn of_file(text: &str, dir: &Path, server: &str, asked: (&str, &str)) -> Result<Self> {
        let mut table =
            if text.trim_start().starts_with('{') { of_json(text, server) } else { of_toml(text, server) }?;
        let cwd = table.get("cwd").and_then(Value::as_str).map(|cwd| dir.join(cwd));
        if let Some(cwd) = cwd.as_deref().and_then(Path::to_str) {
            table.insert("cwd".into(), cwd.into());
        }
        Self::of_table(server, table, asked.0, asked.1)
    }

    fn of_table(server: &str, table: Table, tool: &str, arguments: &str) -> Result<Self> {
        let arguments: Json = serde_json::from_str(arguments).context("--arguments are no JSON")?;
        ensure!(arguments.is_object(), "--arguments are no JSON object");
        let arguments = arguments.to_string();
        Ok(Self { server: server.to_owned(), tool: tool.to_owned(), arguments, table })
    }

    /// The server without a gateway.
    pub(super) fn bare(&self) -> Result<Bare> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let program = self.table.get("command").and_then(text).context("the server has no command")?;
        let args = self.table.get("args").and_then(Value::as_array).into_iter().flatten().filter_map(text);
        let env = self.table.get("env").and_then(Value::as_table).into_iter().flatten();
        let env: BTreeMap<_, _> =
            env.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect();
        Ok(Bare {
            command: std::iter::once(program).chain(args).collect(),
            env,
            cwd: self.table.get("cwd").and_then(text),
            tool: self.tool.clone(),
            arguments: self.arguments.clone(),
        })
    }

    /// A gateway's configuration with this server under one strategy. It gets so many seats, and a queue that holds
    /// every caller for long, unless its own table says otherwise.
    pub(super) fn configuration(&self, strategy: &str, seats: u32) -> Result<String> {
        let mut server = self.table.clone();
        server.insert("strategy".into(), strategy.into());
        let limits = server.entry("limits").or_insert_with(|| Table::new().into());
        let limits = limits.as_table_mut().context("limits is no table")?;
        for (key, value) in
            [("concurrent", Value::from(seats)), ("queue", 10_000.into()), ("queue_timeout", "2m".into())]
        {
            limits.entry(key).or_insert(value);
        }
        server.entry("deadline").or_insert("2m".into());
        let servers = Table::from_iter([(self.server.clone(), Value::from(server))]);
        let whole = Table::from_iter([
            ("concurrent".to_owned(), Value::from(seats.max(64))),
            ("drain".to_owned(), "1s".into()),
            ("servers".to_owned(), servers.into()),
        ]);
        toml::to_string(&whole).context("not to be written as TOML")
    }

    /// The path of the tool on a gateway.
    pub(super) fn path(&self) -> String {
        format!("/v1/servers/{}/tools/{}", self.server, self.tool)
    }
}

fn of_toml(text: &str, server: &str) -> Result<Table> {
    let mut whole: Table = text.parse().context("not TOML")?;
    match whole.get_mut("servers").and_then(|servers| servers.as_table_mut()?.remove(server)) {
        Some(Value::Table(table)) => Ok(table),
        _ => bail!("there is no server {server:?}"),
    }
}

/// Our settings stand beside the command there, as everywhere else, and not below a key of their own.
fn of_json(text: &str, server: &str) -> Result<Table> {
    let whole: Json = serde_json::from_str(text).context("not JSON (comments are not read here)")?;
    let entry = whole.get("mcpServers").or(whole.get("servers")).and_then(|servers| servers.get(server));
    let entry = entry.with_context(|| format!("there is no server {server:?}"))?;
    let mut table = Table::new();
    let known = ["command", "args", "env", "cwd"].map(|key| (key, entry.get(key)));
    let ours = entry.get("spawnling").and_then(Json::as_object).into_iter().flatten();
    let all = known.into_iter().filter_map(|(key, value)| Some((key, value?)));
    for (key, value) in all.chain(ours.map(|(key, value)| (key.as_str(), value))) {
        table.insert(key.to_owned(), Value::try_from(value).with_context(|| format!("{key} is not taken"))?);
    }
    Ok(table)
}

/// The words of another gateway's start command: `{port}` anywhere; `{server}` as a word of its own stands for all
/// words of the server's command, within a longer word, or as `{quoted-server}`, for one line of a shell.
pub(super) fn against_words(template: &str, port: u16, server: &[String]) -> Result<Vec<String>> {
    let line = shlex::try_join(server.iter().map(String::as_str)).context("a command with a NUL byte")?;
    let words = shlex::split(template).context("--against: a quote is not closed")?;
    let mut all = Vec::new();
    for word in words {
        if word == "{server}" {
            all.extend(server.iter().cloned());
            continue;
        }
        let word = word.replace("{port}", &port.to_string());
        all.push(word.replace("{server}", &line).replace("{quoted-server}", &line));
    }
    ensure!(!all.is_empty(), "--against: no command");
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: (&str, &str) = ("now", "{ \"zone\": \"UTC\" }");

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_server_of_either_format_becomes_the_same() {
        let toml = "[servers.time]\ncommand = \"uvx\"\nargs = [\"x\"]\nenv = { TZ = \"UTC\" }\ndeadline = \"9s\"\ncwd = \"here\"\n";
        let json = r#"{"mcpServers":{"time":{"command":"uvx","args":["x"],"env":{"TZ":"UTC"},"cwd":"here","spawnling":{"deadline":"9s"}}}}"#;
        let [one, two] = [toml, json]
            .map(|text| Question::of_file(text, Path::new("/top"), "time", ASKED).expect("it is taken"));
        assert_eq!(one.table, two.table);
        assert_eq!(one.arguments, r#"{"zone":"UTC"}"#);
        let bare = one.bare().expect("it has a command");
        assert_eq!((bare.command, bare.cwd.as_deref()), (words(&["uvx", "x"]), Some("/top/here")));
        assert_eq!(bare.env["TZ"], "UTC");
    }

    #[test]
    fn what_a_server_says_itself_is_kept() {
        let toml = "[servers.time]\ncommand = \"uvx\"\nlimits = { concurrent = 2 }\nstrategy = \"fresh\"\n";
        let question = Question::of_file(toml, Path::new("/"), "time", ASKED).expect("it is taken");
        let text = question.configuration("pooled", 16).expect("it can be written");
        let table: Table = text.parse().expect("it is TOML");
        let server = &table["servers"]["time"];
        assert_eq!(server["strategy"].as_str(), Some("pooled"));
        assert_eq!(server["limits"]["concurrent"].as_integer(), Some(2));
        assert_eq!(server["limits"]["queue"].as_integer(), Some(10_000));
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        for text in ["[servers.other]\ncommand = \"x\"", "{\"mcpServers\":{}}", "{ // no\n}", "= 3"] {
            assert!(Question::of_file(text, Path::new("/"), "time", ASKED).is_err(), "{text}");
        }
        assert!(Question::of_command(&words(&["x"]), "now", "[]").is_err());
        assert!(Question::of_command(&[], "now", "{}").is_err());
    }

    #[test]
    fn another_gateway_is_told_its_port_and_its_server() {
        let server = words(&["srv", "a b"]);
        for (template, expected) in [
            ("gw --port={port} -- {server}", &["gw", "--port=80", "--", "srv", "a b"][..]),
            ("gw --stdio {quoted-server}", &["gw", "--stdio", "srv 'a b'"]),
            ("'my gw' --stdio={server}", &["my gw", "--stdio=srv 'a b'"]),
        ] {
            assert_eq!(against_words(template, 80, &server).expect("it is taken"), expected, "{template}");
        }
        assert!(against_words("gw 'x", 80, &server).is_err());
        assert!(against_words("", 80, &server).is_err());
    }
}
