//! Writes the files of a package's output below a directory, and nowhere else: all of them or none.
//!
//! Each file is complete before the first one is moved to its place. Until then it is in a staging directory, inside
//! the innermost directory of its path that already exists. Moving it is therefore one step within one file system,
//! whatever is mounted below the root, and a directory that cannot be written is found before anything is changed.
//! After a later failure, the changes are rolled back.
//!
//! A staging directory has a random name, which no package can know. A run that was killed leaves it behind, with a
//! plan in it. The next run rolls back what the plan says was half done, and removes the directory. A lock tells
//! whether a run is alive.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::stderr::Excerpt;

/// Maximum number of files in an output.
const MAX_FILES: usize = 10_000;
/// Maximum number of directories that these files are in.
const MAX_FOLDERS: usize = 10_000;
/// Maximum number of directories that a file is nested in.
const MAX_DEPTH: usize = 64;
/// Maximum number of bytes of a name that an error shows.
const MAX_SHOWN: usize = 200;

/// Writes the files below `root`, or nothing.
pub(crate) fn write(package: &Path, root: &Path, files: &[(String, String)]) -> Result<(), Failure> {
    let names = check(files).map_err(|problem| Failure::refused(package, problem))?;
    // This comes before the checks of what exists.
    clean(root);
    let plan = Plan::new(root, &names).map_err(|error| match error {
        Unfit::Refused(problem) => Failure::refused(package, problem),
        Unfit::Io(path, error) => Failure::write(path, error),
    })?;
    let created = Created::folders(root).map_err(|error| Failure::write(root, error))?;
    clean(root);
    let failed = |(path, error)| Failure::write(path, error);
    let mut staging = Staging::new(root, plan).map_err(failed)?;
    for (number, (_, text)) in files.iter().enumerate() {
        staging.stage(number, text).map_err(failed)?;
    }
    staging.place().map_err(failed)?;
    created.keep();
    Ok(())
}

/// Returns the files' paths, if they can be written together.
fn check(files: &[(String, String)]) -> Result<Vec<PathBuf>, String> {
    if files.len() > MAX_FILES {
        return Err(format!("its output has {} files; the limit is {MAX_FILES}", files.len()));
    }
    let refused = |name: &str, problem: &str| {
        format!("its file `{}` is refused: {problem}", Excerpt::of(name.escape_debug(), MAX_SHOWN))
    };
    let mut paths = Vec::with_capacity(files.len());
    let mut folders = BTreeSet::new();
    for (name, _) in files {
        let path = relative(name).map_err(|problem| refused(name, &problem))?;
        let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        folders.extend(parents.map(Path::to_owned));
        if folders.len() > MAX_FOLDERS {
            return Err(format!("its output has more than {MAX_FOLDERS} directories"));
        }
        paths.push(path);
    }
    let mut sorted: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    sorted.sort();
    // Sorted by components, a path is directly followed by what lies below it.
    if let Some([first, second]) = sorted.array_windows().find(|[first, second]| second.starts_with(first)) {
        let first = Excerpt::of(first.to_string_lossy().escape_debug(), MAX_SHOWN);
        return Err(refused(&second.to_string_lossy(), &format!("another file is called `{first}`")));
    }
    Ok(paths)
}

/// Returns a file's name as a path that cannot lead out of the directory it is joined to.
fn relative(name: &str) -> Result<PathBuf, String> {
    if name.is_empty() || name.ends_with(['/', '\\']) {
        return Err("the name is empty".into());
    }
    if name.contains('\0') {
        return Err("the name has a NUL".into());
    }
    // The separators of any system count.
    if name.split(['/', '\\']).any(|part| part == "..") {
        return Err("the name has `..`".into());
    }
    let mut path = PathBuf::new();
    for (depth, component) in Path::new(name).components().enumerate() {
        match component {
            _ if depth > MAX_DEPTH => return Err(format!("it is in more than {MAX_DEPTH} directories")),
            Component::Normal(part) if part.to_str().is_some_and(is_staging) => {
                return Err("the name is reserved for staging directories".into());
            }
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err("the name has `..`".into()),
            Component::RootDir | Component::Prefix(_) => return Err("the name is absolute".into()),
        }
    }
    if path.as_os_str().is_empty() { Err("the name is empty".into()) } else { Ok(path) }
}

