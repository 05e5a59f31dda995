//! What a server sends, and what that unpacks to, takes bounded memory. A process of its own, whose peak is measured.

#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use std::fs;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use mistletoe_registry::{Digest, Error, ErrorKind, MAX_MODULE, Puller, Tags};
use support::server::{Content, Fault, Origin, Request, Server};
use support::{client, is_blob, memory, module};
use tar::{EntryType, GnuExtSparseHeader, Header};

const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const LONG_NAME: &str = "the archive has a long name in an entry of its own";
const LONG_HEADER: &str = "the archive has an extended header of more than 64 KiB";
/// What everything but the module may take: buffers, the packed layer, the server that sends it.
const MARGIN: u64 = 32 << 20;

/// Returns the header of an entry, without the checks of the crate's own methods.
fn header(name: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    header
}

/// Returns bytes as one member of a gzip file. A bomb is a member many times.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("in memory")
}

/// Returns the gzip file of `length` bytes, a multiple of 1 MiB.
fn filler(length: u64) -> Vec<u8> {
    packed(&vec![b'a'; 1 << 20]).repeat((length >> 20) as usize)
}

/// A sparse file whose list of parts goes on and on.
fn sparse() -> Vec<u8> {
    let mut first = header("sparse", EntryType::GNUSparse, 0);
    first.as_gnu_mut().expect("GNU").set_is_extended(true);
    first.set_cksum();
    let mut more = GnuExtSparseHeader::new();
    for part in &mut more.sparse {
        part.offset.copy_from_slice(b"00000000000\0");
        part.numbytes.copy_from_slice(b"00000000000\0");
    }
    more.isextended[0] = 1;
    [packed(first.as_bytes()), packed(&more.as_bytes().repeat(1 << 11)).repeat(64)].concat()
}

/// An entry with `size` bytes, and `plugin.wasm` after it.
fn before_plugin(kind: EntryType, size: u64) -> Vec<u8> {
    let plugin = header("plugin.wasm", EntryType::Regular, 512);
    let end = [plugin.as_bytes(), &[1; 512][..], &[0; 1024]].concat();
    [packed(header("before", kind, size).as_bytes()), filler(size), packed(&end)].concat()
}

/// 200 MiB of extended headers as long as they may be, and `plugin.wasm` after them.
fn extended() -> Vec<u8> {
    let records = [b"65536 comment=", &*vec![b'x'; (64 << 10) - 15], b"\n"].concat();
    let extended = [header("x", EntryType::XHeader, 64 << 10).as_bytes(), &*records].concat();
    let plugin = header("plugin.wasm", EntryType::Regular, 512);
    let end = [plugin.as_bytes(), &[1; 512][..], &[0; 1024]].concat();
    [packed(&extended.repeat(100)).repeat(32), packed(&end)].concat()
}

/// `plugin.wasm`, with its length in the header.
fn plugin(size: u64) -> Vec<u8> {
    [packed(header("plugin.wasm", EntryType::Regular, size).as_bytes()), filler(size)].concat()
}

