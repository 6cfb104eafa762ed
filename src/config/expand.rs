//! What stands in a value for something else, put in its place.
//!
//! ```text
//!   ${NAME}  ${env:NAME}      a variable of the gateway; one that is not set is a mistake
//!   ${NAME:-default}          the same, but for one that is not set, or to nothing: what stands behind `:-`
//!   ${file:PATH}              the content of a file, without the line end behind it; secret
//!   ${input:ID}               what VS Code would ask for: here the variable INPUT_ID; secret
//!   ${workspaceFolder}        where VS Code would say that the file belongs to; ${userHome}: the home directory
//!   $${                       ${ itself
//! ```

use std::fmt;
use std::path::Path;

use super::env::is_telltale;
use super::server::Around;
use super::stamp::{Stamped, content};
use crate::auth::Secret;

/// The largest file that is put into a value, in bytes: more fits into no environment.
pub(super) const LARGEST_FILE: u64 = 128 << 10;

/// How deep defaults may stand within defaults.
const DEEPEST: usize = 8;

/// A value with everything in its place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// What of it is secret.
    pub(super) secrets: Vec<Secret>,
    /// Whether something of it is better not shown, though it need not be hidden wherever it turns up.
    pub(super) is_private: bool,
    /// The files that it came from.
    pub(super) files: Vec<Stamped>,
}

/// One expansion that cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// How it begins in the text, `${NAME` for example, and which occurrence of that it is.
    pub(super) begins: String,
    pub(super) what: String,
}

/// Puts everything in its place, or says all that cannot be, and which files it was looked for in.
pub(super) fn expand(text: &str, around: Around<'_>) -> Result<Expanded, (Vec<Wrong>, Vec<Stamped>)> {
    let (mut expanded, mut wrong) = (Expanded::default(), Vec::new());
    put(text, around, DEEPEST, &mut expanded, &mut wrong);
    if wrong.is_empty() { Ok(expanded) } else { Err((wrong, expanded.files)) }
}

fn put(text: &str, around: Around<'_>, deepest: usize, expanded: &mut Expanded, wrong: &mut Vec<Wrong>) {
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            expanded.text.push_str(before);
            expanded.text.push_str("${");
            rest = &from[2..];
            continue;
        }
        expanded.text.push_str(before);
        let Some(end) = closing(from) else {
            wrong.push(Wrong {
                begins: "${".to_owned(),
                what: "`${` is not closed by a `}`; `$${` stands for itself".to_owned(),
            });
            return;
        };
        let inner = &from[2..end];
        rest = &from[end + 1..];
        if let Err(what) = one(inner, around, deepest, expanded, wrong) {
            wrong.push(Wrong { begins: format!("${{{inner}"), what });
        }
    }
    expanded.text.push_str(rest);
}

/// Where the brace is that closes the first one: a default may hold further ones.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if at > 0 && text.as_bytes()[at - 1] == b'$' => depth += 1,
            b'}' if depth == 1 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn one(
    inner: &str,
    around: Around<'_>,
    deepest: usize,
    expanded: &mut Expanded,
    wrong: &mut Vec<Wrong>,
) -> Result<(), String> {
    if let Some(path) = inner.strip_prefix("file:") {
        return file(path, around, expanded);
    }
    if let Some(id) = inner.strip_prefix("input:") {
        return input(id, around, expanded);
    }
    match inner {
        "workspaceFolder" => {
            expanded.text.push_str(&workspace(around.base).to_string_lossy());
            return Ok(());
        }
        "userHome" => return variable("HOME", around, expanded),
        _ => {}
    }
    let named = inner.strip_prefix("env:").unwrap_or(inner);
    let (name, default) = named.split_once(":-").map_or((named, None), |(name, rest)| (name, Some(rest)));
    if !is_name(name) {
        return Err(format!(
            "`${{{inner}}}` stands for nothing here: write ${{VAR}}, ${{VAR:-default}}, ${{env:VAR}} or \
             ${{file:PATH}}, and `$${{` for a plain `${{`"
        ));
    }
    match default {
        None => variable(name, around, expanded),
        Some(_) if around.environment.get(name).is_some() => variable(name, around, expanded),
        Some(_) if deepest == 0 => Err("has too many defaults within defaults".to_owned()),
        Some(default) => {
            put(default, around, deepest - 1, expanded, wrong);
            Ok(())
        }
    }
}

fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(letter) && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
}

fn variable(name: &str, around: Around<'_>, expanded: &mut Expanded) -> Result<(), String> {
    let value = around.environment.even_empty(name).ok_or_else(|| {
        format!("the variable {name} is not set; ${{{name}:-default}} would say what counts then")
    })?;
    let value = value.to_str().ok_or_else(|| format!("the variable {name} is not UTF-8"))?;
    expanded.is_private |= is_telltale(name);
    expanded.text.push_str(value);
    Ok(())
}

