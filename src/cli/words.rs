//! The words behind `call SERVER TOOL`, put together into the arguments that they mean. Pure.
//!
//! ```text
//!   depth=3 name=x tags=["a"]   ->  {"depth":3,"name":"x","tags":["a"]}
//!   id:="007"  n:=3             ->  {"id":"007","n":3}  JSON, whatever the tool's schema says
//!   {"depth": 3}                ->  {"depth": 3}      as it was written
//!   -                           ->  whatever object comes on standard input
//! ```

use bytes::Bytes;

use crate::exchange::{JsonError, RawJson};

/// What a call's words mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// This object; and those of its members, each with its text, that may have been meant as strings.
    Given(RawJson, Vec<(String, String)>),
    /// The object that comes on standard input; [`arguments_from`] reads it.
    Stdin,
}

/// Why words do not make arguments.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArgumentsError {
    /// Neither form.
    #[error("{word:?} is neither key=value, key:=JSON nor a JSON object")]
    NoPair { word: String },
    /// What stands behind `:=` is no JSON.
    #[error("{key:?} is given by `:=`, and what stands behind that is not JSON")]
    NotJson { key: String, source: JsonError },
    /// Which of the two counts, nobody could say.
    #[error("{key:?} is given twice")]
    Twice { key: String },
    /// An object, or `-`, is all there is.
    #[error("{word:?} stands for all arguments, so nothing may stand beside it")]
    NotAlone { word: String },
    /// It is no object, or names a member twice.
    #[error("the arguments are not one JSON object")]
    Json(#[from] JsonError),
}

/// What the words mean; none at all: no arguments, `{}`.
pub(crate) fn arguments(words: &[String]) -> Result<Arguments, ArgumentsError> {
    let whole = |word: &String| word == "-" || word.starts_with('{');
    match words {
        [word] if word == "-" => Ok(Arguments::Stdin),
        [word] if whole(word) => {
            arguments_from(word.clone()).map(|object| Arguments::Given(object, Vec::new()))
        }
        words => match words.iter().find(|word| whole(word)) {
            Some(word) => Err(ArgumentsError::NotAlone { word: word.clone() }),
            None => pairs(words),
        },
    }
}

/// An object that was written out.
pub(crate) fn arguments_from(text: String) -> Result<RawJson, ArgumentsError> {
    let object = RawJson::parse(Bytes::from(text))?;
    object.members()?;
    object.check_unique()?;
    Ok(object)
}

fn pairs(words: &[String]) -> Result<Arguments, ArgumentsError> {
    let mut keys: Vec<&str> = Vec::with_capacity(words.len());
    let mut members: Vec<String> = Vec::with_capacity(words.len());
    let mut loose = Vec::new();
    for word in words {
        let pair = word.split_once('=').filter(|(key, _)| !key.is_empty() && *key != ":");
        let (key, value) = pair.ok_or_else(|| ArgumentsError::NoPair { word: word.clone() })?;
        let (key, value) = if let Some(key) = key.strip_suffix(':') {
            (key, json(key, value)?)
        } else {
            let member = member(value);
            if !member.as_str().starts_with('"') {
                loose.push((key.to_owned(), value.to_owned()));
            }
            (key, member)
        };
        if keys.contains(&key) {
            return Err(ArgumentsError::Twice { key: key.to_owned() });
        }
        keys.push(key);
        members.push(format!("{}:{}", RawJson::of(key).as_str(), value.as_str()));
    }
    // Put together as text: a generic value would round a big number on its way.
    let object = RawJson::parse(Bytes::from(format!("{{{}}}", members.join(","))))?;
    Ok(Arguments::Given(object, loose))
}

fn json(key: &str, value: &str) -> Result<RawJson, ArgumentsError> {
    let read = RawJson::parse(Bytes::copy_from_slice(value.as_bytes()));
    let read = read.and_then(|raw| raw.check_unique().map(|()| raw));
    read.map_err(|source| ArgumentsError::NotJson { key: key.to_owned(), source })
}