/// Pulls a module in a layer. Returns the result, and by how much the process grew meanwhile.
fn pull(media_type: &str, layer: Vec<u8>) -> (Result<usize, Error>, u64) {
    assert!(layer.len() < 8 << 20, "{}", layer.len());
    let descriptor = |media_type: &str, bytes: &[u8]| {
        format!(r#"{{"mediaType": "{media_type}", "digest": "{}", "size": {}}}"#, Digest::of(bytes), bytes.len())
    };
    let manifest = format!(
        r#"{{"schemaVersion": 2, "config": {}, "layers": [{}]}}"#,
        descriptor("application/vnd.oci.image.config.v1+json", b"{}"),
        descriptor(media_type, &layer)
    );
    let digest = Digest::of(manifest.as_bytes());
    let content = Content::from([
        (format!("/v2/web/blobs/{}", Digest::of(&layer)), (String::new(), layer)),
        (format!("/v2/web/manifests/{digest}"), (String::new(), manifest.into_bytes())),
    ]);
    let server = Server::start(Origin::Memory(content), |_, _| None);
    let reference = format!("oci://{}/web@{digest}", server.address).parse().expect("a reference");
    growth(|| Puller::new(client()).pull(&reference).map(|module| module.bytes.len()))
}

/// Returns the result of a function, and by how much the process grew meanwhile.
fn growth<T>(run: impl FnOnce() -> T) -> (T, u64) {
    // The peak is what it is now.
    fs::write("/proc/self/clear_refs", "5").expect("proc(5)");
    let before = peak();
    let result = run();
    (result, peak().saturating_sub(before))
}

/// Returns the most memory that the process has had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("proc(5)");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// The peak is the process's, so only one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn memory_is_bounded_whatever_is_unpacked() {
    let _alone = ALONE.lock();
    let long = 64 << 20;
    for (name, media_type, layer, problem, limit) in [
        ("a sparse file", TAR_GZIP, sparse(), Some("the archive has a sparse file"), 0),
        ("a long name", TAR_GZIP, before_plugin(EntryType::GNULongName, long), Some(LONG_NAME), 0),
        ("a long link", TAR_GZIP, before_plugin(EntryType::GNULongLink, long), Some(LONG_NAME), 0),
        ("an extended header", TAR_GZIP, before_plugin(EntryType::XHeader, long), Some(LONG_HEADER), 0),
        ("a global extended header", TAR_GZIP, before_plugin(EntryType::XGlobalHeader, long), Some(LONG_HEADER), 0),
        ("extended headers", TAR_GZIP, extended(), None, 0),
        ("another file", TAR_GZIP, before_plugin(EntryType::Regular, long), None, 0),
        (
            "a longer file",
            TAR_GZIP,
            before_plugin(EntryType::Regular, MAX_MODULE),
            Some("the layer unpacks to more than 256 MiB"),
            0,
        ),
        ("a module", TAR_GZIP, plugin(MAX_MODULE), Some("the layer unpacks to more than 256 MiB"), MAX_MODULE),
        ("a longer module", TAR_GZIP, plugin(MAX_MODULE + 1), Some("plugin.wasm is longer than 256 MiB"), 0),
        (
            "a module without an archive",
            "application/vnd.yoke.wasm.gzip",
            filler(MAX_MODULE + (1 << 20)),
            Some("the layer unpacks to more than 256 MiB"),
            MAX_MODULE,
        ),
    ] {
        let (result, grown) = pull(media_type, layer);
        // With `--nocapture`.
        println!("{name}: {} MiB", grown >> 20);
        assert!(grown < limit + MARGIN, "{name}: {} MiB", grown >> 20);
        match (result, problem) {
            (Ok(length), None) => assert_eq!(length, 512, "{name}"),
            (Err(error), Some(problem)) => assert!(error.to_string().ends_with(problem), "{name}: {error}"),
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
}

#[test]
fn memory_is_bounded_whatever_is_sent() {
    let _alone = ALONE.lock();
    type When = fn(&Request) -> bool;
    type IsExpected = fn(&ErrorKind) -> bool;
    let cases: [(&str, When, Fault, IsExpected); 6] = [
        ("a manifest", |request| !is_blob(request), Fault::Endless, |kind| matches!(kind, ErrorKind::TooLarge { .. })),
        ("a module", is_blob, Fault::Endless, |kind| matches!(kind, ErrorKind::Length { .. })),
        ("a head", is_blob, Fault::EndlessHead, |kind| matches!(kind, ErrorKind::Protocol { .. })),
        ("trailers of a manifest", |request| !is_blob(request), Fault::Trailers, |kind| *kind == ErrorKind::TimedOut),
        ("trailers of a module", is_blob, Fault::Trailers, |kind| *kind == ErrorKind::TimedOut),
        ("what a length is for", is_blob, Fault::Length(u64::MAX), |kind| matches!(kind, ErrorKind::Length { .. })),
    ];
    for (name, when, fault, is_expected) in cases {
        let server = Server::start(memory(&module(1 << 20)), move |request, _| when(request).then(|| fault.clone()));
        let reference = format!("oci://{}/web:1", server.address).parse().expect("a reference");
        let client = client().timeout(Duration::from_secs(2));
        let (result, grown) = growth(|| Puller::new(client).tags(Tags::Allow).pull(&reference));
        let error = result.expect_err(name);
        assert!(is_expected(error.kind()), "{name}: {error}");
        println!("{name}: {} MiB", grown >> 20);
        assert!(grown < MARGIN, "{name}: {} MiB", grown >> 20);
    }
}
