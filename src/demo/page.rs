//! What a fetched page says: title, text and links.   (pure)
//!
//! Everything that comes out is bounded. Text keeps the page's line structure roughly (block elements end a line) and
//! drops what a reader would not see: scripts, styles, templates, the head.

use scraper::{Html, Node, Selector, node::Element};
use serde::Serialize;
use url::Url;

/// Longest text, in characters.
const MOST_TEXT: usize = 20_000;
/// Most links.
const MOST_LINKS: usize = 100;
/// Longest title or link text, in characters.
const MOST_LABEL: usize = 200;
/// Links whose address is longer than this are left out.
const MOST_ADDRESS: usize = 2_000;

/// Elements whose content is not shown.
const UNSEEN: [&str; 10] =
    ["head", "script", "style", "noscript", "template", "svg", "iframe", "object", "canvas", "title"];
/// Elements that stand on lines of their own.
const BLOCKS: [&str; 31] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "br",
    "dd",
    "div",
    "dl",
    "dt",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "li",
    "main",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "tr",
    "ul",
    "option",
];

/// The readable part of a page.
#[derive(Debug, Serialize, PartialEq)]
pub(super) struct Page {
    pub(super) title: String,
    pub(super) text: String,
    pub(super) links: Vec<Link>,
    /// Whether text or links were left out for length.
    pub(super) truncated: bool,
}

/// A link with its absolute address.
#[derive(Debug, Serialize, PartialEq)]
pub(super) struct Link {
    pub(super) text: String,
    pub(super) url: String,
}

/// Reads an HTML document that came from `base`.
pub(super) fn from_html(source: &str, base: &Url) -> Page {
    let document = Html::parse_document(source);
    let title =
        select(&document, "title").next().map(|e| label(&e.text().collect::<String>())).unwrap_or_default();
    let (text, long_text) = bounded(&visible_text(&document));
    let (links, many_links) = links(&document, base);
    Page { title, text, links, truncated: long_text || many_links }
}

/// Takes a document that is plain text already.
pub(super) fn from_text(source: &str) -> Page {
    let (text, truncated) = bounded(source);
    Page { title: String::new(), text, links: Vec::new(), truncated }
}

fn select<'a>(document: &'a Html, selector: &str) -> impl Iterator<Item = scraper::ElementRef<'a>> {
    let selector = Selector::parse(selector).expect("the selectors are constants of this file");
    document.select(&selector).collect::<Vec<_>>().into_iter()
}

/// Walks the tree without recursion, for a page may be nested as deeply as it is long.
fn visible_text(document: &Html) -> String {
    let mut lines = Lines::default();
    let mut node = document.tree.root();
    loop {
        let unseen = match node.value() {
            Node::Element(element) => enter(element, &mut lines),
            Node::Text(text) => {
                lines.add(text);
                false
            }
            _ => false,
        };
        if let Some(child) = node.first_child().filter(|_| !unseen) {
            node = child;
            continue;
        }
        node = loop {
            if node.value().as_element().is_some_and(|element| is_in(&BLOCKS, element)) {
                lines.end_line();
            }
            if let Some(next) = node.next_sibling() {
                break next;
            }
            match node.parent() {
                Some(parent) => node = parent,
                None => return lines.finish(),
            }
        };
    }
}

/// Begins an element's line, and says whether its content stays unseen.
fn enter(element: &Element, lines: &mut Lines) -> bool {
    if is_in(&BLOCKS, element) {
        lines.end_line();
    }
    is_in(&UNSEEN, element)
}

fn is_in(names: &[&str], element: &Element) -> bool {
    names.contains(&element.name())
}

/// Text under construction: white space folded, empty lines dropped.
#[derive(Default)]
struct Lines {
    done: String,
    line: String,
}

impl Lines {
    fn add(&mut self, text: &str) {
        if text.starts_with(char::is_whitespace) {
            self.space();
        }
        for (index, word) in text.split_whitespace().enumerate() {
            if index > 0 {
                self.space();
            }
            self.line.push_str(word);
        }
        if text.ends_with(char::is_whitespace) {
            self.space();
        }
    }

    fn space(&mut self) {
        if !self.line.is_empty() && !self.line.ends_with(' ') {
            self.line.push(' ');
        }
    }

    fn end_line(&mut self) {
        let line = self.line.trim();
        if !line.is_empty() {
            self.done.push_str(line);
            self.done.push('\n');
        }
        self.line.clear();
    }

    fn finish(mut self) -> String {
        self.end_line();
        self.done.truncate(self.done.trim_end().len());
        self.done
    }
}

fn links(document: &Html, base: &Url) -> (Vec<Link>, bool) {
    let base = select(document, "base[href]")
        .next()
        .and_then(|e| base.join(e.value().attr("href")?).ok())
        .unwrap_or_else(|| base.clone());
    let mut links: Vec<Link> = Vec::new();
    for element in select(document, "a[href]") {
        let Some(url) = element.value().attr("href").and_then(|href| base.join(href.trim()).ok()) else {
            continue;
        };
        if !matches!(url.scheme(), "http" | "https") || url.as_str().len() > MOST_ADDRESS {
            continue;
        }
        if links.iter().any(|link| link.url == url.as_str()) {
            continue;
        }
        if links.len() == MOST_LINKS {
            return (links, true);
        }
        links.push(Link { text: label(&element.text().collect::<String>()), url: url.into() });
    }
    (links, false)
}

/// One line, its white space folded, at most `MOST_LABEL` characters.
fn label(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MOST_LABEL).collect()
}

fn bounded(text: &str) -> (String, bool) {
    match text.char_indices().nth(MOST_TEXT) {
        Some((end, _)) => (text[..end].to_owned(), true),
        None => (text.to_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(source: &str) -> Page {
        from_html(source, &Url::parse("http://example.com/dir/index.html").unwrap())
    }

    #[test]
    fn title_text_and_links_are_read() {
        let page = page(
            "<head><title> A \n title </title><style>p{}</style></head><body><h1>Head</h1><p>One <b>bold</b>\n word.\
             <script>no()</script><ul><li>x<li>y</ul><a href='../up?q=1'>Up  there</a> <a href='mailto:a@b.c'>mail</a>\
             <a href='/dir/../up?q=1'>again</a>",
        );
        assert_eq!(page.title, "A title");
        assert_eq!(page.text, "Head\nOne bold word.\nx\ny\nUp there mailagain");
        assert_eq!(page.links, [Link { text: "Up there".into(), url: "http://example.com/up?q=1".into() }]);
        assert!(!page.truncated);
    }

    #[test]
    fn long_pages_are_cut_and_say_so() {
        let text = page(&format!("<p>{}", "word ".repeat(MOST_TEXT)));
        assert_eq!((text.text.chars().count(), text.truncated), (MOST_TEXT, true));
        let many = (0..=MOST_LINKS).map(|n| format!("<a href='/{n}'>{n}</a>")).collect::<Vec<_>>().concat();
        assert_eq!((page(&many).links.len(), page(&many).truncated), (MOST_LINKS, true));
    }

    #[test]
    fn deep_nesting_is_survived() {
        assert_eq!(page(&format!("{}deep", "<div>".repeat(2_000))).text, "deep");
    }

    #[test]
    fn base_elements_move_the_links() {
        let page = page("<base href='https://other.example/x/'><a href='y'>y</a>");
        assert_eq!(page.links[0].url, "https://other.example/x/y");
    }
}
