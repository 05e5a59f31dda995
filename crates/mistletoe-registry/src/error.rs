//! Errors, each with the reference, URL or file that it is about.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::digest::Digest;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync>;

/// An error: what it is about, its kind, and its cause if there is one.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    subject: String,
    kind: ErrorKind,
    source: Option<Source>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text is not a reference.
    Reference,
    /// The server does not have it (status 404).
    NotFound,
    /// The server refuses access (status 401 or 403).
    Unauthorized,
    /// The server responded with another status than expected. `message` is the server's, if it sent one.
    Status {
        /// The status code.
        status: u16,
        /// The codes and messages of the registry, shortened.
        message: Option<String>,
    },
    /// No connection, or it ended early.
    Connection,
    /// The server's certificate or the TLS handshake.
    Tls,
    /// The response, or a part of it, did not arrive in time.
    TimedOut,
    /// The response arrived at less than 1 KiB per second.
    TooSlow,
    /// The server asks to wait for longer than the client does.
    RetryAfter {
        /// The time that the server asks for.
        wait: Duration,
    },
    /// A redirect that is not followed.
    Redirect {
        /// The reason.
        reason: &'static str,
    },
    /// The connection would not be encrypted.
    PlainHttp,
    /// The response does not follow the protocol.
    Protocol {
        /// What is wrong.
        problem: String,
    },
    /// It is longer than the limit.
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// It has another length than announced.
    Length {
        /// The announced length, in bytes.
        expected: u64,
        /// The length found, in bytes. There may be more.
        found: u64,
    },
    /// It has another digest than asked for.
    Digest {
        /// The digest asked for.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
    /// It is not a manifest.
    Manifest {
        /// What is wrong.
        problem: String,
    },
    /// A manifest without a module that this crate reads.
    Layout {
        /// What is wrong.
        problem: String,
    },
    /// A layer that cannot be unpacked.
    Layer {
        /// What is wrong.
        problem: &'static str,
    },
    /// The reference has no digest, and nothing allows that.
    NoDigest {
        /// The same reference with the digest that it has now.
        pinned: String,
    },
    /// The reference is not in the lock file, which may not be changed.
    NotLocked,
    /// Credentials cannot be read.
    Credentials {
        /// What is wrong.
        problem: String,
    },
    /// Root certificates cannot be read.
    Certificates {
        /// What is wrong.
        problem: String,
    },
    /// The environment names a proxy that cannot be used.
    Proxy,
    /// A file cannot be read or written.
    File {
        /// What is wrong.
        problem: String,
    },
    /// There is no good signature. The cause is a [`signature::Error`](crate::signature::Error), which says what each
    /// signature lacks.
    Signature,
}

impl Error {
    pub(crate) fn new(subject: impl fmt::Display, kind: ErrorKind) -> Self {
        Self(Box::new(Inner { subject: subject.to_string(), kind, source: None }))
    }

    pub(crate) fn with_source(subject: impl fmt::Display, kind: ErrorKind, source: impl Into<Source>) -> Self {
        Self(Box::new(Inner { subject: subject.to_string(), kind, source: Some(source.into()) }))
    }

    pub(crate) fn file(path: &std::path::Path, problem: impl Into<String>) -> Self {
        Self::new(path.display(), ErrorKind::File { problem: problem.into() })
    }

    /// Returns what went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Returns the reference, URL or file that the error is about.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.subject, self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl ErrorKind {
    /// Returns whether the server cannot be asked now. It says nothing about what the server has.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Connection | Self::Tls | Self::TimedOut | Self::TooSlow | Self::RetryAfter { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference => f.write_str("it is not a reference"),
            Self::NotFound => f.write_str("not found"),
            Self::Unauthorized => f.write_str("access is denied"),
            Self::Status { status, message: None } => write!(f, "the server responded with status {status}"),
            Self::Status { status, message: Some(message) } => {
                write!(f, "the server responded with status {status}: {message}")
            }
            Self::Connection => f.write_str("the connection failed"),
            Self::Tls => f.write_str("the TLS handshake failed"),
            Self::TimedOut => f.write_str("the server did not respond in time"),
            Self::TooSlow => f.write_str("the server sends less than 1 KiB per second"),
            Self::RetryAfter { wait } => {
                write!(f, "the server asks to try again in {} s", wait.as_secs())
            }
            Self::Redirect { reason } => write!(f, "the redirect is not followed: {reason}"),
            Self::PlainHttp => f.write_str("the connection is not encrypted, which only --plain-http allows"),
            Self::Protocol { problem } | Self::Manifest { problem } | Self::Layout { problem } => f.write_str(problem),
            Self::TooLarge { limit } => write!(f, "it is longer than {limit} bytes"),
            Self::Length { expected, found } => write!(f, "it has {found} bytes instead of {expected}"),
            Self::Digest { expected, found } => write!(f, "it has the digest {found} instead of {expected}"),
            Self::Layer { problem } => f.write_str(problem),
            Self::NoDigest { pinned } => write!(
                f,
                "the reference has no digest, so its content can change; it is now {pinned} (`mistctl update` records \
                 it in mistletoe.lock, --allow-tag does without)"
            ),
            Self::NotLocked => f.write_str("it is not in mistletoe.lock, which --locked keeps as it is"),
            Self::Credentials { problem } => write!(f, "the credentials cannot be used: {problem}"),
            Self::Certificates { problem } => write!(f, "the root certificates cannot be used: {problem}"),
            Self::Proxy => {
                f.write_str("it is not the URL of a proxy that is supported: `http://`, `https://` or `socks5://`")
            }
            Self::File { problem } => f.write_str(problem),
            Self::Signature => f.write_str("the signature is not accepted"),
        }
    }
}
