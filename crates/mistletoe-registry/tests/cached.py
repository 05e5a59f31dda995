#!/usr/bin/env python3
"""Compares the time of `mistctl generate` from a cached reference with that from a file.

    cargo build --release -p mistctl --features registry
    crates/mistletoe-registry/tests/cached.py target/release/mistctl examples/packages/namespace-c.wasm

Both run in turn, so that what else the machine does meets both. The package is measured as it is, and with a custom
section that makes it 1.9 MB long. The registry is this program; it ends before anything is measured.
"""

import hashlib
import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

RUNS = 200
LONG = 1_900_000


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def leb128(number):
    encoded = b""
    while number > 127:
        encoded, number = encoded + bytes([number & 127 | 128]), number >> 7
    return encoded + bytes([number])


def padded(module):
    section = b"\x03pad" + os.urandom(LONG - len(module))
    return module + b"\0" + leb128(len(section)) + section


def artifact(module):
    config = b"{}"
    descriptor = lambda kind, data: {"mediaType": kind, "digest": digest(data), "size": len(data)}
    manifest = {
        "schemaVersion": 2,
        "config": descriptor("application/vnd.wasm.config.v0+json", config),
        "layers": [descriptor("application/wasm", module)],
    }
    return json.dumps(manifest).encode()


def serve(content):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            data = content.get(self.path.rsplit("/", 1)[1])
            self.send_response(200 if data else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def generate(mistctl, package, environment):
    begin = time.perf_counter()
    command = [mistctl, "generate", "web", "-p", package]
    subprocess.run(command, env=environment, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begin) * 1000


def main(mistctl, module):
    small = open(module, "rb").read()
    with tempfile.TemporaryDirectory() as directory:
        environment = {"MISTLETOE_CACHE": f"{directory}/cache", "DOCKER_CONFIG": directory, "HOME": directory}
        packages = []
        for name, data in [("as it is", small), ("1.9 MB", padded(small))]:
            manifest = artifact(data)
            server = serve({digest(manifest): manifest, digest(data): data})
            reference = f"oci://127.0.0.1:{server.server_port}/web@{digest(manifest)}"
            file = f"{directory}/{len(packages)}.wasm"
            open(file, "wb").write(data)
            generate(mistctl, reference, environment)
            server.shutdown()
            server.server_close()
            packages.append((name, file, reference))
        # What was written a moment ago is compared with its digest once more.
        time.sleep(4)
        for name, file, reference in packages:
            times = {file: [], reference: []}
            for run in range(RUNS + 2):
                for package in [file, reference] if run % 2 else [reference, file]:
                    times[package].append(generate(mistctl, package, environment))
            files, references = times[file][2:], times[reference][2:]
            differences = [b - a for a, b in zip(files, references)]
            low, median, high = statistics.quantiles(differences, n=4)
            print(
                f"{name}: {statistics.median(files):.2f} ms from a file, {statistics.median(references):.2f} ms from a "
                f"reference; difference {median:.2f} ms (quartiles {low:.2f}, {high:.2f}), "
                f"of the fastest {min(references) - min(files):.2f} ms"
            )


main(*sys.argv[1:])
