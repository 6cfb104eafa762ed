//! What a request asks, from its path and body to [`Step`]s. Pure.
//!
//! The envelope of an MCP request is built by the rooms below; here only its values are taken over, each by its name.
//! A member that we do not know is refused by name, for it would otherwise be dropped in silence.

use crate::exchange::{Ask, ListKind, Members, OnError, RawJson, Step};
use crate::http::problem::Refusal;
use crate::http::route::Post;

/// How many steps one call may have.
const MOST_STEPS: usize = 64;
/// What answers a modern server's questions; goes beside `arguments`.
const CONTINUATION: [&str; 2] = ["inputResponses", "requestState"];
const METHODS: &str = "tools/call, prompts/get, resources/read, tools/list, resources/list, \
                       resources/templates/list, prompts/list, completion/complete and ping";

/// What is asked, and whether a failed step ends it.
#[derive(Debug)]
pub(in crate::http) struct Asked {
    pub(in crate::http) steps: Vec<Step>,
    pub(in crate::http) on_error: OnError,
}

/// Reads a body for its route. Its names were checked to be unique, at any depth.
pub(in crate::http) fn read(post: Post, body: RawJson) -> Result<Asked, Refusal> {
    let ask = match post {
        Post::Tool { name } => {
            Ask::Tool { name, arguments: Some(object(body, "the body")?), extra: Members::new() }
        }
        Post::Prompt { name } => {
            Ask::Prompt { name, arguments: Some(strings(body, "the body")?), extra: Members::new() }
        }
        Post::Resource => {
            let mut members = Taken::of(body, "the body")?;
            let uri = members.string("uri")?.ok_or_else(|| members.missing("uri"))?;
            members.end(&["uri"])?;
            Ask::Resource { uri, extra: Members::new() }
        }
        Post::Calls => return read_calls(body),
    };
    Ok(Asked { steps: vec![ask.into()], on_error: OnError::Stop })
}

fn read_calls(body: RawJson) -> Result<Asked, Refusal> {
    let mut members = Taken::of(body, "the body")?;
    let steps = members.take("steps").ok_or_else(|| members.missing("steps"))?;
    let on_error = match members.string("on_error")?.as_deref() {
        None | Some("stop") => OnError::Stop,
        Some("continue") => OnError::Continue,
        Some(other) => {
            return Err(Refusal::malformed(format!("`on_error` is `stop` or `continue`, not {other:?}")));
        }
    };
    members.end(&["steps", "on_error"])?;
    let steps = steps.elements().ok_or_else(|| Refusal::malformed("`steps` is not an array"))?;
    if steps.is_empty() || steps.len() > MOST_STEPS {
        return Err(Refusal::malformed(format!(
            "`steps` holds {} steps; between 1 and {MOST_STEPS} are allowed",
            steps.len()
        )));
    }
    let asks = steps.into_iter().enumerate().map(|(index, step)| Ok(read_step(index, step)?.into()));
    Ok(Asked { steps: asks.collect::<Result<_, Refusal>>()?, on_error })
}

/// `{"tool":...,"arguments":{}}` or `{"method":...,"params":{}}`.
fn read_step(index: usize, step: RawJson) -> Result<Ask, Refusal> {
    let mut members = Taken::of(step, &format!("step {index}"))?;
    if let Some(method) = members.string("method")? {
        let params = members.take("params").unwrap_or_else(RawJson::empty_object);
        members.end(&["method", "params"])?;
        return read_method(&method, Taken::of(params, &format!("`params` of step {index}"))?);
    }
    let name = members.string("tool")?.ok_or_else(|| {
        Refusal::malformed(format!("step {index} has neither a string `tool` nor a string `method`"))
    })?;
    read_tool(name, members, &["tool", "arguments", "inputResponses", "requestState"])
}

