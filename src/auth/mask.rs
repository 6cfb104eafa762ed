//! Secrets replaced by stars in whatever we write.
//!
//! One mask is shared by all who write; what it has learned it never forgets, for calls that began under an older
//! configuration still write. What was cut before it came here may begin or end within a secret: that part is hidden too.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

use super::Secret;

/// What stands in a secret's place.
const STARS: &str = "***";
/// Anything shorter would be found in words that are none.
const SHORTEST: usize = 8;
/// How much of a secret may stand at an edge before it is hidden, in bytes.
const EDGE: usize = 4;

/// Knows what is to be hidden. Clones know the same.
#[derive(Clone, Default)]
pub(crate) struct Mask {
    shared: Arc<RwLock<Vec<Box<str>>>>,
    /// What one call brought: forgotten with it.
    own: Arc<[Box<str>]>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask")
    }
}

impl Mask {
    /// Hides these from now on, in every form in which we would write them: each line of one that has several, too. A
    /// secret of less than eight bytes is not hidden.
    pub(crate) fn learn<'s>(&self, secrets: impl IntoIterator<Item = &'s Secret>) {
        let mut needles = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        add(&mut needles, secrets);
    }

    /// One that hides these beside all that this one knows and will learn. They are forgotten with it: no other clone
    /// learns of them.
    pub(crate) fn and<'s>(&self, secrets: impl IntoIterator<Item = &'s Secret>) -> Self {
        let mut own = self.own.to_vec();
        add(&mut own, secrets);
        Self { shared: Arc::clone(&self.shared), own: own.into() }
    }

    /// The same text without secrets.
    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let needles = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        let mut masked = Cow::Borrowed(text);
        for needle in self.own.iter().chain(&*needles) {
            if masked.contains(&**needle) {
                masked = Cow::Owned(masked.replace(&**needle, STARS));
            }
        }
        masked
    }

    /// The same of a text that may have lost its beginning.
    pub(crate) fn end_of(&self, text: &str) -> String {
        let text = self.text(text);
        let bare = text.trim_start_matches(char::REPLACEMENT_CHARACTER);
        let hidden = self.edge(|needle| {
            let cuts = (1..needle.len()).filter(|from| needle.is_char_boundary(*from));
            cuts.map(|from| &needle[from..]).find(|rest| bare.starts_with(rest)).map(str::len)
        });
        hidden.map_or_else(|| text.clone().into_owned(), |hidden| format!("{STARS}{}", &bare[hidden..]))
    }

    /// The same of a text that may have lost its end.
    pub(crate) fn beginning_of(&self, text: &str) -> String {
        let text = self.text(text);
        let bare = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let hidden = self.edge(|needle| {
            let cuts = (1..needle.len()).rev().filter(|until| needle.is_char_boundary(*until));
            cuts.map(|until| &needle[..until]).find(|rest| bare.ends_with(rest)).map(str::len)
        });
        hidden.map_or_else(
            || text.clone().into_owned(),
            |hidden| format!("{}{STARS}", &bare[..bare.len() - hidden]),
        )
    }

    /// How much of the edge of a text is part of some secret, if that is worth hiding.
    fn edge(&self, overlap: impl Fn(&str) -> Option<usize>) -> Option<usize> {
        let needles = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        let overlaps = self.own.iter().chain(&*needles).filter_map(|needle| overlap(needle));
        overlaps.max().filter(|length| *length >= EDGE)
    }
}

/// Adds every form in which we would write these.
fn add<'s>(needles: &mut Vec<Box<str>>, secrets: impl IntoIterator<Item = &'s Secret>) {
    for secret in secrets {
        let whole = secret.reveal().trim();
        for text in std::iter::once(whole).chain(whole.lines().map(str::trim)) {
            let json = serde_json::to_string(text).unwrap_or_default();
            let debug = format!("{text:?}");
            let forms = [text, json.trim_matches('"'), debug.trim_matches('"')];
            let new = forms.into_iter().filter(|form| form.len() >= SHORTEST);
            needles.extend(new.map(Box::<str>::from));
        }
    }
    // One that holds another goes first.
    needles.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    needles.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(secrets: &[&str]) -> Mask {
        let mask = Mask::default();
        mask.learn(&secrets.iter().map(|secret| Secret::new(secret)).collect::<Vec<_>>());
        mask
    }

    #[test]
    fn a_secret_is_hidden_wherever_it_stands_and_nothing_else_is() {
        let mask = mask(&["hunter2-hunter2", "hunter2-hunter2-and-more", "short"]);
        for (text, masked) in [
            ("nothing", "nothing"),
            ("hunter2-hunter2", "***"),
            ("a hunter2-hunter2, hunter2-hunter2!", "a ***, ***!"),
            ("hunter2-hunter2-and-more", "***"),
            ("short hunter2-", "short hunter2-"),
        ] {
            assert_eq!(mask.text(text), masked);
        }
    }

    #[test]
    fn a_secret_is_hidden_in_the_forms_that_it_takes_in_a_log() {
        let mask = mask(&["quo\"ted\\secret"]);
        for text in [r#"quo"ted\secret"#, r#"{"a":"quo\"ted\\secret"}"#] {
            assert!(!mask.text(text).contains("ted"), "{text}");
        }
        let lines = super::tests::mask(&["-----BEGIN-----\nc2VjcmV0IHNlY3JldA==\n-----END-----\n"]);
        assert_eq!(lines.text("key: c2VjcmV0IHNlY3JldA=="), "key: ***");
    }

    #[test]
    fn what_a_cut_has_left_of_a_secret_is_hidden_too() {
        let mask = mask(&["0123456789"]);
        for (text, masked) in [
            ("56789 is the end", "*** is the end"),
            ("\u{fffd}\u{fffd}56789 x", "*** x"),
            ("789 too little to tell", "789 too little to tell"),
            ("x 0123456789", "x ***"),
            ("in the 56789 middle", "in the 56789 middle"),
        ] {
            assert_eq!(mask.end_of(text), masked);
        }
        for (text, masked) in [
            ("it begins 01234", "it begins ***"),
            ("012", "012"),
            ("it begins 01234\u{fffd}", "it begins ***"),
        ] {
            assert_eq!(mask.beginning_of(text), masked);
        }
    }

    #[test]
    fn what_one_call_brings_is_hidden_for_that_call_and_forgotten_with_it() {
        let gateway = mask(&["0123456789"]);
        let call = gateway.and(&[Secret::new("abcdefgh-own")]);
        assert_eq!(call.text("0123456789 abcdefgh-own"), "*** ***");
        assert_eq!(call.end_of("fgh-own x"), "*** x");
        gateway.learn(&[Secret::new("learned later")]);
        assert_eq!(call.text("learned later"), "***");
        assert_eq!(gateway.text("abcdefgh-own"), "abcdefgh-own");
        assert_eq!(gateway.shared.read().unwrap().len(), 2);
    }

    #[test]
    fn clones_learn_together() {
        let one = mask(&[]);
        let other = one.clone();
        one.learn(&[Secret::new("0123456789")]);
        assert_eq!(other.text("0123456789"), "***");
    }
}
