//! What kind of answer a caller takes: `Accept`, RFC 9110 section 12.5.1. Pure.
//!
//! The kind with the highest weight wins; among equals the one that was named rather than covered by a wildcard, then
//! the one that we offer first. So a browser or curl gets JSON unless it says otherwise.

use http::{HeaderMap, header};

use super::problem::Refusal;

/// The kinds of answers that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Text,
    Events,
    Html,
}

impl Media {
    /// Type and subtype.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => "text/plain",
            Self::Events => "text/event-stream",
            Self::Html => "text/html",
        }
    }

    /// The value of `Content-Type`.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
            Self::Events => "text/event-stream",
            Self::Html => "text/html; charset=utf-8",
        }
    }
}

/// Chooses among what is offered.
pub(super) fn choose(headers: &HeaderMap, offered: &'static [Media]) -> Result<Media, Refusal> {
    let refusal = || Refusal::NotAcceptable { offered: offered.iter().map(|media| media.name()).collect() };
    let mut ranges = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        let value = value.to_str().map_err(|_| refusal())?;
        ranges.extend(value.split(',').filter_map(Range::parse));
    }
    if ranges.is_empty() {
        return offered.first().copied().ok_or_else(refusal);
    }
    let mut best: Option<(Wish, Media)> = None;
    for &media in offered {
        let Some(wish) = wish_for(media, &ranges) else { continue };
        // Strictly better, or the first offered stays.
        if best.is_none_or(|(other, _)| wish > other) {
            best = Some((wish, media));
        }
    }
    best.map(|(_, media)| media).ok_or_else(refusal)
}

/// How much something is wanted: the weight in thousandths, then how exactly it was named.
type Wish = (u16, u8);

/// The most exact range decides; weight zero means "not this".
fn wish_for(media: Media, ranges: &[Range<'_>]) -> Option<Wish> {
    let matching = ranges.iter().filter_map(|range| Some((range.exactness(media)?, range.weight)));
    let (exactness, weight) = matching.max()?;
    (weight > 0).then_some((weight, exactness))
}

struct Range<'a> {
    main: &'a str,
    sub: &'a str,
    weight: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';');
        let (main, sub) = parts.next()?.trim().split_once('/')?;
        let weight = parts
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .map_or(Some(1000), |(_, value)| weight(value.trim()))?;
        Some(Self { main, sub, weight })
    }

    fn exactness(&self, media: Media) -> Option<u8> {
        let (main, sub) = media.name().split_once('/')?;
        match (self.main, self.sub) {
            ("*", "*") => Some(0),
            (same, "*") if same.eq_ignore_ascii_case(main) => Some(1),
            (same, equal) if same.eq_ignore_ascii_case(main) && equal.eq_ignore_ascii_case(sub) => Some(2),
            _ => None,
        }
    }
}

/// `0`, `1`, `0.25`: up to three decimals. What is none of these makes its range count for nothing.
fn weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERED: &[Media] = &[Media::Json, Media::Text, Media::Events];

    fn chosen(accept: &str) -> Option<Media> {
        let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
        choose(&headers, OFFERED).ok()
    }

    #[test]
    fn the_best_of_what_is_offered_is_chosen() {
        for (accept, expected) in [
            ("", Some(Media::Json)),
            ("*/*", Some(Media::Json)),
            ("application/json", Some(Media::Json)),
            ("APPLICATION/JSON", Some(Media::Json)),
            ("application/*", Some(Media::Json)),
            ("text/plain", Some(Media::Text)),
            ("text/*", Some(Media::Text)),
            ("text/plain, */*", Some(Media::Text)),
            ("text/plain;q=0.5, */*", Some(Media::Json)),
            ("text/event-stream", Some(Media::Events)),
            ("text/event-stream, */*;q=0.1", Some(Media::Events)),
            ("application/json, text/event-stream", Some(Media::Json)),
            ("application/json;q=0, */*", Some(Media::Text)),
            ("application/json; q=0.2, text/event-stream; q=0.3", Some(Media::Events)),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Some(Media::Json)),
            ("image/png", None),
            ("*/*;q=0", None),
            ("application/json;q=2", Some(Media::Json)),
        ] {
            assert_eq!(chosen(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn who_says_nothing_gets_the_first_offer() {
        assert_eq!(choose(&HeaderMap::new(), OFFERED).unwrap(), Media::Json);
    }

    #[test]
    fn a_weight_has_at_most_three_decimals() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("1.000", Some(1000)),
            ("0.25", Some(250)),
            ("0", Some(0)),
            ("1.1", None),
            ("0.1234", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(weight(text), expected, "{text:?}");
        }
    }
}
