//! The name under which guests import a function.

use std::borrow::Cow;
use std::fmt;

/// The module and the name that a function is imported by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) module: Cow<'static, str>,
    pub(crate) name: Cow<'static, str>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}
