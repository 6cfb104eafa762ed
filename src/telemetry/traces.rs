//! Spans on their way to a collector: OTLP over HTTP, in protobuf.
//!
//! ```text
//!   a call that is over -- hand over --> at most so many wait --> a thread of the library's own, in batches --> collector
//!                              '-- more than those: dropped, and counted
//! ```
//!
//! Whoever hands over never waits. Nothing is tried twice: a batch that the collector does not take is lost, and counted.
//! Where no collector is configured there is nothing of all this, not even the thread.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use opentelemetry::InstrumentationScope;
pub(crate) use opentelemetry::KeyValue;
pub(crate) use opentelemetry::trace::SpanKind;
use opentelemetry::trace::{SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanExporter as Exporter, SpanLinks,
    SpanProcessor as _,
};

use super::metrics::Spans;

/// How many spans may wait; so many of a call of one step fit that some hundred calls a second are no matter.
const MOST_WAITING: usize = 4096;
/// How many go out in one request.
const BATCH: usize = 512;
/// How long a span waits for others to go with.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take for one request.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of a collector's answer is read; all that counts is its status.
const ANSWER: u64 = 64 << 10;

/// Why spans cannot be handed to anybody.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the export of traces (OTEL_EXPORTER_OTLP_* may say what cannot be had here)")]
pub(crate) struct TracesError(#[from] ExporterBuildError);

/// Where spans are handed over, if anywhere. Clones are the same way.
#[derive(Clone, Default)]
pub(crate) struct Traces(Option<Arc<Way>>);

struct Way {
    processor: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    spans: Spans,
    scope: InstrumentationScope,
}

/// Something that took time.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) trace: u128,
    pub(crate) id: u64,
    /// 0: it has none.
    pub(crate) parent: u64,
    /// Whether its parent is somebody else's span.
    pub(crate) is_remote: bool,
    pub(crate) kind: SpanKind,
    pub(crate) name: String,
    pub(crate) began: SystemTime,
    pub(crate) ended: SystemTime,
    pub(crate) attributes: Vec<KeyValue>,
    /// In one word, if it failed.
    pub(crate) failure: Option<&'static str>,
}

impl Traces {
    /// A way to the collector that takes traces at this address.
    pub(crate) fn to(address: &str, spans: Spans) -> Result<Self, TracesError> {
        let trouble = Arc::<Mutex<_>>::default();
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(&trouble))
            .with_endpoint(address)
            .with_timeout(PATIENCE)
            .build()?;
        let version = env!("CARGO_PKG_VERSION");
        let named = KeyValue::new("service.version", version);
        exporter
            .set_resource(&Resource::builder().with_service_name("spawnling").with_attribute(named).build());
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Counted {
            exporter,
            waiting: Arc::clone(&waiting),
            spans: spans.clone(),
            fails: AtomicBool::default(),
            trouble,
        };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(MOST_WAITING)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(GATHER)
            .build();
        let scope = InstrumentationScope::builder("spawnling").with_version(version).build();
        let processor = BatchSpanProcessor::new(counted, config);
        Ok(Self(Some(Arc::new(Way { processor, waiting, spans, scope }))))
    }

    /// Whether anybody wants spans.
    pub(crate) const fn are_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Hands over a span, or drops it where too many wait.
    pub(crate) fn hand_over(&self, span: Span) {
        let Some(way) = &self.0 else { return };
        // Of several at once each has taken its place before it looks.
        if way.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            way.waiting.fetch_sub(1, Ordering::Relaxed);
            way.spans.count("dropped", 1);
            return;
        }
        way.processor.on_end(span.into_data(way.scope.clone()));
    }

    /// Sends what waits, and nothing any more after that. Blocks, but no longer than `patience`.
    pub(crate) fn close(&self, patience: Duration) {
        if let Some(way) = &self.0
            && way.processor.shutdown_with_timeout(patience).is_err()
        {
            let left = way.waiting.load(Ordering::Relaxed);
            tracing::warn!(left, "leaving, although not all spans could be handed to the collector");
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traces").field(&self.are_wanted()).finish()
    }
}

