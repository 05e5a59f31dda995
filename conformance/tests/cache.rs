//! The cache of compiled code on disk. It loads what it saved, and nothing else.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use mistletoe::backend::{Artifact, ModuleSource};
use mistletoe::backend::{HostFunc, StoreData};
use mistletoe::cache::{Cache, Cached};
use mistletoe::{AnyBackend, Backend, ErrorKind, Imports, Limits, Package, Result};
use mistletoe_conformance::{Report, cases};
use tempfile::TempDir;

/// A backend that counts compilations and loads.
#[derive(Clone)]
struct Counting {
    backend: AnyBackend,
    compiled: Arc<AtomicUsize>,
    loaded: Arc<AtomicUsize>,
}

impl Counting {
    fn new(backend: AnyBackend) -> Self {
        Self { backend, compiled: Arc::default(), loaded: Arc::default() }
    }

    /// Returns how many modules were compiled and how many were loaded since the last call.
    fn counts(&self) -> (usize, usize) {
        (self.compiled.swap(0, Ordering::Relaxed), self.loaded.swap(0, Ordering::Relaxed))
    }
}

impl Backend for Counting {
    type Module = <AnyBackend as Backend>::Module;
    type Instance = <AnyBackend as Backend>::Instance;

    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<Self::Module> {
        let module = self.backend.compile(source, imports)?;
        self.compiled.fetch_add(1, Ordering::Relaxed);
        Ok(module)
    }

    fn instantiate(&self, module: &Self::Module, data: StoreData) -> Result<Self::Instance> {
        self.backend.instantiate(module, data)
    }

    fn compatibility_key(&self) -> Option<String> {
        self.backend.compatibility_key()
    }

    fn serialize(&self, module: &Self::Module) -> Result<Vec<u8>> {
        self.backend.serialize(module)
    }

    fn deserialize(&self, artifact: &Artifact, imports: &[HostFunc]) -> Result<Self::Module> {
        let module = self.backend.deserialize(artifact, imports)?;
        self.loaded.fetch_add(1, Ordering::Relaxed);
        Ok(module)
    }
}

/// Returns the backends whose engines can serialise compiled code.
fn backends() -> impl Iterator<Item = Counting> {
    let all = mistletoe::backends().iter().map(|info| mistletoe::backend(info.name()).expect("a backend"));
    all.filter(|backend| backend.compatibility_key().is_some()).map(Counting::new)
}

/// Returns a package that outputs its input, followed by `marks` exclamation marks.
///
/// It has a start function, a table, and an import that limits extend. The cache reads only the interface of a module
/// again, and all of these have to be right then.
fn wasm(marks: usize) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "host" "mark" (func $mark (result i32)))
            (memory (export "memory") 1)
            (table funcref (elem $mark))
            (global $ready (mut i32) (i32.const 0))
            (func $start (global.set $ready (i32.const 1)))
            (start $start)
            (func (export "__mistletoe_info") (result i32) (i32.const 8))
            (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "__mistletoe_dealloc") (param i32 i32))
            (func (export "__mistletoe_generate") (param $at i32) (param $length i32) (result i32) (local $n i32)
                (loop $more
                    (i32.store8
                        (i32.add (local.get $at) (local.get $length))
                        (call_indirect (result i32) (i32.const 0)))
                    (local.set $length (i32.add (local.get $length) (global.get $ready)))
                    (br_if $more
                        (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {marks}))))
                (i32.store (i32.const 8) (local.get $at))
                (i32.store (i32.const 12) (local.get $length))
                (i32.const 8)))"#
    );
    wat::parse_str(text).expect("it assembles")
}

