//! The layouts of a module in a registry: which layer it is in, and how it is packed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use serde::Serialize;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Descriptor, MANIFEST, Manifest};

/// Maximum length of a module, in bytes, packed or not.
pub const MAX_MODULE: u64 = 256 << 20;
/// The media type of the configuration in the layout that is written.
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// The media type of a module in the layout that is written.
const MODULE: &str = "application/wasm";
/// Name of the module in a layer that is an archive.
const PLUGIN: &str = "plugin.wasm";
/// Maximum number of files and directories in such an archive.
const MAX_ENTRIES: usize = 1_000;
/// Maximum length of an extended header, in bytes.
const MAX_EXTENDED: u64 = 64 << 10;
const TOO_LONG: &str = "the layer unpacks to more than 256 MiB";
/// The annotation of images for proxies, and its value for those whose layer is an archive.
const VARIANT: (&str, &str) = ("module.wasm.image/variant", "compat");

/// How a module is packed in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Raw,
    Gzip,
    Tar,
    TarGzip,
}

/// The layer with the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) descriptor: Descriptor,
    packing: Packing,
}

/// Returns how a media type packs a module.
///
/// In this order: the layout of the CNCF's TAG Runtime, that of wasm-to-oci, that of older wasmCloud, that of yoke, and
/// images.
fn packing(media_type: &str) -> Option<Packing> {
    Some(match media_type {
        MODULE | "application/vnd.wasm.content.layer.v1+wasm" | "application/vnd.module.wasm.content.layer.v1+wasm" => {
            Packing::Raw
        }
        "application/vnd.yoke.wasm.gzip" => Packing::Gzip,
        "application/vnd.oci.image.layer.v1.tar" => Packing::Tar,
        "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Packing::TarGzip
        }
        _ => return None,
    })
}

impl Layer {
    /// Returns the layer of a manifest that has the module. There must be exactly one.
    ///
    /// Of an image whose annotation says that it is of the variant `compat`, it is the last layer.
    pub(crate) fn of(subject: impl fmt::Display, manifest: &Manifest) -> Result<Self> {
        let layout = |problem: String| Error::new(&subject, ErrorKind::Layout { problem });
        let is_compat = manifest.annotations.get(VARIANT.0).is_some_and(|value| value == VARIANT.1);
        let layers = match manifest.layers.split_last() {
            Some((last, _)) if is_compat => std::slice::from_ref(last),
            _ => &manifest.layers,
        };
        match layers {
            [descriptor] => match packing(&descriptor.media_type) {
                Some(packing) => Ok(Self { descriptor: descriptor.clone(), packing }),
                None => Err(layout(format!(
                    "a layer with the media type {:?} is not a module",
                    crate::shown(&descriptor.media_type)
                ))),
            },
            _ => Err(layout(format!("it has {} layers instead of one, the module", layers.len()))),
        }
    }

    /// Returns the module in the layer's bytes, which have the layer's digest.
    pub(crate) fn unpack(&self, subject: impl fmt::Display, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let failed = |problem| Error::new(&subject, ErrorKind::Layer { problem });
        match self.packing {
            Packing::Raw => Ok(bytes),
            // Several members are one file (RFC 1952, section 2.2), and some builders of images write them.
            Packing::Gzip => read(MultiGzDecoder::new(&*bytes)),
            Packing::Tar => plugin(&*bytes),
            Packing::TarGzip => plugin(Bounded { source: MultiGzDecoder::new(&*bytes), left: MAX_MODULE }),
        }
        .map_err(failed)
    }
}

/// Reads what a layer unpacks to.
fn read(mut source: impl Read) -> Result<Vec<u8>, &'static str> {
    const NOT_READ: &str = "the layer is not gzip";
    let mut module = Vec::new();
    source.by_ref().take(MAX_MODULE).read_to_end(&mut module).map_err(|_| NOT_READ)?;
    // Apart, so that a module of this length does not let the buffer double.
    match source.read(&mut [0]).map_err(|_| NOT_READ)? {
        0 => Ok(module),
        _ => Err(TOO_LONG),
    }
}