impl Span {
    fn into_data(self, scope: InstrumentationScope) -> SpanData {
        let context = SpanContext::new(
            TraceId::from(self.trace),
            SpanId::from(self.id),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        let mut attributes = self.attributes;
        attributes.extend(self.failure.map(|failure| KeyValue::new("error.type", failure)));
        SpanData {
            span_context: context,
            parent_span_id: SpanId::from(self.parent),
            parent_span_is_remote: self.is_remote,
            span_kind: self.kind,
            name: self.name.into(),
            start_time: self.began,
            end_time: self.ended,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: self.failure.map_or(Status::Unset, Status::error),
            instrumentation_scope: scope,
        }
    }
}

/// The library's exporter, with what became of each span.
#[derive(Debug)]
struct Counted {
    exporter: SpanExporter,
    waiting: Arc<AtomicUsize>,
    spans: Spans,
    /// Whether the last request failed, which is said once.
    fails: AtomicBool,
    trouble: Trouble,
}

/// Why the last request was not answered, in words: the library says nothing but "network error".
type Trouble = Arc<Mutex<Option<String>>>;

impl Exporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let number = batch.len();
        let exported = self.exporter.export(batch).await;
        self.waiting.fetch_sub(number, Ordering::Relaxed);
        self.spans.count(if exported.is_ok() { "sent" } else { "failed" }, number);
        let failed_before = self.fails.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Err(error) if !failed_before => {
                let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
                let error = trouble.unwrap_or_else(|| error.to_string());
                tracing::warn!(error, "the collector takes no spans; this is said once");
            }
            Ok(()) if failed_before => tracing::info!("the collector takes spans again"),
            _ => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }
}

/// Says one request to the collector. It blocks, which is what the library's thread is for.
#[derive(Debug)]
struct Client {
    agent: ureq::Agent,
    trouble: Trouble,
}

impl Client {
    fn new(trouble: &Trouble) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build();
        Self { agent: config.into(), trouble: Arc::clone(trouble) }
    }

    fn say(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let mut post = self.agent.post(head.uri.to_string());
        for (name, value) in &head.headers {
            post = post.header(name, value);
        }
        let mut answer = post.send(&body[..])?;
        let said = answer.body_mut().with_config().limit(ANSWER).read_to_vec()?;
        Ok(http::Response::builder().status(answer.status()).body(said.into())?)
    }
}

type Saying<'a> = Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, HttpError>> + Send + 'a>>;

// As `async-trait` writes it, by which the trait is defined.
impl HttpClient for Client {
    fn send_bytes<'a, 'f>(&'a self, request: http::Request<Bytes>) -> Saying<'f>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let said = self.say(request);
            let trouble = said.as_ref().err().map(ToString::to_string);
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
            said
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::metrics::Metrics;
    use super::*;

    fn counted(metrics: &Metrics, result: &str) -> usize {
        let text = metrics.text();
        let series = format!("spawnling_spans_total{{result=\"{result}\"}} ");
        let number = text.lines().find_map(|line| line.strip_prefix(&series));
        number.map_or(0, |number| number.parse().expect("a whole number"))
    }

    fn span(id: u64) -> Span {
        let now = SystemTime::now();
        Span {
            trace: 1,
            id,
            parent: 0,
            is_remote: false,
            kind: SpanKind::Internal,
            name: "a part".to_owned(),
            began: now,
            ended: now,
            attributes: Vec::new(),
            failure: None,
        }
    }

    #[test]
    fn a_span_is_dropped_only_where_too_many_wait_and_each_is_counted_once() {
        // A collector that lets everybody connect, and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}/v1/traces", silent.local_addr().expect("an address"));
        let metrics = Metrics::default();
        let traces = Traces::to(&address, metrics.spans()).expect("an exporter");
        let hand_over = |id: usize| traces.hand_over(span(id as u64));
        (1..=MOST_WAITING).for_each(hand_over);
        assert_eq!(counted(&metrics, "dropped"), 0, "there was room");
        // It gives up on some of them every few seconds, which makes room for some more.
        let dropped = |id: &usize| {
            hand_over(*id);
            counted(&metrics, "dropped") > 0
        };
        let handed = (MOST_WAITING + 1..100_000).find(dropped).expect("there is room for all");
        // Whoever is connected is cut off, and nobody else can connect.
        drop(silent);
        traces.close(Duration::from_mins(1));
        assert_eq!(counted(&metrics, "failed"), handed - 1);
        assert_eq!((counted(&metrics, "dropped"), counted(&metrics, "sent")), (1, 0));
    }
}
