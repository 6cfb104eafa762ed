//! The trace that a call belongs to: W3C Trace Context, as a caller's headers tell it. Pure.
//!
//! What is not exactly as the specification has it is dropped, never repaired and never an error; and what is passed
//! on is written anew from what was understood. Sources: W3C Trace Context, Level 1 (sections 3.2 and 3.3) and its
//! Level 2, which allows more keys and one more flag.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;

/// The flags that mean something: sampled, and (Level 2) that the trace id is random. All others must be zero.
const FLAGS: u8 = 0b11;
/// The most members of a `tracestate`.
const MOST_MEMBERS: usize = 32;
/// The most characters of a key, and of a value.
const LONGEST: usize = 256;

/// A span of somebody's trace, under which the call is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceContext {
    trace: TraceId,
    parent: NonZeroU64,
    flags: u8,
    state: Option<Arc<str>>,
}

/// The name of a trace, shown as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceId(NonZeroU128);

impl TraceContext {
    /// From all the values of the two headers, in their order. `None`: there is no trace, or none that can be read. A
    /// `tracestate` that cannot be read is dropped alone.
    pub(crate) fn read<'a>(
        mut parents: impl Iterator<Item = &'a [u8]>,
        states: impl Iterator<Item = &'a [u8]>,
    ) -> Option<Self> {
        // Of two, nobody could say which of them is meant.
        let (parent, None) = (parents.next()?, parents.next()) else { return None };
        Some(Self { state: state(states), ..parse(parent)? })
    }

    /// A trace that begins here, with this span, and is recorded. Both halves of its name are random.
    pub(crate) fn begin((high, low): (NonZeroU64, NonZeroU64), span: NonZeroU64) -> Self {
        let trace = TraceId(NonZeroU128::from(low) | (u128::from(high.get()) << 64));
        Self { trace, parent: span, flags: FLAGS, state: None }
    }

    /// The same trace, with another span as the parent of what comes.
    pub(crate) fn at(&self, span: NonZeroU64) -> Self {
        Self { parent: span, ..self.clone() }
    }

    /// The span under which the call, or whatever this is told to, is made.
    pub(crate) const fn parent(&self) -> NonZeroU64 {
        self.parent
    }

    /// Whether the caller may have recorded the trace, and wants others to.
    pub(crate) const fn is_sampled(&self) -> bool {
        self.flags & 1 != 0
    }

    /// The name of the trace.
    pub(crate) const fn trace_id(&self) -> TraceId {
        self.trace
    }

    /// The value of `traceparent`: always version 00, for that is what it was understood as.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{:016x}-{:02x}", self.trace, self.parent, self.flags)
    }

    /// The value of `tracestate`, if there is anything in it.
    pub(crate) fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