fn read_method(method: &str, mut params: Taken) -> Result<Ask, Refusal> {
    const NAMED: [&str; 4] = ["name", "arguments", "inputResponses", "requestState"];
    let list = |kind, params: Taken| params.end(&[]).map(|()| Ask::List(kind));
    match method {
        "tools/call" => {
            let name = params.string("name")?.ok_or_else(|| params.missing("name"))?;
            read_tool(name, params, &NAMED)
        }
        "prompts/get" => {
            let name = params.string("name")?.ok_or_else(|| params.missing("name"))?;
            let place = params.place.clone();
            let arguments =
                params.take("arguments").map(|arguments| strings(arguments, &place)).transpose()?;
            let extra = params.continuation();
            params.end(&NAMED)?;
            Ok(Ask::Prompt { name, arguments, extra })
        }
        "resources/read" => {
            let uri = params.string("uri")?.ok_or_else(|| params.missing("uri"))?;
            let extra = params.continuation();
            params.end(&["uri", "inputResponses", "requestState"])?;
            Ok(Ask::Resource { uri, extra })
        }
        "tools/list" => list(ListKind::Tools, params),
        "resources/list" => list(ListKind::Resources, params),
        "resources/templates/list" => list(ListKind::ResourceTemplates, params),
        "prompts/list" => list(ListKind::Prompts, params),
        "completion/complete" => {
            let taken =
                ["ref", "argument", "context"].map(|name| Some((name.to_owned(), params.take(name)?)));
            params.end(&["ref", "argument", "context"])?;
            Ok(Ask::Complete { params: taken.into_iter().flatten().collect() })
        }
        "ping" => params.end(&[]).map(|()| Ask::Ping),
        other => {
            Err(Refusal::malformed(format!("the method {other:?} cannot be a step; allowed: {METHODS}")))
        }
    }
}

fn read_tool(name: String, mut members: Taken, known: &'static [&'static str]) -> Result<Ask, Refusal> {
    let place = format!("`arguments` of {}", members.place);
    let arguments = members.take("arguments").map(|arguments| object(arguments, &place)).transpose()?;
    let extra = members.continuation();
    members.end(known)?;
    Ok(Ask::Tool { name, arguments, extra })
}

fn object(value: RawJson, place: &str) -> Result<RawJson, Refusal> {
    if value.as_str().starts_with('{') {
        return Ok(value);
    }
    Err(Refusal::malformed(format!("{place} is not a JSON object")))
}

/// An object of strings, as the arguments of a prompt are.
fn strings(value: RawJson, place: &str) -> Result<RawJson, Refusal> {
    let value = object(value, place)?;
    for (name, argument) in value.members()? {
        if !argument.as_str().starts_with('"') {
            return Err(Refusal::malformed(format!(
                "the argument {name:?} is no string; a prompt takes no others"
            )));
        }
    }
    Ok(value)
}

/// The members of an object, each taken out once.
struct Taken {
    place: String,
    members: Members,
}

impl Taken {
    fn of(value: RawJson, place: &str) -> Result<Self, Refusal> {
        let value = object(value, place)?;
        Ok(Self { place: place.to_owned(), members: value.members()? })
    }

    fn take(&mut self, name: &str) -> Option<RawJson> {
        let index = self.members.iter().position(|(member, _)| member == name)?;
        Some(self.members.remove(index).1)
    }

