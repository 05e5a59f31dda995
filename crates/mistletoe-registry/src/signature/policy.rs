//! Which keys count for which reference: a TOML file.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};
use std::iter::successors;
use std::path::{Path, PathBuf};

use mistletoe_store::open_file;
use serde::Deserialize;
use toml::Spanned;

use super::{Error, Fetch, MAX_KEY_FILE, MAX_KEYS, PublicKey, Quoted, Verified, verify};
use crate::Digest;

/// Maximum length of a policy, in bytes: 1 MiB.
pub const MAX_POLICY: u64 = 1 << 20;
/// Maximum number of rules of a policy.
pub const MAX_RULES: usize = 1_000;

/// Which keys count for which reference.
///
/// ```toml
/// [[rule]]
/// reference = "oci://registry.example/apps/..."    # a repository, or with `/...` also everything below it
/// keys = ["keys/apps.pub"]                         # one good signature by one of the keys suffices
///
/// [[rule]]
/// reference = "oci://registry.example/apps/old"
/// keys = ["keys/apps.pub"]
/// required = false                                 # may be unsigned; if it is signed, one signature has to be good
///
/// [default]                                        # for all other references; without it, they are refused
/// required = false                                 # and no keys: signatures are not looked at
/// ```
///
/// The rule with the longest path counts, and of two with the same path the one without `/...`. Tags and digests are
/// not part of it. A rule without keys and with `required = true`, which is the default, refuses everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Rules for one repository, by its name.
    exact: BTreeMap<String, Requirement>,
    /// Rules for everything from a name downwards.
    below: BTreeMap<String, Requirement>,
    default: Requirement,
}

/// What a policy requires of a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requirement {
    /// The keys that count.
    pub keys: Vec<PublicKey>,
    /// Whether there has to be a signature.
    pub required: bool,
}

/// Why a policy cannot be used: at least one problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    file: Option<PathBuf>,
    problems: Vec<Problem>,
}

/// One problem of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The line, counted from 1, if known.
    pub line: Option<usize>,
    /// The problem.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    default: Option<Spanned<DefaultTable>>,
    #[serde(default)]
    rule: Vec<Spanned<RuleTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultTable {
    #[serde(default)]
    keys: Vec<PathBuf>,
    #[serde(default = "required")]
    required: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    reference: String,
    #[serde(default)]
    keys: Vec<PathBuf>,
    #[serde(default = "required")]
    required: bool,
}

fn required() -> bool {
    true
}

impl Policy {
    /// Reads and checks a file. Paths of keys are relative to its directory.
    ///
    /// # Errors
    ///
    /// A problem for the file if it cannot be read or is longer than [`MAX_POLICY`], and the problems of
    /// [`Policy::parse`].
    pub fn read(file: &Path) -> Result<Self, PolicyError> {
        let in_file = |mut error: PolicyError| {
            error.file = Some(file.to_owned());
            error
        };
        let text = read(file, MAX_POLICY);
        let text = text.map_err(|error| in_file(PolicyError::new(None, format!("it cannot be read: {error}"))))?;
        Self::parse(&text, file.parent().unwrap_or(Path::new(""))).map_err(in_file)
    }

    /// Parses and checks a text. Paths of keys are relative to `directory`; the keys are read at once.
    ///
    /// # Errors
    ///
    /// The first problem of the syntax, or else all problems of the rules: patterns that are no repositories or occur
    /// twice, and keys that cannot be used, see [`PublicKey::from_pem`]. A text may be [`MAX_POLICY`] bytes long and
    /// have [`MAX_RULES`] rules with [`MAX_KEYS`] keys each.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, PolicyError> {
        if text.len() as u64 > MAX_POLICY {
            return Err(PolicyError::new(None, format!("it is longer than {} MiB", MAX_POLICY >> 20)));
        }
        let line = |offset: usize| text.get(..offset).map(|before| before.matches('\n').count() + 1);
        let Tables { default, rule: rules } = toml::from_str(text).map_err(|error| {
            PolicyError::new(error.span().and_then(|span| line(span.start)), crate::shown(error.message()))
        })?;
        if rules.len() > MAX_RULES {
            return Err(PolicyError::new(None, format!("it has {} rules, more than {MAX_RULES}", rules.len())));
        }
        let mut files = KeyFiles { directory, read: BTreeMap::new() };
        let mut problems = Vec::new();
        let mut policy = Self { exact: BTreeMap::new(), below: BTreeMap::new(), default: Requirement::refuse() };
        if let Some(table) = default {
            let line = line(table.span().start);
            let DefaultTable { keys, required } = table.into_inner();
            policy.default = Requirement { keys: files.keys(&keys, line, &mut problems), required };
        }
        for table in rules {
            let line = line(table.span().start);
            let RuleTable { reference, keys, required } = table.into_inner();
            let requirement = Requirement { keys: files.keys(&keys, line, &mut problems), required };
            let (map, name) = match reference.strip_suffix("/...") {
                Some(base) => (&mut policy.below, pattern(base)),
                // A host alone is no repository: the rule would never count.
                None => (&mut policy.exact, pattern(&reference).filter(|name| name.contains('/'))),
            };
            let problem = match name {
                Some(name) if map.insert(name.clone(), requirement).is_none() => continue,
                Some(_) => "another rule has the reference",
                None => "expected `oci://HOST/PATH` without a tag or a digest, and perhaps `/...` at the end, found",
            };
            problems.push(Problem { line, message: format!("{problem} {}", Quoted(&reference)) });
        }
        if problems.is_empty() { Ok(policy) } else { Err(PolicyError { file: None, problems }) }
    }

    /// Returns what is required of a reference of the form `oci://HOST[:PORT]/PATH[:TAG][@DIGEST]`. All others have no
    /// signatures; for them this is the default.
    ///
    /// Hosts are compared without regard to case, to the port 443 and to a dot at the end.
    pub fn for_reference(&self, reference: &str) -> &Requirement {
        let Some(name) = name(reference) else { return &self.default };
        let mut names = successors(Some(&*name), |name| Some(name.rsplit_once('/')?.0));
        let below = || names.find_map(|name| self.below.get(name));
        self.exact.get(&name).or_else(below).unwrap_or(&self.default)
    }
}