/// VS Code asks people for it. We can ask nobody, and take a variable, named as GitHub's runners name inputs.
fn input(id: &str, around: Around<'_>, expanded: &mut Expanded) -> Result<(), String> {
    let name = format!("INPUT_{}", id.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_"));
    let name = name.to_ascii_uppercase();
    let value = around.environment.get(&name).and_then(|value| value.to_str()).ok_or_else(|| {
        format!("an editor would ask for this; nobody can be asked here: set the variable {name}")
    })?;
    expanded.secrets.push(Secret::new(value));
    expanded.text.push_str(value);
    Ok(())
}

fn file(written: &str, around: Around<'_>, expanded: &mut Expanded) -> Result<(), String> {
    let path = around.path(written)?;
    // Watched even if it cannot be read: it may be there soon.
    expanded.files.push(Stamped::before_reading(path.clone()));
    let wrong = |why: &dyn fmt::Display| format!("the file {written} cannot be read: {why}");
    let content = content(&path, LARGEST_FILE).map_err(|error| wrong(&error))?;
    let content = String::from_utf8(content).map_err(|_| wrong(&"it is not UTF-8"))?;
    // Whoever writes a secret with an editor, or with `echo`, has written a line end too.
    let content = content.strip_suffix('\n').unwrap_or(&content);
    let content = content.strip_suffix('\r').unwrap_or(content);
    if !content.is_empty() {
        expanded.secrets.push(Secret::new(content));
    }
    expanded.text.push_str(content);
    Ok(())
}

/// VS Code's own file lies in `.vscode` below the folder that is meant.
fn workspace(base: &Path) -> &Path {
    match base.parent() {
        Some(parent) if base.file_name().is_some_and(|name| name == ".vscode") => parent,
        _ => base,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::env::Environment;

    fn expand_in(dir: &Path, text: &str) -> Result<Expanded, Vec<String>> {
        let set = [("A", "a"), ("EMPTY", ""), ("HOME", "/home/u"), ("INPUT_GITHUB_TOKEN", "asked-for")];
        let environment: Environment = set.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let around = Around { environment: &environment, base: dir };
        expand(text, around).map_err(|(wrong, _)| wrong.into_iter().map(|wrong| wrong.what).collect())
    }

    #[test]
    fn everything_is_put_in_its_place() {
        let cases = [
            ("plain $A ${A}", "plain $A a"),
            ("${A}${env:A}-${A:-x}", "aa-a"),
            ("[${EMPTY}]", "[]"),
            ("${EMPTY:-x} ${NONE:-y} ${NONE:-} ${env:NONE:-z}", "x y  z"),
            ("${NONE:-${A}/${NONE:-${EMPTY:-deep}}}", "a/deep"),
            ("$${A} $$${A} $$", "${A} $${A} $$"),
            ("{\"a\": {}} ${A} }", "{\"a\": {}} a }"),
            ("${workspaceFolder}/x", "/project/x"),
            ("${userHome}", "/home/u"),
        ];
        for (text, expected) in cases {
            let expanded = expand_in(Path::new("/project/.vscode"), text).expect(text);
            assert_eq!(expanded.text, expected, "{text}");
            assert!(expanded.secrets.is_empty() && expanded.files.is_empty());
        }
        assert_eq!(expand_in(Path::new("/p"), "${workspaceFolder}").expect("good").text, "/p");
    }

    #[test]
    fn what_comes_out_of_a_file_is_secret() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("token"), "s3cret\r\n").expect("written");
        let expanded = expand_in(dir.path(), "Bearer ${file:token}").expect("it can be read");
        assert_eq!(expanded.text, "Bearer s3cret");
        assert_eq!(expanded.secrets, [Secret::new("s3cret")]);
        assert_eq!(expanded.files, [Stamped::before_reading(dir.path().join("token"))]);
        let asked = expand_in(dir.path(), "${input:github-token}").expect("its variable is set");
        assert_eq!((asked.text.as_str(), asked.secrets), ("asked-for", vec![Secret::new("asked-for")]));
        fs::write(dir.path().join("large"), vec![b'x'; 200_000]).expect("written");
        let wrong = expand_in(dir.path(), "${file:large}").expect_err("too large");
        assert!(wrong[0].ends_with("is longer than 128 KiB"), "{wrong:?}");
    }

    #[test]
    fn every_expansion_that_cannot_be_had_is_named() {
        let cases = [
            ("${NONE} ${ALSO}", vec!["the variable NONE is not set", "the variable ALSO is not set"]),
            ("${NONE:-${ALSO}}", vec!["the variable ALSO is not set"]),
            ("${A", vec!["`${` is not closed"]),
            ("${}", vec!["`${}` stands for nothing here"]),
            ("${A B}", vec!["`${A B}` stands for nothing here"]),
            ("${command:x.y}", vec!["`${command:x.y}` stands for nothing here"]),
            ("${file:none}", vec!["the file none cannot be read: "]),
            ("${input:key}", vec!["an editor would ask for this"]),
        ];
        for (text, expected) in cases {
            let wrong = expand_in(Path::new("/p"), text).expect_err(text);
            assert_eq!(wrong.len(), expected.len(), "{text}: {wrong:?}");
            for (what, beginning) in wrong.iter().zip(expected) {
                assert!(what.starts_with(beginning), "{text}: {what}");
            }
        }
        let deep = format!("{}x{}", "${N:-".repeat(20), "}".repeat(20));
        assert_eq!(expand_in(Path::new("/p"), &deep).expect_err("too deep").len(), 1);
    }
}