    fn string(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.read() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Refusal::malformed(format!("`{name}` of {} is not a string", self.place))),
        }
    }

    fn continuation(&mut self) -> Members {
        let taken = CONTINUATION.map(|name| Some((name.to_owned(), self.take(name)?)));
        taken.into_iter().flatten().collect()
    }

    fn missing(&self, name: &str) -> Refusal {
        Refusal::malformed(format!("{} has no `{name}`", self.place))
    }

    /// Refuses what was not taken.
    fn end(self, known: &[&str]) -> Result<(), Refusal> {
        let Some((name, _)) = self.members.first() else { return Ok(()) };
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Refusal::malformed(format!("{} has an unknown member {name:?}; known: {known}", self.place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text.to_owned().into()).unwrap()
    }

    /// The questions in a short notation.
    fn asked(body: &str) -> Result<Vec<String>, String> {
        let asked = read(Post::Calls, raw(body)).map_err(|refusal| refusal.to_string())?;
        Ok(asked.steps.iter().map(|step| shown(&step.ask)).collect())
    }

    fn shown(ask: &Ask) -> String {
        let value =
            |value: &Option<RawJson>| value.as_ref().map_or("-".into(), |value| value.as_str().to_owned());
        let members = |extra: &Members| {
            let shown: Vec<_> =
                extra.iter().map(|(name, value)| format!(" {name}={}", value.as_str())).collect();
            shown.concat()
        };
        match ask {
            Ask::Tool { name, arguments, extra } => {
                format!("tool {name} {}{}", value(arguments), members(extra))
            }
            Ask::Prompt { name, arguments, extra } => {
                format!("prompt {name} {}{}", value(arguments), members(extra))
            }
            Ask::Resource { uri, extra } => format!("resource {uri}{}", members(extra)),
            Ask::List(kind) => format!("list {}", kind.member()),
            Ask::Complete { params } => format!("complete{}", members(params)),
            Ask::Ping => "ping".into(),
        }
    }

    #[test]
    fn each_kind_of_step_becomes_its_question() {
        for (step, expected) in [
            (r#"{"tool":"t"}"#, "tool t -"),
            (r#"{"tool":"t","arguments":{"n":1e400}}"#, r#"tool t {"n":1e400}"#),
            (
                r#"{"tool":"t","arguments":{},"requestState":"s","inputResponses":{"a":1}}"#,
                r#"tool t {} inputResponses={"a":1} requestState="s""#,
            ),
            (r#"{"method":"tools/call","params":{"name":"t","arguments":{}}}"#, "tool t {}"),
            (
                r#"{"method":"prompts/get","params":{"name":"p","arguments":{"a":"b"}}}"#,
                r#"prompt p {"a":"b"}"#,
            ),
            (r#"{"method":"resources/read","params":{"uri":"a:b"}}"#, "resource a:b"),
            (r#"{"method":"tools/list"}"#, "list tools"),
            (r#"{"method":"resources/list","params":{}}"#, "list resources"),
            (r#"{"method":"resources/templates/list"}"#, "list resourceTemplates"),
            (r#"{"method":"prompts/list"}"#, "list prompts"),
            (
                r#"{"method":"completion/complete","params":{"argument":{},"ref":{"type":"x"}}}"#,
                r#"complete ref={"type":"x"} argument={}"#,
            ),
            (r#"{"method":"ping"}"#, "ping"),
        ] {
            assert_eq!(asked(&format!(r#"{{"steps":[{step}]}}"#)), Ok(vec![expected.to_owned()]), "{step}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, named) in [
            ("[]", "not a JSON object"),
            ("{}", "no `steps`"),
            (r#"{"steps":{}}"#, "not an array"),
            (r#"{"steps":[]}"#, "between 1 and 64"),
            (r#"{"steps":[{"tool":"t"}],"onError":"stop"}"#, "\"onError\""),
            (r#"{"steps":[{"tool":"t"}],"on_error":"go"}"#, "`stop` or `continue`"),
            (r#"{"steps":[{"tool":"t","args":{}}]}"#, "\"args\""),
            (r#"{"steps":[{"tool":"t","arguments":[]}]}"#, "`arguments` of step 0"),
            (r#"{"steps":[{"tool":3}]}"#, "`tool` of step 0 is not a string"),
            (r#"{"steps":[{"tool":"t"},{}]}"#, "step 1 has neither"),
            (r#"{"steps":[{"method":"ping","tool":"t"}]}"#, "\"tool\""),
            (r#"{"steps":[{"method":"sampling/createMessage"}]}"#, "allowed: tools/call"),
            (r#"{"steps":[{"method":"initialize"}]}"#, "\"initialize\""),
            (r#"{"steps":[{"method":"tools/call","params":{"name":"t","_meta":{}}}]}"#, "\"_meta\""),
            (r#"{"steps":[{"method":"tools/list","params":{"cursor":"a"}}]}"#, "known: none"),
            (r#"{"steps":[{"method":"resources/read"}]}"#, "no `uri`"),
            (r#"{"steps":[{"method":"prompts/get","params":{"name":"p","arguments":{"a":1}}}]}"#, "\"a\""),
        ] {
            let refusal = asked(body).unwrap_err();
            assert!(refusal.contains(named), "{body}: {refusal}");
        }
    }

    #[test]
    fn sixty_four_steps_are_the_most() {
        let steps = |number| format!(r#"{{"steps":[{}]}}"#, vec![r#"{"method":"ping"}"#; number].join(","));
        assert_eq!(asked(&steps(64)).unwrap().len(), 64);
        assert!(asked(&steps(65)).is_err());
    }

    #[test]
    fn the_short_routes_ask_one_thing() {
        let one = |post, body| read(post, raw(body)).map(|asked| shown(&asked.steps[0].ask));
        let tool = || Post::Tool { name: "t".into() };
        let prompt = || Post::Prompt { name: "p".into() };
        assert_eq!(one(tool(), r#"{ "a": [1] }"#).unwrap(), r#"tool t { "a": [1] }"#);
        assert_eq!(one(prompt(), r#"{"a":"b"}"#).unwrap(), r#"prompt p {"a":"b"}"#);
        assert_eq!(one(Post::Resource, r#"{"uri":"a:b"}"#).unwrap(), "resource a:b");
        assert!(one(tool(), "[]").is_err());
        assert!(one(prompt(), r#"{"a":1}"#).is_err());
        assert!(one(Post::Resource, r#"{"uri":"a:b","x":1}"#).is_err());
    }
}
