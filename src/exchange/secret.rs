//! Values that nobody is to read: no log shows them by their type, and what others repeat of them is masked. Pure.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What stands where a secret would stand.
pub(crate) const DOTS: &str = "...";

/// The shortest secret that is masked: shorter ones occur in any text by chance.
pub(crate) const SHORTEST: usize = 8;

/// The least of a secret's end that is taken for it where the beginning of a text was lost.
const SHORTEST_END: usize = 4;

/// A value that is for nobody's eyes. Its `Debug` is three dots.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Secret(String);

impl Secret {
    /// Keeps this value.
    pub(crate) fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for whoever it is meant for.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DOTS)
    }
}

/// The secrets that are masked in one server's words.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Mask(Arc<[Secret]>);

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({} secrets)", self.0.len())
    }
}

impl Mask {
    /// Masks these, and each line of those that have several; what is shorter than [`SHORTEST`] is let through.
    pub(crate) fn of(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let lines = |secret: Secret| {
            let lines: Vec<Secret> = secret.reveal().lines().map(|line| Secret::new(line.trim())).collect();
            lines.into_iter().chain([secret])
        };
        let mut all: Vec<Secret> = secrets.into_iter().flat_map(lines).collect();
        all.retain(|secret| secret.reveal().len() >= SHORTEST);
        // The longest first, so that nothing is left of one that holds another.
        all.sort_by(|a, b| b.reveal().len().cmp(&a.reveal().len()).then_with(|| a.cmp(b)));
        all.dedup();
        Self(all.into())
    }

    /// The text without them; without the end of one, too, that was cut off at the beginning of the text.
    pub(crate) fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        for secret in &*self.0 {
            if masked.contains(secret.reveal()) {
                masked = masked.replace(secret.reveal(), DOTS).into();
            }
        }
        match self.0.iter().filter_map(|secret| cut_off(secret.reveal(), &masked)).max() {
            Some(length) => format!("{DOTS}{}", &masked[length..]).into(),
            None => masked,
        }
    }
}

/// How much at the beginning of `text` is the end of `secret`, if anything is.
fn cut_off(secret: &str, text: &str) -> Option<usize> {
    let ends = secret.char_indices().skip(1).map(|(at, _)| &secret[at..]);
    ends.filter(|end| end.len() >= SHORTEST_END).find(|end| text.starts_with(end)).map(str::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(secrets: &[&str]) -> Mask {
        Mask::of(secrets.iter().map(|secret| Secret::new(*secret)))
    }

    #[test]
    fn a_secret_shows_nothing_of_itself() {
        let secret = Secret::new("correct horse");
        assert_eq!(format!("{secret:?}"), "...");
        assert_eq!(secret.reveal(), "correct horse");
        assert_eq!(format!("{:?}", mask(&["correct horse"])), "Mask(1 secrets)");
    }

    #[test]
    fn nothing_of_a_secret_is_left_in_a_text() {
        let cases: [(&[&str], &str, &str); 8] = [
            (&["12345678"], "key 12345678, again 12345678!", "key ..., again ...!"),
            (&["12345678", "12345678-abc"], "12345678-abc", "..."),
            (&["1234567"], "1234567", "1234567"),
            (&["-----BEGIN\nabcdefghij\nx\n"], "read abcdefghij\nx", "read ...\nx"),
            (&["12345678"], "5678\nnext line", "...\nnext line"),
            (&["12345678"], "678\nnext line", "678\nnext line"),
            (&["ü2345678"], "5678ü2345678", "......"),
            (&[], "12345678", "12345678"),
        ];
        for (secrets, text, expected) in cases {
            assert_eq!(mask(secrets).apply(text), expected, "{text}");
        }
    }
}
