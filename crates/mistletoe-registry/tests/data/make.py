#!/usr/bin/env python3
"""Makes the keys and vectors of the tests of signatures, and a certificate, with openssl and after the specifications:

- https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md
- https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md
- https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto
- https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md
- https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md

It writes to the directory that it is in. Keys and the numbers in ECDSA's signatures are random, so each run makes
others. Every signature is verified with openssl before it is used. The private keys are for these tests alone.
"""

import base64
import hashlib
import json
import os
import subprocess
import tempfile

os.chdir(os.path.dirname(os.path.abspath(__file__)))
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://sigstore.dev/cosign/sign/v1"
TYPE = "cosign container image signature"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def openssl(*arguments, stdin=b""):
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True).stdout


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def compact(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def b64(data):
    return base64.b64encode(data).decode()


# Keys.
for name, options in {
    "p256": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "other": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "ed25519": ["ed25519"],
    "p384": ["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "p521": ["EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
    "secp256k1": ["EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
    "ed448": ["ed448"],
    "x25519": ["x25519"],
    "rsa": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
}.items():
    openssl("genpkey", "-algorithm", *options, "-out", f"{name}.key")
    openssl("pkey", "-in", f"{name}.key", "-pubout", "-out", f"{name}.pub")
openssl("pkey", "-in", "p256.key", "-pubout", "-ec_conv_form", "compressed", "-out", "compressed.pub")
openssl("pkey", "-in", "p256.key", "-traditional", "-out", "sec1.key")
openssl("pkey", "-in", "p384.key", "-traditional", "-out", "sec1-p384.key")
openssl("pkey", "-in", "rsa.key", "-traditional", "-out", "pkcs1.key")
openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", "ecparam.key")
openssl("pkey", "-in", "p256.key", "-aes256", "-passout", "pass:secret", "-out", "encrypted.key")
openssl("ec", "-in", "p256.key", "-no_public", "-out", "no-public.key")
with open("both.pub", "w") as both:
    both.write("Two keys, and a text around them.\n")
    both.writelines(open(f"{name}.pub").read() for name in ["ed25519", "p256"])

# The certificate of the tests' server. `openssl ca` is the one command that takes the day from which it is valid.
with tempfile.TemporaryDirectory() as directory:
    names = "DNS:localhost,DNS:registry.example,IP:127.0.0.1"
    new = ["req", "-new", "-newkey", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost"]
    openssl(*new, "-keyout", "server.key", "-out", f"{directory}/request")
    open(f"{directory}/index", "w").close()
    open(f"{directory}/config", "w").write(
        f"[ca]\ndefault_ca = own\n[own]\ndatabase = {directory}/index\nnew_certs_dir = {directory}\n"
        "policy = any\nx509_extensions = server\ndefault_md = sha256\nunique_subject = no\n"
        "rand_serial = yes\n[any]\ncommonName = supplied\n"
        f"[server]\nbasicConstraints = critical,CA:FALSE\nsubjectAltName = {names}\n"
    )
    days = ["-startdate", "20200101000000Z", "-enddate", "21200101000000Z"]
    ca = ["ca", "-config", f"{directory}/config", "-selfsign", "-keyfile", "server.key", "-batch"]
    openssl(*ca, "-notext", *days, "-in", f"{directory}/request", "-out", "server.pem")


def sign(message, key="p256", hash="-sha256"):
    with tempfile.TemporaryDirectory() as directory:
        text, signature = f"{directory}/text", f"{directory}/signature"
        open(text, "wb").write(message)
        if key == "ed25519":
            files = ["-rawin", "-in", text]
            openssl("pkeyutl", "-sign", "-inkey", f"{key}.key", *files, "-out", signature)
            openssl("pkeyutl", "-verify", "-pubin", "-inkey", f"{key}.pub", *files, "-sigfile", signature)
        else:
            openssl("dgst", hash, "-sign", f"{key}.key", "-out", signature, text)
            openssl("dgst", hash, "-verify", f"{key}.pub", "-signature", signature, text)
        return open(signature, "rb").read()


def openssl_takes(message, signature):
    with tempfile.TemporaryDirectory() as directory:
        open(f"{directory}/text", "wb").write(message)
        open(f"{directory}/signature", "wb").write(signature)
        command = ["openssl", "dgst", "-sha256", "-verify", "p256.pub", "-signature", f"{directory}/signature"]
        return subprocess.run([*command, f"{directory}/text"], capture_output=True).returncode == 0


def integers(signature):
    length = signature[3]
    r, s = signature[4 : 4 + length], signature[6 + length :]
    return int.from_bytes(r, "big"), int.from_bytes(s, "big")


def der(r, s):
    def integer(value):
        data = value.to_bytes(value.bit_length() // 8 + 1, "big")
        return bytes([2, len(data)]) + data

    body = integer(r) + integer(s)
    return bytes([0x30, len(body)]) + body


# What is signed: the manifest of a module, and another one.
SUBJECT = compact({"schemaVersion": 2, "mediaType": MANIFEST, "layers": []})
OTHER = compact({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "annotations": {"other": "manifest"}})


def descriptor(media_type, data, **more):
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


def payload(subject=SUBJECT, type=TYPE, reference="registry.example/apps/web", optional=None):
    image = {"docker-manifest-digest": digest(subject)}
    return compact({
        "critical": {"identity": {"docker-reference": reference}, "image": image, "type": type},
        "optional": optional,
    })


def layer(data, signature, media_type=SIMPLE):
    """A layer and its content; the signature is in base64."""
    annotations = {} if signature is None else {"dev.cosignproject.cosign/signature": signature}
    return descriptor(media_type, data, annotations=annotations), data


def signed(data, key="p256"):
    return layer(data, b64(sign(data, key)))


def manifest(layers, **more):
    config = descriptor("application/vnd.oci.image.config.v1+json", b"{}")
    return compact({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, **more})


def simple(*layers, **more):
    """The objects of cosign 2."""
    tag = digest(SUBJECT).replace(":", "-") + ".sig"
    return {tag: manifest([layer for layer, _ in layers])}, {digest(data): data for _, data in layers}


def statement(of=SUBJECT, type=STATEMENT, predicate=PREDICATE, **more):
    subjects = [{"digest": {"sha256": digest(of).removeprefix("sha256:")}}]
    return compact({"_type": type, "predicate": {}, "predicateType": predicate, "subject": subjects, **more})


def pae(type, data):
    return b"DSSEv1 %d %s %d %s" % (len(type), type.encode(), len(data), data)


def hint(key):
    return b64(hashlib.sha256(openssl("pkey", "-pubin", "-in", f"{key}.pub", "-outform", "DER")).digest())


def bundle(data=None, key="p256", type=IN_TOTO, signature=None, envelope={}, material=None, **more):
    data = statement() if data is None else data
    signature = b64(sign(pae(type, data), key)) if signature is None else signature
    dsse = {"payload": b64(data), "payloadType": type, "signatures": [{"sig": signature}], **envelope}
    material = {"publicKey": {"hint": hint(key)}} if material is None else material
    return {"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": dsse, **more}


ANNOTATIONS = {"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": PREDICATE}


def referrer(data, subject=SUBJECT):
    """The manifest of a bundle."""
    return compact({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor(BUNDLE, data)],
        "subject": descriptor(MANIFEST, subject),
        "annotations": ANNOTATIONS,
    })


def entry(data, type=BUNDLE):
    return descriptor(MANIFEST, data, artifactType=type, annotations=ANNOTATIONS)


def bundles(*contents, before=[]):
    """The objects of cosign 3, in a registry without the referrers API."""
    contents = [data if isinstance(data, bytes) else compact(data) for data in contents]
    manifests = [referrer(data) for data in contents]
    index = compact({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [*before, *(entry(data) for data in manifests)],
    })
    tag = digest(SUBJECT).replace(":", "-")
    return {tag: index, **{digest(data): data for data in manifests}}, {digest(data): data for data in contents}


def both(one, other):
    return {**one[0], **other[0]}, {**one[1], **other[1]}


def replaced(objects, old, new):
    """The objects with a text in their manifests replaced."""
    assert any(old in data for data in objects[0].values())
    return {name: data.replace(old, new) for name, data in objects[0].items()}, objects[1]


def swapped(objects, of, data):
    """The objects with other contents under the same digest."""
    assert digest(of) in objects[0] or digest(of) in objects[1]
    return tuple({name: data if name == digest(of) else old for name, old in part.items()} for part in objects)


vectors = []


def vector(name, expected, objects, keys="p256"):
    manifests, blobs = ({name: data.decode() for name, data in part.items()} for part in objects)
    vectors.append({
        "name": name,
        "expected": expected,
        "keys": f"{keys}.pub",
        "subject": digest(SUBJECT),
        "manifests": manifests,
        "blobs": blobs,
    })


good = payload()
raw = sign(good)
r, s = integers(raw)
low, high = der(r, min(s, ORDER - s)), der(r, max(s, ORDER - s))
assert openssl_takes(good, low) and openssl_takes(good, high)
attestation = bundle(statement(predicate="https://slsa.dev/provenance/v1"))

vector("cosign 2, ECDSA", "SimpleSigning", simple(signed(good)))
vector("cosign 2, Ed25519", "SimpleSigning", simple(signed(good, "ed25519")), "ed25519")
vector("cosign 2, a low s", "SimpleSigning", simple(layer(good, b64(low))))
vector("cosign 2, a high s", "SimpleSigning", simple(layer(good, b64(high))))
vector("cosign 2, the second of two signatures is good", "SimpleSigning", simple(signed(good, "other"), signed(good)))
vector("cosign 2, the second of two keys is good", "SimpleSigning", simple(signed(good)), "both")
vector("cosign 2, a layer of another kind", "SimpleSigning", simple(layer(b"{}", None, "text/plain"), signed(good)))
claims = payload(optional={"creator": "a", "nested": {"a": [1, -2, 3.5, True, None]}})
vector("cosign 2, claims and space", "SimpleSigning", simple(signed(b" \n" + claims.replace(b'":', b'" :\t') + b"\r\n")))
vector("cosign 2, another reference", "SimpleSigning", simple(signed(payload(reference="elsewhere.example/x"))))
vector("cosign 3, ECDSA", "Bundle", bundles(bundle()))
vector("cosign 3, Ed25519", "Bundle", bundles(bundle(key="ed25519")), "ed25519")
vector("cosign 3, two keys", "Bundle", bundles(bundle()), "both")
vector("cosign 3, without the name of the key", "Bundle", bundles(bundle(material={"publicKey": {}})))
vector("cosign 3, with an entry of a log", "Bundle",
       bundles(bundle(material={"publicKey": {"hint": hint("p256")}, "tlogEntries": [{"logIndex": "1"}]})))
vector("cosign 3, an attestation comes first", "Bundle", bundles(attestation, bundle()))
vector("cosign 3, artifacts of other types", "Bundle",
       bundles(bundle(), before=[entry(b"{}", "application/spdx+json"), descriptor(MANIFEST, b"{}")]))
vector("cosign 3, claims of the subject", "Bundle", bundles(bundle(statement(subject=[
    {"annotations": {"a": "b"}, "digest": {"sha256": digest(SUBJECT)[7:]}, "name": "registry.example/apps/web"}]))))
vector("both, only cosign 2's is good", "SimpleSigning", both(bundles(bundle(key="other")), simple(signed(good))))
vector("both, only cosign 3's is good", "Bundle", both(bundles(bundle()), simple(signed(good, "other"))))

vector("unsigned", "Unsigned", ({}, {}))
vector("unsigned, layers of another kind", "Unsigned", simple(layer(good, b64(raw), "text/plain")))
vector("unsigned, artifacts of another type", "Unsigned", bundles(before=[entry(b"{}", "application/spdx+json")]))

vector("cosign 2, another key", "WrongKey", simple(signed(good, "other")))
vector("cosign 2, a key of another algorithm", "WrongKey", simple(signed(good)), "ed25519")
vector("cosign 2, Ed25519 for a key of ECDSA", "WrongKey", simple(signed(good, "ed25519")))
vector("cosign 2, SHA-384", "WrongKey", simple(layer(good, b64(sign(good, hash="-sha384")))))
vector("cosign 2, the signature of another text", "WrongKey", simple(layer(good, b64(sign(payload(OTHER))))))
vector("cosign 2, s is the order of the curve", "WrongKey", simple(layer(good, b64(der(r, ORDER)))))
vector("cosign 2, another manifest", "OtherSubject", simple(signed(payload(OTHER))))
upper = good.replace(digest(SUBJECT).encode(), digest(SUBJECT).upper().replace("SHA", "sha").encode())
vector("cosign 2, the digest in capitals", "OtherSubject", simple(signed(upper)))
vector("cosign 2, another type", "OtherType", simple(signed(payload(type="atomic container signature"))))
vector("cosign 2, swapped content", "Swapped", swapped(simple(signed(good)), good, payload(OTHER)))
vector("cosign 2, no content", "Missing", (simple(signed(good))[0], {}))
vector("cosign 2, no annotation", "NoAnnotation", simple(layer(good, None)))
vector("cosign 2, not base64", "InvalidBase64", simple(layer(good, "%" + b64(raw)[1:])))
vector("cosign 2, base64 without its end", "InvalidBase64", simple(layer(good, b64(raw + b"1" * (-len(raw) % 3 + 1)).rstrip("="))))
vector("cosign 2, base64 with a line break", "InvalidBase64", simple(layer(good, b64(raw) + "\n")))
vector("cosign 2, an empty signature", "InvalidSignature", simple(layer(good, "")))
vector("cosign 2, a cut signature", "InvalidSignature", simple(layer(good, b64(low[:-1]))))
vector("cosign 2, a byte after the signature", "InvalidSignature", simple(layer(good, b64(raw + b"\0"))))
vector("cosign 2, a byte in the sequence", "InvalidSignature",
       simple(layer(good, b64(bytes([0x30, raw[1] + 1]) + raw[2:] + b"\0"))))
vector("cosign 2, a long length in DER", "InvalidSignature", simple(layer(good, b64(b"\x30\x81" + raw[1:]))))
vector("cosign 2, an indefinite length in DER", "InvalidSignature",
       simple(layer(good, b64(b"\x30\x80" + raw[2:] + b"\0\0"))))
padded = b"\x02" + bytes([raw[3] + 1]) + b"\0" + raw[4:]
vector("cosign 2, a zero before r", "InvalidSignature", simple(layer(good, b64(bytes([0x30, raw[1] + 1]) + padded))))
vector("cosign 2, a negative s", "InvalidSignature",
       simple(layer(good, b64(b"\x30\x06\x02\x01\x01\x02\x01\x80"))))
vector("cosign 2, r is zero", "InvalidSignature", simple(layer(good, b64(der(0, s)))))
vector("cosign 2, a text that is not JSON", "InvalidJson", simple(signed(b"sha256:" + good)))
name = b'"docker-manifest-digest":"'
twice = good.replace(name, name + digest(OTHER).encode() + b'",' + name)
vector("cosign 2, two digests", "InvalidJson", simple(signed(twice)))
last = good.replace(b'"type"', b'"image":' + compact({"docker-manifest-digest": digest(OTHER)}) + b',"type"')
vector("cosign 2, two images", "InvalidJson", simple(signed(last)))
vector("cosign 2, a name twice with an escape", "InvalidJson",
       simple(signed(good.replace(b'"type":', b'"\\u0074ype":"other","type":'))))
vector("cosign 2, a text after the text", "InvalidJson", simple(signed(good + good)))
vector("cosign 2, nested too deeply", "InvalidJson",
       simple(signed(good.replace(b'"optional":null', b'"optional":' + b"[" * 200 + b"]" * 200))))
vector("cosign 2, nothing critical", "InvalidJson", simple(signed(b'{"optional":{}}')))
vector("cosign 2, a manifest that is not JSON", "InvalidJson", replaced(simple(signed(good)), b"{", b"["))
vector("cosign 2, a manifest with two lists of layers", "InvalidJson",
       replaced(simple(signed(good)), b'"layers":', b'"layers":[],"layers":'))
vector("cosign 2, a length beyond the limit", "TooLong",
       replaced(simple(signed(good)), b'"size":%d' % len(good), b'"size":1048577'))
vector("cosign 2, a digest by another algorithm", "InvalidDigest",
       replaced(simple(signed(good)), digest(good).encode(), b"sha512:" + hashlib.sha512(good).hexdigest().encode()))

vector("cosign 3, another key", "WrongKey", bundles(bundle(key="other")))
vector("cosign 3, another key without its name", "WrongKey", bundles(bundle(key="other", material={"publicKey": {}})))
vector("cosign 3, a changed statement", "Changed", bundles(bundle(envelope={"payload": b64(statement(OTHER))})))
vector("cosign 3, a changed type of the text", "Changed", bundles(bundle(envelope={"payloadType": "text/plain"})))
vector("cosign 3, a signature without DSSE", "Changed", bundles(bundle(signature=b64(sign(statement())))))
vector("cosign 3, a signature of cosign 2", "Changed", bundles(bundle(signature=b64(raw))))
vector("cosign 3, another manifest", "OtherSubject", bundles(bundle(statement(OTHER))))
vector("cosign 3, a digest by another algorithm", "OtherSubject",
       bundles(bundle(statement(subject=[{"digest": {"sha512": hashlib.sha512(SUBJECT).hexdigest()}}]))))
vector("cosign 3, no subject", "NotOne", bundles(bundle(statement(subject=[]))))
subjects = [{"digest": {"sha256": digest(subject)[7:]}} for subject in [SUBJECT, OTHER]]
vector("cosign 3, two subjects", "NotOne", bundles(bundle(statement(subject=subjects))))
vector("cosign 3, an attestation", "OtherType", bundles(attestation))
vector("cosign 3, an older statement", "OtherType", bundles(bundle(statement(type="https://in-toto.io/Statement/v0.1"))))
vector("cosign 3, a text of another type", "OtherType", bundles(bundle(type="application/json")))
signatures = [{"sig": b64(sign(pae(IN_TOTO, statement())))} for _ in range(2)]
vector("cosign 3, no signature", "NotOne", bundles(bundle(envelope={"signatures": []})))
vector("cosign 3, two signatures", "NotOne", bundles(bundle(envelope={"signatures": signatures})))
vector("cosign 3, a certificate", "Certificate", bundles(bundle(material={"certificate": {"rawBytes": ""}})))
vector("cosign 3, a key and certificates", "Certificate", bundles(bundle(
    material={"publicKey": {"hint": hint("p256")}, "x509CertificateChain": {"certificates": []}})))
message = bundle(messageSignature={"signature": b64(raw)})
del message["dsseEnvelope"]
vector("cosign 3, no envelope", "NoEnvelope", bundles(message))
older = "application/vnd.dev.sigstore.bundle+json;version=0.2"
vector("cosign 3, an older bundle", "OtherBundle", bundles(bundle(mediaType=older)))
vector("cosign 3, a statement that is not base64", "InvalidBase64", bundles(bundle(envelope={"payload": "e30"})))
vector("cosign 3, a signature that is not base64", "InvalidBase64", bundles(bundle(signature="_-==")))
vector("cosign 3, a signature that is not DER", "InvalidSignature", bundles(bundle(signature=b64(b"signature"))))
vector("cosign 3, a bundle that is not JSON", "InvalidJson", bundles(b"bundle"))
text = compact(bundle())
vector("cosign 3, a text after the bundle", "InvalidJson", bundles(text + b"{}"))
vector("cosign 3, two envelopes", "InvalidJson", bundles(text.replace(b'"dsseEnvelope":', b'"dsseEnvelope":{},"dsseEnvelope":')))
vector("cosign 3, a statement with two types", "InvalidJson",
       bundles(bundle(statement().replace(b'"predicateType":', b'"predicateType":"other","predicateType":'))))
vector("cosign 3, no content", "Missing", (bundles(bundle())[0], {}))
objects = bundles(bundle())
vector("cosign 3, no manifest", "Missing",
       ({name: data for name, data in objects[0].items() if ":" not in name}, objects[1]))
(stored,) = objects[1].values()
vector("cosign 3, swapped content", "Swapped", swapped(objects, stored, compact(bundle(statement(OTHER)))))
vector("cosign 3, a swapped manifest", "Swapped", swapped(objects, referrer(stored), referrer(b"{}")))
changed = referrer(stored).replace(PREDICATE.encode(), b"https://slsa.dev/provenance/v1")
vector("cosign 3, a changed annotation", "Swapped", swapped(objects, referrer(stored), changed))
vector("cosign 3, an index that is not JSON", "InvalidJson", replaced(objects, b'"manifests":', b'"manifests"'))
two = json.loads(referrer(stored))
two["layers"] *= 2
two = compact(two)
index = objects[0][digest(SUBJECT).replace(":", "-")].replace(digest(referrer(stored)).encode(), digest(two).encode())
index = index.replace(b'"size":%d' % len(referrer(stored)), b'"size":%d' % len(two))
vector("cosign 3, two layers", "NotOne", ({digest(SUBJECT).replace(":", "-"): index, digest(two): two}, objects[1]))

json.dump(vectors, open("vectors.json", "w"), indent=1)
open("vectors.json", "a").write("\n")

# What a signature with Ed25519 has to be, to the last byte.
content = compact(bundle(key="ed25519"))
made = {
    "signed": SUBJECT.decode(),
    "bundle": content.decode(),
    "manifest": referrer(content).decode(),
    "index": bundles(content)[0][digest(SUBJECT).replace(":", "-")].decode(),
}
json.dump(made, open("made.json", "w"), indent=1)
open("made.json", "a").write("\n")
print(len(vectors), "vectors")
