//! `check --reuse SERVER`: whether a process that was used before answers as a fresh one does.
//!
//! ```text
//!   each tool, in two fresh processes      differ?    nothing can be said of it: a clock, a process id
//!   all tools, in one process, three times
//!     in turn, twice;  backwards, twice;  each twice in a row
//!   an answer that is another than before  once more in a fresh process:
//!                                          as the first fresh one: REUSE CHANGED IT    else: nothing can be said of it
//! ```
//!
//! It finds state that shows in answers to made-up arguments. That it finds none is no proof.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Arc;

mod arguments;

use super::once::{Given, OnceError, explain, find, whoever, with_rooms};
use crate::catalog::Catalog;
use crate::exchange::fault::chain;
use crate::exchange::{Ask, CallError, Caller, ListKind, OnError, Outcome, RawJson, Request, Step};
use arguments::Tool;

/// How much of an answer is shown, in bytes.
const SHOWN: usize = 120;

/// One tool on trial.
struct Trial {
    name: String,
    arguments: RawJson,
    verdict: Verdict,
}

enum Verdict {
    /// Not asked, and why.
    LeftOut(&'static str),
    /// Every fresh process gave this answer so far, and so did every used one.
    Same(String),
    /// What a fresh process answers, what a used one did, and what that had been asked before.
    Changed { fresh: String, used: String, behind: String },
    /// It differs among fresh processes.
    Unsteady,
}

/// Tries the tools of a server, each call of which gets a process of its own, and tells what reuse would change. An
/// error if it would change anything, or if nothing could be tried.
pub(crate) fn reuse(given: Given<'_>, server: &str, all: bool) -> Result<(), OnceError> {
    with_rooms(given, async |rooms| {
        let catalog = find(rooms, server)?;
        let mut trials = listed(catalog, all).await?;
        for trial in &mut trials {
            trial.ask_fresh(catalog).await;
        }
        for order in orders(&trials) {
            compare(catalog, &mut trials, &order).await;
        }
        for trial in &mut trials {
            trial.make_sure(catalog).await;
        }
        writeln!(io::stdout(), "{}", told(server, &trials))?;
        let changed: Vec<&str> =
            trials.iter().filter(|trial| trial.is_changed()).map(|trial| trial.name.as_str()).collect();
        if !changed.is_empty() {
            let what = format!("reuse changes what {server} answers: {}", changed.join(", "));
            return Err(OnceError::Failed(what));
        }
        if !trials.iter().any(Trial::is_asked) {
            return Err(OnceError::Failed(format!("no tool of {server} could be tried")));
        }
        Ok(())
    })
}

/// The server's tools, each with its arguments or the reason for which it is left out.
async fn listed(catalog: &Arc<Catalog>, all: bool) -> Result<Vec<Trial>, OnceError> {
    let answer = catalog.list(whoever(catalog), ListKind::Tools).await;
    let listed = match (answer.failure, answer.steps.into_iter().next()) {
        (None, Some(Ok(Outcome::Listed(listed)))) => listed,
        (Some(error), _) | (None, Some(Err(error))) => return Err(OnceError::Failed(explain(&error))),
        (None, _) => return Err(OnceError::Failed("the server gave no list".to_owned())),
    };
    let tools = listed.items.iter().filter_map(|item| item.read::<Tool>().ok());
    let trial = |tool: Tool| match tool.trial(all) {
        Ok(arguments) => Trial { name: tool.name, arguments, verdict: Verdict::Same(String::new()) },
        Err(why) => {
            Trial { name: tool.name, arguments: RawJson::of("left out"), verdict: Verdict::LeftOut(why) }
        }
    };
    Ok(tools.map(trial).collect())
}

/// The orders in which a used process is asked, as places in the list of trials.
fn orders(trials: &[Trial]) -> [Vec<usize>; 3] {
    let asked: Vec<usize> = (0..trials.len()).filter(|place| trials[*place].is_asked()).collect();
    let backwards: Vec<usize> = asked.iter().rev().copied().collect();
    let in_a_row = asked.iter().flat_map(|place| [*place; 2]).collect();
    [asked.repeat(2), backwards.repeat(2), in_a_row]
}

/// Asks one process everything in this order, and puts down what it answers otherwise than a fresh one.
async fn compare(catalog: &Catalog, trials: &mut [Trial], order: &[usize]) {
    let steps = order.iter().map(|place| trials[*place].step()).collect();
    let answers = ask(catalog, steps).await;
    for (at, used) in answers.into_iter().enumerate() {
        let behind = match at.checked_sub(1) {
            Some(before) => trials[order[before]].name.clone(),
            // Nothing was asked before: this is a fresh process once more.
            None => String::new(),
        };
        let trial = &mut trials[order[at]];
        let Verdict::Same(fresh) = &trial.verdict else { continue };
        // Time that ran out is of the whole call's, not of this tool.
        if *fresh == used || used.starts_with("deadline-exceeded") {
            continue;
        }
        let fresh = fresh.clone();
        trial.verdict = if at == 0 { Verdict::Unsteady } else { Verdict::Changed { fresh, used, behind } };
    }
}

/// One call, all in one process: the answers, as texts; fewer than steps if the process did not live to the end.
async fn ask(catalog: &Catalog, steps: Vec<Step>) -> Vec<String> {
    let Caller { id, principal, deadline, reply, credentials, trace } = whoever(catalog);
    let on_error = OnError::Continue;
    let request =
        Request { id, principal, steps, on_error, deadline, events: None, reply, credentials, trace };
    let answer = catalog.call(request).await;
    let failure = answer.failure.map(Err);
    answer.steps.into_iter().chain(failure).map(|outcome| in_words(&outcome)).collect()
}

fn in_words(outcome: &Result<Outcome, CallError>) -> String {
    match outcome {
        Ok(Outcome::Result(result)) => result.as_str().to_owned(),
        Ok(Outcome::Listed(_)) => "a list".to_owned(),
        Err(CallError::ToolError { result }) => format!("an error: {}", result.as_str()),
        Err(error) => format!("{}: {}", error.name(), chain(error)),
    }
}

impl Trial {
    fn step(&self) -> Step {
        let arguments = Some(self.arguments.clone());
        Ask::Tool { name: self.name.clone(), arguments, extra: Vec::new() }.into()
    }

