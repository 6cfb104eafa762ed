//! The terms on which a call is made: how long it may take, and when its answer leaves. Pure.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::problem::Refusal;
use crate::auth::Secret;
use crate::exchange::{Credentials, HeaderVariable, Reply, TraceContext};

const TIMEOUT: HeaderName = HeaderName::from_static("spawnling-timeout");
const WAIT: HeaderName = HeaderName::from_static("spawnling-wait");

/// What a request says of the call that it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// The budget that the caller asks for; the configured one caps it.
    pub(super) timeout: Option<Duration>,
    /// When the answer leaves.
    pub(super) reply: Reply,
}

impl Terms {
    /// From `Spawnling-Timeout`, else `?timeout=`, and `Spawnling-Wait`.
    pub(super) fn of(head: &Parts) -> Result<Self, Refusal> {
        let query = head.uri.query().unwrap_or_default();
        let asked = match one(&head.headers, &TIMEOUT)? {
            Some(value) => Some(value.to_owned()),
            None => url::form_urlencoded::parse(query.as_bytes())
                .find(|(name, _)| name == "timeout")
                .map(|(_, value)| value.into_owned()),
        };
        let timeout = asked.map(|text| duration(&text).ok_or_else(|| bad_timeout(&text))).transpose()?;
        let reply = match one(&head.headers, &WAIT)? {
            None => Reply::WhenKnown,
            Some("end") => Reply::WhenDead,
            Some(other) => {
                return Err(Refusal::malformed(format!("`Spawnling-Wait` takes `end`, not {other:?}")));
            }
        };
        Ok(Self { timeout, reply })
    }

    /// The budget: what was asked for, but no more than `most`.
    pub(super) fn budget(self, most: Duration) -> Duration {
        self.timeout.map_or(most, |asked| asked.min(most))
    }
}

/// Refuses a query that has another parameter than these, which would be dropped in silence, or one of them twice.
pub(super) fn check_query(query: Option<&str>, known: &[&str]) -> Result<(), Refusal> {
    let mut seen: Vec<&str> = Vec::with_capacity(known.len());
    for (name, _) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let Some(name) = known.iter().find(|known| **known == name) else {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Refusal::malformed(format!(
                "the query has an unknown parameter {name:?}; known: {known}"
            )));
        };
        if seen.contains(name) {
            return Err(Refusal::malformed(format!("the query has the parameter {name:?} twice")));
        }
        seen.push(name);
    }
    Ok(())
}

/// What of these headers a server wants for the process of its call. One that is absent or empty gives no variable.
pub(super) fn credentials(headers: &HeaderMap, wanted: &[HeaderVariable]) -> Result<Credentials, Refusal> {
    let mut found = Vec::new();
    for HeaderVariable { header, variable } in wanted {
        let mut values = headers.get_all(&**header).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(Refusal::malformed(format!("`{header}` is given twice")));
        }
        // Whatever is wrong with it, its value is not told.
        let text = std::str::from_utf8(value.as_bytes()).map(str::trim);
        let text = text.ok().filter(|text| !text.contains('\0'));
        let text = text
            .ok_or_else(|| Refusal::malformed(format!("`{header}` is no text that a variable can hold")))?;
        if !text.is_empty() {
            found.push((variable.clone(), Secret::new(text)));
        }
    }
    Ok(found.into_iter().collect())
}

/// The trace that the call belongs to. Headers that are not well formed are as good as absent.
pub(super) fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    let all = |name| headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
    TraceContext::read(all("traceparent"), all("tracestate"))
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text =
                value.to_str().map_err(|_| Refusal::malformed(format!("`{name}` is not plain ASCII")))?;
            Ok(Some(text.trim()))
        }
        (Some(_), Some(_)) => Err(Refusal::malformed(format!("`{name}` is given twice"))),
    }
}

fn bad_timeout(text: &str) -> Refusal {
    Refusal::malformed(format!(
        "the timeout {text:?} is not a whole number above zero with a unit, such as 1500ms, 30s or 2m"
    ))
}

