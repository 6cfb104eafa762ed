//! The name that was probably meant by one that nobody goes by. Pure.

/// The longest name that is looked at, in bytes: callers and servers send whatever they like, and comparing two names takes
/// time and memory by the product of their lengths.
const LONGEST: usize = 64;

/// The one of `known` that was probably meant by `said`; of those that are equally near, the first by the alphabet.
pub(crate) fn nearest<'k>(said: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if said.len() > LONGEST {
        return None;
    }
    let said = said.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .filter(|name| name.len() <= LONGEST)
        .map(|name| (strsim::damerau_levenshtein(&said, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(said.len()) / 3)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_unless_none_is_near() {
        let known = ["deadline", "open_deadline", "env", "limits"];
        let cases = [
            ("dedline", Some("deadline")),
            ("open-deadline", Some("open_deadline")),
            ("openDeadline", Some("open_deadline")),
            ("limit", Some("limits")),
            ("ENV", Some("env")),
            ("colour", None),
        ];
        for (said, expected) in cases {
            assert_eq!(nearest(said, known), expected, "{said}");
        }
    }

    #[test]
    fn names_that_are_too_long_are_near_to_none() {
        let (long, longer) = ("x".repeat(LONGEST), "x".repeat(LONGEST + 1));
        assert_eq!(nearest(&long[1..], [&*longer, &*long]), Some(&*long));
        assert_eq!(nearest(&longer, [&*long]), None);
    }
}