/// A cache in a temporary directory, and the errors it reports.
struct Place {
    folder: TempDir,
    problems: Arc<Mutex<Vec<String>>>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), problems: Arc::default() }
    }

    fn cache(&self) -> Cache {
        let problems = self.problems.clone();
        let cache = Cache::open(self.folder.path().join("cache")).expect("a cache");
        cache.on_error(move |error| problems.lock().expect("no panic").push(error.source.to_string()))
    }

    /// Takes the errors reported since the last call.
    fn problems(&self) -> Vec<String> {
        std::mem::take(&mut *self.problems.lock().expect("no panic"))
    }

    /// Returns the only file with this extension.
    fn file(&self, extension: &str) -> PathBuf {
        let mut found = files(&self.folder.path().join("cache"), extension);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// Returns the output for `x`, and the fuel used.
fn answer(backend: &Counting, cache: Cache, wasm: &[u8], limits: Limits) -> (String, Option<u64>) {
    let mut imports = Imports::<()>::new();
    imports.func("host", "mark", |_: &mut mistletoe::Caller<'_, ()>| Ok::<_, mistletoe::Error>(33_u32));
    let package = Package::with_imports(&Cached::new(backend.clone(), cache), wasm, &imports, limits);
    let mut session = package.and_then(|package| package.session()).expect("a session");
    (session.generate("x").expect("an answer"), session.fuel_used().expect("an engine"))
}

#[test]
fn the_second_start_loads_and_answers_the_same() {
    for backend in backends() {
        for limits in [Limits::unlimited(), Limits::default(), Limits::default().with_fuel(1_000_000)] {
            let place = Place::new();
            let first = answer(&backend, place.cache(), &wasm(3), limits);
            assert_eq!((first.0.as_str(), backend.counts()), ("x!!!", (1, 0)), "{}", backend.name());
            let second = answer(&backend, place.cache(), &wasm(3), limits);
            assert_eq!((first, backend.counts()), (second, (0, 1)), "{}", backend.name());
            assert_eq!(place.problems(), Vec::<String>::new(), "{}", backend.name());
        }
    }
}

/// Loaded code behaves like compiled code. On the second run, each case finds the entries of the first.
#[test]
fn every_case_passes_with_code_that_was_kept() {
    let cases = cases().expect("readable cases");
    for name in ["wasmtime", "wasmer"] {
        let place = Place::new();
        let counting = Counting::new(mistletoe::backend(name).expect("a backend"));
        let cached = AnyBackend::new(Cached::new(counting.clone(), place.cache()));
        for _ in 0..2 {
            counting.counts();
            let report = Report::run(&cases, &[&cached], |_| ());
            assert!(report.is_good(), "{}", report.terminal(false));
        }
        let (compiled, loaded) = counting.counts();
        assert!(compiled < cases.len() / 20 && loaded > cases.len() / 2, "{compiled} compiled, {loaded} loaded");
        assert_eq!(place.problems(), Vec::<String>::new());
    }
}

#[test]
fn an_entry_is_for_one_module_one_set_of_limits_and_one_backend() {
    let place = Place::new();
    let default = Limits::default();
    let mut entries = 0;
    for backend in backends() {
        for (marks, limits) in [
            (3, default),
            (4, default),
            (3, default.with_fuel(1_000_000)),
            (3, default.with_memory(1 << 20)),
            (3, default.with_stack(1000)),
            (3, default.with_table_elements(10)),
            (3, Limits::unlimited()),
        ] {
            let (answer, _) = answer(&backend, place.cache(), &wasm(marks), limits);
            assert_eq!(answer, format!("x{}", "!".repeat(marks)));
            assert_eq!(backend.counts(), (1, 0), "{}", backend.name());
            entries += 1;
        }
        // Limits that do not change the code do not change the key either.
        let limits = default.with_timeout(Duration::from_secs(77)).with_max_output(7);
        answer(&backend, place.cache(), &wasm(3), limits);
        assert_eq!(backend.counts(), (0, 1), "{}", backend.name());
    }
    assert_eq!(place.cache().entries().expect("a folder").len(), entries);
}

/// Applies `damage` to an entry. The damaged entry is reported, not loaded, and replaced.
fn useless(backend: &Counting, damage: impl Fn(&Place)) {
    let place = Place::new();
    answer(backend, place.cache(), &wasm(3), Limits::default());
    damage(&place);
    backend.counts();
    let (again, _) = answer(backend, place.cache(), &wasm(3), Limits::default());
    assert_eq!((again.as_str(), backend.counts()), ("x!!!", (1, 0)), "{}", backend.name());
    assert_eq!(place.problems().len(), 1, "{}", backend.name());
    answer(backend, place.cache(), &wasm(3), Limits::default());
    assert_eq!((backend.counts(), place.problems().len()), ((0, 1), 0), "{}", backend.name());
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    for backend in backends() {
        for part in 0..=16 {
            useless(&backend, |place| {
                let mut bytes = fs::read(place.file("code")).expect("an entry");
                let at = (bytes.len() - 1) * part / 16;
                bytes[at] ^= 1;
                fs::write(place.file("code"), bytes).expect("a file");
            });
        }
    }
}

#[test]
fn what_is_cut_off_or_goes_on_is_found() {
    for backend in backends() {
        let length = |place: &Place, change: fn(u64) -> u64| {
            let file = File::options().write(true).open(place.file("code")).expect("an entry");
            file.set_len(change(file.metadata().expect("a file").len())).expect("a file");
        };
        useless(&backend, |place| length(place, |_| 0));
        useless(&backend, |place| length(place, |length| length - 1));
        useless(&backend, |place| length(place, |length| length + 1));
    }
}

#[test]
fn a_digest_of_anything_else_is_none() {
    for backend in backends() {
        for text in ["", "\n", "0", "nonsense", &"0".repeat(64), &"f".repeat(1 << 20)] {
            useless(&backend, |place| fs::write(place.file("digest"), text).expect("a file"));
        }
        useless(&backend, |place| fs::write(place.file("digest"), [0xff; 100]).expect("a file"));
    }
}

#[test]
fn anothers_entry_is_not_loaded_under_this_name() {
    for backend in backends() {
        useless(&backend, |place| {
            let other = Place::new();
            answer(&backend, other.cache(), &wasm(4), Limits::default());
            for extension in ["code", "digest"] {
                fs::copy(other.file(extension), place.file(extension)).expect("a file");
            }
        });
    }
}

#[cfg(unix)]
#[test]
fn a_link_is_not_followed_and_a_folder_or_a_pipe_not_read() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let backend = backends().next().expect("one");
    useless(&backend, |place| {
        let elsewhere = place.folder.path().join("elsewhere");
        fs::rename(place.file("code"), &elsewhere).expect("a file");
        let name = place.file("digest").with_extension("code");
        symlink(elsewhere, name).expect("a link");
    });
    for extension in ["code", "digest"] {
        useless(&backend, |place| {
            let name = place.file(extension);
            fs::remove_file(&name).expect("a file");
            let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&name).status();
            assert!(made.expect("mkfifo is there").success());
        });
    }
    useless(&backend, |place| {
        fs::set_permissions(place.file("code"), fs::Permissions::from_mode(0o622)).expect("a file");
    });
    // What cannot be removed cannot be replaced. The package works nevertheless.
    let place = Place::new();
    answer(&backend, place.cache(), &wasm(3), Limits::default());
    let name = place.file("code");
    fs::remove_file(&name).expect("a file");
    fs::create_dir_all(name.join("full")).expect("a folder");
    backend.counts();
    answer(&backend, place.cache(), &wasm(3), Limits::default());
    assert_eq!(backend.counts(), (1, 0));
    assert!(!place.problems().is_empty());
}

