//! Middleware in Rust, through `mistletoe-guest`: it lets only requests with the right credentials go on.
//!
//! The configuration is text. Each line is one of these; empty lines and those that begin with `#` are left out:
//!
//! ```text
//! realm NAME
//! bearer TOKEN
//! basic USER:PASSWORD
//! ```
//!
//! A request needs exactly one `Authorization` header with one of the credentials: a bearer token (RFC 6750) or a user
//! and password (RFC 7617). The header is removed, so that the next handler does not see it. Any other request gets
//! status 401 and a `WWW-Authenticate` for each scheme that is configured.
//!
//! The time of a comparison depends on the length of what is compared, and on nothing else of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mistletoe_guest::middleware::{Action, Middleware, Request, Response};
use mistletoe_guest::{Error, middleware};
use subtle::{Choice, ConstantTimeEq as _};

middleware!(Auth);

struct Auth {
    realm: String,
    bearer: Vec<String>,
    /// As clients send them: in base64.
    basic: Vec<String>,
}

impl Middleware for Auth {
    fn new(config: Vec<u8>) -> Result<Self, Error> {
        let config = String::from_utf8(config).map_err(|_| Error::new("the configuration is not UTF-8"))?;
        Self::parse(&config)
    }

    fn handle_request(&mut self, request: &mut Request, response: &mut Response) -> Action {
        let credentials = request.headers().get_all("authorization");
        if let [credentials] = &*credentials
            && self.admits(credentials)
        {
            request.headers_mut().remove("authorization");
            return Action::Next(0);
        }
        log::info!("refused a request from {}", request.source_addr());
        response.set_status(401);
        let headers = response.headers_mut();
        for challenge in self.challenges() {
            headers.append("www-authenticate", challenge);
        }
        headers.insert("content-type", "text/plain");
        response.body_mut().write("credentials are required\n");
        Action::Respond
    }
}

impl Auth {
    fn parse(config: &str) -> Result<Self, Error> {
        let mut auth = Self { realm: "restricted".to_owned(), bearer: Vec::new(), basic: Vec::new() };
        for (number, line) in (1..).zip(config.lines()) {
            let wrong = |problem: &str| Err(Error::new(format!("line {number} of the configuration: {problem}")));
            match line.trim().split_once(' ') {
                None if line.trim().is_empty() || line.trim().starts_with('#') => {}
                Some((comment, _)) if comment.starts_with('#') => {}
                Some(("realm", name)) if name.contains(|c: char| c.is_control() || matches!(c, '"' | '\\')) => {
                    return wrong("a realm has no quotes, backslashes and control characters");
                }
                Some(("realm", name)) => auth.realm = name.to_owned(),
                Some(("bearer", token)) => auth.bearer.push(token.to_owned()),
                Some(("basic", credentials)) if !credentials.contains(':') => return wrong("expected USER:PASSWORD"),
                Some(("basic", credentials)) => auth.basic.push(STANDARD.encode(credentials)),
                _ => return wrong("expected `realm NAME`, `bearer TOKEN` or `basic USER:PASSWORD`"),
            }
        }
        match auth.bearer.is_empty() && auth.basic.is_empty() {
            true => Err(Error::new("the configuration has no credentials")),
            false => Ok(auth),
        }
    }

    fn admits(&self, header: &[u8]) -> bool {
        let Some(space) = header.iter().position(|byte| *byte == b' ') else { return false };
        let (scheme, credentials) = (&header[..space], header[space..].trim_ascii());
        let known = match scheme {
            _ if scheme.eq_ignore_ascii_case(b"bearer") => &self.bearer,
            _ if scheme.eq_ignore_ascii_case(b"basic") => &self.basic,
            _ => return false,
        };
        // All are compared, so that the time does not tell which of them it was.
        let found = known.iter().map(|one| one.as_bytes().ct_eq(credentials));
        found.fold(Choice::from(0), |found, one| found | one).into()
    }

    /// Returns a challenge for each scheme that is configured.
    fn challenges(&self) -> impl Iterator<Item = String> {
        let bearer = (!self.bearer.is_empty()).then(|| format!("Bearer realm=\"{}\"", self.realm));
        let basic = (!self.basic.is_empty()).then(|| format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.realm));
        bearer.into_iter().chain(basic)
    }
}

#[cfg(test)]
mod tests {
    use super::Auth;

    #[test]
    fn a_configuration_has_lines_of_credentials() {
        let auth = Auth::parse("# a comment\n\nrealm a b\nbearer t\nbasic ann:pass:word\n").expect("it is right");
        assert_eq!(auth.realm, "a b");
        let challenges: Vec<_> = auth.challenges().collect();
        assert_eq!(challenges, ["Bearer realm=\"a b\"", "Basic realm=\"a b\", charset=\"UTF-8\""]);
        for (config, problem) in [
            ("", "no credentials"),
            ("realm a\n", "no credentials"),
            ("bearer\n", "line 1"),
            ("bearer t\nrealm \"a\"\n", "line 2"),
            ("basic ann\n", "USER:PASSWORD"),
            ("digest ann\n", "line 1"),
        ] {
            let error = Auth::parse(config).err().expect("it is wrong").to_string();
            assert!(error.contains(problem), "{config:?}: {error}");
        }
    }

    #[test]
    fn only_the_right_credentials_are_admitted() {
        let auth = Auth::parse("bearer token\nbearer other\nbasic ann:secret\n").expect("it is right");
        // `printf ann:secret | base64`
        for header in ["Bearer token", "bearer  other", "BEARER token ", "Basic YW5uOnNlY3JldA=="] {
            assert!(auth.admits(header.as_bytes()), "{header}");
        }
        for header in
            ["", "Bearer", "Bearer ", "Bearer toke", "Bearer token2", "Basic token", "Basic YW5uOnNlY3JldA", "token"]
        {
            assert!(!auth.admits(header.as_bytes()), "{header}");
        }
        // One scheme's credentials are not the other's.
        let bearer = Auth::parse("bearer token\n").expect("it is right");
        assert!(!bearer.admits(b"Basic YW5uOnNlY3JldA=="));
    }
}
