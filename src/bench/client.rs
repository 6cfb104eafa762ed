//! The caller: one kept-alive HTTP/1.1 connection, which asks the same thing again and again.
//!
//! It must cost little beside what it measures: no pool, no redirects, one task per connection. A connection that
//! broke is made anew for the next call; a call is never sent twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::http::request::Builder;
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stats::{PHASES, Sample};

/// Longer than any call of a useful measurement takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// What is asked, and where.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    /// The name in `Host`.
    pub(super) host: String,
    pub(super) path: String,
    pub(super) body: Bytes,
    /// What is sent as `Authorization`; marked as sensitive, so that `Debug` does not show it.
    pub(super) token: Option<HeaderValue>,
    /// What a good answer holds: others may say 200 to a call that failed.
    pub(super) expected: Option<String>,
}

/// One caller.
#[derive(Debug)]
pub(super) struct Caller {
    endpoint: Arc<Endpoint>,
    connection: Option<Connection>,
    /// The id of the last call that was answered with one.
    pub(super) last_call: Option<String>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Drives the connection; ends with it.
    _driver: JoinSet<()>,
}

impl Caller {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, connection: None, last_call: None }
    }

    /// Makes one call that was due at `from`.
    ///
    /// # Errors
    ///
    /// No connection, no answer in time, a status that is no success, or an answer without what is expected; the text holds the
    /// beginning of the body.
    pub(super) async fn call(&mut self, from: Instant) -> Result<Sample> {
        let endpoint = Arc::clone(&self.endpoint);
        let request = self
            .to(Request::post(&endpoint.path))
            .header("content-type", "application/json")
            // What MCP's Streamable HTTP asks for; the gateway's own routes take the first.
            .header("accept", accept(&endpoint.path))
            .body(Full::new(endpoint.body.clone()))
            .context("no such request can be made")?;
        let (answer, body) =
            timeout(PATIENCE, self.exchange(request)).await.context("no answer in time")??;
        let latency = from.elapsed();
        if !answer.status().is_success() {
            let start: String = String::from_utf8_lossy(&body).chars().take(300).collect();
            bail!("status {}: {start}{}", answer.status(), remedy(answer.status(), &endpoint));
        }
        let header = |name: &str| answer.headers().get(name)?.to_str().ok();
        if let Some(expected) = endpoint.expected.as_deref().filter(|text| !holds(&body, text)) {
            let start: String = String::from_utf8_lossy(&body).chars().take(300).collect();
            bail!("an answer without {expected:?}: {start}");
        }
        if let Some(id) = header("spawnling-call-id") {
            self.last_call = Some(id.to_owned());
        }
        let (phases, standby) = header("server-timing").map(timing).unwrap_or_default();
        Ok(Sample { latency, seat: None, phases, standby })
    }

    /// The receipt of a call, if the gateway keeps it.
    pub(super) async fn receipt(&mut self, id: &str) -> Result<serde_json::Value> {
        let request = self
            .to(Request::get(format!("/v1/calls/{id}")))
            .body(Full::default())
            .context("no such request can be made")?;
        let (_, body) = timeout(PATIENCE, self.exchange(request)).await.context("no answer in time")??;
        serde_json::from_slice(&body).context("a receipt is JSON")
    }

    /// What every request says.
    fn to(&self, request: Builder) -> Builder {
        let request = request.header("host", &self.endpoint.host);
        match &self.endpoint.token {
            Some(token) => request.header(AUTHORIZATION, token),
            None => request,
        }
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<(Response<()>, Bytes)> {
        // Taken out, so that whatever fails on the way leaves no broken one behind.
        let mut kept = self.connection.take();
        if let Some(connection) = &mut kept
            && connection.sender.ready().await.is_err()
        {
            kept = None;
        }
        let mut connection = match kept {
            Some(connection) => connection,
            None => connect(self.endpoint.address).await?,
        };
        let answer = connection.sender.send_request(request).await.context("no answer")?;
        let (parts, body): (_, Incoming) = answer.into_parts();
        let body = body.collect().await.context("an answer cut short")?.to_bytes();
        // One that the other side is about to close would fail the next call, if that is quick enough.
        let is_last = parts
            .headers
            .get("connection")
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        self.connection = Some(connection).filter(|_| !is_last);
        Ok((Response::from_parts(parts, ()), body))
    }
}

async fn connect(address: SocketAddr) -> Result<Connection> {
    let stream = TcpStream::connect(address).await.context("no connection")?;
    stream.set_nodelay(true).context("no TCP_NODELAY")?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.context("no HTTP")?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // What went wrong is told to whoever waits for an answer.
        let _ = connection.await;
    });
    Ok(Connection { sender, _driver: driver })
}

fn holds(body: &[u8], text: &str) -> bool {
    memchr::memmem::find(body, text.as_bytes()).is_some()
}

/// What to do about a refusal.
fn remedy(status: StatusCode, endpoint: &Endpoint) -> &'static str {
    match (status, &endpoint.token) {
        (StatusCode::UNAUTHORIZED, None) => "; for --url, put a token into the variable SPAWNLING_TOKEN",
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(_)) => {
            "; this was the answer to the token in SPAWNLING_TOKEN"
        }
        _ => "",
    }
}

fn accept(path: &str) -> &'static str {
    if path.starts_with("/v1/") { "application/json" } else { "application/json, text/event-stream" }
}

/// The phases in `Server-Timing`, and whether a standby was used: `queue;dur=0.1, spawn;dur=0;desc="standby"`.
fn timing(header: &str) -> ([Option<f64>; 4], bool) {
    let mut phases = [None; 4];
    for entry in header.split(',') {
        let mut parts = entry.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        if let Some(place) = PHASES.iter().position(|phase| *phase == name) {
            phases[place] = parts.find_map(|part| part.strip_prefix("dur=")?.parse().ok());
        }
    }
    (phases, header.contains("standby"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read_from_the_header_in_any_order() {
        let all = ([Some(0.1), Some(2.0), None, Some(3.5)], false);
        assert_eq!(timing("spawn;dur=2, queue;dur=0.1, call;dur=3.5, other;dur=9"), all);
        assert_eq!(timing("spawn;desc=\"standby\";dur=0"), ([None, Some(0.0), None, None], true));
        assert_eq!(timing(""), ([None; 4], false));
    }
}
