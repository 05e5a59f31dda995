//! Names of modules: in registries, behind URLs, in cloned git registries, and files.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::digest::{Digest, DigestError, HEX};

/// Maximum length of a reference, in bytes.
pub const MAX_REFERENCE: usize = 4096;
/// Maximum length of a host and a repository's path together, which registries share (OCI distribution specification,
/// "Pulling manifests").
const MAX_NAME: usize = 255;
/// Maximum length of a tag, by the same specification.
const MAX_TAG: usize = 128;

/// Where a module comes from.
///
/// | text | meaning |
/// |---|---|
/// | `oci://HOST[:PORT]/PATH[:TAG][@sha256:HEX]` | an artifact in a registry |
/// | `https://HOST[:PORT]/PATH[?QUERY][#sha256=HEX]` | the module behind a URL |
/// | `REGISTRY/PATH/NAME:VERSION` | a package in a cloned git registry |
/// | `-` | standard input |
/// | anything else | a file |
///
/// A file whose name has the form of a package in a git registry is written with `./` before it.
///
/// ```
/// use mistletoe_registry::Reference;
///
/// let reference: Reference = "oci://registry.example/apps/web:1.2".parse()?;
/// assert!(matches!(&reference, Reference::Image(image) if image.tag() == Some("1.2")));
/// assert!(matches!("app.wasm".parse()?, Reference::File(_)));
///
/// let error = "oci://registry.example/Apps".parse::<Reference>().unwrap_err();
/// assert_eq!(error.offset(), 23);
/// # Ok::<_, mistletoe_registry::ParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reference {
    /// An artifact in a registry.
    Image(Image),
    /// The module behind a URL.
    Url(Url),
    /// A package in a cloned git registry.
    Package(Package),
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// A registry's host, and its port if it has one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    name: String,
    port: Option<u16>,
}

/// A repository: a host and a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repository {
    host: Host,
    path: String,
}

/// An artifact in a registry: a repository, with a tag, a digest, or both. If there is neither, the tag is `latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The URL of a module, perhaps with the module's digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Without the fragment.
    text: String,
    is_secure: bool,
    host: Host,
    digest: Option<Digest>,
}

/// A package in a git registry of Mistletoe, which is a directory with packages by name and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    registry: String,
    path: String,
    version: String,
}

/// Why a text is not a reference, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    offset: usize,
    problem: &'static str,
}

impl ParseError {
    /// Returns the position of the problem, in bytes from the beginning.
    pub fn offset(&self) -> usize {
        self.offset
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.offset, self.problem)
    }
}

impl std::error::Error for ParseError {}

fn problem<T>(offset: usize, problem: &'static str) -> Result<T, ParseError> {
    Err(ParseError { offset, problem })
}

impl Reference {
    /// Returns the reference that a path names. A path that is not UTF-8 names a file.
    ///
    /// # Errors
    ///
    /// As [`str::parse`].
    pub fn from_path(path: &Path) -> Result<Self, ParseError> {
        path.to_str().map_or_else(|| Ok(Self::File(path.to_owned())), str::parse)
    }

    /// Returns the digest, if the reference has one.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Image(image) => image.digest,
            Self::Url(url) => url.digest,
            Self::Package(_) | Self::File(_) | Self::Stdin => None,
        }
    }
}

/// Splits off what precedes `://`, if it looks like a scheme (RFC 3986, section 3.1).
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some((scheme, rest))
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match scheme(text) {
            _ if text.is_empty() => problem(0, "the reference is empty"),
            _ if text == "-" => Ok(Self::Stdin),
            Some(_) if text.len() > MAX_REFERENCE => problem(MAX_REFERENCE, "the reference is longer than 4096 bytes"),
            Some(("oci", _)) => Image::parse(text).map(Self::Image),
            Some(("http" | "https", _)) => Url::parse(text).map(Self::Url),
            Some(_) => problem(0, "unknown scheme; expected `oci://`, `https://` or `http://`"),
            None => Ok(Package::parse(text).map_or_else(|| Self::File(text.into()), Self::Package)),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(image) => image.fmt(f),
            Self::Url(url) => url.fmt(f),
            Self::Package(package) => package.fmt(f),
            Self::File(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("-"),
        }
    }
}