/// A number, true, false, null, list or object as it was written; anything else as a string.
fn member(value: &str) -> RawJson {
    let written = RawJson::parse(Bytes::copy_from_slice(value.as_bytes())).ok();
    // White space around it was quoted on purpose, and quotes would be gone if the shell had taken them.
    let as_it_is = written.filter(|raw| raw.as_str().len() == value.len() && !value.starts_with('"'));
    as_it_is.filter(|raw| raw.check_unique().is_ok()).unwrap_or_else(|| RawJson::of(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_together(words: &[&str]) -> Result<Arguments, ArgumentsError> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        arguments(&words)
    }

    #[test]
    fn words_become_the_object_that_they_mean() {
        let cases: [(&[&str], &str); 17] = [
            (&[], "{}"),
            (&["a=1", "b=x"], r#"{"a":1,"b":"x"}"#),
            (&["a=-1.5e3"], r#"{"a":-1.5e3}"#),
            (&["a=12345678901234567890123"], r#"{"a":12345678901234567890123}"#),
            (&["a=true", "b=false", "c=null"], r#"{"a":true,"b":false,"c":null}"#),
            (&[r#"a=["x",{"y":1}]"#], r#"{"a":["x",{"y":1}]}"#),
            (&["a="], r#"{"a":""}"#),
            (&["a=b=c"], r#"{"a":"b=c"}"#),
            (&["a=007", "b=+1", "c=1.", "d=NaN"], r#"{"a":"007","b":"+1","c":"1.","d":"NaN"}"#),
            (&["a= 1"], r#"{"a":" 1"}"#),
            (&["a=\"1\""], r#"{"a":"\"1\""}"#),
            (&["a=True", "b=[1", "c={x}"], r#"{"a":"True","b":"[1","c":"{x}"}"#),
            (&["a=line\nline"], r#"{"a":"line\nline"}"#),
            (&["ü \"=x"], r#"{"ü \"":"x"}"#),
            (&[r#"{"a": 1}"#], r#"{"a": 1}"#),
            (&[r#"a:="1""#, "b:=2", "c:=[null]"], r#"{"a":"1","b":2,"c":[null]}"#),
            (&["a::=1"], r#"{"a:":1}"#),
        ];
        for (words, expected) in cases {
            match put_together(words) {
                Ok(Arguments::Given(object, _)) => assert_eq!(object.as_str(), expected),
                other => panic!("{words:?}: {other:?}"),
            }
        }
        assert_eq!(put_together(&["-"]).expect("stdin"), Arguments::Stdin);
    }

    #[test]
    fn only_what_looks_like_something_else_may_have_been_meant_as_a_string() {
        let Ok(Arguments::Given(_, loose)) = put_together(&["a=1", "b=x", "c:=1", "d=[1,\n2]", "e=null"])
        else {
            panic!("they are pairs")
        };
        let pair = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        assert_eq!(loose, [pair("a", "1"), pair("d", "[1,\n2]"), pair("e", "null")]);
        assert!(matches!(put_together(&[r#"{"a": 1}"#]), Ok(Arguments::Given(_, loose)) if loose.is_empty()));
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        let cases: [(&[&str], &str); 11] = [
            (&["a"], "\"a\" is neither key=value, key:=JSON nor a JSON object"),
            (&["=1"], "\"=1\" is neither key=value, key:=JSON nor a JSON object"),
            (&["[1]"], "\"[1]\" is neither key=value, key:=JSON nor a JSON object"),
            (&[":=1"], "\":=1\" is neither key=value, key:=JSON nor a JSON object"),
            (&["a:=x"], "\"a\" is given by `:=`, and what stands behind that is not JSON"),
            (&["a:=1", "a=2"], "\"a\" is given twice"),
            (&["a=1", "a=2"], "\"a\" is given twice"),
            (&["a=1", "-"], "\"-\" stands for all arguments, so nothing may stand beside it"),
            (&["{}", "a=1"], "\"{}\" stands for all arguments, so nothing may stand beside it"),
            (&["{\"a\":"], "the arguments are not one JSON object"),
            (&["{\"a\":1,\"a\":2}"], "the arguments are not one JSON object"),
        ];
        for (words, expected) in cases {
            assert_eq!(put_together(words).expect_err(expected).to_string(), expected, "{words:?}");
        }
    }

    #[test]
    fn standard_input_has_to_be_an_object() {
        assert_eq!(arguments_from(" {\"a\":\n1}\n".to_owned()).expect("an object").as_str(), "{\"a\": 1}");
        for text in ["", "[1]", "\"x\"", "{} {}", "{\"a\":{\"b\":1,\"b\":2}}"] {
            assert!(arguments_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