    /// What a fresh process answers.
    async fn fresh(&self, catalog: &Catalog) -> String {
        ask(catalog, vec![self.step()]).await.pop().unwrap_or_default()
    }

    async fn ask_fresh(&mut self, catalog: &Catalog) {
        if !self.is_asked() {
            return;
        }
        let first = self.fresh(catalog).await;
        self.verdict = if first.starts_with("invalid-arguments") {
            Verdict::LeftOut("the arguments that were made up for it do not fit")
        } else if first == self.fresh(catalog).await {
            Verdict::Same(first)
        } else {
            Verdict::Unsteady
        };
    }

    /// What changes by itself, only not that fast, was not changed by reuse.
    async fn make_sure(&mut self, catalog: &Catalog) {
        if let Verdict::Changed { fresh, .. } = &self.verdict
            && *fresh != self.fresh(catalog).await
        {
            self.verdict = Verdict::Unsteady;
        }
    }

    const fn is_asked(&self) -> bool {
        !matches!(self.verdict, Verdict::LeftOut(_))
    }

    const fn is_changed(&self) -> bool {
        matches!(self.verdict, Verdict::Changed { .. })
    }
}

/// A line for the whole, and one for each tool.
fn told(server: &str, trials: &[Trial]) -> String {
    let asked = trials.iter().filter(|trial| trial.is_asked()).count();
    let mut text =
        format!("{server}: {asked} of {} tools tried, in fresh processes and in used ones", trials.len());
    for Trial { name, verdict, .. } in trials {
        let _ = match verdict {
            Verdict::Same(answer) if !answer.starts_with('{') => {
                write!(text, "\n    {name}: the same, but a failure each time: {}", shortened(&plain(answer)))
            }
            Verdict::Same(_) => write!(text, "\n    {name}: the same"),
            Verdict::Unsteady => {
                write!(text, "\n    {name}: differs among fresh processes, so nothing can be said of it")
            }
            Verdict::LeftOut(why) => write!(text, "\n    {name}: left out: {why}"),
            Verdict::Changed { fresh, used, behind } => {
                let (fresh, used) = side_by_side(fresh, used);
                write!(text, "\n    {name}: CHANGED BY REUSE: fresh {fresh}, behind {behind} {used}")
            }
        };
    }
    text
}

/// Two answers that differ, each so that the difference is in sight.
fn side_by_side(one: &str, other: &str) -> (String, String) {
    let (plain_one, plain_other) = (plain(one), plain(other));
    let (one, other) = if plain_one == plain_other { (one, other) } else { (&*plain_one, &*plain_other) };
    let same = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    let from = |text: &str| {
        let start = text.floor_char_boundary(same.saturating_sub(SHOWN / 2));
        format!("{}{}", if start > 0 { "... " } else { "" }, shortened(&text[start..]))
    };
    (from(one), from(other))
}

/// An answer without what a server of the modern era says of itself in each of them.
fn plain(answer: &str) -> String {
    let (before, json) = answer.split_at(answer.find('{').unwrap_or(answer.len()));
    let Ok(mut members) = RawJson::parse(json.to_owned().into()).and_then(|json| json.members()) else {
        return answer.to_owned();
    };
    members.retain(|(name, _)| !["_meta", "resultType"].contains(&name.as_str()));
    format!("{before}{}", RawJson::object(&members).as_str())
}

fn shortened(text: &str) -> String {
    let end = text.floor_char_boundary(SHOWN);
    format!("{}{}", &text[..end], if end < text.len() { " ..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(name: &str, verdict: Verdict) -> Trial {
        Trial { name: name.to_owned(), arguments: RawJson::of("x"), verdict }
    }

    #[test]
    fn every_tool_that_is_asked_comes_behind_every_other_and_behind_itself() {
        let trials = [
            trial("a", Verdict::Same(String::new())),
            trial("b", Verdict::LeftOut("no")),
            trial("c", Verdict::Unsteady),
        ];
        assert_eq!(orders(&trials), [vec![0, 2, 0, 2], vec![2, 0, 2, 0], vec![0, 0, 2, 2]]);
    }

    #[test]
    fn where_two_answers_differ_is_in_sight() {
        let answer = |number: u8, text: &str| {
            format!(
                r#"{{"_meta":{{"x":"{text}"}},"content":["{text}"],"resultType":"complete","n":{number}}}"#
            )
        };
        let (one, other) = side_by_side(&answer(1, "a"), &answer(2, "a"));
        assert_eq!((&*one, &*other), (r#"{"content":["a"],"n":1}"#, r#"{"content":["a"],"n":2}"#));
        let long = "a".repeat(3 * SHOWN);
        let (one, other) = side_by_side(&answer(1, &long), &answer(2, &long));
        assert!(
            one.starts_with("... aaa") && one.ends_with(r#""n":1}"#) && other.ends_with(r#""n":2}"#),
            "{one}"
        );
        let (one, other) = side_by_side(r#"{"_meta":1}"#, r#"{"_meta":2}"#);
        assert_eq!((&*one, &*other), (r#"{"_meta":1}"#, r#"{"_meta":2}"#));
        assert_eq!(side_by_side("an error: {}", "gone"), ("an error: {}".to_owned(), "gone".to_owned()));
    }

    #[test]
    fn each_verdict_has_a_line() {
        let changed =
            Verdict::Changed { fresh: "1".to_owned(), used: "2".repeat(200), behind: "b".to_owned() };
        let trials = [
            trial("a", Verdict::Same("{}".to_owned())),
            trial("b", changed),
            trial("c", Verdict::Unsteady),
            trial("d", Verdict::LeftOut("why")),
        ];
        let expected = format!(
            "s: 3 of 4 tools tried, in fresh processes and in used ones\n    a: the same\n    b: CHANGED BY REUSE: fresh \
             1, behind b {} ...\n    c: differs among fresh processes, so nothing can be said of it\n    d: left out: why",
            "2".repeat(SHOWN)
        );
        assert_eq!(told("s", &trials), expected);
    }
}