impl Host {
    /// Parses `HOST[:PORT]`, which begins at `offset` of a reference.
    fn parse(text: &str, offset: usize) -> Result<Self, ParseError> {
        // In brackets: an IPv6 address has colons.
        let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => {
                if address.parse::<Ipv6Addr>().is_err() {
                    return problem(offset, "expected an IPv6 address between the brackets");
                }
                match rest.strip_prefix(':') {
                    None if rest.is_empty() => (format!("[{}]", address.to_ascii_lowercase()), None),
                    Some(port) => (format!("[{}]", address.to_ascii_lowercase()), Some(port)),
                    None => return problem(offset + text.len() - rest.len(), "expected a port or `/`"),
                }
            }
            None => {
                let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
                host_name(name, offset)?;
                (name.to_ascii_lowercase(), port)
            }
        };
        let port = match port {
            None => None,
            // `u16::from_str` also takes a plus sign.
            Some(digits) => match digits.parse() {
                Ok(port) if port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(port),
                _ => return problem(offset + text.len() - digits.len(), "expected a port from 1 to 65535"),
            },
        };
        Ok(Self { name, port })
    }

    /// Returns the name: of a domain, or an address, in brackets if it is an IPv6 address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the port, if there is one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns whether the host is this machine by its name: `localhost` or a loopback address.
    pub fn is_loopback(&self) -> bool {
        let address = self.name.trim_start_matches('[').trim_end_matches(']');
        self.name == "localhost" || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Checks a domain name (RFC 1123, section 2.1) or an IPv4 address.
fn host_name(text: &str, offset: usize) -> Result<(), ParseError> {
    if text.is_empty() {
        return problem(offset, "expected a host");
    }
    let mut at = offset;
    for label in text.split('.') {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if let Some(bad) = label.bytes().position(|byte| !is_inner(byte)) {
            return problem(at + bad, "a host has letters, digits, `-` and `.`");
        }
        if label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
            return problem(
                at,
                "a part of a host has 1 to 63 letters, digits and `-`, and begins and ends without `-`",
            );
        }
        at += label.len() + 1;
    }
    Ok(())
}

impl Repository {
    /// Returns the host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the path, without a slash at its beginning.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}", self.host, self.path)
    }
}