/// What to do, and, while it is being done, what is needed to roll it back. Paths are relative to the root.
#[derive(Debug, Deserialize, Serialize)]
struct Plan {
    /// Directories that already exist and get something new. Each has a staging directory.
    stages: BTreeSet<PathBuf>,
    /// Directories to create, each after its parent.
    folders: BTreeSet<PathBuf>,
    files: Vec<Planned>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Planned {
    path: PathBuf,
    /// Directory that contains its staging directory.
    stage: PathBuf,
    /// Identity of the staged file.
    identity: Option<Identity>,
}

/// Distinguishes a file from one that somebody else has put in its place, or written to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
struct Identity {
    inode: u64,
    length: u64,
    modified: Option<u128>,
}

/// A path, and the error that occurred there.
type Failed = (PathBuf, io::Error);

/// Why something cannot be planned.
enum Unfit {
    Refused(String),
    Io(PathBuf, io::Error),
}

impl Plan {
    /// Plans the writing of the paths, given what already exists.
    ///
    /// Refuses a path with a symbolic link on its way or at its end, and a path where something that is not a directory
    /// or not a file is in the place of one.
    fn new(root: &Path, paths: &[PathBuf]) -> Result<Self, Unfit> {
        let refused = |path: &Path, problem: &str| {
            let name = Excerpt::of(path.to_string_lossy().escape_debug(), MAX_SHOWN);
            Unfit::Refused(format!("its file `{name}` is refused: {problem}"))
        };
        let look = |path: &Path| match fs::symlink_metadata(root.join(path)) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Unfit::Io(root.join(path), error)),
        };
        // Maps each directory to itself if it exists, or else to the innermost existing directory above it.
        let mut stages: BTreeMap<PathBuf, PathBuf> = BTreeMap::from([(PathBuf::new(), PathBuf::new())]);
        let mut plan = Self { stages: BTreeSet::new(), folders: BTreeSet::new(), files: Vec::new() };
        for path in paths {
            let parents: Vec<&Path> = path.ancestors().skip(1).collect();
            for folder in parents.iter().rev().copied() {
                if stages.contains_key(folder) {
                    continue;
                }
                let above = folder.parent().unwrap_or(Path::new(""));
                let stage = match plan.folders.contains(above) {
                    true => None,
                    false => look(folder)?,
                };
                let stage = match stage {
                    Some(found) if found.is_symlink() => {
                        return Err(refused(path, "the name goes through a symbolic link"));
                    }
                    Some(found) if !found.is_dir() => return Err(refused(path, "a file is in the way")),
                    Some(_) => folder.to_owned(),
                    None => {
                        plan.folders.insert(folder.to_owned());
                        stages.get(above).cloned().unwrap_or_default()
                    }
                };
                stages.insert(folder.to_owned(), stage);
            }
            let parent = path.parent().unwrap_or(Path::new(""));
            let found = if plan.folders.contains(parent) { None } else { look(path)? };
            match found {
                Some(found) if found.is_symlink() => {
                    return Err(refused(path, "the name goes through a symbolic link"));
                }
                Some(found) if !found.is_file() => return Err(refused(path, "the path exists and is not a file")),
                _ => {}
            }
            let stage = stages.get(parent).cloned().unwrap_or_default();
            plan.stages.insert(stage.clone());
            plan.files.push(Planned { path: path.clone(), stage, identity: None });
        }
        Ok(plan)
    }

    /// Moves every file to its place.
    fn place(&self, root: &Path, name: &str) -> Result<(), Failed> {
        for folder in &self.folders {
            let folder = root.join(folder);
            match fs::create_dir(&folder) {
                // Perhaps another run has created it.
                Err(_) if fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir()) => {}
                result => result.map_err(|error| (folder, error))?,
            }
        }
        let mut placed = HashSet::new();
        for (number, file) in self.files.iter().enumerate() {
            let place = root.join(&file.path);
            file.place(&place, &root.join(&file.stage).join(name), number, &mut placed)
                .map_err(|error| (place, error))?;
        }
        Ok(())
    }

    /// Rolls back what was placed, unless somebody has changed it since.
    fn take_back(&self, root: &Path, name: &str) {
        for (number, file) in self.files.iter().enumerate().rev() {
            file.take_back(&root.join(&file.path), &root.join(&file.stage).join(name), number);
        }
        for folder in self.folders.iter().rev() {
            // A directory that is not empty contains somebody else's files.
            let _ = fs::remove_dir(root.join(folder));
        }
    }
}

