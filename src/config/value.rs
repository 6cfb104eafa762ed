//! What a single value may be. Pure; each function says in words what it would have accepted.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::Choice;
use super::tree::Value;
use crate::child::spec::limits::Share;
use crate::exchange::nearest;

/// A value, or what is wrong with it.
pub(super) type Parsed<T> = Result<T, String>;

/// Longer than anyone waits, and within what every clock can count.
const LONGEST: Duration = Duration::from_hours(365 * 24);
/// More than any machine holds of whatever is counted.
const MOST: usize = 1_000_000;

fn expected<T>(what: &str, found: &Value) -> Parsed<T> {
    Err(format!("must be {what}, not {}", found.kind()))
}

/// A string.
pub(super) fn text(value: &Value) -> Parsed<String> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        other => expected("a string", other),
    }
}

/// A string that will reach a process.
pub(super) fn literal(value: &Value) -> Parsed<String> {
    let text = text(value)?;
    if text.contains('\0') { Err("holds a NUL, which no process can be given".to_owned()) } else { Ok(text) }
}

/// What an environment variable is set to; `None`: it is to be absent. Other MCP clients take numbers and null, too.
pub(super) fn variable(value: &Value) -> Parsed<Option<String>> {
    match value {
        Value::Number(number) => Ok(Some(number.clone())),
        Value::Null => Ok(None),
        Value::Text(_) => literal(value).map(Some),
        other => expected("a string", other),
    }
}

/// A boolean.
pub(super) fn flag(value: &Value) -> Parsed<bool> {
    match value {
        Value::Flag(flag) => Ok(*flag),
        other => expected("true or false", other),
    }
}

/// A whole number, from zero.
pub(super) fn count(value: &Value) -> Parsed<usize> {
    let Value::Number(number) = value else {
        return expected("a whole number", value);
    };
    match number.parse() {
        Ok(count) if count <= MOST => Ok(count),
        _ => Err(format!("must be a whole number from 0 to {MOST}, not {number}")),
    }
}

/// A whole number, from one.
pub(super) fn positive_count(value: &Value) -> Parsed<usize> {
    match count(value)? {
        0 => Err("must be at least 1".to_owned()),
        count => Ok(count),
    }
}

/// What makes trees killable as a whole.
pub(super) fn containment(value: &Value) -> Parsed<Choice> {
    match value {
        Value::Text(text) => containment_text(text),
        other => expected("\"auto\", or a containment", other),
    }
}

/// The same from a flag or a variable.
pub(super) fn containment_text(text: &str) -> Parsed<Choice> {
    let found = Choice::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names = Choice::ALL.map(|(name, _)| format!("{name:?}"));
        format!("{text:?} is none of {}", names.join(", "))
    })
}

/// The address of a collector of traces.
pub(super) fn collector(value: &Value) -> Parsed<String> {
    collector_text(&text(value)?)
}

/// Likewise: the path for traces goes behind it, as OTLP has it for an address that is for all signals.
pub(super) fn collector_text(text: &str) -> Parsed<String> {
    let address = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let plain = |url: &url::Url| url.has_host() && url.query().is_none() && url.fragment().is_none();
    if address.as_ref().is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
        // Not shown: what is wrong stands in the log when it is found in a reload.
        let remedy = "the variable OTEL_EXPORTER_OTLP_HEADERS is for what the collector wants to know";
        return Err(format!("the address of a collector holds no user and no password: {remedy}"));
    }
    match address.filter(plain) {
        Some(url) => Ok(format!("{}/v1/traces", url.as_str().trim_end_matches('/'))),
        None => Err(format!("{text:?} is not the address of a collector, such as http://127.0.0.1:4318")),
    }
}

/// A length of time, in a string.
pub(super) fn duration(value: &Value) -> Parsed<Duration> {
    match value {
        Value::Text(text) => duration_text(text),
        Value::Number(number) => Err(format!("needs a unit: \"{number}s\", for example")),
        other => expected("a duration such as \"30s\"", other),
    }
}

/// A length of time that is longer than nothing.
pub(super) fn positive_duration(value: &Value) -> Parsed<Duration> {
    match duration(value)? {
        Duration::ZERO => Err("must be longer than 0".to_owned()),
        duration => Ok(duration),
    }
}