/// Ends with an error where more than a number of bytes come. What just ended would look like a shorter archive.
struct Bounded<R> {
    source: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(count)
    }
}

/// Returns the file `plugin.wasm` of an archive. Nothing else is read but extended headers, and so nothing else takes
/// memory. Headers count as they are. What could give one another name or length is an error: then every reader of the
/// archive sees the same file.
fn plugin(archive: impl Read) -> Result<Vec<u8>, &'static str> {
    let mut archive = tar::Archive::new(archive);
    let (mut found, mut count) = (None, 0);
    // As they are: otherwise the crate keeps what precedes a header in memory, whatever its length.
    for entry in archive.entries().map_err(not_read)?.raw(true) {
        let mut entry = entry.map_err(not_read)?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_sparse() {
            // Its length says nothing about where the next header is.
            return Err("the archive has a sparse file");
        }
        if kind.is_gnu_longname() || kind.is_gnu_longlink() {
            return Err("the archive has a long name in an entry of its own");
        }
        // POSIX, "pax Interchange Format", for the next file and for all, and the same of Solaris.
        if matches!(kind.as_byte(), b'x' | b'g' | b'X') {
            let too_long = "the archive has an extended header of more than 64 KiB";
            check_records(&content(&mut entry, MAX_EXTENDED, too_long)?)?;
            continue;
        }
        count += 1;
        if count > MAX_ENTRIES {
            return Err("the archive has more than 1000 entries");
        }
        let name = entry.path_bytes();
        if name.strip_prefix(b"./").unwrap_or(&name) != PLUGIN.as_bytes() {
            continue;
        }
        if kind != tar::EntryType::Regular {
            return Err("plugin.wasm is a link or another kind of file");
        }
        if found.is_some() {
            return Err("the archive has plugin.wasm twice");
        }
        found = Some(content(&mut entry, MAX_MODULE, "plugin.wasm is longer than 256 MiB")?);
    }
    found.ok_or("the archive has no plugin.wasm")
}

/// Reads an entry of an archive, if it is not longer than `limit` bytes.
fn content<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    limit: u64,
    too_long: &'static str,
) -> Result<Vec<u8>, &'static str> {
    let size = entry.size();
    if size > limit {
        return Err(too_long);
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).map_err(not_read)?;
    if content.len() as u64 == size { Ok(content) } else { Err("the archive ends early") }
}

fn not_read(error: io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::FileTooLarge { TOO_LONG } else { "the layer is not an archive" }
}

/// Refuses the records of an extended header that could give a file another name or length. Each is its own length, a
/// space, a key, `=`, a value, and the end of the line.
fn check_records(records: &[u8]) -> Result<(), &'static str> {
    let mut rest = records;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(space);
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(digits).ok().filter(|_| is_number).and_then(|digits| digits.parse().ok());
        let record = length.and_then(|length: usize| length.checked_sub(space)).and_then(|length| after.get(..length));
        if !record.is_some_and(|record| record.ends_with(b"\n") && record.contains(&b'=')) {
            return Err("the archive has an extended header that cannot be read");
        }
        rest = after.get(record.map_or(0, <[u8]>::len)..).unwrap_or_default();
    }
    // By line: a record begins at one. Some readers take each line for a record, also within a value.
    for line in records.split(|byte| *byte == b'\n') {
        let end = line.iter().position(|byte| *byte == b'=').unwrap_or(line.len());
        let key = line.get(..end).and_then(|start| start.rsplit(|byte| *byte == b' ').next()).unwrap_or_default();
        let is_refused = matches!(key, b"path" | b"linkpath" | b"size" | b"SCHILY.realsize");
        if is_refused || key.starts_with(b"GNU.sparse.") {
            return Err("the archive has an extended header with another name or length of a file");
        }
    }
    Ok(())
}

/// A manifest to push, with the blobs that it refers to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Artifact<'a> {
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The configuration.
    pub config: Vec<u8>,
    /// The module.
    pub module: &'a [u8],
}

impl<'a> Artifact<'a> {
    /// The media type of the manifest.
    pub const MEDIA_TYPE: &'static str = MANIFEST;

