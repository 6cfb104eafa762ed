//! A failure without secrets: every word that is ours, or that we quote, before anybody writes it down. Pure.
//!
//! What a tool answered is its own words and stays as it is: a result, be it an error, and what a server asks back.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::fault::{Violation, chain};
use super::{Answer, CallError, LastWords, RawJson};
use crate::auth::Mask;

/// An error of which only the words are left.
#[derive(Debug)]
struct Words(String);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Words {}

impl Answer {
    /// The same, its failures without secrets.
    pub(crate) fn masked(mut self, mask: &Mask) -> Self {
        self.failure = self.failure.map(|error| error.masked(mask));
        self.steps = self.steps.into_iter().map(|step| step.map_err(|error| error.masked(mask))).collect();
        self.noise = self.noise.iter().map(|line| mask.beginning_of(line)).collect();
        self
    }
}

impl CallError {
    /// The same without secrets.
    pub(crate) fn masked(self, mask: &Mask) -> Self {
        let text = |text: String| mask.text(&text).into_owned();
        let words = |words: Box<LastWords>| Box::new(words.masked(mask));
        let data = |data: Option<RawJson>| data.map(|data| without(&data, mask));
        match self {
            Self::DeadlineExceeded { phase, after, words: last } => {
                Self::DeadlineExceeded { phase, after, words: words(last) }
            }
            Self::SpawnFailed { program, source } => {
                Self::SpawnFailed { program, source: cause(source, mask) }
            }
            Self::OpenFailed { source, words: last } => {
                Self::OpenFailed { source: cause(source, mask), words: words(last) }
            }
            Self::NoLongerModern { words: last } => Self::NoLongerModern { words: words(last) },
            Self::ServerCrashed { phase, words: last } => Self::ServerCrashed { phase, words: words(last) },
            Self::ProtocolViolation { phase, what, words: last } => {
                Self::ProtocolViolation { phase, what: text(what), words: words(last) }
            }
            Self::ServerError { code, message, data: more, words: last } => {
                Self::ServerError { code, message: text(message), data: data(more), words: words(last) }
            }
            Self::OutputTooLarge { phase, limit, words: last } => {
                Self::OutputTooLarge { phase, limit, words: words(last) }
            }
            Self::InvalidArguments { message, violations } => {
                let one = |Violation { pointer, message }| Violation {
                    pointer: text(pointer),
                    message: text(message),
                };
                let violations = violations.into_iter().map(one).collect();
                Self::InvalidArguments { message: text(message), violations }
            }
            Self::CapabilityRequired { message, data: more } => {
                Self::CapabilityRequired { message: text(message), data: data(more) }
            }
            Self::UnknownTool { name, meant } => {
                Self::UnknownTool { name: text(name), meant: meant.map(text) }
            }
            Self::UnknownResource { uri } => Self::UnknownResource { uri: text(uri) },
            Self::UnknownPrompt { name } => Self::UnknownPrompt { name: text(name) },
            Self::NotOffered { what } => Self::NotOffered { what: text(what) },
            Self::Internal { what } => Self::Internal { what: text(what) },
            wordless @ (Self::Overloaded { .. }
            | Self::QuotaExceeded { .. }
            | Self::ShuttingDown { .. }
            | Self::CallerGone { .. }
            | Self::InputRequired { .. }
            | Self::ToolError { .. }) => wordless,
        }
    }
}

impl LastWords {
    fn masked(self, mask: &Mask) -> Self {
        Self {
            // Of both only a part was kept, cut wherever that happened to be.
            stderr_tail: mask.end_of(&self.stderr_tail),
            noise: self.noise.iter().map(|line| mask.beginning_of(line)).collect(),
            ..self
        }
    }
}

type Cause = Arc<dyn Error + Send + Sync>;

/// The very error, unless its words hold a secret: then only the others of its words.
fn cause(error: Cause, mask: &Mask) -> Cause {
    let words = chain(&*error);
    match mask.text(&words) {
        std::borrow::Cow::Borrowed(_) => error,
        std::borrow::Cow::Owned(words) => Arc::new(Words(words)),
    }
}

fn without(data: &RawJson, mask: &Mask) -> RawJson {
    match mask.text(data.as_str()) {
        std::borrow::Cow::Borrowed(_) => data.clone(),
        // A secret that was a number leaves no JSON behind.
        std::borrow::Cow::Owned(text) => RawJson::parse(text.into()).unwrap_or_else(|_| RawJson::of("***")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Secret;
    use crate::exchange::{Phase, Times};

    fn mask() -> Mask {
        let mask = Mask::default();
        mask.learn(&[Secret::new("sk-12345678"), Secret::new("1234567890")]);
        mask
    }

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text.to_owned().into()).unwrap()
    }

    #[test]
    fn no_failure_keeps_a_secret_in_its_words() {
        let secret = || "it is sk-12345678 now".to_owned();
        let words =
            || Box::new(LastWords { stderr_tail: secret(), noise: vec![secret()], ..LastWords::default() });
        let (phase, after) = (Phase::Call, std::time::Duration::ZERO);
        let violations = vec![Violation { pointer: secret(), message: secret() }];
        let data = || Some(raw(r#"{"a":"sk-12345678"}"#));
        for error in [
            CallError::DeadlineExceeded { phase, after, words: words() },
            CallError::SpawnFailed { program: "x".into(), source: Arc::new(Words(secret())) },
            CallError::OpenFailed { source: Arc::new(Words(secret())), words: words() },
            CallError::ServerCrashed { phase, words: words() },
            CallError::ProtocolViolation { phase, what: secret(), words: words() },
            CallError::ServerError { code: 1, message: secret(), data: data(), words: words() },
            CallError::OutputTooLarge { phase, limit: 1, words: words() },
            CallError::UnknownTool { name: secret(), meant: Some(secret()) },
            CallError::UnknownResource { uri: secret() },
            CallError::UnknownPrompt { name: secret() },
            CallError::NotOffered { what: secret() },
            CallError::InvalidArguments { message: secret(), violations },
            CallError::CapabilityRequired { message: secret(), data: data() },
            CallError::Internal { what: secret() },
        ] {
            let name = error.name();
            let answer = Answer::refused(crate::exchange::CallId::from_bits(1), error, Times::default());
            let masked = answer.masked(&mask()).failure.unwrap();
            let shown = format!("{masked:?} {}", masked.story());
            assert!(shown.contains("***") && !shown.contains("sk-1234"), "{name}: {shown}");
        }
    }

    #[test]
    fn a_number_that_is_a_secret_leaves_json_all_the_same() {
        let error = CallError::ServerError {
            code: 1,
            message: String::new(),
            data: Some(raw("[1234567890]")),
            words: Box::default(),
        };
        let CallError::ServerError { data, .. } = error.masked(&mask()) else { panic!("another error") };
        assert_eq!(data.unwrap().as_str(), "\"***\"");
    }

    #[test]
    fn a_tools_own_words_are_its_own() {
        let result = raw(r#"{"content":"sk-12345678"}"#);
        let CallError::ToolError { result } = CallError::ToolError { result }.masked(&mask()) else {
            panic!("another error")
        };
        assert!(result.as_str().contains("sk-12345678"));
    }
}