/// A length of time in whole seconds, at least one: the kernel counts in these.
pub(super) fn whole_seconds(value: &Value) -> Parsed<Duration> {
    let duration = positive_duration(value)?;
    if duration.subsec_nanos() > 0 { Err("must be whole seconds".to_owned()) } else { Ok(duration) }
}

/// A share of the processors: `"50%"` of one, or how many of them, `1.5` for example.
pub(super) fn share(value: &Value) -> Parsed<Share> {
    let percent = match value {
        Value::Number(number) => hundredths(number),
        Value::Text(text) => text.strip_suffix('%').and_then(whole),
        other => return expected("a share such as \"50%\", or a number of processors", other),
    };
    percent.and_then(Share::of_percent).ok_or_else(|| {
        "must be at least \"1%\" of a processor, or a number of processors such as 1.5".to_owned()
    })
}

/// A share of a whole: `"1%"` to `"100%"`.
pub(super) fn percentage(value: &Value) -> Parsed<u32> {
    let percent = text(value)?.strip_suffix('%').and_then(whole);
    percent
        .filter(|percent| (1..=100).contains(percent))
        .ok_or_else(|| "must be \"1%\" to \"100%\"".to_owned())
}

/// A decimal number of at most two decimals, in hundredths.
fn hundredths(text: &str) -> Option<u32> {
    let (before, after) = text.split_once('.').unwrap_or((text, "0"));
    if after.len() > 2 {
        return None;
    }
    whole(before)?.checked_mul(100)?.checked_add(whole(&format!("{after:0<2}"))?)
}

/// Digits, and not too many of them.
fn whole(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| plain && *number as usize <= MOST)
}

/// A length of time: `1500ms`, `30s`, `2m`, `1h`.
pub(crate) fn duration_text(text: &str) -> Parsed<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    if number.is_empty() || millis == 0 {
        return Err(format!("{text:?} is no duration: write 1500ms, 30s, 2m or 1h"));
    }
    let duration = number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis));
    let duration = duration.map(Duration::from_millis).filter(|duration| *duration <= LONGEST);
    duration.ok_or_else(|| format!("{text:?} is over a year"))
}

/// A number of bytes: a whole number, or a string such as `64KiB`.
pub(super) fn size(value: &Value) -> Parsed<usize> {
    let wrong =
        |said: &str| Err(format!("{said} is no size: write 64KiB, 64MiB, 1GiB, or a whole number of bytes"));
    let (said, digits, shift) = match value {
        Value::Number(number) => (number.clone(), number.as_str(), 0),
        Value::Text(text) => {
            let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
            let unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
            let Some((digits, shift)) = unit else {
                return wrong(&format!("{text:?}"));
            };
            (format!("{text:?}"), digits, shift)
        }
        other => return expected("a size such as \"64KiB\"", other),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return wrong(&said);
    }
    let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(1_usize << shift));
    // No allocation can be larger (`Vec` refuses it), so no limit need be.
    bytes.filter(|bytes| isize::try_from(*bytes).is_ok()).ok_or_else(|| format!("{said} is too large"))
}

/// A number of bytes, at least one.
pub(super) fn positive_size(value: &Value) -> Parsed<usize> {
    match size(value)? {
        0 => Err("must be at least 1".to_owned()),
        size => Ok(size),
    }
}

/// One of some words.
pub(super) fn choice<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Value) -> Parsed<T> {
    move |value| {
        let listed = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let said = text(value).map_err(|wrong| format!("{wrong}: one of {}", listed().join(", ")))?;
        let found = words.iter().find(|(word, _)| *word == said);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let meant = nearest(&said, listed());
            let hint = meant.map(|word| format!("; did you mean \"{word}\"?")).unwrap_or_default();
            format!("{said:?} is none of {}{hint}", listed().join(", "))
        })
    }
}

/// A network's address to listen on.
pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    // The one name that needs no resolver, and that everybody writes.
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let wrong =
        |_| format!("{text:?} is no address to listen on: write 127.0.0.1:5001, [::1]:5001 or unix:PATH");
    text.parse().map_err(wrong)
}

/// A host name, as it is compared with `Host` and `Origin`: lower case, without scheme, port and path.
pub(super) fn host(value: &Value) -> Parsed<String> {
    host_text(&text(value)?)
}