    /// Returns the artifact of a module in the layout of the CNCF's TAG Runtime (`wasm-oci-artifact`). `created` is a
    /// time in seconds since 1970, and is the only thing that differs between two artifacts of one module.
    pub fn new(module: &'a [u8], annotations: &BTreeMap<String, String>, created: u64) -> Self {
        // The year 9999 is the last one that RFC 3339 can express.
        let created = std::time::Duration::from_secs(created.min(253_402_300_799));
        let created = humantime::format_rfc3339_seconds(std::time::SystemTime::UNIX_EPOCH + created).to_string();
        let digest = Digest::of(module);
        let config = json(&Config {
            created,
            architecture: "wasm",
            // What the layout has for every module that is not a component.
            os: "wasip1",
            layer_digests: [digest.to_string()],
        });
        let written =
            |media_type, bytes: &[u8]| Written { media_type, digest: Digest::of(bytes).to_string(), size: bytes.len() };
        let manifest = json(&Image {
            schema_version: 2,
            media_type: MANIFEST,
            config: written(CONFIG, &config),
            layers: [written(MODULE, module)],
            annotations,
        });
        Self { manifest, config, module }
    }

    /// Returns the digest of the manifest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Texts and numbers, which JSON can express.
    serde_json::to_vec(value).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    created: String,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [String; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Image<'a> {
    schema_version: u32,
    media_type: &'static str,
    config: Written,
    layers: [Written; 1],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    media_type: &'static str,
    digest: String,
    size: usize,
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::write::GzEncoder;

    use super::*;
    use crate::manifest::Document;

    const MODULE_BYTES: &[u8] = b"\0asm\x01\0\0\0";

    fn descriptor(media_type: &str) -> Descriptor {
        let text = format!(r#"{{"mediaType": "{media_type}", "digest": "{}", "size": 0}}"#, Digest::of(b""));
        serde_json::from_str(&text).expect("a descriptor")
    }

    fn layer(media_types: &[&str], annotations: &[(&str, &str)]) -> Result<Layer> {
        let layers = media_types.iter().map(|media_type| descriptor(media_type)).collect();
        let annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Layer::of("x", &Manifest { media_type: MANIFEST, config: descriptor("any"), layers, annotations })
    }

    fn unpack(media_type: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let layer = layer(&[media_type], &[]).expect("a layout");
        layer.unpack("x", bytes.to_vec()).map_err(|error| error.to_string())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("in memory")
    }

    /// An archive of entries: name, type, content.
    fn tar(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            // Without the checks of the crate's own method.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *content).expect("in memory");
        }
        builder.into_inner().expect("in memory")
    }

    const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
    const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    #[test]
    fn each_layout_is_unpacked() {
        use tar::EntryType::{Directory, Regular, XGlobalHeader, XHeader};
        let archive =
            tar(&[("./", Directory, b""), ("other.wasm", Regular, b"x"), ("plugin.wasm", Regular, MODULE_BYTES)]);
        // What GNU tar and Go write before a header that lacks something, here the exact time.
        let extended = tar(&[
            ("pax_global_header", XGlobalHeader, b"19 comment=builder\n"),
            ("PaxHeaders.0/other", XHeader, b"39 SCHILY.xattr.user.x=\0\npathe=\xff\nsizes\n"),
            ("other", Regular, b"x"),
            ("PaxHeaders.0/plugin.wasm", XHeader, b"28 mtime=1432668921.0985101\n11 uid=100\n"),
            ("plugin.wasm", Regular, MODULE_BYTES),
        ]);
        for (media_type, bytes) in [
            ("application/wasm", MODULE_BYTES.to_vec()),
            ("application/vnd.wasm.content.layer.v1+wasm", MODULE_BYTES.to_vec()),
            ("application/vnd.module.wasm.content.layer.v1+wasm", MODULE_BYTES.to_vec()),
            ("application/vnd.yoke.wasm.gzip", gzip(MODULE_BYTES)),
            ("application/vnd.yoke.wasm.gzip", [gzip(&MODULE_BYTES[..4]), gzip(&MODULE_BYTES[4..])].concat()),
            (TAR, archive.clone()),
            (TAR, extended.clone()),
            (TAR_GZIP, gzip(&extended)),
            (TAR_GZIP, gzip(&archive)),
            (TAR_GZIP, archive.chunks(512).map(gzip).collect::<Vec<_>>().concat()),
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                gzip(&tar(&[("./plugin.wasm", Regular, MODULE_BYTES)])),
            ),
        ] {
            assert_eq!(unpack(media_type, &bytes).as_deref(), Ok(MODULE_BYTES), "{media_type}");
        }
    }

