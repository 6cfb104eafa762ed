//! One table of a file, read key by key. What was asked for is known; what is left at the end is not.
//!
//! ```text
//!   Table -- get("deadline", value::duration) --> Some(30 s)     a bad value: None, and the ledger says why
//!         -- finish()                         -->                a key that nobody asked for: the ledger says so
//! ```

use std::borrow::Cow;
use std::path::PathBuf;

use super::complaint::{Ledger, Place};
use super::expand::{Expanded, Wrong, expand};
use super::server::Around;
use super::stamp::Stamped;
use super::tree::{Entry, Node, Value};
use super::value::Parsed;
use crate::auth::Secret;
use crate::exchange::nearest;

/// A table that is being read.
#[derive(Debug)]
pub(super) struct Table<'t> {
    ledger: &'t Ledger,
    around: Around<'t>,
    path: String,
    place: Place,
    left: Vec<&'t Entry>,
    known: Vec<&'static str>,
}

impl<'t> Table<'t> {
    /// The whole file.
    pub(super) fn of_file(entries: &'t [Entry], ledger: &'t Ledger, around: Around<'t>) -> Self {
        let left = entries.iter().collect();
        Self { ledger, around, path: String::new(), place: Place::WholeFile, left, known: Vec::new() }
    }

    /// The secrets that were found in the file so far, but for the first `known`.
    pub(super) fn secrets(&self, known: usize) -> Vec<Secret> {
        self.ledger.secrets(known)
    }

    /// Where its own name stands.
    pub(super) const fn place(&self) -> Place {
        self.place
    }

    /// Says that something is wrong with the table as a whole.
    pub(super) fn complain(&self, what: impl Into<String>) {
        self.ledger.complain(self.place, &self.path, what);
    }

    /// Says that the server that this table is about is passed over.
    pub(super) fn pass_over(&self, why: &str) {
        self.ledger.pass_over(self.place, &self.path, why);
    }

    /// Says something of the table as a whole that is not wrong.
    pub(super) fn notice(&self, what: impl Into<String>) {
        self.ledger.notice(self.place, &self.path, what);
    }

    /// Says that something is wrong with what was found at `place` under `key`.
    pub(super) fn complain_at(&self, place: Place, key: &str, what: impl Into<String>) {
        self.ledger.complain(place, &path_to(&self.path, key), what);
    }

    /// Says that what was found at `place` under `key` has no effect.
    pub(super) fn notice_at(&self, place: Place, key: &str, what: impl Into<String>) {
        self.ledger.notice(place, &path_to(&self.path, key), what);
    }

    /// Says that the configuration is another when this file is.
    pub(super) fn depends_on(&self, file: PathBuf) {
        self.ledger.keep(Vec::new(), vec![Stamped::before_reading(file)]);
    }

    /// Says that nobody is to see the value of a variable that this server is given.
    pub(super) fn hide_variable(&self, name: &str) {
        self.ledger.hide(&path_to(&path_to(&self.path, "env"), name));
    }

    /// Whether the key is there; it counts as known only once it is asked for.
    pub(super) fn has(&self, key: &str) -> bool {
        self.peek(key).is_some()
    }