/// The same, of a text.
pub(super) fn host_text(text: &str) -> Parsed<String> {
    let literal = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let good = match literal {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
    };
    if !good {
        return Err(format!("{text:?} is no host name: leave out scheme, port and path"));
    }
    Ok(text.to_ascii_lowercase())
}

/// The longest name of a server, in bytes.
const LONGEST_NAME: usize = 64;

/// Why this cannot be a server's name; it becomes a segment of a path.
pub(super) fn wrong_server_name(name: &str) -> Option<&'static str> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let named = (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(good);
    // Every client takes these two out of a path before it asks.
    (!named || name == "." || name == "..").then_some("a server's name is 1 to 64 of A-Z a-z 0-9 _ . -")
}

/// The name that comes closest to this one and is allowed: what may not stand in it becomes a `-`, one for every run.
/// `None`: nothing is left.
pub(super) fn derived_server_name(name: &str) -> Option<String> {
    let mut derived = String::new();
    for letter in name.chars() {
        if letter.is_ascii_alphanumeric() || "_.-".contains(letter) {
            derived.push(letter);
        } else if !derived.ends_with('-') {
            derived.push('-');
        }
    }
    let derived: String = derived.trim_matches('-').chars().take(LONGEST_NAME).collect();
    wrong_server_name(&derived).is_none().then_some(derived)
}

