//! Routes of one's own: paths that a backend has always called, each with the tool that answers there now.
//!
//! The body is the tool's arguments, or they are picked out of it by JSON pointers (RFC 6901). What a pointer leads to
//! nowhere is left out; whether the tool can do without it is for its schema to say. Pure.

use std::sync::Arc;

use crate::exchange::{Members, RawJson};

/// One path, and what answers there.
#[derive(Debug, Clone)]
pub(crate) struct OwnRoute {
    /// The whole path, as it stands in a request.
    pub(crate) path: String,
    /// A configured server.
    pub(crate) server: Arc<str>,
    /// Its tool.
    pub(crate) tool: String,
    /// Each argument with the pointer to it; `None`: the body is the arguments.
    pub(crate) arguments: Option<Vec<(String, String)>>,
    /// What the answer looks like.
    pub(crate) response: Response,
}

/// What an answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Response {
    /// The tool's result, or a problem.
    Result,
    /// `{"success":...}`, as in the original API.
    Envelope,
}

impl OwnRoute {
    /// The tool's arguments.
    pub(super) fn arguments(&self, body: RawJson) -> RawJson {
        let Some(wanted) = &self.arguments else { return body };
        let found = wanted.iter().filter_map(|(name, pointer)| Some((name.clone(), at(&body, pointer)?)));
        RawJson::object(&found.collect::<Members>())
    }
}

/// What a pointer leads to.
fn at(value: &RawJson, pointer: &str) -> Option<RawJson> {
    let mut here = value.clone();
    // The text before the first slash is empty.
    for token in pointer.split('/').skip(1) {
        let name = token.replace("~1", "/").replace("~0", "~");
        here = if let Ok(members) = here.members() {
            members.into_iter().find(|(member, _)| *member == name)?.1
        } else {
            // RFC 6901, section 4: digits without a leading zero.
            let plain = token == "0" || !token.starts_with(['0', '+']);
            let index: usize = token.parse().ok().filter(|_| plain)?;
            here.elements()?.into_iter().nth(index)?
        };
    }
    Some(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text.to_owned().into()).unwrap()
    }

    #[test]
    fn arguments_are_picked_out_of_the_body_as_they_were_written() {
        let body = r#"{"task":"go","n":12345678901234567890123,"a/b":{"m~n":[10,{"x":1e400}]},"":"empty","null":null}"#;
        let cases = [
            ("/task", Some("\"go\"")),
            ("/n", Some("12345678901234567890123")),
            ("/a~1b/m~0n/0", Some("10")),
            ("/a~1b/m~0n/1/x", Some("1e400")),
            ("/", Some("\"empty\"")),
            ("/null", Some("null")),
            ("", Some(body)),
            ("/none", None),
            ("/task/x", None),
            ("/a~1b/m~0n/2", None),
            ("/a~1b/m~0n/00", None),
            ("/a~1b/m~0n/+1", None),
            ("/a~1b/m~0n/-", None),
        ];
        for (pointer, expected) in cases {
            assert_eq!(at(&raw(body), pointer).as_ref().map(RawJson::as_str), expected, "{pointer}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_left_out_and_without_pointers_the_body_is_all() {
        let route = |arguments: Option<&[(&str, &str)]>| OwnRoute {
            path: "/x".to_owned(),
            server: "s".into(),
            tool: "t".to_owned(),
            arguments: arguments
                .map(|all| all.iter().map(|(name, at)| ((*name).into(), (*at).into())).collect()),
            response: Response::Result,
        };
        let body = || raw(r#"{"q":{"task":"go"}}"#);
        let picked =
            route(Some(&[("task", "/q/task"), ("more", "/q/more"), ("all", "/q")])).arguments(body());
        assert_eq!(picked.as_str(), r#"{"task":"go","all":{"task":"go"}}"#);
        assert_eq!(route(Some(&[])).arguments(body()).as_str(), "{}");
        assert_eq!(route(None).arguments(body()).as_str(), body().as_str());
    }
}