    /// The value under `key`, which stays to be asked for.
    pub(super) fn peek(&self, key: &str) -> Option<&'t Value> {
        self.left.iter().find(|entry| entry.name == key).map(|entry| &entry.node.value)
    }

    fn take(&mut self, key: &'static str) -> Option<&'t Entry> {
        self.known.push(key);
        let index = self.left.iter().position(|entry| entry.name == key)?;
        Some(self.left.remove(index))
    }

    /// The value under `key`, if there is one and it is good.
    pub(super) fn get<T>(&mut self, key: &'static str, parse: impl Fn(&Value) -> Parsed<T>) -> Option<T> {
        self.take(key).and_then(|entry| self.parse(&entry.node, &path_to(&self.path, key), &parse))
    }

    /// The value under `key`, with its place.
    pub(super) fn get_placed<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value) -> Parsed<T>,
    ) -> Option<(Place, T)> {
        let entry = self.take(key)?;
        let value = self.parse(&entry.node, &path_to(&self.path, key), &parse)?;
        Some((Place::At(entry.node.at), value))
    }

    /// The good ones of the values in the list under `key`, each with its place.
    pub(super) fn each<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value) -> Parsed<T>,
    ) -> Option<Vec<(Place, T)>> {
        let entry = self.take(key)?;
        let path = path_to(&self.path, key);
        let Value::List(items) = &entry.node.value else {
            let kind = entry.node.value.kind();
            let remedy = if matches!(entry.node.value, Value::Text(_)) {
                ": put it in brackets, [\"...\"]"
            } else {
                ""
            };
            let what = format!("must be a list, not {kind}{remedy}");
            self.ledger.complain(Place::At(entry.node.at), &path, what);
            return None;
        };
        self.ledger.count(Place::At(entry.node.at), &path, false);
        let item = |(index, node): (usize, &Node)| {
            let value = self.parse(node, &format!("{path}[{index}]"), &parse)?;
            Some((Place::At(node.at), value))
        };
        Some(items.iter().enumerate().filter_map(item).collect())
    }

    /// The table under `key`.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Self> {
        let entry = self.take(key)?;
        self.inner(entry)
    }

    /// What it is called in complaints.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The tables in the list under `key`.
    pub(super) fn list_of_tables(&mut self, key: &'static str) -> Vec<Self> {
        let Some(entry) = self.take(key) else { return Vec::new() };
        let path = path_to(&self.path, key);
        let Value::List(items) = &entry.node.value else {
            let what = format!("must be a list of tables, not {}", entry.node.value.kind());
            self.ledger.complain(Place::At(entry.node.at), &path, what);
            return Vec::new();
        };
        let item = |(index, node): (usize, &'t Node)| {
            self.table_in(node, format!("{path}[{index}]"), Place::At(node.at))
        };
        items.iter().enumerate().filter_map(item).collect()
    }

    /// All tables that this one consists of, by name.
    pub(super) fn tables(&mut self) -> Vec<(&'t str, Self)> {
        let left = std::mem::take(&mut self.left);
        left.into_iter().filter_map(|entry| Some((entry.name.as_str(), self.inner(entry)?))).collect()
    }

    /// All values that this table consists of, by name: the good ones.
    pub(super) fn values<T>(&mut self, parse: impl Fn(&str, &Value) -> Parsed<T>) -> Vec<(String, T)> {
        let left = std::mem::take(&mut self.left);
        let one = |entry: &Entry| {
            let path = path_to(&self.path, &entry.name);
            let value = self.parse(&entry.node, &path, &|value: &Value| parse(&entry.name, value))?;
            Some((entry.name.clone(), value))
        };
        left.into_iter().filter_map(one).collect()
    }

    fn inner(&self, entry: &'t Entry) -> Option<Self> {
        self.table_in(&entry.node, path_to(&self.path, &entry.name), Place::At(entry.at))
    }

    fn table_in(&self, node: &'t Node, path: String, place: Place) -> Option<Self> {
        if let Value::Table(entries) = &node.value {
            let left = entries.iter().collect();
            return Some(Self { path, place, left, known: Vec::new(), ..*self });
        }
        let what = format!("must be a table, not {}", node.value.kind());
        self.ledger.complain(Place::At(node.at), &path, what);
        None
    }

    fn parse<T>(&self, node: &Node, path: &str, parse: &impl Fn(&Value) -> Parsed<T>) -> Option<T> {
        let (value, secret) = match &node.value {
            Value::Text(text) if text.contains("${") => {
                let (text, secret) = self.expand(text, node.at, path)?;
                (Cow::Owned(Value::Text(text)), secret)
            }
            value => (Cow::Borrowed(value), false),
        };
        self.ledger.count(Place::At(node.at), path, secret);
        let parsed = parse(&value).or_else(|what| {
            // What was put in place is text, and may stand for a number or a flag all the same.
            let other = if matches!(value, Cow::Owned(_)) { value.unquoted() } else { None };
            other.and_then(|other| parse(&other).ok()).ok_or(what)
        });
        // What is wrong with a value is often said by showing it.
        let told = |what| {
            if secret { "what stands there when it is put in place will not do".to_owned() } else { what }
        };
        parsed.map_err(|what| self.ledger.complain(Place::At(node.at), path, told(what))).ok()
    }

    /// The text with everything in its place, and whether any of it is secret.
    fn expand(&self, text: &str, at: usize, path: &str) -> Option<(String, bool)> {
        match expand(text, self.around) {
            Ok(Expanded { text, secrets, is_private, files }) => {
                let secret = is_private || !secrets.is_empty();
                self.ledger.keep(secrets, files);
                Some((text, secret))
            }
            Err((all, files)) => {
                self.ledger.keep(Vec::new(), files);
                for (index, Wrong { begins, what }) in all.iter().enumerate() {
                    let nth = all[..index].iter().filter(|before| before.begins == *begins).count();
                    let at = self.ledger.find(at, begins, nth);
                    self.ledger.complain(Place::At(at), path, what.as_str());
                }
                None
            }
        }
    }

    /// Refuses keys that mean something, but not here or not yet.
    pub(super) fn refuse(&mut self, keys: &[&'static str], what: &str) {
        let ledger = self.ledger;
        self.left.retain(|entry| {
            let refused = keys.contains(&entry.name.as_str());
            if refused {
                ledger.complain(Place::At(entry.at), &path_to(&self.path, &entry.name), what);
            }
            !refused
        });
    }

    /// Refuses every key that was not asked for.
    pub(super) fn finish(self) {
        for entry in &self.left {
            let what = match nearest(&entry.name, self.known.iter().copied()) {
                Some(name) => format!("unknown key; did you mean `{name}`?"),
                None => format!("unknown key; known here: {}", self.known.join(", ")),
            };
            self.ledger.complain(Place::At(entry.at), &path_to(&self.path, &entry.name), what);
        }
    }

    /// Passes over every key that was not asked for: in a file that others read, too, it is theirs. Those of `ours` were
    /// meant for us, and stand in the wrong place.
    pub(super) fn finish_foreign(self, ours: impl Fn(&str) -> bool) {
        for entry in &self.left {
            let what = if ours(&entry.name) {
                let key = path_to("spawnling", &entry.name);
                format!("has no effect here: write it as `{key}`, for our own keys stand under `spawnling`")
            } else {
                "not ours, passed over".to_owned()
            };
            self.ledger.notice(Place::At(entry.at), &path_to(&self.path, &entry.name), what);
        }
    }
}