#[test]
fn half_an_entry_is_none() {
    for backend in backends() {
        for extension in ["code", "digest"] {
            let place = Place::new();
            answer(&backend, place.cache(), &wasm(3), Limits::default());
            fs::remove_file(place.file(extension)).expect("a file");
            backend.counts();
            answer(&backend, place.cache(), &wasm(3), Limits::default());
            assert_eq!(backend.counts(), (1, 0), "{}", backend.name());
            answer(&backend, place.cache(), &wasm(3), Limits::default());
            assert_eq!(backend.counts(), (0, 1), "{}", backend.name());
        }
    }
}

#[test]
fn an_invalid_module_is_the_same_error_and_is_not_kept() {
    let place = Place::new();
    for backend in backends() {
        for wasm in [&b"nonsense"[..], b"\0asm\x01\0\0\0", &wasm(3)[..60]] {
            for _ in 0..2 {
                let cached = Package::new(&Cached::new(backend.clone(), place.cache()), wasm).expect_err("no package");
                let plain = Package::new(&backend, wasm).expect_err("no package");
                assert_eq!(cached.kind(), plain.kind());
            }
        }
    }
    assert!(place.cache().entries().expect("a folder").is_empty());
}

/// Missing imports are checked on every load. A host that defined them may have written the entry.
#[test]
fn an_import_that_is_not_offered_is_an_error_also_for_code_that_was_kept() {
    let place = Place::new();
    for backend in backends() {
        answer(&backend, place.cache(), &wasm(3), Limits::default());
        let error = Package::new(&Cached::new(backend, place.cache()), &wasm(3)).expect_err("an import is missing");
        assert!(matches!(error.kind(), ErrorKind::Interface { .. }), "{error}");
    }
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let backend = backends().next().expect("one");
    let place = Place::new();
    for (marks, age) in [(1, 300), (2, 100), (3, 200)] {
        let before = files(place.cache().folder(), "code");
        answer(&backend, place.cache(), &wasm(marks), Limits::default());
        let new =
            files(place.cache().folder(), "code").into_iter().find(|path| !before.contains(path)).expect("a new one");
        let file = File::options().write(true).open(new).expect("an entry");
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("a time");
    }
    // The oldest entry is used now.
    backend.counts();
    answer(&backend, place.cache(), &wasm(1), Limits::default());
    assert_eq!(backend.counts(), (0, 1));
    let entry = place.cache().entries().expect("a folder").iter().map(|entry| entry.bytes).max().expect("one");
    // Room for three entries of about the same length: the fourth replaces the third.
    answer(&backend, place.cache().max_bytes(entry * 7 / 2), &wasm(4), Limits::default());
    for (marks, loaded) in [(1, (0, 1)), (2, (0, 1)), (4, (0, 1)), (3, (1, 0))] {
        backend.counts();
        answer(&backend, place.cache(), &wasm(marks), Limits::default());
        assert_eq!(backend.counts(), loaded, "{marks}");
    }
    // An entry longer than the maximum is not stored, and evicts nothing.
    answer(&backend, place.cache().max_bytes(1), &wasm(5), Limits::default());
    assert_eq!(place.cache().entries().expect("a folder").len(), 4);
}

