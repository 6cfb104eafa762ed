//! Credentials to a [`Principal`], or a refusal; who asks, and what they may.
//!
//! ```text
//!   no tokens configured:   whoever reaches the gateway           -> anonymous, who may everything
//!   tokens configured:      a credential that is one of them      -> the principal of that name
//!                           none, or another                      -> Denied
//! ```
//!
//! A principal is made here and nowhere else, so whoever holds one was let in. Two principals are the same if they have
//! the same name: a token that was replaced by another of its name still sees the receipts of its calls.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq as _};

mod mask;

pub(crate) use mask::Mask;

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Arc<str>);

impl Secret {
    /// Keeps `text` from being shown by accident.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// What it is, for whoever has to give it to somebody who may know it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

/// One configured token, and what whoever has it may do.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    /// Who has it.
    pub(crate) name: Arc<str>,
    /// What is sent to prove that; no more than [`LONGEST`] bytes.
    pub(crate) value: Secret,
    /// The servers that may be used; `None`: all.
    pub(crate) servers: Option<Vec<Arc<str>>>,
    /// The tools that may be called, and nothing else may be asked then; `None`: everything may be asked.
    pub(crate) tools: Option<Vec<Arc<str>>>,
    /// How many calls may be in at once, over all servers; `None`: as many as the servers take.
    pub(crate) concurrent: Option<usize>,
    /// Whether last words and paths of the machine are shown.
    pub(crate) diagnostics: bool,
}

/// The longest token, in bytes.
pub(crate) const LONGEST: usize = 512;

/// Who asks.
#[derive(Clone)]
pub(crate) struct Principal(Option<Arc<Token>>);

impl Principal {
    /// Whoever can reach a gateway without tokens; on the command line, whoever typed.
    pub(crate) const fn anonymous() -> Self {
        Self(None)
    }

    /// The name in logs.
    pub(crate) fn name(&self) -> &str {
        self.0.as_ref().map_or("anonymous", |token| &token.name)
    }

    /// How many calls may be in at once.
    pub(crate) fn share(&self) -> Option<usize> {
        self.0.as_ref().and_then(|token| token.concurrent)
    }

    /// Whether this server may be used at all.
    pub(crate) fn may_use(&self, server: &str) -> bool {
        self.allows(|token| token.servers.as_deref(), server)
    }

    /// Whether this tool may be called, of a server that may be used.
    pub(crate) fn may_call(&self, tool: &str) -> bool {
        self.allows(|token| token.tools.as_deref(), tool)
    }

    /// Whether anything but tools may be asked for.
    pub(crate) fn may_ask_for_more_than_tools(&self) -> bool {
        self.0.as_ref().is_none_or(|token| token.tools.is_none())
    }

    /// Whether stderr, stray output and paths are shown: to the owner of the machine, which without tokens is whoever
    /// asks from it (`near`), and else whoever has a token that says so.
    pub(crate) fn sees_the_machine(&self, near: bool) -> bool {
        self.0.as_ref().map_or(near, |token| token.diagnostics)
    }

    fn allows(&self, list: impl Fn(&Token) -> Option<&[Arc<str>]>, name: &str) -> bool {
        let list = self.0.as_deref().and_then(list);
        list.is_none_or(|list| list.iter().any(|allowed| **allowed == *name))
    }

    fn token_name(&self) -> Option<&str> {
        self.0.as_ref().map(|token| &*token.name)
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.token_name() == other.token_name()
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.token_name().hash(state);
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({})", self.name())
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Nothing was shown.
    Missing,
    /// What was shown is no token of ours.
    Wrong,
}

/// Lets in whoever has a token; everybody, where there is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Vec<Principal>);

impl Gate {
    /// A gate for these tokens.
    pub(crate) fn new(tokens: impl IntoIterator<Item = Token>) -> Self {
        Self(tokens.into_iter().map(|token| Principal(Some(Arc::new(token)))).collect())
    }

    /// Whether a token is asked for.
    pub(crate) const fn asks(&self) -> bool {
        !self.0.is_empty()
    }

    /// Who shows this.
    pub(crate) fn identify(&self, credential: Option<&str>) -> Result<Principal, Denied> {
        if self.0.is_empty() {
            return Ok(Principal::anonymous());
        }
        let shown = Padded::of(credential.ok_or(Denied::Missing)?);
        let mut found = None;
        // Every token is looked at, whichever fits: the time tells neither which one nor how much of it was right.
        for principal in &self.0 {
            let value = principal.0.as_ref().map_or("", |token| token.value.reveal());
            if bool::from(shown.is(&Padded::of(value))) {
                found = Some(principal.clone());
            }
        }
        found.ok_or(Denied::Wrong)
    }
}

/// A text of any length as bytes of one length, so that comparing does not tell how long a token is.
struct Padded {
    bytes: [u8; LONGEST],
    length: u64,
}

impl Padded {
    fn of(text: &str) -> Self {
        let mut bytes = [0; LONGEST];
        for (place, byte) in bytes.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        // One that is too long differs by its length.
        Self { bytes, length: text.len() as u64 }
    }

    fn is(&self, other: &Self) -> Choice {
        self.bytes.ct_eq(&other.bytes) & self.length.ct_eq(&other.length)
    }
}

#[cfg(test)]
impl Token {
    /// One that allows everything.
    pub(crate) fn plain(name: &str, value: &str) -> Self {
        let (name, value) = (name.into(), Secret::new(value));
        Self { name, value, servers: None, tools: None, concurrent: None, diagnostics: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        let narrow = Token {
            servers: Some(vec!["time".into()]),
            tools: Some(vec!["now".into()]),
            concurrent: Some(2),
            diagnostics: true,
            ..Token::plain("narrow", "narrow-token")
        };
        Gate::new([Token::plain("wide", "wide-token"), narrow])
    }

    #[test]
    fn only_the_very_token_lets_in() {
        let gate = gate();
        assert_eq!(gate.identify(Some("wide-token")).map(|who| who.name().to_owned()), Ok("wide".to_owned()));
        assert_eq!(gate.identify(None), Err(Denied::Missing));
        let long = "wide-token".to_owned() + &"\0".repeat(LONGEST);
        for wrong in ["", "wide-toke", "wide-token ", "wide-token\0", "Wide-token", &long] {
            assert_eq!(gate.identify(Some(wrong)), Err(Denied::Wrong), "{wrong:?}");
        }
    }

    #[test]
    fn without_tokens_everybody_is_the_same_and_may_everything() {
        let gate = Gate::default();
        for credential in [None, Some("anything")] {
            let who = gate.identify(credential).unwrap();
            assert_eq!((who.name(), who.share()), ("anonymous", None));
            assert!(who.may_use("x") && who.may_call("x") && who.may_ask_for_more_than_tools());
            assert!(who.sees_the_machine(true) && !who.sees_the_machine(false));
        }
    }

    #[test]
    fn a_token_allows_what_it_says() {
        let gate = gate();
        let who = gate.identify(Some("narrow-token")).unwrap();
        assert!(who.may_use("time") && !who.may_use("tim") && who.may_call("now") && !who.may_call("then"));
        assert!(!who.may_ask_for_more_than_tools());
        assert!(who.sees_the_machine(false));
        let wide = gate.identify(Some("wide-token")).unwrap();
        assert!(wide.may_use("x") && wide.may_call("x") && !wide.sees_the_machine(true));
        assert_ne!(who, wide);
    }

    #[test]
    fn nobody_is_shown_a_secret() {
        let shown = format!("{:?} {:?}", gate(), Token::plain("a", "wide-token"));
        assert!(!shown.contains("-token"), "{shown}");
    }
}