impl Planned {
    /// Moves the file to its place. `placed` has the files that were placed before.
    fn place(&self, place: &Path, stage: &Path, number: usize, placed: &mut HashSet<Identity>) -> io::Result<()> {
        let (new, old) = (stage.join(new(number)), stage.join(old(number)));
        match fs::symlink_metadata(place) {
            // A file system may treat two names of an output as one. Also, what exists now may be newer than the plan.
            Ok(found) if !found.is_file() || cfg!(unix) && placed.contains(&Identity::of(&found)) => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            // A second name for the file that is replaced, so that a file exists at any time. Where links are
            // impossible, the file is renamed.
            Ok(_) => fs::hard_link(place, &old).or_else(|_| fs::rename(place, &old))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        fs::rename(new, place)?;
        placed.extend(self.identity);
        Ok(())
    }

    fn take_back(&self, place: &Path, stage: &Path, number: usize) {
        let found = fs::symlink_metadata(place).ok();
        let is_placed = found.as_ref().is_some_and(|found| Some(Identity::of(found)) == self.identity);
        let old = stage.join(old(number));
        let replaced = fs::symlink_metadata(&old).is_ok();
        // What cannot be rolled back stays as it is: there is already an error.
        if replaced && (is_placed || found.is_none()) {
            let _ = fs::rename(old, place);
        } else if is_placed {
            let _ = fs::remove_file(place);
        }
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self { inode, length: metadata.len(), modified: modified.map(|time| time.as_nanos()) }
    }
}

/// Returns a staged file's name: its number in the output.
fn new(number: usize) -> String {
    number.to_string()
}

/// Returns the name of a file that is replaced.
fn old(number: usize) -> String {
    format!("{number}.old")
}

/// The lock, which a run holds as long as it lives.
const LOCK: &str = "lock";
/// The plan, before anything is placed.
const PLAN: &str = "plan";
/// The plan while files are placed. If it exists, the files are rolled back.
const PLACING: &str = "placing";

/// Maximum length of a plan in bytes: each file's path twice, as long as systems allow.
const MAX_PLAN: u64 = 128 << 20;

/// Staging directories for incomplete files, one in each directory that gets some. They are removed in the end.
struct Staging<'a> {
    root: &'a Path,
    name: String,
    plan: Plan,
    _lock: File,
}

impl<'a> Staging<'a> {
    fn new(root: &'a Path, plan: Plan) -> Result<Self, Failed> {
        let (name, lock) = Self::begin(root).map_err(|error| (root.to_owned(), error))?;
        let staging = Self { root, name, plan, _lock: lock };
        staging.write_plan(PLAN)?;
        for folder in staging.plan.stages.iter().filter(|folder| !folder.as_os_str().is_empty()) {
            let folder = staging.root.join(folder);
            fs::create_dir(folder.join(&staging.name)).map_err(|error| (folder, error))?;
        }
        Ok(staging)
    }

    /// Creates a new directory in the root, and the lock in it.
    fn begin(root: &Path) -> io::Result<(String, File)> {
        loop {
            let name = staging_name()?;
            let stage = root.join(&name);
            fs::create_dir(&stage)?;
            let lock = match File::create_new(stage.join(LOCK)) {
                Ok(lock) => lock,
                // A run that cleans up may remove the directory until it is locked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let _ = fs::remove_dir(&stage);
                    return Err(error);
                }
            };
            // Where there are no locks, no run removes what another leaves behind.
            let is_taken = matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
            if !is_taken && stage.join(LOCK).exists() {
                return Ok((name, lock));
            }
        }
    }

    fn write_plan(&self, name: &str) -> Result<(), Failed> {
        let plan = serde_json::to_vec(&self.plan).map_err(io::Error::other);
        let written = plan.and_then(|plan| fs::write(self.root.join(&self.name).join(name), plan));
        written.map_err(|error| (self.root.to_owned(), error))
    }

    /// Writes a file to its staging directory.
    fn stage(&mut self, number: usize, text: &str) -> Result<(), Failed> {
        let Some(file) = self.plan.files.get_mut(number) else { return Ok(()) };
        let path = self.root.join(&file.stage).join(&self.name).join(new(number));
        let written = fs::write(&path, text).and_then(|()| fs::symlink_metadata(&path));
        let metadata = written.map_err(|error| (self.root.join(&file.path), error))?;
        file.identity = Some(Identity::of(&metadata));
        Ok(())
    }

    /// Moves all files to their places, or none.
    fn place(self) -> Result<(), Failed> {
        self.write_plan(PLACING)?;
        let placed = self.plan.place(self.root, &self.name);
        if placed.is_err() {
            self.plan.take_back(self.root, &self.name);
        }
        // From here on nothing is rolled back.
        let _ = fs::remove_file(self.root.join(&self.name).join(PLACING));
        placed
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        remove(self.root, &self.name, &self.plan);
    }
}

