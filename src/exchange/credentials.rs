//! What a call brings for its own process: variables that a caller's headers hold. Pure.
//!
//! They live as long as their call, are given to the one process that is started for it, and are shown to nobody.

use std::sync::Arc;

use crate::auth::Secret;

/// Variables of one call's process. `Debug` shows names only, as secrets hide themselves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials(Arc<[(Arc<str>, Secret)]>);

impl Credentials {
    /// None at all: what is learned with them is as good for others.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each with its name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

impl FromIterator<(Arc<str>, Secret)> for Credentials {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Secret)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// A header whose value becomes a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderVariable {
    /// In lower case.
    pub(crate) header: Arc<str>,
    pub(crate) variable: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_to_nobody() {
        let credentials: Credentials =
            [("NAME".into(), Secret::new("hunter2-hunter2"))].into_iter().collect();
        let shown = format!("{credentials:?}");
        assert!(shown.contains("NAME") && !shown.contains("hunter2"), "{shown}");
    }
}
