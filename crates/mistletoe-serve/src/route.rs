//! Which route takes a request.

use std::cmp::Reverse;
use std::fmt;

use http::Method;

use crate::config::Route;

/// The paths of a route: one path, or with `/...` at the end a path and everything below it.
///
/// Paths are compared as they were sent, without decoding.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// Length of the path, without `/...`.
    base: usize,
}

/// Why no route takes a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// No route has the path.
    Path,
    /// The path has routes, but for these methods.
    Method(Vec<Method>),
}

/// The routes in the order in which they are tried.
///
/// A route with a host comes before one without, a longer path before a shorter one, and a path before the same one
/// with `/...`. The first route whose host and path match decides. Others with the same host and path differ in their
/// methods.
pub(crate) struct Table(Vec<Entry>);

struct Entry {
    host: Option<String>,
    path: Pattern,
    methods: Vec<Method>,
    index: usize,
}

impl Pattern {
    /// Parses `/x` and `/x/...`.
    ///
    /// # Errors
    ///
    /// A sentence about what is expected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let base = text.strip_suffix("/...").unwrap_or(text);
        let is_path = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
        if !text.starts_with('/') || !text.bytes().all(is_path) || base.split('/').any(|part| part == "...") {
            return Err("expected `/PATH`, encoded as in a URL, or `/PATH/...`");
        }
        if base.len() < text.len() && base.ends_with('/') {
            return Err("two slashes before `...`");
        }
        Ok(Self { base: base.len(), text: text.to_owned() })
    }

    /// Returns the pattern's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the path without `/...`.
    pub fn base(&self) -> &str {
        self.text.get(..self.base).unwrap_or_default()
    }

    /// Returns what follows the base in a path that matches.
    pub fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        // Neither `*` nor the empty path of CONNECT is one.
        let rest = path.strip_prefix(self.base()).filter(|_| path.starts_with('/'))?;
        let matches = if self.is_exact() { rest.is_empty() } else { rest.is_empty() || rest.starts_with('/') };
        matches.then_some(rest)
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.base == self.text.len()
    }
}

/// Everything.
impl Default for Pattern {
    fn default() -> Self {
        Self { text: "/...".to_owned(), base: 0 }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl Table {
    pub(crate) fn new(routes: &[Route]) -> Self {
        let entry = |(index, route): (usize, &Route)| Entry {
            host: route.host.clone(),
            path: route.path.clone(),
            methods: route.methods.clone(),
            index,
        };
        let mut entries: Vec<_> = routes.iter().enumerate().map(entry).collect();
        entries.sort_by_cached_key(|entry| {
            let order = (entry.host.is_some(), entry.path.base, entry.path.is_exact());
            Reverse((order, entry.host.clone(), entry.path.text.clone()))
        });
        Self(entries)
    }

    /// Returns the index of the route that takes a request. `host` is in lower case and without a port.
    pub(crate) fn find(&self, host: &str, path: &str, method: &Method) -> Result<usize, Miss> {
        let matches = |entry: &&Entry| {
            entry.host.as_deref().is_none_or(|wanted| wanted == host) && entry.path.rest(path).is_some()
        };
        // A tunnel has no path, even if a client sends one.
        let first = self.0.iter().find(matches).filter(|_| *method != Method::CONNECT).ok_or(Miss::Path)?;
        let mut allowed = Vec::new();
        for entry in self.0.iter().filter(|entry| entry.host == first.host && entry.path == first.path) {
            if takes(&entry.methods, method) {
                return Ok(entry.index);
            }
            allowed.extend(entry.methods.iter().cloned());
        }
        if allowed.contains(&Method::GET) && !allowed.contains(&Method::HEAD) {
            allowed.push(Method::HEAD);
        }
        Err(Miss::Method(allowed))
    }
}

fn takes(methods: &[Method], method: &Method) -> bool {
    methods.is_empty() || methods.contains(method) || (method == Method::HEAD && methods.contains(&Method::GET))
}

/// Returns pairs of routes of which the second never takes a request that the first could.
pub(crate) fn conflicts(routes: &[Route]) -> impl Iterator<Item = (&Route, &Route)> {
    routes.iter().enumerate().filter_map(|(index, second)| {
        let same = |first: &&Route| {
            let overlap = first.methods.is_empty()
                || second.methods.is_empty()
                || first.methods.iter().any(|method| second.methods.contains(method));
            first.host == second.host && first.path == second.path && overlap
        };
        routes.iter().take(index).find(same).map(|first| (first, second))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[test]
    fn the_most_specific_route_takes_a_request() {
        let paths = [
            ("/...", ""),
            ("/a", ""),
            ("/a/...", "methods = ['GET']"),
            ("/a/...", "methods = ['PUT']\nname = 'put'"),
            ("/a/b/...", ""),
            ("/...", "host = 'x.example'"),
            ("/a/b", "host = 'X.example'"),
        ];
        let text: String = paths
            .iter()
            .map(|(path, more)| format!("[[route]]\npath = '{path}'\nmodule = 'm'\nkind = 'httpwasm'\n{more}\n"))
            .collect();
        let config = Config::parse(&text, Path::new("")).expect("a configuration");
        let table = Table::new(&config.routes);
        let find = |host: &str, path: &str, method: Method| table.find(host, path, &method);
        for (host, path, method, found) in [
            ("", "/", Method::GET, 0),
            ("", "/ab", Method::GET, 0),
            ("", "/a", Method::DELETE, 1),
            ("", "/a/", Method::GET, 2),
            ("", "/a/c", Method::HEAD, 2),
            ("", "/a/c", Method::PUT, 3),
            ("", "/a/b", Method::POST, 4),
            ("", "/a/b/c", Method::POST, 4),
            ("x.example", "/a", Method::GET, 5),
            ("x.example", "/a/b", Method::GET, 6),
            ("y.example", "/a/b", Method::GET, 4),
            // Nothing is decoded or resolved.
            ("", "/%61", Method::GET, 0),
            ("", "/a/b/../c", Method::GET, 4),
        ] {
            assert_eq!(find(host, path, method.clone()), Ok(found), "{host} {method} {path}");
        }
        let miss = Miss::Method(vec![Method::PUT, Method::GET, Method::HEAD]);
        let allowed = find("", "/a/c", Method::POST);
        assert!(matches!(&allowed, Err(Miss::Method(methods)) if methods.len() == 3), "{allowed:?} {miss:?}");
        assert_eq!(find("", "*", Method::OPTIONS), Err(Miss::Path));
        for path in ["", "/a"] {
            assert_eq!(find("", path, Method::CONNECT), Err(Miss::Path));
        }
    }

    #[test]
    fn a_pattern_is_a_path_of_a_url() {
        for text in ["", "x", "...", "/...x/...", "/a//...", "/a b", "/ä", "/a?b", "/.../a"] {
            if text == "/...x/..." {
                assert!(Pattern::parse(text).is_ok());
            } else {
                assert!(Pattern::parse(text).is_err(), "{text}");
            }
        }
        let all = Pattern::parse("/...").expect("a pattern");
        assert_eq!((all.base(), all.rest("/x"), all.rest("*")), ("", Some("/x"), None));
        let exact = Pattern::parse("/a/").expect("a pattern");
        assert_eq!((exact.rest("/a/"), exact.rest("/a"), exact.rest("/a/b")), (Some(""), None, None));
    }
}