/// Removes staging directories.
///
/// A failure is ignored: either the files are in their places, or there is already an error.
fn remove(root: &Path, name: &str, plan: &Plan) {
    for folder in plan.stages.iter().filter(|folder| !folder.as_os_str().is_empty()) {
        let _ = fs::remove_dir_all(root.join(folder).join(name));
    }
    // This one is last, because the plan is in it.
    let _ = fs::remove_dir_all(root.join(name));
}

/// Removes what killed runs left behind.
fn clean(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let is_folder = entry.file_type().is_ok_and(|ty| ty.is_dir());
        if let Some(name) = entry.file_name().to_str().filter(|name| is_folder && is_staging(name)) {
            clean_one(root, name);
        }
    }
}

/// Removes what one run left behind, if it was killed. Nothing else is touched.
fn clean_one(root: &Path, name: &str) {
    let stage = root.join(name);
    let Ok(lock) = File::options().read(true).write(true).open(stage.join(LOCK)) else {
        // The run was killed before it had a lock. A directory that is not empty stays.
        let _ = fs::remove_dir(stage);
        return;
    };
    // The run is alive, or this cannot be known.
    if let Err(TryLockError::WouldBlock | TryLockError::Error(_)) = lock.try_lock() {
        return;
    }
    let read = |file: &str| {
        let file = stage.join(file);
        let is_plan = |found: Metadata| found.is_file() && found.len() <= MAX_PLAN;
        let text = fs::symlink_metadata(&file).is_ok_and(is_plan).then(|| fs::read(&file).ok())??;
        let plan: Plan = serde_json::from_slice(&text).ok()?;
        plan.is_sound(root).then_some(plan)
    };
    let (placing, plan) = (read(PLACING), read(PLAN));
    if let Some(plan) = &placing {
        plan.take_back(root, name);
    }
    let nothing = Plan { stages: BTreeSet::new(), folders: BTreeSet::new(), files: Vec::new() };
    remove(root, name, &placing.or(plan).unwrap_or(nothing));
}

impl Plan {
    /// Returns whether the paths of a plan that was read stay below the root.
    fn is_sound(&self, root: &Path) -> bool {
        let files = self.files.iter().map(|file| &file.path);
        let is_relative = |path: &PathBuf| {
            path.components().all(|component| matches!(component, Component::Normal(_)))
                && path.ancestors().skip(1).all(|parent| {
                    let found = fs::symlink_metadata(root.join(parent));
                    parent.as_os_str().is_empty() || !found.is_ok_and(|found| found.is_symlink())
                })
        };
        let stages = self.files.iter().map(|file| &file.stage);
        let is_folder = |path: &PathBuf| is_relative(&path.join("x"));
        files.chain(&self.folders).all(is_relative) && stages.chain(&self.stages).all(is_folder)
    }
}

const PREFIX: &str = ".mistctl-";
const SUFFIX: &str = ".tmp";

/// Returns `.mistctl-`, 32 random digits, `.tmp`.
fn staging_name() -> io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("{PREFIX}{:032x}{SUFFIX}", u128::from_ne_bytes(random)))
}