    #[test]
    fn a_manifest_has_one_module() {
        for (types, annotations, problem) in [
            (&[][..], &[][..], Some("0 layers")),
            (&["application/wasm", "application/wasm"], &[], Some("2 layers")),
            (&["text/html"], &[], Some("\"text/html\" is not a module")),
            (&[TAR, TAR], &[], Some("2 layers")),
            (&["text/html", TAR], &[VARIANT], None),
            (&[TAR, "text/html"], &[VARIANT], Some("is not a module")),
            (&[], &[VARIANT], Some("0 layers")),
            (&[TAR, TAR], &[("module.wasm.image/variant", "other")], Some("2 layers")),
        ] {
            let problem_found = layer(types, annotations).err().map(|error| error.to_string());
            match (problem, problem_found) {
                (None, None) => {}
                (Some(problem), Some(found)) if found.contains(problem) => {}
                (problem, found) => panic!("{types:?}: {found:?} instead of {problem:?}"),
            }
        }
    }

    #[test]
    fn a_hostile_layer_is_an_error() {
        use tar::EntryType::{
            Char, GNULongLink, GNULongName, GNUSparse, Link, Regular, Symlink, XGlobalHeader, XHeader,
        };
        let good = tar(&[("plugin.wasm", Regular, MODULE_BYTES)]);
        let extended = |kind, records: &[u8]| tar(&[("x", kind, records), ("plugin.wasm", Regular, MODULE_BYTES)]);
        let long = |length| [format!("{length} comment=").as_bytes(), &*vec![b'x'; length - 15], b"\n"].concat();
        assert_eq!(unpack(TAR, &extended(XHeader, &long(MAX_EXTENDED as usize))).as_deref(), Ok(MODULE_BYTES));
        let too_long = long(MAX_EXTENDED as usize + 1);
        let solaris = tar::EntryType::new(b'X');
        for (media_type, bytes, problem) in [
            ("application/vnd.yoke.wasm.gzip", MODULE_BYTES.to_vec(), "not gzip"),
            ("application/vnd.yoke.wasm.gzip", gzip(MODULE_BYTES)[..20].to_vec(), "not gzip"),
            (TAR, tar(&[]), "no plugin.wasm"),
            (
                TAR,
                tar(&[
                    ("a/plugin.wasm", Regular, b""),
                    ("/plugin.wasm", Regular, b""),
                    ("../plugin.wasm", Regular, b""),
                ]),
                "no plugin.wasm",
            ),
            (TAR, tar(&[("plugin.wasm", Symlink, b"")]), "a link"),
            (TAR, tar(&[("plugin.wasm", Link, b"")]), "a link"),
            (TAR, tar(&[("plugin.wasm", Char, b"")]), "a link"),
            (TAR, tar(&[("plugin.wasm", Regular, b"a"), ("./plugin.wasm", Regular, b"b")]), "twice"),
            (TAR, good[..514].to_vec(), "the archive ends early"),
            (TAR, good[..100].to_vec(), "not an archive"),
            (TAR, vec![1; 1024], "not an archive"),
            (TAR, tar(&vec![("x", Regular, &b""[..]); MAX_ENTRIES + 1]), "more than 1000"),
            (TAR, tar(&[("x", GNUSparse, b""), ("plugin.wasm", Regular, MODULE_BYTES)]), "a sparse file"),
            // What gives a file another name or length, for other readers.
            (TAR, extended(GNULongName, b"plugin.wasm\0"), "a long name"),
            (TAR, extended(GNULongLink, b"x\0"), "a long name"),
            (TAR, extended(XHeader, b"10 path=y\n"), "another name or length"),
            (TAR, extended(XGlobalHeader, b"10 path=y\n"), "another name or length"),
            (TAR, extended(solaris, b"10 path=y\n"), "another name or length"),
            (TAR, extended(XHeader, b"14 linkpath=y\n"), "another name or length"),
            (TAR, extended(XHeader, b"10 size=1\n"), "another name or length"),
            (TAR, extended(XHeader, b"21 SCHILY.realsize=1\n"), "another name or length"),
            (TAR, extended(XHeader, b"23 GNU.sparse.realsize=1\n"), "cannot be read"),
            (TAR, extended(XHeader, b"25 GNU.sparse.realsize=1\n"), "another name or length"),
            (TAR, extended(XHeader, b"11 uid=100\n10 path=y\n"), "another name or length"),
            (TAR, extended(XHeader, b"22 comment=x\n9 path=y\n"), "another name or length"),
            (TAR, extended(XHeader, &too_long), "more than 64 KiB"),
            (TAR, extended(XHeader, b"11 uid=1000\n"), "cannot be read"),
            (TAR, extended(XHeader, b"99 uid=1000\n"), "cannot be read"),
            (TAR, extended(XHeader, b"18446744073709551616 uid=1\n"), "cannot be read"),
            (TAR, extended(XHeader, b"0 "), "cannot be read"),
            (TAR, extended(XHeader, b"+8 uid=1\n"), "cannot be read"),
            (TAR, extended(XHeader, b"8 uid-1\n"), "cannot be read"),
            (TAR, extended(XHeader, b"\0\0\0"), "cannot be read"),
            (TAR, extended(XHeader, &[b'x'; 600])[..1024].to_vec(), "the archive ends early"),
            (TAR_GZIP, good.clone(), "not an archive"),
        ] {
            let found = unpack(media_type, &bytes).expect_err(problem);
            assert!(found.contains(problem), "{found} instead of {problem}");
        }
        // A size that the header alone has.
        let mut header = tar::Header::new_gnu();
        header.set_path("plugin.wasm").expect("a name");
        header.set_size(MAX_MODULE + 1);
        header.set_cksum();
        assert!(unpack(TAR, header.as_bytes()).is_err_and(|error| error.contains("longer than 256 MiB")));
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let zeros = std::io::repeat(0).take(MAX_MODULE + 1);
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::copy(&mut { zeros }, &mut encoder).expect("in memory");
        let bomb = encoder.finish().expect("in memory");
        assert!(bomb.len() < 4 << 20, "{}", bomb.len());
        let error = unpack("application/vnd.yoke.wasm.gzip", &bomb).expect_err("too long");
        assert!(error.contains("more than 256 MiB"), "{error}");
    }

