//! The functions of guests, and the calls of them.

use std::sync::Arc;

use mistletoe_abi::protocol::{Check, ExportedFunc};

use crate::objects::Pod;

/// A function that guests export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Function {
    Enqueue,
    PreFilter,
    Filter,
    PostFilter,
    AddPod,
    RemovePod,
    PreScore,
    Score,
    NormalizeScore,
    Reserve,
    Unreserve,
    Permit,
    PreBind,
    Bind,
    PostBind,
}

/// The type of a function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// Returns nothing.
    Nothing,
    /// Returns a status.
    Status,
    /// Returns a status in one half, and another number in the other.
    Pair,
}

impl Function {
    /// All functions.
    pub const ALL: [Self; 15] = [
        Self::Enqueue,
        Self::PreFilter,
        Self::Filter,
        Self::PostFilter,
        Self::AddPod,
        Self::RemovePod,
        Self::PreScore,
        Self::Score,
        Self::NormalizeScore,
        Self::Reserve,
        Self::Unreserve,
        Self::Permit,
        Self::PreBind,
        Self::Bind,
        Self::PostBind,
    ];

    /// Returns the name of the export.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::PreFilter => "prefilter",
            Self::Filter => "filter",
            Self::PostFilter => "postfilter",
            Self::AddPod => "addpod",
            Self::RemovePod => "removepod",
            Self::PreScore => "prescore",
            Self::Score => "score",
            Self::NormalizeScore => "normalizescore",
            Self::Reserve => "reserve",
            Self::Unreserve => "unreserve",
            Self::Permit => "permit",
            Self::PreBind => "prebind",
            Self::Bind => "bind",
            Self::PostBind => "postbind",
        }
    }

    pub(super) const fn ty(self) -> Type {
        match self {
            Self::Enqueue | Self::Unreserve | Self::PostBind => Type::Nothing,
            Self::PostFilter | Self::Score | Self::Permit => Type::Pair,
            _ => Type::Status,
        }
    }

    /// Returns the function that a guest with this one has to have, too.
    const fn needs(self) -> Option<Self> {
        match self {
            Self::PostFilter | Self::AddPod | Self::RemovePod => Some(Self::Filter),
            Self::PreScore => Some(Self::Score),
            Self::PreBind | Self::PostBind => Some(Self::Bind),
            _ => None,
        }
    }

    /// Checks the functions of a guest.
    pub(super) fn check(exports: &mut Check<'_>) {
        let interface = exports.interface();
        let has = |function: Self| interface.export(function.name()).is_some();
        for function in Self::ALL {
            let needed = Self::ALL.iter().any(|other| has(*other) && other.needs() == Some(function));
            // There is no scheduling with `enqueue` alone, nor with no function at all.
            let is_first = function == Self::Filter && Self::ALL[1..].iter().all(|other| !has(*other));
            let (name, is_required) = (function.name(), needed || is_first);
            macro_rules! check {
                ($result:ty) => {
                    if is_required {
                        exports.func(&ExportedFunc::<(), $result>::new(name))
                    } else {
                        exports.optional_func(&ExportedFunc::<(), $result>::new(name))
                    }
                };
            }
            match function.ty() {
                Type::Nothing => check!(()),
                Type::Status => check!(i32),
                Type::Pair => check!(u64),
            };
        }
    }
}

/// A call of a guest's function, in the cycle that is set in its [`State`](super::State).
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// Asks for the events that may make a pod schedulable. It belongs to no cycle.
    Enqueue,
    /// Starts a cycle.
    PreFilter,
    /// Asks whether the pod fits a node.
    Filter(&'a str),
    /// Asks what to do if no node is left. The nodes come with the codes of their statuses.
    PostFilter(&'a [(&'a str, i32)]),
    /// Asks the guest to suppose that another pod were on the node.
    AddPod(&'a Arc<Pod>, &'a str),
    /// Asks the guest to suppose that another pod were not on the node.
    RemovePod(&'a Arc<Pod>, &'a str),
    /// Prepares the scores of these nodes.
    PreScore(&'a [&'a str]),
    /// Asks for the score of a node.
    Score(&'a str),
    /// Asks for other scores in place of these.
    NormalizeScore(&'a [(&'a str, i64)]),
    /// Reserves what the pod needs on the node.
    Reserve(&'a str),
    /// Takes that back.
    Unreserve(&'a str),
    /// Asks whether the pod may be bound.
    Permit(&'a str),
    /// Prepares the binding.
    PreBind(&'a str),
    /// Binds the pod to the node.
    Bind(&'a str),
    /// Says that the pod is bound.
    PostBind(&'a str),
}

impl<'a> Call<'a> {
    /// Returns the function that is called.
    pub fn function(&self) -> Function {
        self.parts().0
    }

    /// Returns the function and the node.
    pub(super) fn parts(&self) -> (Function, &'a str) {
        match *self {
            Self::Enqueue => (Function::Enqueue, ""),
            Self::PreFilter => (Function::PreFilter, ""),
            Self::Filter(node) => (Function::Filter, node),
            Self::PostFilter(_) => (Function::PostFilter, ""),
            Self::AddPod(_, node) => (Function::AddPod, node),
            Self::RemovePod(_, node) => (Function::RemovePod, node),
            Self::PreScore(_) => (Function::PreScore, ""),
            Self::Score(node) => (Function::Score, node),
            Self::NormalizeScore(_) => (Function::NormalizeScore, ""),
            Self::Reserve(node) => (Function::Reserve, node),
            Self::Unreserve(node) => (Function::Unreserve, node),
            Self::Permit(node) => (Function::Permit, node),
            Self::PreBind(node) => (Function::PreBind, node),
            Self::Bind(node) => (Function::Bind, node),
            Self::PostBind(node) => (Function::PostBind, node),
        }
    }
}
