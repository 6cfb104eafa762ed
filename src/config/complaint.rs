//! What is wrong with a configuration, all of it at once, and where.
//!
//! A [`Ledger`] is carried through one reading. Nothing stops at the first mistake: whoever finds one writes it down,
//! puts a harmless value in its place and reads on. Only at the end is it decided whether there is a configuration.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use super::stamp::Stamped;
use crate::auth::Secret;

/// Where something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// By a flag or a variable of this name.
    Named(&'static str),
    /// By the file as a whole.
    WholeFile,
    /// At this byte of the file.
    At(usize),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// `file:line:column`, or the name of a flag or variable.
    place: String,
    /// The key's path, `servers.time.deadline` for example; empty where no key is concerned.
    key: String,
    /// What is wrong with it, and what would be right.
    what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.place, &self.key, &self.what];
        let said: Vec<&str> =
            parts.iter().filter(|part| !part.is_empty()).map(|part| part.as_str()).collect();
        f.write_str(&said.join(": "))
    }
}

/// Everything that is wrong with a configuration, in the order of the file; shown one per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaints {
    all: Vec<Complaint>,
    /// The files that were looked at. When one of them is another, less may be wrong.
    pub(crate) files: Vec<Stamped>,
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, complaint) in self.all.iter().enumerate() {
            let border = if index == 0 { "" } else { "\n" };
            write!(f, "{border}{complaint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Complaints {}

/// What one reading has found so far. Shared by all readers of the parts of one file, hence the cells.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    file: String,
    text: String,
    complaints: RefCell<Vec<(Place, Complaint)>>,
    notices: RefCell<Vec<String>>,
    passed_over: RefCell<Vec<(Place, Complaint)>>,
    origins: RefCell<BTreeMap<String, Origin>>,
    secrets: RefCell<Vec<Secret>>,
    files: RefCell<Vec<Stamped>>,
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// `file:line:column`, or the name of a flag or variable.
    pub(super) place: String,
    /// Whether nobody is to see its value.
    pub(super) secret: bool,
}

impl Ledger {
    /// A ledger for the file `file`, in which `text` was found.
    pub(super) fn of_file(file: String, text: String) -> Self {
        Self { file, text, ..Self::default() }
    }

    /// Writes down that something is wrong.
    pub(super) fn complain(&self, place: Place, key: &str, what: impl Into<String>) {
        let complaint = Complaint { place: self.show(place), key: key.to_owned(), what: what.into() };
        self.complaints.borrow_mut().push((place, complaint));
    }

    /// Writes down that something is passed over, and why.
    pub(super) fn notice(&self, place: Place, key: &str, what: impl Into<String>) {
        let notice = Complaint { place: self.show(place), key: key.to_owned(), what: what.into() };
        self.notices.borrow_mut().push(notice.to_string());
    }

    /// Writes down that a server is passed over, and why.
    pub(super) fn pass_over(&self, place: Place, key: &str, why: &str) {
        let what = format!("passed over: {why}");
        self.notice(place, key, what.as_str());
        let complaint = Complaint { place: self.show(place), key: key.to_owned(), what };
        self.passed_over.borrow_mut().push((place, complaint));
    }

    /// Complains of every server that was passed over: it would have been the one.
    pub(super) fn complain_of_passed_over(&self) {
        self.complaints.borrow_mut().append(&mut self.passed_over.borrow_mut());
    }

    /// Writes down that a setting counts as it was said at `place`; whoever says so last is right.
    pub(super) fn count(&self, place: Place, key: &str, secret: bool) {
        let origin = Origin { place: self.show(place), secret };
        self.origins.borrow_mut().insert(key.to_owned(), origin);
    }

    /// Writes down that nobody is to see the value of a setting; one that no file says comes from the environment.
    pub(super) fn hide(&self, key: &str) {
        let passed_on = || Origin { place: "the gateway's environment".to_owned(), secret: true };
        self.origins.borrow_mut().entry(key.to_owned()).or_insert_with(passed_on).secret = true;
    }

    /// Writes down what came from elsewhere into a value: secrets, and the files that they were read from.
    pub(super) fn keep(&self, secrets: Vec<Secret>, files: Vec<Stamped>) {
        self.secrets.borrow_mut().extend(secrets);
        self.files.borrow_mut().extend(files);
    }

    /// The secrets found so far, but for the first `known`.
    pub(super) fn secrets(&self, known: usize) -> Vec<Secret> {
        self.secrets.borrow().iter().skip(known).cloned().collect()
    }

    /// Where every setting came from, by its key.
    pub(super) fn origins(&self) -> BTreeMap<String, Origin> {
        self.origins.borrow().clone()
    }

    /// The files that were read, for single values too.
    pub(super) fn files(&self) -> Vec<Stamped> {
        self.files.borrow().clone()
    }

    /// Where `begins` stands in the file from byte `at` on, for the `nth` time; `at`, if it is written otherwise there.
    pub(super) fn find(&self, at: usize, begins: &str, nth: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        rest.match_indices(begins).nth(nth).map_or(at, |(found, _)| at + found)
    }

    /// Whether nothing was wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.complaints.borrow().is_empty()
    }

    /// The notices, or the complaints if there is any.
    pub(super) fn close(self) -> Result<Vec<String>, Complaints> {
        let mut complaints = self.complaints.into_inner();
        if complaints.is_empty() {
            return Ok(self.notices.into_inner());
        }
        complaints.sort_by_key(|(place, _)| *place);
        let all = complaints.into_iter().map(|(_, complaint)| complaint).collect();
        Err(Complaints { all, files: self.files.into_inner() })
    }

    fn show(&self, place: Place) -> String {
        match place {
            Place::Named(name) => name.to_owned(),
            Place::WholeFile => self.file.clone(),
            Place::At(offset) => {
                let (line, column) = position(&self.text, offset);
                format!("{}:{line}:{column}", self.file)
            }
        }
    }
}

/// Line and column, in characters, both from one.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    // Bytes that continue a UTF-8 character are no columns.
    let column = before[start..].iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let text = "a = 1\nü = 2\n\nlast";
        let cases =
            [(0, (1, 1)), (4, (1, 5)), (6, (2, 1)), (8, (2, 2)), (13, (3, 1)), (14, (4, 1)), (99, (4, 5))];
        for (offset, expected) in cases {
            assert_eq!(position(text, offset), expected, "at byte {offset}");
        }
    }

    #[test]
    fn complaints_come_in_the_order_of_the_file_and_one_per_line() {
        let ledger = Ledger::of_file("f.toml".to_owned(), "a\nb\n".to_owned());
        ledger.complain(Place::At(2), "b", "second");
        ledger.complain(Place::At(0), "a", "first");
        ledger.complain(Place::Named("--listen"), "", "before both");
        let complaints = ledger.close().expect_err("there were three");
        assert_eq!(
            complaints.to_string(),
            "--listen: before both\nf.toml:1:1: a: first\nf.toml:2:1: b: second"
        );
    }
}
