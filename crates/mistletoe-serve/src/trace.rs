//! The context of a trace: W3C Trace Context, <https://www.w3.org/TR/trace-context/>.

use std::fmt::{self, Write as _};
use std::hash::{BuildHasher as _, RandomState};
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// A span of a trace. Its text is a `traceparent` of version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    trace: NonZeroU128,
    span: NonZeroU64,
    flags: u8,
}

/// The span of a request, and the one that it is a part of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) own: Context,
    #[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "only what is exported names its parent"))]
    pub(crate) parent: Option<Context>,
}

impl Context {
    /// Parses a `traceparent`. A later version may have more fields than version 00.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // At most 16 bytes of 2 digits each, all in lower case.
        let hex = |digits: &str, length: usize| {
            let is_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
            let is_number = digits.len() == length && digits.bytes().all(is_hex);
            u128::from_str_radix(digits, 16).ok().filter(|_| is_number)
        };
        let mut fields = text.splitn(5, '-');
        let mut field = |length| hex(fields.next()?, length);
        let (version, trace, span, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        if version == 0xff || (version == 0 && fields.next().is_some()) {
            return None;
        }
        Some(Self {
            trace: NonZeroU128::new(trace)?,
            span: NonZeroU64::new(u64::try_from(span).ok()?)?,
            // The others have no meaning yet, and are not passed on.
            flags: u8::try_from(flags).ok()? & SAMPLED,
        })
    }

    /// Returns a new trace, which is recorded.
    fn root() -> Self {
        let trace = (u128::from(random().get()) << 64) | u128::from(random().get());
        Self { trace: NonZeroU128::new(trace).unwrap_or(NonZeroU128::MIN), span: random(), flags: SAMPLED }
    }

    /// Returns a new span of the same trace.
    fn child(self) -> Self {
        Self { span: random(), ..self }
    }

    /// Returns the identifier of the trace, as a number.
    #[cfg(feature = "otel")]
    pub(crate) fn trace(self) -> u128 {
        self.trace.get()
    }

    /// Returns the identifier of the span, as a number.
    #[cfg(feature = "otel")]
    pub(crate) fn span(self) -> u64 {
        self.span.get()
    }

    /// Returns whether the trace is recorded.
    #[cfg(feature = "otel")]
    pub(crate) fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns the identifier of the trace.
    pub(crate) fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }

    /// Returns the identifier of the span.
    pub(crate) fn span_id(self) -> String {
        format!("{:016x}", self.span)
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl Span {
    /// Returns the span of a request, and makes it the parent of what the guest does.
    ///
    /// A request that is in no trace gets one only if spans are `exported`. Two contexts, or one that is malformed, are
    /// none.
    pub(crate) fn of(headers: &mut HeaderMap, exported: bool) -> Option<Self> {
        let parent = {
            let mut values = headers.get_all(TRACEPARENT).iter();
            match (values.next(), values.next()) {
                (Some(value), None) => value.to_str().ok().and_then(Context::parse),
                _ => None,
            }
        };
        let own = match parent {
            Some(parent) => Some(parent.child()),
            None => exported.then(Context::root),
        };
        if parent.is_none() {
            // It says more about the context that is none.
            headers.remove(TRACESTATE);
            headers.remove(TRACEPARENT);
        }
        let own = own?;
        let mut text = String::with_capacity(55);
        // A `String` takes every text.
        let _ = write!(text, "{own}");
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
        Some(Self { own, parent })
    }
}

/// Returns a number that no other one is likely to equal. It is no secret.
fn random() -> NonZeroU64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NonZeroU64::new(KEYS.hash_one(NEXT.fetch_add(1, Ordering::Relaxed))).unwrap_or(NonZeroU64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_parsed_strictly() {
        let context = Context::parse(PARENT).expect("a context");
        assert_eq!(context.to_string(), PARENT);
        assert_eq!((context.trace_id().as_str(), context.span_id().as_str()), (&PARENT[3..35], &PARENT[36..52]));
        // Of later versions only what version 00 has is known. The other flags are not passed on.
        for (text, read) in [
            (PARENT.replacen("00-", "cc-", 1), PARENT.to_owned()),
            (format!("{}-what-follows", PARENT.replacen("00-", "01-", 1)), PARENT.to_owned()),
            (PARENT.replace("-01", "-fe"), PARENT.replace("-01", "-00")),
            (PARENT.replace("-01", "-ff"), PARENT.to_owned()),
        ] {
            assert_eq!(Context::parse(&text).map(|context| context.to_string()), Some(read), "{text}");
        }
        for text in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-"),
            &format!("{PARENT}-x"),
            &format!("{PARENT}1"),
            &format!(" {PARENT}"),
            &PARENT.replacen("00-", "ff-", 1),
            &PARENT.replacen("00-", "0-", 1),
            &PARENT.replacen("00-", "01-", 1).replace("-01", "-01x"),
            &PARENT.to_uppercase(),
            &PARENT.replace("0af", "+af"),
            &PARENT.replace("0af", "0ag"),
            &PARENT.replace("0af", "äf"),
            &PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            &PARENT.replace('-', "_"),
        ] {
            assert_eq!(Context::parse(text), None, "{text}");
        }
    }

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a value"))).collect()
    }

    #[test]
    fn a_request_is_a_new_span_of_its_trace() {
        let mut fields = headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=b")]);
        let Span { own, parent } = Span::of(&mut fields, false).expect("a span");
        assert_eq!(parent.map(|parent| parent.to_string()).as_deref(), Some(PARENT));
        assert!(own.trace_id() == PARENT[3..35] && own.span_id() != PARENT[36..52], "{own}");
        assert!(fields[TRACEPARENT] == own.to_string() && fields[TRACESTATE] == "a=b", "{fields:?}");

        for bad in [
            headers(&[]),
            headers(&[(TRACESTATE, "a=b")]),
            headers(&[(TRACEPARENT, "x"), (TRACESTATE, "a=b")]),
            [headers(&[(TRACEPARENT, PARENT)]), headers(&[(TRACEPARENT, PARENT)])].into_iter().flatten().fold(
                HeaderMap::new(),
                |mut all, (_, value)| {
                    all.append(TRACEPARENT, value);
                    all
                },
            ),
        ] {
            let mut fields = bad.clone();
            assert!(Span::of(&mut fields, false).is_none() && fields.is_empty(), "{bad:?}");
            let span = Span::of(&mut bad.clone(), true).expect("a new trace");
            assert!(span.parent.is_none() && Context::parse(&span.own.to_string()) == Some(span.own), "{span:?}");
            assert_ne!(span.own.trace_id(), PARENT[3..35]);
        }
    }
}