/// The path of a member, quoted where a bare key could not stand.
pub(super) fn path_to(table: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if table.is_empty() { key } else { format!("{table}.{key}") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{tree, value};
    use super::*;

    #[test]
    fn what_stands_for_something_else_is_put_in_place_and_may_be_a_number() {
        let text = "count = \"${N}\"\nflag = \"${F:-true}\"\nwrong = \"${NONE} ${NONE}\"\nplain = \"7\"\n";
        let said = complaints(text, |mut table| {
            assert_eq!(table.get("count", value::count), Some(7));
            assert_eq!(table.get("flag", value::flag), Some(true));
            assert_eq!(table.get("wrong", value::text), None);
            assert_eq!(table.get("plain", value::count), None);
        });
        let missing = "wrong: the variable NONE is not set; ${NONE:-default} would say what counts then";
        let text = "must be a whole number, not a string";
        assert_eq!(said, format!("f:3:10: {missing}\nf:3:18: {missing}\nf:4:9: plain: {text}"));
    }

    fn complaints(text: &str, read: impl Fn(Table<'_>)) -> String {
        let ledger = Ledger::of_file("f".to_owned(), text.to_owned());
        let entries = tree::from_toml(text, &ledger).expect("valid TOML");
        let environment = [("N".into(), "7".into())].into_iter().collect();
        read(Table::of_file(&entries, &ledger, Around { environment: &environment, base: Path::new("/") }));
        ledger.close().map_or_else(|complaints| complaints.to_string(), |notices| notices.join("\n"))
    }

    #[test]
    fn every_complaint_names_its_key_and_its_place() {
        let text = "count = \"x\"\nlist = [1, \"a\", true]\n[inner]\n\"odd name\" = 1\ncuont = 1\n";
        let said = complaints(text, |mut table| {
            assert_eq!(table.get("count", value::count), None);
            assert_eq!(table.each("list", value::count), Some(vec![(Place::At(20), 1)]));
            assert!(table.get("absent", value::count).is_none());
            let mut inner = table.table("inner").expect("it is there");
            assert_eq!(inner.get("count", value::count), None);
            inner.finish();
            table.finish();
        });
        let expected = [
            "f:1:9: count: must be a whole number, not a string",
            "f:2:12: list[1]: must be a whole number, not a string",
            "f:2:17: list[2]: must be a whole number, not a boolean",
            "f:4:1: inner.\"odd name\": unknown key; known here: count",
            "f:5:1: inner.cuont: unknown key; did you mean `count`?",
        ];
        assert_eq!(said, expected.join("\n"));
    }

    #[test]
    fn a_foreign_key_is_passed_over_with_a_notice() {
        assert_eq!(
            complaints("[t]\ntheirs = 1\nours = 2", |mut table| table
                .table("t")
                .expect("it is there")
                .finish_foreign(|key| key == "ours")),
            "f:2:1: t.theirs: not ours, passed over\nf:3:1: t.ours: has no effect here: write it as `spawnling.ours`, for our own keys stand under `spawnling`"
        );
    }

    #[test]
    fn a_refused_key_is_not_unknown() {
        let said = complaints("later = 1", |mut table| {
            table.refuse(&["later"], "is not there yet");
            table.finish();
        });
        assert_eq!(said, "f:1:1: later: is not there yet");
    }

    #[test]
    fn what_should_be_a_table_or_a_list_is_one() {
        let said = complaints("inner = 1\nlist = 2", |mut table| {
            assert!(table.table("inner").is_none());
            assert!(table.each("list", value::count).is_none());
        });
        assert_eq!(
            said,
            "f:1:9: inner: must be a table, not a number\nf:2:8: list: must be a list, not a number"
        );
    }
}