#[test]
fn threads_write_and_read_one_entry_at_once() {
    for backend in backends() {
        let place = Place::new();
        let barrier = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    for _ in 0..3 {
                        assert_eq!(answer(&backend, place.cache(), &wasm(3), Limits::default()).0, "x!!!");
                    }
                });
            }
        });
        backend.counts();
        answer(&backend, place.cache(), &wasm(3), Limits::default());
        assert_eq!(backend.counts(), (0, 1), "{}", backend.name());
        assert_eq!(fs::read_dir(place.cache().folder()).expect("a folder").count(), 2, "{}", backend.name());
    }
}

#[test]
fn clearing_removes_entries_and_nothing_else() {
    let place = Place::new();
    answer(&backends().next().expect("one"), place.cache(), &wasm(3), Limits::default());
    let unfinished = place.cache().folder().join(".unfinished-abc");
    let foreign = place.cache().folder().join("notes.code");
    for path in [&unfinished, &foreign] {
        fs::write(path, "text").expect("a file");
    }
    assert_eq!(place.cache().entries().expect("a folder").len(), 1);
    place.cache().clear().expect("a folder");
    assert!(place.cache().entries().expect("a folder").is_empty());
    assert!(!unfinished.exists() && foreign.exists());
}

#[test]
fn without_a_folder_it_is_as_without_a_cache() {
    let place = Place::new();
    let (backend, cache) = (backends().next().expect("one"), place.cache());
    fs::remove_dir_all(cache.folder()).expect("a folder");
    assert_eq!(answer(&backend, cache, &wasm(3), Limits::default()).0, "x!!!");
    assert!(!place.problems().is_empty());
}

#[cfg(unix)]
#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let folder = place.cache().folder().to_owned();
    assert_eq!(fs::metadata(&folder).expect("a folder").permissions().mode() & 0o777, 0o700);
    for mode in [0o720, 0o702] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("a folder");
        let error = Cache::open(&folder).expect_err("others can write there");
        assert!(matches!(error.kind(), ErrorKind::Cache { .. }), "{error}");
    }
}
