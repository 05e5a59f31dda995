//! The open descriptors of a guest.

use crate::errno::Errno;
use crate::files::{Dir, File};
use crate::listing::Listing;
use crate::stat::rights;

/// Maximum number of open descriptors of a guest.
const MAX_DESCRIPTORS: usize = 1000;

/// Descriptors, indexed by their numbers.
pub(crate) struct Table(Vec<Option<Descriptor>>);

/// An open descriptor.
pub(crate) struct Descriptor {
    pub(crate) node: Node,
    pub(crate) rights: u64,
    /// Upper bound of the rights of descriptors that are opened through this one.
    pub(crate) inheriting: u64,
}

/// What a descriptor is open on.
pub(crate) enum Node {
    Stdin,
    Stdout,
    Stderr,
    File(OpenFile),
    Dir(OpenDir),
}

pub(crate) struct OpenFile {
    pub(crate) file: File,
    pub(crate) position: u64,
    pub(crate) flags: u16,
}

pub(crate) struct OpenDir {
    pub(crate) dir: Dir,
    /// Contents at the time when the guest began to list it.
    pub(crate) listing: Option<Listing>,
    /// The guest's name for the directory, if the host granted it.
    pub(crate) granted: Option<String>,
}

impl Table {
    pub(crate) fn get(&self, fd: u32) -> Result<&Descriptor, Errno> {
        self.0.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::Badf)
    }

    pub(crate) fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        self.0.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::Badf)
    }

    /// Returns an open file that has the right. The error is `stream` for a stream, and [`Errno::Badf`] for a
    /// directory.
    pub(crate) fn file(&mut self, fd: u32, right: u64, stream: Errno) -> Result<&mut OpenFile, Errno> {
        let descriptor = self.get_mut(fd)?;
        match &mut descriptor.node {
            Node::File(file) if descriptor.rights & right == right => Ok(file),
            Node::File(_) => Err(Errno::NotCapable),
            Node::Dir(_) => Err(Errno::Badf),
            Node::Stdin | Node::Stdout | Node::Stderr => Err(stream),
        }
    }

    /// Returns an open directory that has the rights.
    pub(crate) fn dir(&self, fd: u32, right: u64) -> Result<&Dir, Errno> {
        let descriptor = self.get(fd)?;
        match &descriptor.node {
            Node::Dir(open) => descriptor.need(right).map(|()| &open.dir),
            _ => Err(Errno::NotDir),
        }
    }

    /// Checks that there is room for another descriptor.
    pub(crate) fn room(&self) -> Result<(), Errno> {
        let full = self.0.len() >= MAX_DESCRIPTORS && self.0.iter().all(Option::is_some);
        if full { Err(Errno::Mfile) } else { Ok(()) }
    }

    /// Inserts a descriptor at the lowest free number and returns that number.
    pub(crate) fn insert(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        self.room()?;
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if free == self.0.len() {
            self.0.push(None);
        }
        self.0[free] = Some(descriptor);
        Ok(free as u32)
    }

    pub(crate) fn close(&mut self, fd: u32) -> Result<(), Errno> {
        self.0.get_mut(fd as usize).and_then(Option::take).map(drop).ok_or(Errno::Badf)
    }

    pub(crate) fn renumber(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        self.get(to)?;
        self.get(from)?;
        if from != to {
            self.0[to as usize] = self.0[from as usize].take();
        }
        Ok(())
    }

    /// Returns the number of names in the listings of all directories.
    pub(crate) fn listed(&self) -> usize {
        let listing = |descriptor: &Descriptor| match &descriptor.node {
            Node::Dir(OpenDir { listing: Some(listing), .. }) => listing.len(),
            _ => 0,
        };
        self.0.iter().flatten().map(listing).sum()
    }

    /// Adds a directory that the host grants and returns its number.
    pub(crate) fn grant(&mut self, dir: Dir, name: String) -> Result<u32, Errno> {
        let rights = rights::DIR & dir.rights();
        let node = Node::Dir(OpenDir { dir, listing: None, granted: Some(name) });
        // Files are declared writable below any directory. A C library masks what a program asks for by this, and would
        // hide from the host that the program wanted to write.
        self.insert(Descriptor { node, rights, inheriting: rights::ALL })
    }
}

impl Default for Table {
    /// Returns a table of the standard streams.
    fn default() -> Self {
        let stream = |node, rights| Some(Descriptor { node, rights: rights | rights::POLL, inheriting: 0 });
        Self(vec![
            stream(Node::Stdin, rights::READ),
            stream(Node::Stdout, rights::WRITE),
            stream(Node::Stderr, rights::WRITE),
        ])
    }
}

impl Descriptor {
    /// Creates the descriptor of a node that was opened through a directory, with no more rights than `inheriting`.
    pub(crate) fn opened(node: Node, asked: u64, inheriting: u64) -> Self {
        let rights = match &node {
            Node::Dir(open) => rights::DIR & open.dir.rights(),
            _ => rights::FILE & asked,
        };
        Self { node, rights: rights & inheriting, inheriting }
    }

    pub(crate) fn need(&self, right: u64) -> Result<(), Errno> {
        if self.rights & right == right { Ok(()) } else { Err(Errno::NotCapable) }
    }
}