    #[test]
    fn what_is_written_is_what_the_layout_says() {
        let annotations = BTreeMap::from([("a".to_owned(), "\"b\"".to_owned())]);
        let artifact = Artifact::new(MODULE_BYTES, &annotations, 784_111_777);
        // Digests by `printf '\0asm\1\0\0\0' | sha256sum`, and of the configuration below.
        let module = "sha256:93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476";
        let config = format!(
            r#"{{"created":"1994-11-06T08:49:37Z","architecture":"wasm","os":"wasip1","layerDigests":["{module}"]}}"#
        );
        assert_eq!(String::from_utf8_lossy(&artifact.config), config);
        let Ok(Document::Manifest(manifest)) = Document::parse("x", &artifact.manifest) else { panic!("a manifest") };
        assert_eq!(manifest.config.digest, Digest::of(config.as_bytes()));
        assert_eq!((&*manifest.config.media_type, manifest.config.size), (CONFIG, config.len() as u64));
        let layer = Layer::of("x", &manifest).expect("a layer");
        assert_eq!((layer.descriptor.digest.to_string().as_str(), layer.descriptor.size), (module, 8));
        assert_eq!(manifest.annotations, annotations);
        let text = String::from_utf8_lossy(&artifact.manifest).into_owned();
        assert!(text.starts_with(&format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":"#)), "{text}");
    }
}
