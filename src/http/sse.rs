//! Events to bytes: an answer that tells what happens while it happens.
//!
//! ```text
//!   (the call waits for its server: a failure here is a plain problem, with its own status)
//!   200, then:   event: progress | log     as they come
//!                event: dropped            how many the reader was too slow for, told before the next one it gets
//!                : comment                 every 15 s, so that nobody in between thinks the connection dead
//!                event: result | problem   exactly one, the last
//! ```
//!
//! The call is polled by the body itself, so dropping the body hangs up. What goes into `data:` is always one line:
//! raw JSON by the promise of `RawJson`, our own because JSON escapes line breaks.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, HeaderValue, Response, header};

use super::accept::Media;
use super::body::Body;
use super::json::Pieces;
use super::problem::Problem;
use super::stamp::{self, Stamp};
use crate::exchange::{Answer, CallId, Event, Events};

/// How long the stream stays silent at most.
const SILENCE: Duration = Duration::from_secs(15);

/// A call that goes on while its answer is already being sent.
struct Live<C, F> {
    call: Pin<Box<C>>,
    events: Events,
    dropped: u64,
    outcome: F,
}

/// Where the stream stands.
enum Stage<C, F> {
    Live(Live<C, F>),
    /// Everything is known; the rest is written out.
    Over,
}

/// Waits until `call` has its server, and answers with a stream from then on; or with a problem if it came to an end
/// before that. `outcome` tells what the last event is.
///
/// # Cancel safety
///
/// Dropping this, or later the body, drops the call.
pub(super) async fn respond<C, F>(
    id: CallId,
    call: C,
    events: Events,
    outcome: F,
) -> Result<Response<Body>, Problem>
where
    C: Future<Output = Answer> + Send + 'static,
    F: FnOnce(Answer) -> Result<Pieces, Problem> + Send + 'static,
{
    let mut live = Live { call: Box::pin(call), events, dropped: 0, outcome };
    let early = tokio::select! {
        biased;
        () = live.events.until_leased() => None,
        answer = &mut live.call => Some(answer),
    };
    let (waiting, stage) = match early {
        None => (VecDeque::new(), Stage::Live(live)),
        Some(mut answer) => {
            let stamp = Stamp::of(&mut answer);
            // It ended before we heard of a lease: what failed is a plain problem, what succeeded one last event.
            let told = (live.outcome)(answer).map_err(|problem| problem.stamped(stamp.clone()))?;
            let mut waiting = remaining(&live.events, &mut live.dropped);
            waiting.extend(last_event(Ok(told), stamp).into_chunks());
            (waiting, Stage::Over)
        }
    };
    let body = Body::Stream(Box::pin(stream::unfold((waiting, stage), next)));
    Ok(head(id, body))
}

fn head(id: CallId, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    stamp::put_id(id, headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Media::Events.content_type()));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

type State<C, F> = (VecDeque<Bytes>, Stage<C, F>);

/// The next bytes of the stream.
async fn next<C, F>((mut waiting, stage): State<C, F>) -> Option<(Bytes, State<C, F>)>
where
    C: Future<Output = Answer>,
    F: FnOnce(Answer) -> Result<Pieces, Problem>,
{
    if let Some(bytes) = waiting.pop_front() {
        return Some((bytes, (waiting, stage)));
    }
    let Stage::Live(mut live) = stage else { return None };
    let heard = tokio::select! {
        // Both in turn: a flood of events must not keep the answer from being seen.
        answer = &mut live.call => Heard::Answer(answer),
        event = live.events.next() => Heard::Event(event),
        () = tokio::time::sleep(SILENCE) => Heard::Nothing,
    };
    let stage = match heard {
        Heard::Event(event) => {
            waiting.extend(missed(&live.events, &mut live.dropped));
            waiting.extend(event_bytes(&event).into_chunks());
            Stage::Live(live)
        }
        Heard::Nothing => {
            waiting.push_back(Bytes::from_static(b": still at work\n\n"));
            Stage::Live(live)
        }
        Heard::Answer(mut answer) => {
            waiting = remaining(&live.events, &mut live.dropped);
            let stamp = Stamp::of(&mut answer);
            waiting.extend(last_event((live.outcome)(answer), stamp).into_chunks());
            Stage::Over
        }
    };
    let bytes = waiting.pop_front()?;
    Some((bytes, (waiting, stage)))
}

enum Heard {
    Event(Event),
    Answer(Answer),
    Nothing,
}

/// What was told before the answer and is not yet sent.
fn remaining(events: &Events, dropped: &mut u64) -> VecDeque<Bytes> {
    let mut waiting: VecDeque<_> = missed(events, dropped).into_iter().collect();
    while let Some(event) = events.try_next() {
        waiting.extend(event_bytes(&event).into_chunks());
    }
    waiting
}

/// How many events were dropped since this was last told.
fn missed(events: &Events, told: &mut u64) -> Option<Bytes> {
    let dropped = events.dropped();
    let count = dropped.saturating_sub(*told);
    *told = dropped;
    (count > 0).then(|| Bytes::from(format!("event: dropped\ndata: {{\"count\":{count}}}\n\n")))
}

fn event_bytes(event: &Event) -> Pieces {
    match event {
        Event::Progress(params) => framed("progress", Pieces::from(params)),
        Event::Log(params) => framed("log", Pieces::from(params)),
    }
}