impl Image {
    /// Parses `oci://HOST[:PORT]/PATH[:TAG][@DIGEST]`. The grammar of path, tag and digest is that of the OCI
    /// distribution specification, "Pulling manifests".
    ///
    /// # Errors
    ///
    /// The first problem, and its position.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        const SCHEME: &str = "oci://";
        if text.len() > MAX_REFERENCE {
            return problem(MAX_REFERENCE, "the reference is longer than 4096 bytes");
        }
        let Some(rest) = text.strip_prefix(SCHEME) else { return problem(0, "expected `oci://`") };
        let (rest, digest) = match rest.split_once('@') {
            None => (rest, None),
            Some((rest, digest)) => {
                let at = text.len() - digest.len();
                let digest = digest.parse().or_else(|error| match error {
                    DigestError::Algorithm => problem(at, "only sha256 digests are supported"),
                    DigestError::Syntax => problem(at, "expected `sha256:` and 64 hexadecimal digits in lower case"),
                });
                (rest, Some(digest?))
            }
        };
        let Some((host, rest)) = rest.split_once('/') else {
            return problem(SCHEME.len() + rest.len(), "expected `/` and the path of a repository");
        };
        let begin = SCHEME.len() + host.len() + 1;
        let host = Host::parse(host, SCHEME.len())?;
        let (path, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag)));
        repository_path(path, begin)?;
        if host.to_string().len() + 1 + path.len() > MAX_NAME {
            return problem(SCHEME.len(), "host and path are longer than 255 bytes");
        }
        if let Some(tag) = tag {
            check_tag(tag, begin + path.len() + 1)?;
        }
        let repository = Repository { host, path: path.to_owned() };
        Ok(Self { repository, tag: tag.map(str::to_owned), digest })
    }

    /// Returns the repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns the tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest of the manifest, if there is one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns the tag to resolve, which is `latest` if there is none.
    pub fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// Returns the same image with a digest.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// Returns the same image with another tag, which is one.
    pub(crate) fn with_tag(&self, tag: &str) -> Self {
        Self { tag: Some(tag.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

/// Checks `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`.
fn repository_path(text: &str, offset: usize) -> Result<(), ParseError> {
    let mut at = offset;
    for part in text.split('/') {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let mut separator_begin = None;
        for (i, byte) in part.bytes().enumerate() {
            match (byte, separator_begin) {
                (byte, None) if is_inner(byte) => {}
                (byte, Some(begin)) if is_inner(byte) => {
                    let separator = part.get(begin..i).unwrap_or_default();
                    if !matches!(separator, "." | "_" | "__") && separator.bytes().any(|byte| byte != b'-') {
                        return problem(at + begin, "separators are `.`, `_`, `__` and hyphens");
                    }
                    separator_begin = None;
                }
                (b'.' | b'_' | b'-', begin) => separator_begin = begin.or(Some(i)),
                _ => return problem(at + i, "a path has lower-case letters, digits, `.`, `_`, `-` and `/`"),
            }
        }
        let begins = part.bytes().next().is_some_and(is_inner);
        if !begins || separator_begin.is_some() {
            let end = if begins { part.len() - 1 } else { 0 };
            return problem(at + end, "a part of a path begins and ends with a letter or digit");
        }
        at += part.len() + 1;
    }
    Ok(())
}

/// Checks `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
fn check_tag(text: &str, offset: usize) -> Result<(), ParseError> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match text.bytes().enumerate().find(|&(i, byte)| !(is_word(byte) || i > 0 && b".-".contains(&byte))) {
        Some((i, _)) => {
            problem(offset + i, "a tag has letters, digits, `_`, `.` and `-`, and begins without `.` or `-`")
        }
        None if text.is_empty() => problem(offset, "the tag is empty"),
        None if text.len() > MAX_TAG => problem(offset + MAX_TAG, "the tag is longer than 128 bytes"),
        None => Ok(()),
    }
}

impl Url {
    /// Parses `http[s]://HOST[:PORT][/PATH][?QUERY][#sha256=HEX]` (RFC 3986), without user information.
    ///
    /// # Errors
    ///
    /// The first problem, and its position.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_REFERENCE {
            return problem(MAX_REFERENCE, "the reference is longer than 4096 bytes");
        }
        let Some((scheme, rest)) = scheme(text).filter(|(scheme, _)| matches!(*scheme, "http" | "https")) else {
            return problem(0, "expected `https://` or `http://`");
        };
        if let Some(bad) = text.bytes().position(|byte| !byte.is_ascii_graphic()) {
            return problem(bad, "a URL has no spaces, and what is not ASCII is percent-encoded");
        }
        let begin = text.len() - rest.len();
        let (url, digest) = match text.split_once('#') {
            None => (text, None),
            Some((url, fragment)) => {
                let hex = fragment.strip_prefix("sha256=").filter(|hex| hex.len() == HEX);
                match hex.and_then(|hex| Digest::from_hex(hex).ok()) {
                    Some(digest) => (url, Some(digest)),
                    None => {
                        let expected = "expected `sha256=` and 64 hexadecimal digits in lower case";
                        return problem(url.len() + 1, expected);
                    }
                }
            }
        };
        let authority = url.get(begin..).unwrap_or_default();
        let authority = authority.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return problem(begin, "a URL has no user name; credentials are in the Docker configuration");
        }
        let host = Host::parse(authority, begin)?;
        Ok(Self { text: url.to_owned(), is_secure: scheme == "https", host, digest })
    }

    /// Returns the URL that a `Location` header field names (RFC 3986, section 5).
    pub(crate) fn join(&self, location: &str) -> Result<Self, ParseError> {
        let location = location.split('#').next().unwrap_or_default();
        let text = if scheme(location).is_some() {
            location.to_owned()
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{}//{rest}", if self.is_secure { "https:" } else { "http:" })
        } else if location.starts_with('/') {
            format!("{}{location}", self.origin())
        } else {
            let path = self.text.split('?').next().unwrap_or_default();
            let origin = self.origin().len();
            let directory = path.rfind('/').filter(|slash| *slash >= origin).and_then(|slash| path.get(..slash));
            format!("{}/{location}", directory.unwrap_or(path))
        };
        Self::parse(&text)
    }

    /// Returns the scheme and the authority, as they are written.
    pub(crate) fn origin(&self) -> &str {
        let begin = if self.is_secure { 8 } else { 7 };
        let rest = self.text.get(begin..).unwrap_or_default();
        let length = rest.find(['/', '?']).unwrap_or(rest.len());
        self.text.get(..begin + length).unwrap_or_default()
    }

    /// Returns whether two URLs have the same scheme, host and port (RFC 6454).
    pub(crate) fn is_same_origin(&self, other: &Self) -> bool {
        let port = |url: &Self| url.host.port.unwrap_or(if url.is_secure { 443 } else { 80 });
        self.is_secure == other.is_secure && self.host.name == other.host.name && port(self) == port(other)
    }

    /// Returns whether the scheme is `https`.
    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Returns the host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the URL without its fragment.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the URL for a message. The query can be a credential: redirects lead to URLs that storage services sign.
    pub(crate) fn without_query(&self) -> &str {
        self.text.split('?').next().unwrap_or_default()
    }

    /// Returns the digest of the module, if there is one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns the same URL with a digest.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.digest.map_or(Ok(()), |digest| write!(f, "#sha256={}", digest.hex()))
    }
}

