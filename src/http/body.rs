//! Bodies: bounded and timed on the way in, typed on the way out.
//!
//! A body is read to its end before anything is queued: hyper notices that a caller left only then. What is larger
//! than allowed is refused as soon as that is known, from the announced length if there is one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use super::budget::{Charge, Exhausted};
use super::json::Pieces;
use super::problem::Refusal;
use crate::exchange::RawJson;

/// The size up to which a body is copied, in bytes: half of what a connection reads at once.
const SMALL: usize = 4 << 10;

/// How large a request's body may be, and how long it may take.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) time: Duration,
    /// What is read is charged to.
    pub(super) charge: Charge,
}

/// Reads a whole body, of whatever kind.
pub(super) async fn read<B>(body: B, limits: Limits) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes>,
{
    match tokio::time::timeout(limits.time, read_bounded(body, limits.bytes, &limits.charge)).await {
        Ok(read) => read,
        Err(_elapsed) => Err(Refusal::BodyTimeout { after: limits.time }),
    }
}

async fn read_bounded<B>(body: B, limit: usize, charge: &Charge) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes>,
{
    let too_large = || Refusal::BodyTooLarge { limit };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::malformed("the body broke off"))?;
        let Ok(bytes) = frame.into_data() else { continue };
        if first.len() + whole.len() + bytes.len() > limit {
            return Err(too_large());
        }
        // As they come, not as they are announced: whoever only says that there will be many holds nothing.
        charge.take(bytes.len()).map_err(|Exhausted| Refusal::Exhausted)?;
        if first.is_empty() && whole.is_empty() {
            // Most bodies are one frame. A small one is a part of the buffer that the connection reads into, which can be used
            // again once nobody has a part of it; a large one is most of its buffer, and is kept as it came.
            first = if bytes.len() <= SMALL { Bytes::copy_from_slice(&bytes) } else { bytes };
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&bytes);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// Reads a body that must be JSON, no name in it twice. An empty one is `{}`.
pub(super) async fn read_json<B>(headers: &HeaderMap, body: B, limits: Limits) -> Result<RawJson, Refusal>
where
    B: http_body::Body<Data = Bytes>,
{
    check_content_type(headers)?;
    // However small it is, the answer may be large.
    limits.charge.take(0).map_err(|Exhausted| Refusal::Exhausted)?;
    let text = read(body, limits).await?;
    if text.is_empty() {
        return Ok(RawJson::empty_object());
    }
    let value = RawJson::parse(text)?;
    value.check_unique()?;
    Ok(value)
}

/// Refuses a body in any transfer coding but `chunked`, and in that more than once. hyper undoes one `chunked` that comes
/// last; what stands before it is left to us, and none of it may be ignored (RFC 9112, section 6.1).
pub(super) fn check_transfer_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let values = || headers.get_all(header::TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
    let codings = values().flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    // An element of a list may be empty, and means nothing: RFC 9110, section 5.6.1.2.
    let mut codings = codings.filter(|coding| !coding.is_empty());
    if codings.next().is_none_or(|coding| coding.eq_ignore_ascii_case(b"chunked")) && codings.next().is_none()
    {
        return Ok(());
    }
    let got: Vec<_> = values().map(String::from_utf8_lossy).collect();
    Err(Refusal::TransferCoded { got: got.join(", ") })
}

/// Accepts `application/json` and `application/...+json` in UTF-8. A browser cannot send either to another site
/// without asking first, which is what stops cross-site form posts.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let unsupported = |got: Option<&str>| Refusal::UnsupportedMediaType { got: got.map(str::to_owned) };
    if let Some(coding) = headers.get(header::CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(Refusal::ContentEncoded);
    }
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(unsupported(None)) };
    let value = value.to_str().map_err(|_| unsupported(None))?;
    let mut parts = value.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/").unwrap_or_default();
    let utf8 = parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        !name.trim().eq_ignore_ascii_case("charset")
            || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    // One type only, not a list of them: RFC 9110, sections 8.3.1 and 5.6.2.
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let json = subtype == "json" || (subtype.ends_with("+json") && subtype.bytes().all(token));
    if utf8 && json { Ok(()) } else { Err(unsupported(Some(value))) }
}

