//! What a principal may ask of a server that it may use, and what of its lists it sees. Pure.
//!
//! Whoever may call some tools only may ask for nothing else: what a resource or a prompt holds is not less than what a
//! tool answers.

use serde::Deserialize;

use super::problem::Refusal;
use crate::auth::Principal;
use crate::exchange::{Ask, ListKind, RawJson};

/// Refuses what is not allowed.
pub(super) fn check(who: &Principal, ask: &Ask) -> Result<(), Refusal> {
    let what = match ask {
        Ask::Tool { name, .. } => return check_tool(who, name),
        Ask::List(ListKind::Tools) | Ask::Ping => return Ok(()),
        Ask::Prompt { .. } | Ask::List(ListKind::Prompts) => "prompts",
        Ask::Resource { .. } | Ask::List(ListKind::Resources | ListKind::ResourceTemplates) => "resources",
        Ask::Complete { .. } => "completions",
    };
    if who.may_ask_for_more_than_tools() { Ok(()) } else { Err(refused(who, what.to_owned())) }
}

/// Refuses a server that is not allowed, whether it is there or not.
pub(super) fn check_server(who: &Principal, name: &str) -> Result<(), Refusal> {
    if who.may_use(name) { Ok(()) } else { Err(refused(who, format!("the server {name:?}"))) }
}

/// Refuses a tool that is not allowed, whether it is there or not.
pub(super) fn check_tool(who: &Principal, name: &str) -> Result<(), Refusal> {
    if who.may_call(name) { Ok(()) } else { Err(refused(who, format!("the tool {name:?}"))) }
}

/// The refusal of something.
fn refused(who: &Principal, what: String) -> Refusal {
    Refusal::NotAllowed { token: who.name().to_owned(), what }
}

/// Whether an item of a list is shown: every one, but for tools that may not be called.
pub(super) fn may_see(who: &Principal, kind: ListKind, item: &RawJson) -> bool {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    if kind != ListKind::Tools || who.may_ask_for_more_than_tools() {
        return true;
    }
    item.read::<Named>().is_ok_and(|named| who.may_call(&named.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Gate, Token};
    use crate::exchange::Members;

    fn asks() -> Vec<Ask> {
        let extra = Members::new;
        vec![
            Ask::Tool { name: "now".into(), arguments: None, extra: extra() },
            Ask::List(ListKind::Tools),
            Ask::Ping,
            Ask::Tool { name: "then".into(), arguments: None, extra: extra() },
            Ask::List(ListKind::Resources),
            Ask::List(ListKind::ResourceTemplates),
            Ask::List(ListKind::Prompts),
            Ask::Resource { uri: "now".into(), extra: extra() },
            Ask::Prompt { name: "now".into(), arguments: None, extra: extra() },
            Ask::Complete { params: extra() },
        ]
    }

    #[test]
    fn whoever_may_call_one_tool_may_ask_for_nothing_else() {
        let token = Token { tools: Some(vec!["now".into()]), ..Token::plain("a", "a-token-of-a") };
        let who = Gate::new([token]).identify(Some("a-token-of-a")).unwrap();
        let allowed: Vec<bool> = asks().iter().map(|ask| check(&who, ask).is_ok()).collect();
        assert_eq!(allowed, [[true; 3].as_slice(), &[false; 7]].concat());
        assert!(asks().iter().all(|ask| check(&Principal::anonymous(), ask).is_ok()));
    }

    #[test]
    fn a_list_shows_the_tools_that_may_be_called() {
        let token = Token { tools: Some(vec!["now".into()]), ..Token::plain("a", "a-token-of-a") };
        let who = Gate::new([token]).identify(Some("a-token-of-a")).unwrap();
        for (item, seen) in [(r#"{"name":"now"}"#, true), (r#"{"name":"then"}"#, false), ("3", false)] {
            let item = RawJson::parse(item.to_owned().into()).unwrap();
            assert_eq!(may_see(&who, ListKind::Tools, &item), seen);
            assert!(may_see(&Principal::anonymous(), ListKind::Tools, &item));
        }
    }
}
