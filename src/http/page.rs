//! The page at `/`: a form for each tool, its result, where its time went. It asks this very gateway, by the routes that
//! everybody has, and may do nothing else: its policy lets it load nothing from elsewhere, and nobody put it into a frame.
//!
//! What a server or a tool says becomes text in it, never markup. A token that is typed into it stays in its memory.

use http::{HeaderMap, HeaderValue, Response, header};

use super::accept::Media;
use super::body::Body;
use super::json::Pieces;
use super::rest::good;

/// `Content-Security-Policy`, level 3. Pictures are those that tools answer with, and the icon.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = include_str!("page/page.html");

/// The parts of the page, each with its type.
const ASSETS: [(&str, &str, &str); 5] = [
    ("page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("form.js", "text/javascript; charset=utf-8", include_str!("page/form.js")),
    ("receipt.js", "text/javascript; charset=utf-8", include_str!("page/receipt.js")),
    ("page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// The page itself.
pub(super) fn page() -> Response<Body> {
    let mut response = good(text(PAGE), Media::Html);
    protect(response.headers_mut());
    response
}

/// A part of it, if there is one of this name.
pub(super) fn asset(name: &str) -> Option<Response<Body>> {
    let (_, kind, content) = ASSETS.iter().find(|(known, ..)| *known == name)?;
    let mut response = good(text(content), Media::Text);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    protect(response.headers_mut());
    Some(response)
}

fn text(content: &'static str) -> Pieces {
    Pieces::from(bytes::Bytes::from_static(content.as_bytes()))
}

fn protect(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_nothing_that_is_not_a_part_of_it() {
        for source in [" src=\"", " href=\""] {
            for place in PAGE.split(source).skip(1).filter_map(|rest| rest.split('"').next()) {
                let part = place.strip_prefix("/assets/").is_some_and(|name| asset(name).is_some());
                assert!(part || ["#form", "/openapi.json", "/v1/servers"].contains(&place), "{place}");
            }
        }
        assert!(!PAGE.contains("<style") && !PAGE.contains(" style=") && !PAGE.contains("javascript:"));
    }

    #[test]
    fn nothing_that_is_shown_is_taken_for_markup() {
        for (name, _, content) in ASSETS {
            for markup in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
            {
                assert!(!content.contains(markup), "{name}: {markup}");
            }
        }
    }
}
