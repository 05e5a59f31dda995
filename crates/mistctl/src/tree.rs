//! The files of an answer below a folder, and nowhere else.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process;

use crate::failure::{Cause, Failure};

/// Writes the files below `root`. All names are checked before anything is written, and every file is complete before
/// the first one takes its place.
pub(crate) fn write(root: &Path, files: &[(String, String)]) -> Result<(), Failure> {
    let mut targets: Vec<(PathBuf, &str)> = Vec::with_capacity(files.len());
    for (name, text) in files {
        let target = relative(name).map_err(|problem| refused(root, name, problem))?;
        targets.push((target, text));
    }
    let mut sorted: Vec<&Path> = targets.iter().map(|(target, _)| target.as_path()).collect();
    sorted.sort();
    // Sorted by their components, what lies below a path follows it at once.
    if let Some([first, second]) = sorted.array_windows().find(|[first, second]| second.starts_with(first)) {
        return Err(refused(root, &second.to_string_lossy(), &format!("another file is called {}", first.display())));
    }
    for target in &sorted {
        check_links(root, target).map_err(|cause| refused_path(root, target, cause))?;
    }

    fs::create_dir_all(root).map_err(|error| Failure::write(root, error))?;
    // Inside the folder, so that moving a file to its place is one step of the same file system.
    let staging = Staging::new(root).map_err(|error| Failure::write(root, error))?;
    for (target, text) in &targets {
        let staged = staging.0.join(target);
        create_parent(&staged)
            .and_then(|()| fs::write(&staged, text))
            .map_err(|error| Failure::write(root.join(target), error))?;
    }
    for (target, _) in &targets {
        let place = root.join(target);
        create_parent(&place)
            .and_then(|()| fs::rename(staging.0.join(target), &place))
            .map_err(|error| Failure::write(&place, error))?;
    }
    Ok(())
}

/// A folder for files that are not complete yet, which is gone in the end.
struct Staging(PathBuf);

impl Staging {
    /// A new folder, whose name nothing else has.
    fn new(root: &Path) -> io::Result<Self> {
        let mut number = 0_u32;
        loop {
            let path = root.join(format!(".mistctl-{}-{number}", process::id()));
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                result => return result.map(|()| Self(path)),
            }
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed is no reason to fail: the files are in their places, or there is an error already.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file's name as a path that cannot lead out of the folder it is joined to.
fn relative(name: &str) -> Result<PathBuf, &'static str> {
    if name.is_empty() || name.ends_with(['/', '\\']) {
        return Err("the name is empty");
    }
    if name.contains('\0') {
        return Err("the name has a NUL");
    }
    // Whichever system's separators are meant.
    if name.split(['/', '\\']).any(|part| part == "..") {
        return Err("the name has `..`");
    }
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err("the name has `..`"),
            Component::RootDir | Component::Prefix(_) => return Err("the name is absolute"),
        }
    }
    if path.as_os_str().is_empty() { Err("the name is empty") } else { Ok(path) }
}

/// Refuses a path with a symbolic link on its way or at its end, or with anything in the place of a folder or a file
/// that is none.
fn check_links(root: &Path, target: &Path) -> Result<(), Cause> {
    let mut path = root.to_owned();
    let mut parts = target.components().peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => return Err("the name goes through a symbolic link".into()),
            Ok(metadata) if parts.peek().is_some() && !metadata.is_dir() => return Err("a file is in the way".into()),
            Ok(metadata) if parts.peek().is_none() && !metadata.is_file() => {
                return Err("a folder is in the way".into());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn refused(root: &Path, name: &str, problem: &str) -> Failure {
    Failure::write(root, &*format!("the package's file {name:?} is refused: {problem}"))
}

fn refused_path(root: &Path, target: &Path, cause: Cause) -> Failure {
    match cause {
        Cause::Other(problem) => refused(root, &target.to_string_lossy(), &problem),
        Cause::Io(error) => Failure::write(root.join(target), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| (name.to_string(), format!("text of {name}"))).collect()
    }

    /// Everything below a folder, sorted.
    fn below(root: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(root).expect("the folder is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                found.extend(below(&path));
            }
            found.push(path);
        }
        found.sort();
        found
    }

    #[test]
    fn the_tree_is_written_and_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("new/out");
        for _ in 0..2 {
            write(&root, &files(&["a.yaml", "b/c/d.yaml", "./e"])).expect("written");
        }
        let expected = ["a.yaml", "b", "b/c", "b/c/d.yaml", "e"].map(|name| root.join(name));
        assert_eq!(below(&root), expected);
        assert_eq!(fs::read_to_string(root.join("b/c/d.yaml")).expect("read"), "text of b/c/d.yaml");
    }

    #[test]
    fn no_name_leads_out_of_the_folder_and_nothing_is_written_beside_one_that_does() {
        let long = "x".repeat(300);
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/..",
            "a\\..\\b",
            "a\0b",
            "a/",
            ".",
            "a.yaml/b",
            "a.yaml",
            &long,
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let root = folder.path().join("out");
            let failure = write(&root, &files(&["a.yaml", bad])).expect_err(bad);
            assert_eq!(failure.status(), 3, "{bad}");
            let left: Vec<_> = below(folder.path()).into_iter().filter(|path| *path != root).collect();
            assert_eq!(left, [] as [PathBuf; 0], "{bad}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn symbolic_links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, outside) = (folder.path().join("out"), folder.path().join("outside"));
        fs::create_dir_all(&root).expect("made");
        fs::create_dir_all(&outside).expect("made");
        std::os::unix::fs::symlink(&outside, root.join("link")).expect("made");
        std::os::unix::fs::symlink(outside.join("new"), root.join("dangling")).expect("made");
        for name in ["link/x", "link", "dangling"] {
            write(&root, &files(&["a.yaml", name])).expect_err(name);
            assert_eq!(below(&outside), [] as [PathBuf; 0], "{name}");
            assert!(!root.join("a.yaml").exists(), "{name}");
        }
    }
}
