//! Which page a task names.   (pure)
//!
//! The first address in the text wins: an explicit `http://` or `https://` one as it stands, or a bare domain such as
//! `example.com`, which is tried by https and then by http, as a browser would. Other schemes are refused by name, so
//! that `file:///etc/passwd` is not mistaken for anything else.

use url::Url;

/// Endings that look like a domain's last label and are almost always a file's name instead.
const FILE_ENDINGS: [&str; 24] = [
    "txt", "pdf", "json", "csv", "html", "htm", "png", "jpg", "jpeg", "gif", "svg", "doc", "docx", "xlsx",
    "xml", "yaml", "yml", "toml", "exe", "js", "ts", "css", "log", "zip",
];

/// What a task says about where to go.
#[derive(Debug, PartialEq)]
pub(super) enum Target {
    /// Addresses to try in this order; the later ones only when the earlier cannot be reached.
    Pages(Vec<Url>),
    /// An address of a scheme that is not fetched.
    OtherScheme(String),
    /// The text names no address.
    Nowhere,
}

/// Finds the first address in a task.
pub(super) fn find(task: &str) -> Target {
    task.split(|c: char| c.is_whitespace() || "\"'`<>(){}|,;".contains(c))
        .find_map(|word| from_word(bare(word)))
        .unwrap_or(Target::Nowhere)
}

/// A word without the punctuation of its sentence. The brackets of an IPv6 address stay.
fn bare(word: &str) -> &str {
    let word = word.trim_matches(|c: char| ".:!?*_".contains(c)).trim_start_matches('[');
    if word.contains('[') { word } else { word.trim_end_matches(']') }
}

fn from_word(word: &str) -> Option<Target> {
    if let Some((scheme, rest)) = word.split_once("://") {
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Some(Target::OtherScheme(scheme));
        }
        return (!rest.is_empty()).then(|| page(word)).flatten().map(|url| Target::Pages(vec![url]));
    }
    let host = host_of(word)?;
    if host == "localhost" || host.parse::<std::net::Ipv4Addr>().is_ok() {
        return page(&format!("http://{word}")).map(|url| Target::Pages(vec![url]));
    }
    if !is_domain(&host) {
        return None;
    }
    let pages = ["https", "http"].iter().filter_map(|scheme| page(&format!("{scheme}://{word}"))).collect();
    Some(Target::Pages(pages))
}

/// Parses an address and takes out what must not be sent or shown: credentials and the fragment.
pub(super) fn page(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    url.host()?;
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_fragment(None);
    Some(url)
}

/// The part of a word before its port, path or query, in lower case.
fn host_of(word: &str) -> Option<String> {
    let host = word.split(['/', '?', '#']).next()?;
    let host = match host.split_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) => return None,
        None => host,
    };
    // An e-mail address is no page.
    (!host.is_empty() && !host.contains('@')).then(|| host.to_lowercase())
}

fn is_domain(host: &str) -> bool {
    let labels: Vec<&str> = host.split('.').collect();
    let well_formed = labels.iter().all(|label| {
        let inner = |c: char| c.is_alphanumeric() || c == '-';
        !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    });
    let last = labels.last().copied().unwrap_or_default();
    let last_is_a_word = last.chars().count() >= 2 && last.chars().all(char::is_alphabetic);
    labels.len() >= 2
        && well_formed
        && (last_is_a_word || last.starts_with("xn--"))
        && !FILE_ENDINGS.contains(&last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(task: &str) -> Vec<String> {
        match find(task) {
            Target::Pages(pages) => pages.iter().map(ToString::to_string).collect(),
            Target::OtherScheme(scheme) => vec![format!("scheme {scheme}")],
            Target::Nowhere => vec![],
        }
    }

    #[test]
    fn the_first_address_of_a_task_is_found() {
        let cases: [(&str, &[&str]); 18] = [
            ("Go to example.com", &["https://example.com/", "http://example.com/"]),
            ("Go to example.com.", &["https://example.com/", "http://example.com/"]),
            ("open (https://example.org/a?b=c#d), please", &["https://example.org/a?b=c"]),
            ("HTTP://Example.COM/Path then other.org", &["http://example.com/Path"]),
            ("read http://127.0.0.1:5001/page now", &["http://127.0.0.1:5001/page"]),
            ("read 127.0.0.1:5001/page now", &["http://127.0.0.1:5001/page"]),
            ("localhost:5001", &["http://localhost:5001/"]),
            ("see http://2130706433/", &["http://127.0.0.1/"]),
            ("see http://[::1]:8080/x", &["http://[::1]:8080/x"]),
            ("see [http://example.com/x]", &["http://example.com/x"]),
            ("http://user:secret@example.com/", &["http://example.com/"]),
            ("mail ann@example.com", &[]),
            ("write it to report.txt, e.g. today", &[]),
            ("read file:///etc/passwd", &["scheme file"]),
            ("say hello", &[]),
            ("visit bücher.example", &["https://xn--bcher-kva.example/", "http://xn--bcher-kva.example/"]),
            ("3.14 is pi, -a.com is none", &[]),
            (
                "go to sub.example.co.uk:8443/x",
                &["https://sub.example.co.uk:8443/x", "http://sub.example.co.uk:8443/x"],
            ),
        ];
        for (task, expected) in cases {
            assert_eq!(found(task), expected, "{task}");
        }
    }
}