/// The result in an envelope with what the headers would have said; or the problem, with the same.
fn last_event(outcome: Result<Pieces, Problem>, stamp: Stamp) -> Pieces {
    let receipt = stamp.receipt().map(|receipt| ("receipt", receipt));
    match outcome {
        Ok(result) => {
            let known = [("callId", Pieces::of(&stamp.id().to_string())), ("timing", stamp.timing())];
            let members = known.into_iter().chain(receipt).chain([("result", result)]);
            framed("result", Pieces::object(members))
        }
        Err(mut problem) => {
            problem.member("timing", stamp.timing());
            if let Some((name, receipt)) = receipt {
                problem.member(name, receipt);
            }
            framed("problem", problem.stamped(stamp).into_object())
        }
    }
}

fn framed(event: &str, data: Pieces) -> Pieces {
    let mut pieces = Pieces::default();
    pieces.push("event: ");
    pieces.push(event);
    pieces.push("\ndata: ");
    pieces.append(data);
    pieces.push("\n\n");
    pieces
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use http_body_util::BodyExt;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::exchange::{CallError, Outcome, Phase, RawJson, Times};
    use crate::http::problem::Sees;

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text.to_owned().into()).unwrap()
    }

    fn good() -> Answer {
        let times = Times { call: Some(Duration::from_millis(5)), ..Times::default() };
        Answer {
            steps: vec![Ok(Outcome::Result(raw("{\"content\":\n[]}")))],
            failure: None,
            ..Answer::refused(CallId::from_bits(1), CallError::ShuttingDown { phase: Phase::Queue }, times)
        }
    }

    fn failed() -> Answer {
        let full = CallError::ShuttingDown { phase: Phase::Call };
        Answer::refused(CallId::from_bits(1), full, Times::default())
    }

    fn outcome(answer: Answer) -> Result<Pieces, Problem> {
        crate::http::rest::one(answer)
            .map(|raw| Pieces::from(&raw))
            .map_err(|error| Problem::of(error, Sees::Everything))
    }

    async fn stream_of(
        events: &Events,
        call: impl Future<Output = Answer> + Send + 'static,
    ) -> Result<Response<Body>, Problem> {
        respond(CallId::from_bits(1), call, events.clone(), outcome).await
    }

    async fn text(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_failure_before_the_lease_is_a_plain_problem() {
        let problem = stream_of(&Events::default(), async { failed() }).await.err().unwrap();
        let response = problem.into_response();
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("spawnling-call-id"));
    }

    #[tokio::test]
    async fn a_failure_after_the_lease_is_the_last_event() {
        let events = Events::default();
        let teller = events.clone();
        let call = async move {
            teller.leased();
            tokio::task::yield_now().await;
            failed()
        };
        let response = stream_of(&events, call).await.unwrap();
        assert_eq!(response.status(), 200);
        let text = text(response).await;
        assert!(text.starts_with("event: problem\ndata: {\"type\":\"/problems/shutting-down\""), "{text}");
        assert!(text.contains(r#""timing":{},"call":"00000000000000000000000000000001""#), "{text}");
        assert_eq!(text.matches("event: ").count(), 1);
    }

    #[tokio::test]
    async fn events_come_first_and_exactly_one_result_last() {
        let events = Events::default();
        let teller = events.clone();
        let call = async move {
            teller.leased();
            teller.push(Event::Progress(raw("{\"progress\":\r\n1}")));
            tokio::task::yield_now().await;
            teller.push(Event::Log(raw(r#"{"data":"a\nb"}"#)));
            good()
        };
        let response = stream_of(&events, call).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        assert_eq!(
            text(response).await,
            "event: progress\ndata: {\"progress\":  1}\n\n\
             event: log\ndata: {\"data\":\"a\\nb\"}\n\n\
             event: result\ndata: {\"callId\":\"00000000000000000000000000000001\",\"timing\":{\"call\":5.0},\
             \"result\":{\"content\": []}}\n\n"
        );
    }

    #[tokio::test]
    async fn dropped_events_are_counted_before_the_next_one() {
        let events = Events::default();
        let teller = events.clone();
        let call = async move {
            teller.leased();
            for number in 0..258 {
                teller.push(Event::Log(raw(&number.to_string())));
            }
            good()
        };
        let text = text(stream_of(&events, call).await.unwrap()).await;
        assert!(text.starts_with("event: dropped\ndata: {\"count\":2}\n\nevent: log\ndata: 2\n\n"), "{text}");
        assert_eq!(text.matches("event: dropped").count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_is_kept_alive_by_comments() {
        let events = Events::default();
        events.leased();
        let call = async {
            tokio::time::sleep(Duration::from_secs(40)).await;
            good()
        };
        let text = text(stream_of(&events, call).await.unwrap()).await;
        assert_eq!(text.matches(": still at work\n\n").count(), 2);
    }

    #[tokio::test]
    async fn dropping_the_stream_hangs_up() {
        let events = Events::default();
        events.leased();
        let gone = CancellationToken::new();
        let guard = gone.clone().drop_guard();
        let call = async move {
            let _guard = guard;
            std::future::pending::<Answer>().await
        };
        let mut response = stream_of(&events, call).await.unwrap();
        // Polled once, so that the call has begun.
        poll_fn(|cx| {
            assert!(pin!(response.body_mut().frame()).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(!gone.is_cancelled());
        drop(response);
        assert!(gone.is_cancelled());
    }
}