impl TraceId {
    /// The name as a number.
    pub(crate) const fn bits(self) -> u128 {
        self.0.get()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// `00-` trace id `-` parent id `-` flags; a later version may go on behind a further `-`.
fn parse(value: &[u8]) -> Option<TraceContext> {
    // White space around it is no part of a header's value.
    let value = std::str::from_utf8(value.trim_ascii()).ok()?;
    let mut parts = value.splitn(5, '-');
    let mut part = |digits| parts.next().filter(|part| part.len() == digits).and_then(lower_hex);
    let (version, trace, parent, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let more = parts.next();
    if version == 0xff || (version == 0 && more.is_some()) {
        return None;
    }
    let flags = u8::try_from(flags).ok()? & FLAGS;
    let (trace, parent) = (TraceId(NonZeroU128::new(trace)?), NonZeroU64::new(u64::try_from(parent).ok()?)?);
    Some(TraceContext { trace, parent, flags, state: None })
}

fn lower_hex(digits: &str) -> Option<u128> {
    let lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    lower.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
}

/// All its members, joined. Empty ones are allowed, and left out.
fn state<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Arc<str>> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    for value in values {
        for member in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if member.is_empty() {
                continue;
            }
            let (key, value) = std::str::from_utf8(member).ok()?.split_once('=')?;
            let twice = members.iter().any(|(other, _)| *other == key);
            if twice || members.len() == MOST_MEMBERS || !is_key(key) || !is_value(value) {
                return None;
            }
            members.push((key, value));
        }
    }
    let joined: Vec<String> = members.iter().map(|(key, value)| format!("{key}={value}")).collect();
    (!joined.is_empty()).then(|| joined.join(",").into())
}

fn is_key(key: &str) -> bool {
    let begins = key.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    begins && key.len() <= LONGEST && key.bytes().all(allowed)
}

/// Not empty, printable, and neither a `,` nor a `=`; a space is no end of it.
fn is_value(value: &str) -> bool {
    let allowed = |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    (1..=LONGEST).contains(&value.len()) && value.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(parents: &[&str], states: &[&str]) -> Option<(String, Option<String>)> {
        let [parents, states] = [parents, states].map(|values| values.iter().map(|value| value.as_bytes()));
        let read = TraceContext::read(parents, states)?;
        Some((read.traceparent(), read.tracestate().map(str::to_owned)))
    }

    fn state(states: &[&str]) -> Option<String> {
        read(&[PARENT], states).expect("the parent is well formed").1
    }

    #[test]
    fn a_parent_is_read_as_the_specification_has_it_or_not_at_all() {
        let good = |said: &str, passed: &str| assert_eq!(read(&[said], &[]).unwrap().0, passed, "{said}");
        good(PARENT, PARENT);
        good(&format!(" {PARENT}\t"), PARENT);
        good(&PARENT.replace("-01", "-00"), &PARENT.replace("-01", "-00"));
        // Level 2's flag is known, the others are not.
        good(&PARENT.replace("-01", "-ff"), &PARENT.replace("-01", "-03"));
        // A later version is read as far as we know it, and told as what we know.
        good(&PARENT.replacen("00", "cc", 1), PARENT);
        good(&format!("{}-what-the-future-brings", PARENT.replacen("00", "cc", 1)), PARENT);
        for bad in [
            "",
            "00",
            &PARENT[..54],
            &PARENT.to_uppercase(),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replacen("00", "0", 1),
            &PARENT.replace('-', "_"),
            &format!("{PARENT}-"),
            &format!("{PARENT}-more"),
            &format!("{PARENT}0"),
            &format!("{}0", PARENT.replacen("00", "cc", 1)),
            &PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            &PARENT.replace("0af7", "+af7"),
            &PARENT.replace("0af7", "0a\"7"),
            &PARENT.replace("0af7", "0a\n7"),
            &PARENT.replace("0af7", "0a\u{e9}"),
        ] {
            assert_eq!(read(&[bad], &["a=1"]), None, "{bad:?}");
        }
        assert_eq!(read(&[], &["a=1"]), None, "a state of no trace");
        assert_eq!(read(&[PARENT, PARENT], &[]), None, "two parents");
    }

    #[test]
    fn a_state_is_passed_on_whole_or_not_at_all() {
        assert_eq!(
            state(&["rojo=00f067aa0ba902b7", "congo=t61 x"]).unwrap(),
            "rojo=00f067aa0ba902b7,congo=t61 x"
        );
        assert_eq!(state(&["a=1 ,\t b=2,,", "", "0t@sys=3"]).unwrap(), "a=1,b=2,0t@sys=3");
        assert_eq!(state(&["a=\"\\"]).unwrap(), "a=\"\\");
        let members = |number| (0..number).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        assert!(state(&[&members(32)]).is_some());
        let long = |key, value| format!("{}={}", "k".repeat(key), "v".repeat(value));
        assert!(state(&[&long(256, 256)]).is_some());
        for bad in [
            "a",
            "a=",
            "=1",
            "A=1",
            "a b=1",
            "a=1=2",
            "a=1,a=2",
            "a=\u{e9}",
            "a=1\nb=2",
            "a=1\u{7f}",
            &members(33),
            &long(257, 1),
            &long(1, 257),
        ] {
            assert_eq!(state(&["z=9", bad]), None, "{bad:?}");
        }
        for nothing in ["", " ,, "] {
            assert_eq!(state(&[nothing]), None);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_there_what_is_passed_on_is_well_formed(
            parent in prop_oneof![any::<Vec<u8>>(), "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,9}".prop_map(String::into_bytes)],
            states in prop::collection::vec(
                prop_oneof![any::<Vec<u8>>(), "([a-z0-9@]{0,3}=[ -~\n\"]{0,3},?){0,4}".prop_map(String::into_bytes)],
                0..3,
            ),
        ) {
            let read = TraceContext::read([&*parent].into_iter(), states.iter().map(Vec::as_slice));
            let Some(read) = read else { return Ok(()) };
            let passed = read.traceparent();
            prop_assert_eq!(passed.len(), PARENT.len());
            prop_assert!(passed.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()));
            let state = read.tracestate().map(str::as_bytes);
            prop_assert!(state.is_none_or(|state| state.iter().all(|byte| (b' '..=b'~').contains(byte))));
            // And what is passed on is read as what it is.
            let again = TraceContext::read([passed.as_bytes()].into_iter(), state.into_iter());
            prop_assert_eq!(again, Some(read));
        }
    }
}