impl Package {
    /// Parses `REGISTRY/PATH/NAME:VERSION`. What has another form is not a package.
    fn parse(text: &str) -> Option<Self> {
        let is_part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
        };
        let (path, version) = text.split_once(':')?;
        let (registry, path) = path.split_once('/')?;
        let all = [registry, version].into_iter().chain(path.split('/')).all(is_part);
        all.then(|| Self { registry: registry.to_owned(), path: path.to_owned(), version: version.to_owned() })
    }

    /// Returns the name of the registry.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the file of the package in a clone of its registry.
    ///
    /// `mistletoe/examples/web:0.1.2` is the file `examples/web/web-0.1.2.mist-pack.wasm` of the registry `mistletoe`.
    pub fn file(&self, clone: &Path) -> PathBuf {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        clone.join(&self.path).join(format!("{name}-{}.mist-pack.wasm", self.version))
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.path, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_read_and_written() {
        for text in [
            "oci://registry.example/web",
            "oci://registry.example:5000/apps/web:1.2",
            &format!("oci://127.0.0.1:1/a/b/c:_x-.y@{DIGEST}"),
            &format!("oci://[::1]:65535/a__b/c---d.e_f@{DIGEST}"),
            "oci://localhost/0/9",
            "https://files.example/a/b.wasm?v=1",
            &format!("http://files.example:80/#sha256={}", &DIGEST[7..]),
            "mistletoe/examples/namespace-example:0.1.2",
            "-",
            "app.wasm",
            "./mistletoe/web:1",
            "/srv/web:1",
        ] {
            assert_eq!(text.parse::<Reference>().map(|reference| reference.to_string()), Ok(text.to_owned()));
        }
        let upper: Reference = "oci://Registry.EXAMPLE/web".parse().expect("a reference");
        assert_eq!(upper.to_string(), "oci://registry.example/web");
    }

    #[test]
    fn each_problem_has_its_position() {
        let long = "a".repeat(MAX_REFERENCE);
        for (text, offset, problem) in [
            ("", 0, "the reference is empty"),
            ("ftp://a/b", 0, "unknown scheme"),
            ("oci://", 6, "expected `/`"),
            ("oci:///web", 6, "expected a host"),
            ("oci://host", 10, "expected `/`"),
            ("oci://host/", 11, "a part of a path begins and ends"),
            ("oci://ho_st/web", 8, "a host has"),
            ("oci://a..b/web", 8, "a part of a host"),
            ("oci://-a/web", 6, "a part of a host"),
            ("oci://user@host/web", 11, "expected `sha256:`"),
            ("oci://host:/web", 11, "expected a port"),
            ("oci://host:0/web", 11, "expected a port"),
            ("oci://host:+80/web", 11, "expected a port"),
            ("oci://host:65536/web", 11, "expected a port"),
            ("oci://[::x]/web", 6, "expected an IPv6 address"),
            ("oci://[::1]x/web", 11, "expected a port or"),
            ("oci://host/Web", 11, "a path has"),
            ("oci://host/a//b", 13, "a part of a path begins and ends"),
            ("oci://host/a/../b", 13, "a part of a path begins and ends"),
            ("oci://host/web-", 14, "a part of a path begins and ends"),
            ("oci://host/a___b", 12, "separators"),
            ("oci://host/a..b", 12, "separators"),
            ("oci://host/a._b", 12, "separators"),
            ("oci://host/a%2fb", 12, "a path has"),
            ("oci://host/web:", 15, "the tag is empty"),
            ("oci://host/web:.x", 15, "a tag has"),
            ("oci://host/web:a/b", 16, "a tag has"),
            ("oci://host/web:a:b", 16, "a tag has"),
            (&format!("oci://host/web:{}", "a".repeat(129)), 143, "the tag is longer"),
            (&format!("oci://host/{}", "a".repeat(251)), 6, "host and path are longer"),
            ("oci://host/web@sha512:00", 15, "only sha256"),
            ("oci://host/web@sha256:00", 15, "expected `sha256:`"),
            (&format!("oci://host/web@{DIGEST}@{DIGEST}"), 15, "expected `sha256:`"),
            (&format!("oci://host/web@{}", DIGEST.to_uppercase()), 15, "only sha256"),
            (&format!("oci://host/{long}"), MAX_REFERENCE, "the reference is longer"),
            (&format!("https://host/{long}"), MAX_REFERENCE, "the reference is longer"),
            ("https://", 8, "expected a host"),
            ("https://user:password@host/", 8, "a URL has no user name"),
            ("https://host/a b", 14, "a URL has no spaces"),
            ("https://host/ä", 13, "a URL has no spaces"),
            ("https://host/\r\nx", 13, "a URL has no spaces"),
            ("https://host/#sha256=00", 14, "expected `sha256=`"),
            ("https://host/#", 14, "expected `sha256=`"),
            ("https://host:x/", 13, "expected a port"),
        ] {
            let error = text.parse::<Reference>().expect_err(text);
            assert!(error.problem.starts_with(problem) && error.offset == offset, "{text}: {error}");
        }
    }

    #[test]
    fn a_package_is_a_file_of_its_registry() {
        let reference = "mistletoe/examples/web:0.1.2".parse();
        let Ok(Reference::Package(package)) = reference else { panic!("{reference:?}") };
        assert_eq!(package.registry(), "mistletoe");
        assert_eq!(package.file(Path::new("clone")), Path::new("clone/examples/web/web-0.1.2.mist-pack.wasm"));
        for text in ["a:1", "a/b", "a/b:", "a//b:1", "a/../b:1", "a/b:1/2", "a/b:..", "a/b:1:2", r"C:\a\b", "C:/a"] {
            assert_eq!(text.parse(), Ok(Reference::File(text.into())));
        }
    }

    #[test]
    fn a_location_is_relative_to_its_url() {
        let base = Url::parse("https://host:1/a/b?c=/d").expect("a URL");
        for (location, joined) in [
            ("http://other/x#y", "http://other/x"),
            ("//other/x", "https://other/x"),
            ("/x?y", "https://host:1/x?y"),
            ("x", "https://host:1/a/x"),
        ] {
            assert_eq!(base.join(location).map(|url| url.text), Ok(joined.to_owned()));
        }
        let base = Url::parse("http://host").expect("a URL");
        assert_eq!(base.join("x").map(|url| url.text), Ok("http://host/x".to_owned()));
        for bad in ["ftp://host/x", "https://user@host/", "/x y", "/x\r\n", "//"] {
            assert!(base.join(bad).is_err(), "{bad}");
        }
        let is_same = |a: &str, b: &str| Url::parse(a).expect("a URL").is_same_origin(&Url::parse(b).expect("a URL"));
        assert!(is_same("https://a/x", "https://A:443/y") && is_same("http://a:80", "http://a"));
        assert!(!is_same("https://a", "http://a") && !is_same("https://a", "https://a:444"));
        assert!(!is_same("https://a", "https://b"));
    }

    #[test]
    fn loopback_is_told_by_the_name() {
        for (host, is_loopback) in [
            ("localhost", true),
            ("127.0.0.1:80", true),
            ("127.1.2.3", true),
            ("[::1]", true),
            ("localhost.example", false),
            ("128.0.0.1", false),
            ("[::2]", false),
        ] {
            assert_eq!(Host::parse(host, 0).map(|host| host.is_loopback()), Ok(is_loopback), "{host}");
        }
    }
}
