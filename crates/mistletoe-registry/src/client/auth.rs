//! Tokens and credentials, where a registry asks for them (RFC 6750, RFC 7617, and Docker's token protocol).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::{Method, StatusCode, header};

use super::Client;
use super::credentials::Credential;
use super::http::{Call, Response, Scope, percent_encoded};
use super::retry::{Deadline, Failure, is_temporary};
use crate::error::{Error, ErrorKind};
use crate::reference::Url;

/// Maximum length of a token service's response, in bytes.
const MAX_TOKEN: u64 = 64 << 10;

/// What a server asks for, of the schemes that the client has.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Client {
    /// Returns the value of the `Authorization` header field that a server has accepted before, or may.
    pub(super) fn known(&self, url: &Url, scope: &Scope) -> Option<String> {
        self.tokens().get(&Self::key(url, scope)).cloned()
    }

    /// Returns what a value of the header field is for. What was sent over an encrypted connection is not for another.
    fn key(url: &Url, scope: &Scope) -> (String, Scope) {
        (url.origin().to_ascii_lowercase(), scope.clone())
    }

    /// Gets what a response with status 401 asks for.
    pub(super) fn authorize(
        &self,
        response: &Response,
        url: &Url,
        scope: &Scope,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        let challenges = response.headers(header::WWW_AUTHENTICATE).flat_map(challenges);
        // A token is worth less than a password, so it is preferred.
        let challenge = challenges.max_by_key(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let credential = self.credentials.get(&scope.repository)?;
        let authorization = match (challenge, credential) {
            (Some(Challenge::Bearer { realm, service, scope: asked }), credential) => {
                let asked =
                    asked.unwrap_or_else(|| format!("repository:{}:{}", scope.repository.path(), scope.actions));
                self.token(url, &realm, service.as_deref(), &asked, credential, deadline)?
            }
            (Some(Challenge::Basic), Some(Credential::Password { user, password })) => basic(&user, &password),
            (Some(Challenge::Basic), _) => {
                let problem = "the registry asks for a user name and a password; `docker login` stores them";
                return Err(Failure::Final(Error::with_source(url, ErrorKind::Unauthorized, problem)));
            }
            (None, _) => {
                let problem = "the registry asks for an unknown form of credentials";
                return Err(Failure::Final(Error::with_source(url, ErrorKind::Unauthorized, problem)));
            }
        };
        self.tokens().insert(Self::key(url, scope), authorization);
        Ok(())
    }

    /// Gets a token from the token service that a registry names.
    fn token(
        &self,
        url: &Url,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        credential: Option<Credential>,
        deadline: Deadline,
    ) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let bad = |problem: &str| {
            let problem = problem.to_owned();
            Failure::Final(Error::new(url, ErrorKind::Protocol { problem }))
        };
        let realm = Url::parse(realm).map_err(|_| bad("the URL of the token service is not one"))?;
        // A password must not leave an encrypted connection for another one.
        if url.is_secure() && !realm.is_secure() {
            return Err(bad("the token service is not encrypted"));
        }
        let parameters = [("service", service), ("scope", Some(scope))];
        let parameters = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let mut query: Vec<_> = parameters.map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
        let mut form = String::new();
        let (call, authorization) = match credential {
            // OAuth 2.0 (RFC 6749, section 6).
            Some(Credential::IdentityToken(token)) => {
                query.extend(["grant_type=refresh_token".to_owned(), "client_id=mistctl".to_owned()]);
                query.push(format!("refresh_token={}", percent_encoded(&token)));
                form = query.join("&");
                let call = Call::new(Method::POST, realm.clone());
                (call.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded"), None)
            }
            credential => {
                let separator = if realm.as_str().contains('?') { '&' } else { '?' };
                let target = format!("{}{separator}{}", realm.as_str(), query.join("&"));
                let target = Url::parse(&target).map_err(|_| bad("the URL of the token service is not one"))?;
                let authorization = match credential {
                    Some(Credential::Password { user, password }) => Some(basic(&user, &password)),
                    _ => None,
                };
                (Call::new(Method::GET, target), authorization)
            }
        };
        let call = if form.is_empty() { call } else { call.body(form.as_bytes()) };
        let response = self.exchange(&call, &call.url, authorization.as_deref(), deadline)?;
        match response.status() {
            StatusCode::OK => {}
            status if is_temporary(status) => return Err(response.into_failure(&realm)),
            _ => {
                let error = response.into_error(&realm);
                return Err(Failure::Final(Error::with_source(url, ErrorKind::Unauthorized, error)));
            }
        }
        let bytes = response.into_bytes(MAX_TOKEN, &realm)?;
        let token = serde_json::from_slice::<Token>(&bytes).ok().and_then(|token| token.token.or(token.access_token));
        let is_token = |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let token = token.filter(is_token).ok_or_else(|| bad("the token service sent no token"))?;
        Ok(format!("Bearer {token}"))
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Reads a `WWW-Authenticate` header field (RFC 9110, section 11.6.1). What does not follow the grammar ends the list.
fn challenges(text: &str) -> Vec<Challenge> {
    let mut rest = text;
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token_char(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        match after.strip_prefix('=').and_then(value) {
            Some((value, after)) => {
                // A parameter belongs to the scheme before it.
                let Some((_, parameters)) = found.last_mut() else { break };
                parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            None => {
                found.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    found.into_iter().filter_map(|(scheme, parameters)| challenge(&scheme, parameters)).collect()
}

fn challenge(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    let parameter = |name: &str| parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            let realm = parameter("realm")?;
            Some(Challenge::Bearer { realm, service: parameter("service"), scope: parameter("scope") })
        }
        _ => None,
    }
}

/// Reads a token or a quoted string.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_token_char(c)).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (!value.is_empty()).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((value, quoted.get(i + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) }
    }

    #[test]
    fn a_token_is_for_one_host_one_scheme_and_one_scope() {
        let client = Client::new();
        let image = crate::Image::parse("oci://host:5000/web").expect("an image");
        let (pull, push) = (Scope::pull(image.repository()), Scope::push(image.repository()));
        let url = |text: &str| Url::parse(text).expect("a URL");
        let known = |text: &str, scope| client.known(&url(text), scope);
        client.tokens().insert(Client::key(&url("https://Host:5000/a"), &pull), "token".to_owned());
        assert_eq!(known("https://host:5000/b?c", &pull).as_deref(), Some("token"));
        for other in ["http://host:5000/a", "https://host/a", "https://other:5000/a"] {
            assert_eq!(known(other, &pull), None, "{other}");
        }
        assert_eq!(known("https://host:5000/b", &push), None);
    }

    #[test]
    fn challenges_are_read() {
        let token = r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a:pull,push""#;
        let expected = bearer("https://auth.example/token", Some("registry"), Some("repository:a:pull,push"));
        assert_eq!(challenges(token), [expected]);
        assert_eq!(challenges("Basic realm=\"a, Bearer realm=b\""), [Challenge::Basic]);
        let both = r#"Basic realm="x", bearer REALM = "y", realm=z"#;
        assert_eq!(challenges(both).len(), 1, "spaces are no part of the grammar");
        let both = r#"Negotiate, Basic realm="x",  bearer REALM="a\"b" , service=z"#;
        assert_eq!(challenges(both), [Challenge::Basic, bearer("a\"b", Some("z"), None)]);
        for nothing in ["", "Bearer", "Bearer service=x", "Bearer realm=\"", "=x", "Digest realm=\"x\"", "\"", "ä"] {
            assert_eq!(challenges(nothing), [], "{nothing}");
        }
    }
}