/// `1500ms`, `30s`, `2m` or `1h`, more than zero.
fn duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let budget = Duration::from_millis(number.checked_mul(milliseconds)?);
    (!budget.is_zero()).then_some(budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(uri: &str, headers: &[(&str, &str)]) -> Result<Terms, Refusal> {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Terms::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_duration_is_a_whole_number_with_a_unit() {
        for (text, expected) in [
            ("1500ms", Some(1_500)),
            ("30s", Some(30_000)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("30", None),
            ("s", None),
            ("", None),
            ("0s", None),
            ("-1s", None),
            ("1.5s", None),
            ("30 s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn the_header_counts_before_the_query() {
        let timeout = |uri, headers| terms(uri, headers).unwrap().timeout;
        assert_eq!(timeout("/", &[]), None);
        assert_eq!(timeout("/?x=1&timeout=2m", &[]), Some(Duration::from_mins(2)));
        assert_eq!(timeout("/?timeout=2m", &[("spawnling-timeout", "5s")]), Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_parameter_that_is_not_known_or_comes_twice_is_refused_by_name() {
        let told = |query, known: &[&str]| check_query(query, known).map_err(|refusal| refusal.to_string());
        for query in [None, Some(""), Some("&"), Some("timeout=1s"), Some("full&timeout=")] {
            assert_eq!(told(query, &["full", "timeout"]), Ok(()), "{query:?}");
        }
        for (query, known, words) in [
            ("timout=3s", &["full", "timeout"] as &[_], "unknown parameter \"timout\"; known: full, timeout"),
            ("timeout=3s&Timeout=4s", &["timeout"], "unknown parameter \"Timeout\"; known: timeout"),
            ("a%22b=1", &[], "unknown parameter \"a\\\"b\"; known: none"),
            ("timeout=3s&timeout=4s", &["timeout"], "the parameter \"timeout\" twice"),
        ] {
            let refusal = told(Some(query), known).unwrap_err();
            assert!(refusal.contains(words), "{query}: {refusal}");
        }
    }

    #[test]
    fn a_caller_may_ask_for_less_time_but_not_for_more() {
        let asked = |text| terms("/", &[("spawnling-timeout", text)]).unwrap().budget(Duration::from_mins(1));
        assert_eq!(asked("5s"), Duration::from_secs(5));
        assert_eq!(asked("5m"), Duration::from_mins(1));
        assert_eq!(terms("/", &[]).unwrap().budget(Duration::from_mins(1)), Duration::from_mins(1));
    }

    #[test]
    fn only_the_headers_that_a_server_wants_are_taken() {
        let wanted = [("x-key", "KEY"), ("x-other", "OTHER"), ("x-empty", "EMPTY")]
            .map(|(header, variable)| HeaderVariable { header: header.into(), variable: variable.into() });
        let taken = |headers: &[(&str, &[u8])]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
                map.append(name, http::HeaderValue::from_bytes(value).unwrap());
            }
            credentials(&map, &wanted)
        };
        let found =
            taken(&[("X-Key", b"s\xc3\xa9cret "), ("x-empty", b" "), ("authorization", b"no")]).unwrap();
        let found: Vec<_> = found.iter().map(|(name, value)| (name, value.reveal())).collect();
        assert_eq!(found, [("KEY", "s\u{e9}cret")]);
        assert!(taken(&[]).unwrap().is_empty());
        assert!(taken(&[("x-key", b"a"), ("x-key", b"a")]).is_err());
        assert!(taken(&[("x-key", b"\xff\xfe")]).is_err());
    }

    #[test]
    fn bad_terms_are_refused() {
        assert!(terms("/?timeout=soon", &[]).is_err());
        assert!(terms("/", &[("spawnling-timeout", "30")]).is_err());
        assert!(terms("/", &[("spawnling-timeout", "1s"), ("spawnling-timeout", "2s")]).is_err());
        assert!(terms("/", &[("spawnling-wait", "start")]).is_err());
        assert_eq!(terms("/", &[("spawnling-wait", "end")]).unwrap().reply, Reply::WhenDead);
    }
}