/// A pattern of variable names: a name, or one with a `*` at one end.
pub(super) fn pattern(value: &Value) -> Parsed<String> {
    let text = text(value)?;
    let name = text.strip_suffix('*').or_else(|| text.strip_prefix('*')).unwrap_or(&text);
    if text.is_empty() || name.contains(['*', '=', '\0']) {
        return Err(format!("{text:?} is no variable: write NAME, PREFIX_* or *_SUFFIX"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn a_collector_is_an_address_for_all_signals() {
        for (said, meant) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://otel.example/base/", "https://otel.example/base/v1/traces"),
        ] {
            assert_eq!(collector_text(said).as_deref(), Ok(meant), "{said}");
        }
        for bad in ["", "127.0.0.1:4318", "grpc://a:4317", "http://", "http://a/?b", "http://a/#b"] {
            assert!(collector_text(bad).is_err_and(|why| why.contains(bad)), "{bad}");
        }
        let credentials = collector_text("http://me:letmein@a").expect_err("they have a variable");
        assert!(credentials.contains("OTEL_EXPORTER_OTLP_HEADERS") && !credentials.contains("letmein"));
    }

    #[test]
    fn durations_have_a_unit() {
        let good = [("1500ms", 1_500), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)];
        for (text, millis) in good {
            assert_eq!(duration_text(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "30", "-1s", "+1s", "1.5s", "1 s", "1d", "30S"] {
            assert!(duration_text(text).is_err_and(|why| why.contains("is no duration")), "{text}");
        }
        for text in ["9000h", "18446744073709551615h", "99999999999999999999s"] {
            assert!(duration_text(text).is_err_and(|why| why.ends_with("is over a year")), "{text}");
        }
        assert_eq!(
            duration(&Value::Number("30".to_owned())),
            Err("needs a unit: \"30s\", for example".to_owned())
        );
        assert!(positive_duration(&said("0ms")).is_err());
    }

    #[test]
    fn sizes_are_binary() {
        let good = [("64KiB", 65_536), ("64MiB", 67_108_864), ("1GiB", 1_073_741_824), ("0KiB", 0)];
        for (text, bytes) in good {
            assert_eq!(size(&said(text)), Ok(bytes), "{text}");
        }
        assert_eq!(size(&Value::Number("4096".to_owned())), Ok(4_096));
        for text in ["", "KiB", "64", "64KB", "64kib", "-1KiB", "+1KiB", "1.5MiB", "18446744073709551615GiB"]
        {
            assert!(size(&said(text)).is_err(), "{text}");
        }
        assert!(size(&Value::Number("-1".to_owned())).is_err());
        assert!(positive_size(&Value::Number("0".to_owned())).is_err());
    }

    #[test]
    fn shares_are_of_one_processor_or_count_them() {
        let quota = |value: &Value| share(value).map(Share::quota).ok();
        let number = |text: &str| Value::Number(text.to_owned());
        for (value, percent) in [
            (said("50%"), 50),
            (said("1%"), 1),
            (said("250%"), 250),
            (number("1"), 100),
            (number("1.5"), 150),
            (number("0.05"), 5),
        ] {
            assert_eq!(quota(&value), Some(percent * 1000), "{value:?}");
        }
        for value in [said("0%"), said("%"), said("50"), said("1.5%"), said("+5%"), number("0"), number("-1")]
        {
            assert_eq!(quota(&value), None, "{value:?}");
        }
        assert_eq!(percentage(&said("10%")), Ok(10));
        for text in ["0%", "101%", "10", "%", "1.5%"] {
            assert!(percentage(&said(text)).is_err(), "{text}");
        }
        for value in [number("0.001"), number("1e3"), number("1000001"), Value::Flag(true)] {
            assert_eq!(quota(&value), None, "{value:?}");
        }
    }

    #[test]
    fn counts_are_whole() {
        assert_eq!(count(&Value::Number("0".to_owned())), Ok(0));
        for number in ["-1", "1.5", "1000001", "99999999999999999999"] {
            assert!(count(&Value::Number(number.to_owned())).is_err(), "{number}");
        }
        assert!(count(&said("5")).is_err());
        assert!(positive_count(&Value::Number("0".to_owned())).is_err());
    }

    #[test]
    fn addresses_are_numeric_or_localhost() {
        for (text, shown) in [
            ("127.0.0.1:5001", "127.0.0.1:5001"),
            ("localhost:0", "127.0.0.1:0"),
            ("[::1]:80", "[::1]:80"),
            ("0.0.0.0:1", "0.0.0.0:1"),
        ] {
            assert_eq!(address(text).map(|address| address.to_string()).as_deref(), Ok(shown));
        }
        for text in
            ["", "5001", ":5001", "127.0.0.1", "example.com:80", "http://127.0.0.1:1", "localhost:99999"]
        {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_fit_where_they_will_stand() {
        for name in ["a", "Time-2_x.y", &"n".repeat(64)] {
            assert_eq!(wrong_server_name(name), None, "{name}");
        }
        for (name, derived) in [
            ("", None),
            (".", None),
            ("..", None),
            ("ü", None),
            ("- -", None),
            ("a b", Some("a-b")),
            ("microsoft/playwright-mcp", Some("microsoft-playwright-mcp")),
            ("@scope/my server (old)", Some("scope-my-server-old")),
            ("Käse", Some("K-se")),
            (&"n".repeat(65), Some(&*"n".repeat(64))),
        ] {
            assert!(wrong_server_name(name).is_some(), "{name}");
            assert_eq!(derived_server_name(name).as_deref(), derived, "{name}");
        }
        for (name, expected) in [("Example.COM", "example.com"), ("[::1]", "[::1]"), ("10.0.0.1", "10.0.0.1")]
        {
            assert_eq!(host(&said(name)).as_deref(), Ok(expected));
        }
        for name in ["", "http://a", "a:80", "a/b", "::1", "[a]", "a b"] {
            assert!(host(&said(name)).is_err(), "{name}");
        }
        for name in ["NAME", "PREFIX_*", "*_SUFFIX", "*"] {
            assert_eq!(pattern(&said(name)).as_deref(), Ok(name));
        }
        for name in ["", "A*B", "*A*", "**", "A=B"] {
            assert!(pattern(&said(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn what_no_process_can_be_given_is_refused() {
        assert_eq!(literal(&said("$HOME {x}")).as_deref(), Ok("$HOME {x}"));
        assert!(literal(&said("a\0")).is_err());
        assert_eq!(variable(&Value::Number("8080".to_owned())), Ok(Some("8080".to_owned())));
        assert_eq!(variable(&Value::Null), Ok(None));
        assert!(variable(&Value::Flag(true)).is_err());
    }

    #[test]
    fn a_wrong_word_brings_the_right_ones() {
        let eras = choice(&[("auto", 0), ("legacy", 1), ("modern", 2)]);
        assert_eq!(eras(&said("modern")), Ok(2));
        let what = eras(&said("legazy")).expect_err("no such word");
        assert_eq!(what, "\"legazy\" is none of auto, legacy, modern; did you mean \"legacy\"?");
        assert!(eras(&Value::Flag(true)).is_err());
    }
}