/// Returns whether a name has that form, in lower or upper case: some file systems do not distinguish them.
fn is_staging(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let digits = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Directories that were created for the root, outermost first. They are removed unless they are kept.
struct Created(Vec<PathBuf>);

impl Created {
    fn folders(root: &Path) -> io::Result<Self> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing: Vec<&Path> = root.ancestors().take_while(is_missing).collect();
        let mut created = Self(Vec::new());
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Ok(()) => created.0.push(folder.to_owned()),
                // `a/.`, or created by another run.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(created)
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            // A directory that is not empty contains somebody else's files.
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| (name.to_string(), format!("text of {name}"))).collect()
    }

    /// Returns everything below a directory, sorted.
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
            write(Path::new("p.wasm"), &root, &files(&["a.yaml", "b/c/d.yaml", "./e"])).expect("written");
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
            let failure = write(Path::new("p.wasm"), &root, &files(&["a.yaml", bad])).expect_err(bad);
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
            write(Path::new("p.wasm"), &root, &files(&["a.yaml", name])).expect_err(name);
            assert_eq!(below(&outside), [] as [PathBuf; 0], "{name}");
            assert!(!root.join("a.yaml").exists(), "{name}");
        }
    }

    /// Returns a root with files of the user, and an output that replaces some of them.
    fn beginning() -> (tempfile::TempDir, Vec<(String, String)>) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("there")).expect("made");
        for name in ["a.yaml", "there/b.yaml", "mine"] {
            fs::write(folder.path().join(name), "old").expect("written");
        }
        (folder, files(&["a.yaml", "there/b.yaml", "there/new/c.yaml", "new/d/e.yaml", "f.yaml"]))
    }

    fn contents(root: &Path) -> Vec<(PathBuf, Option<String>)> {
        below(root).into_iter().map(|path| (path.clone(), fs::read_to_string(path).ok())).collect()
    }

    /// Leaves behind what a run does that is killed when `placed` files are in their places.
    fn killed(root: &Path, files: &[(String, String)], placed: usize) {
        let plan = Plan::new(root, &check(files).expect("good names")).ok().expect("a plan");
        let mut staging = Staging::new(root, plan).expect("a staging folder");
        for (number, (_, text)) in files.iter().enumerate() {
            staging.stage(number, text).expect("staged");
        }
        staging.write_plan(PLACING).expect("written");
        let Plan { folders, files, .. } = &staging.plan;
        folders.iter().for_each(|folder| fs::create_dir(root.join(folder)).expect("made"));
        for (number, file) in files.iter().enumerate().take(placed) {
            let (place, stage) = (root.join(&file.path), root.join(&file.stage).join(&staging.name));
            file.place(&place, &stage, number, &mut HashSet::new()).expect("placed");
        }
        // The system does this when a process is killed.
        staging._lock.unlock().expect("unlocked");
        std::mem::forget(staging);
    }

    #[test]
    fn what_a_killed_run_has_placed_is_taken_back() {
        for placed in 0..=5 {
            let (folder, files) = beginning();
            let root = folder.path();
            let before = contents(root);
            killed(root, &files, placed);
            assert_ne!(contents(root), before);
            clean(root);
            assert_eq!(contents(root), before, "{placed} were placed");
        }
    }

    #[test]
    fn the_next_run_writes_where_a_killed_one_had_begun() {
        let (folder, files) = beginning();
        killed(folder.path(), &files, 4);
        let names = ["there/new/c.yaml", "new"].map(|name| (name.to_owned(), "next".to_owned()));
        write(Path::new("p.wasm"), folder.path(), &names).expect("written");
        let expected = ["a.yaml", "mine", "new", "there", "there/b.yaml", "there/new", "there/new/c.yaml"];
        assert_eq!(below(folder.path()), expected.map(|name| folder.path().join(name)));
    }

    #[test]
    fn what_somebody_changed_after_a_run_was_killed_stays() {
        let (folder, files) = beginning();
        let root = folder.path();
        killed(root, &files, 5);
        fs::write(root.join("a.yaml"), "changed in its place").expect("written");
        fs::write(root.join("other"), "moved here").expect("written");
        fs::rename(root.join("other"), root.join("f.yaml")).expect("renamed");
        fs::write(root.join("new/d/mine"), "new").expect("written");
        clean(root);
        let kept = ["a.yaml", "f.yaml", "mine", "new", "new/d", "new/d/mine", "there", "there/b.yaml"];
        assert_eq!(below(root), kept.map(|name| root.join(name)));
        assert_eq!(fs::read_to_string(root.join("a.yaml")).expect("read"), "changed in its place");
        assert_eq!(fs::read_to_string(root.join("f.yaml")).expect("read"), "moved here");
        assert_eq!(fs::read_to_string(root.join("there/b.yaml")).expect("read"), "old");
    }
}
