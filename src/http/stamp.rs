//! What every answer to a call tells beside its content: whose it is, where its time went, what became of the process. Pure.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::json::Pieces;
use super::receipt::{self, microseconds, phases};
use crate::exchange::{Answer, CallId, Record, Times};

const CALL_ID: HeaderName = HeaderName::from_static("spawnling-call-id");
const RECEIPT: HeaderName = HeaderName::from_static("spawnling-receipt");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The facts about one call.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    id: CallId,
    times: Times,
    receipt: Option<Box<Record>>,
}

impl Stamp {
    /// Taken from an answer; the receipt is moved out of it.
    pub(super) fn of(answer: &mut Answer) -> Self {
        Self { id: answer.id, times: answer.times, receipt: answer.receipt.take() }
    }

    /// The name of the call.
    pub(super) const fn id(&self) -> CallId {
        self.id
    }

    /// Into the headers of an answer.
    pub(super) fn put_on(&self, headers: &mut HeaderMap) {
        put_id(self.id, headers);
        put(headers, SERVER_TIMING, &server_timing(&self.times));
        if let Some(process) = self.receipt.as_ref().and_then(|record| record.process()) {
            put(headers, RECEIPT, &receipt::dictionary(process));
        }
    }

    /// Where the time went, as JSON: milliseconds by phase.
    pub(super) fn timing(&self) -> Pieces {
        receipt::timing(&self.times)
    }

    /// What became of the process, as JSON, if there was one and that was waited for.
    pub(super) fn receipt(&self) -> Option<Pieces> {
        self.receipt.as_ref()?.process().map(receipt::of_process)
    }
}

/// The name of a call into the headers of an answer whose other facts come later.
pub(super) fn put_id(id: CallId, headers: &mut HeaderMap) {
    put(headers, CALL_ID, &id.to_string());
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if value.is_empty() {
        return;
    }
    let value = HeaderValue::from_str(value).expect("made of ASCII letters, digits and punctuation");
    headers.insert(name, value);
}

/// `queue;dur=0.012, spawn;dur=1.3`: the phases that were reached (W3C Server Timing).
fn server_timing(times: &Times) -> String {
    let mut text = String::with_capacity(96);
    for (phase, time) in phases(times) {
        let Some(time) = time else { continue };
        let comma = if text.is_empty() { "" } else { ", " };
        let micros = microseconds(time);
        let (whole, rest) = (micros / 1_000, micros % 1_000);
        write!(text, "{comma}{phase};dur={whole}.{rest:03}").expect("a String takes everything");
        // It is the opening that a server which was there already has saved its caller.
        if phase == "open"
            && let Some(origin) = times.origin.name()
        {
            write!(text, ";desc=\"{origin}\"").expect("a String takes everything");
        }
    }
    // Answered from memory, or refused at once: it waited for nobody.
    if text.is_empty() { "queue;dur=0.000".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stamp() -> Stamp {
        let (queue, spawn) = (Some(Duration::ZERO), Some(Duration::from_micros(1_234)));
        let times = Times { queue, spawn, ..Times::default() };
        Stamp { id: CallId::from_bits(0xab), times, receipt: None }
    }

    #[test]
    fn the_headers_tell_the_id_and_the_phases_reached() {
        let mut headers = HeaderMap::new();
        stamp().put_on(&mut headers);
        assert_eq!(headers[CALL_ID], "000000000000000000000000000000ab");
        assert_eq!(headers[SERVER_TIMING], "queue;dur=0.000, spawn;dur=1.234");
        assert_eq!(stamp().timing().text(), r#"{"queue":0.0,"spawn":1.234}"#);
    }

    #[test]
    fn a_server_that_was_there_already_is_told_of() {
        let mut stamp = stamp();
        stamp.times = Times {
            open: Some(Duration::ZERO),
            origin: crate::exchange::Origin::Standby,
            ..Times::default()
        };
        assert_eq!(server_timing(&stamp.times), "open;dur=0.000;desc=\"standby\"");
        assert_eq!(stamp.timing().text(), r#"{"open":0.0,"desc":"standby"}"#);
    }

    #[test]
    fn the_header_and_the_content_round_alike() {
        // Of these, one half of a microsecond is a little less in binary.
        for nanos in [499, 500, 7_919_500, 15_838_500, 1_388_031_500, 9_999_999_500] {
            let times = Times { call: Some(Duration::from_nanos(nanos)), ..Times::default() };
            let said: f64 = server_timing(&times).strip_prefix("call;dur=").unwrap().parse().unwrap();
            let content = receipt::timing(&times).text();
            assert_eq!(content, format!(r#"{{"call":{said:?}}}"#), "{nanos}");
        }
    }

    #[test]
    fn a_call_that_reached_nothing_has_waited_for_nobody() {
        let mut headers = HeaderMap::new();
        Stamp { times: Times::default(), ..stamp() }.put_on(&mut headers);
        assert_eq!(headers[SERVER_TIMING], "queue;dur=0.000");
    }
}
