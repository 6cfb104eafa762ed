//! The protocol revisions and what each allows. Pure. Source: the protocol's versioning pages.

/// The revision that we offer to legacy servers: the newest that opens with `initialize`.
pub(crate) const NEWEST_LEGACY: &str = "2025-11-25";
/// The revision that we speak to modern servers.
pub(crate) const NEWEST_MODERN: &str = "2026-07-28";

/// The legacy revisions that we accept in an `InitializeResult`.
const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// Whether a session opens with a handshake, or every request stands for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// 2024-11-05 to 2025-11-25: opened by `initialize`.
    Legacy,
    /// 2026-07-28: no handshake; version, identity and capabilities in each request's `_meta`.
    Modern,
}

impl Era {
    /// The name in listings and in the verdict cache.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }

    /// The era that goes by this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "legacy" => Some(Self::Legacy),
            "modern" => Some(Self::Modern),
            _ => None,
        }
    }
}

/// What the configuration says of a server's era.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Protocol {
    /// Find out, cheaply.
    #[default]
    Auto,
    /// `initialize`, always.
    Legacy,
    /// No handshake, ever.
    Modern,
}

/// Whether this is a revision that we can speak after `initialize`.
pub(crate) fn is_legacy(version: &str) -> bool {
    LEGACY.contains(&version)
}

/// The newest revision of those named that opens with `initialize` and is known here.
pub(crate) fn newest_legacy_of(named: &[String]) -> Option<&'static str> {
    LEGACY.into_iter().rev().find(|version| named.iter().any(|name| name == version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modern_revision_is_never_a_legacy_one() {
        assert!(is_legacy(NEWEST_LEGACY));
        assert!(!is_legacy(NEWEST_MODERN));
        assert!(!is_legacy("2025-11-26"));
    }

    #[test]
    fn the_newest_legacy_revision_that_both_know_is_found() {
        let named = |versions: &[&str]| {
            newest_legacy_of(&versions.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(named(&["2024-11-05", "2025-03-26", "2026-07-28"]), Some("2025-03-26"));
        assert_eq!(named(&["2026-07-28", "1.0"]), None);
    }

    #[test]
    fn an_era_is_found_by_its_own_name() {
        for era in [Era::Legacy, Era::Modern] {
            assert_eq!(Era::named(era.name()), Some(era));
        }
        assert_eq!(Era::named("future"), None);
    }
}