impl Requirement {
    /// Returns the requirement of one of these keys: what `--key` asks for.
    pub fn signed_by(keys: Vec<PublicKey>) -> Self {
        Self { keys, required: true }
    }

    fn refuse() -> Self {
        Self { keys: Vec::new(), required: true }
    }

    /// Checks a manifest, given by its digest, with [`verify`]. `None` is a manifest that needs no signature and has
    /// none, or whose signatures are not looked at since there are no keys for it.
    ///
    /// # Errors
    ///
    /// Those of [`verify`].
    pub fn check<F: Fetch>(&self, fetch: &F, subject: &Digest) -> Result<Option<Verified>, Error<F::Error>> {
        if self.keys.is_empty() && !self.required {
            return Ok(None);
        }
        match verify(fetch, subject, &self.keys) {
            Err(Error::Unsigned { .. }) if !self.required => Ok(None),
            result => result.map(Some),
        }
    }
}

/// The files with keys, each of which is read once.
struct KeyFiles<'a> {
    directory: &'a Path,
    read: BTreeMap<PathBuf, Result<Vec<PublicKey>, String>>,
}

impl KeyFiles<'_> {
    fn keys(&mut self, files: &[PathBuf], line: Option<usize>, problems: &mut Vec<Problem>) -> Vec<PublicKey> {
        let mut keys = Vec::new();
        for file in files {
            let path = self.directory.join(file);
            let read = self.read.entry(path).or_insert_with_key(|path| {
                let text = read(path, MAX_KEY_FILE).map_err(|error| format!("it cannot be read: {error}"))?;
                PublicKey::from_pem(&text).map_err(|error| error.to_string())
            });
            match read {
                Ok(read) => keys.extend_from_slice(read),
                Err(error) => {
                    problems.push(Problem { line, message: format!("{}: {error}", crate::shown(file.display())) });
                }
            }
            if keys.len() > MAX_KEYS {
                problems.push(Problem { line, message: format!("the rule has more than {MAX_KEYS} keys") });
                break;
            }
        }
        keys
    }
}

/// Reads a text of at most `limit` bytes.
fn read(file: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    open_file(file)?.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit { Err(io::Error::other(format!("it is longer than {limit} bytes"))) } else { Ok(text) }
}

/// Returns a reference's host and path.
fn name(reference: &str) -> Option<String> {
    let name = reference.strip_prefix("oci://")?;
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let (host, path) = name.split_once('/')?;
    let path = match path.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => path,
        _ => path,
    };
    Some(format!("{}/{path}", normal(host)))
}

/// Returns the host and the path of a rule, or a host alone.
fn pattern(text: &str) -> Option<String> {
    let base = text.strip_prefix("oci://")?;
    let (host, path) = base.split_once('/').map_or((base, None), |(host, path)| (host, Some(path)));
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    let is_path = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_path);
    let is_valid =
        !host.is_empty() && host.bytes().all(is_host) && path.is_none_or(|path| path.split('/').all(is_part));
    is_valid.then(|| path.map_or_else(|| normal(host), |path| format!("{}/{path}", normal(host))))
}

fn normal(host: &str) -> String {
    let host = host.strip_suffix(":443").unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

impl PolicyError {
    fn new(line: Option<usize>, message: String) -> Self {
        Self { file: None, problems: vec![Problem { line, message }] }
    }

    /// Returns the problems, at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// One line for each problem.
impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if let Some(file) = &self.file {
                write!(f, "{}: ", file.display())?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}