/// What we answer with.
pub(crate) enum Body {
    /// All of it is known.
    Whole(VecDeque<Bytes>),
    /// It comes as it happens. Dropping it hangs up.
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl Body {
    /// Nothing at all.
    pub(super) const fn empty() -> Self {
        Self::Whole(VecDeque::new())
    }

    /// Counts it in, and everything else that was charged for the same request, until it was handed over.
    pub(super) fn charge(&mut self, charge: Charge) {
        match self {
            Self::Whole(chunks) => {
                for chunk in chunks {
                    let bytes = std::mem::take(chunk);
                    *chunk = charge.counted(bytes);
                }
            }
            Self::Stream(stream) => {
                let inner = std::mem::replace(stream, Box::pin(futures_util::stream::pending()));
                *stream = Box::pin(inner.map(move |bytes| charge.counted(bytes)));
            }
        }
    }

    /// How long it is, if that is known.
    pub(super) fn len(&self) -> Option<u64> {
        match self {
            Self::Whole(chunks) => Some(chunks.iter().map(|chunk| chunk.len() as u64).sum()),
            Self::Stream(_) => None,
        }
    }
}

impl From<Pieces> for Body {
    fn from(pieces: Pieces) -> Self {
        Self::Whole(pieces.into_chunks())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::from(Pieces::from(Bytes::from(text)))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = match self.get_mut() {
            Self::Whole(chunks) => Poll::Ready(chunks.pop_front()),
            Self::Stream(stream) => stream.as_mut().poll_next(cx),
        };
        chunk.map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(chunks) if chunks.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        self.len().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn limits() -> Limits {
        Limits { bytes: 16, time: Duration::from_secs(30), charge: Charge::default() }
    }

    fn headers(content_type: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().unwrap())])
    }

    async fn json(body: &'static str) -> Result<RawJson, Refusal> {
        read_json(&headers("application/json"), Full::new(Bytes::from_static(body.as_bytes())), limits())
            .await
    }

    #[test]
    fn only_json_in_utf8_is_taken() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/vnd.api+json",
        ] {
            assert!(check_content_type(&headers(good)).is_ok(), "{good}");
        }
        for bad in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=latin1",
            "application/x-www-form-urlencoded, application/vnd.api+json",
            "",
            "json",
        ] {
            assert!(
                matches!(check_content_type(&headers(bad)), Err(Refusal::UnsupportedMediaType { .. })),
                "{bad}"
            );
        }
        assert!(check_content_type(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_compressed_body_is_refused() {
        let mut compressed = headers("application/json");
        compressed.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(matches!(check_content_type(&compressed), Err(Refusal::ContentEncoded)));
    }

    #[tokio::test]
    async fn an_empty_body_is_the_empty_object() {
        assert_eq!(json("").await.unwrap().as_str(), "{}");
    }

    #[tokio::test]
    async fn a_name_that_occurs_twice_is_refused_by_name() {
        let refusal = json(r#"{"ab":1,"ab":2}"#).await.unwrap_err();
        assert!(refusal.to_string().contains("\"ab\""), "{refusal}");
        assert!(matches!(json("{").await, Err(Refusal::Json(_))));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_announced_or_not() {
        assert!(matches!(
            json(r#"{"a":"12345678901234567890"}"#).await,
            Err(Refusal::BodyTooLarge { limit: 16 })
        ));
        let frames =
            ["0123456789", "0123456789"].map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from(part))));
        let unannounced = StreamBody::new(futures_util::stream::iter(frames));
        assert!(matches!(read(unannounced, limits()).await, Err(Refusal::BodyTooLarge { .. })));
    }

    #[tokio::test]
    async fn a_body_in_parts_is_joined() {
        let frames = ["01", "23", "45"].map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from(part))));
        let parts = StreamBody::new(futures_util::stream::iter(frames));
        assert_eq!(read(parts, limits()).await.unwrap(), "012345");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let never = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        assert!(matches!(read(never, limits()).await, Err(Refusal::BodyTimeout { .. })));
    }
}
