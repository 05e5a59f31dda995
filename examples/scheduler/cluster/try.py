#!/usr/bin/env python3
"""Runs the scheduler extender with a real kube-scheduler, and checks where pods land.

Builds etcd, kube-apiserver and kube-scheduler from the Go modules in `go.mod` (some minutes, once), starts them on
loopback, and creates nodes without kubelets: a pod has landed when the scheduler has bound it. The scheduler's
configuration is that of `../kubernetes/scheduler.yaml`, with the address of this extender. Everything is in a temporary
directory, which is removed at the end.

Needs Go, openssl, and `mistctl` with the feature `serve`; `--mistctl` says where it is.
"""

import argparse
import base64
import collections
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
if not TARGET.is_absolute():
    TARGET = ROOT / TARGET
PACKAGES = ROOT / "examples/packages"
# How long anything may take, in seconds.
PATIENCE = 60
TOKEN = "cluster-of-a-test"
NODES = ["node-1", "node-2", "node-3", "control"]

# A plugin that refuses nodes for now (status 2): pods that go may change that. Its reason says so.
FULL = """(module
  (import "k8s.io/scheduler" "result.status_reason" (func $reason (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "the quota is used up")
  (func (export "filter") (result i32)
    (call $reason (i32.const 0) (i32.const 20))
    (i32.const 2)))"""
# A plugin that never returns.
HANGS = """(module
  (memory (export "memory") 1)
  (func (export "filter") (result i32) (loop (br 0)) (unreachable)))"""

# One route for each extender that a scheduler is given below.
EXTENDER = f"""
[server]
listen = "127.0.0.1:0"
[[route]]
path = "/number/..."
kind = "scheduler"
plugins = [{{ module = "{PACKAGES}/node-number-c.wasm" }}]
[[route]]
path = "/full/..."
kind = "scheduler"
plugins = [{{ module = "full.wat" }}]
[[route]]
path = "/hangs/..."
kind = "scheduler"
plugins = [{{ module = "hangs.wat" }}]
[[route]]
path = "/left-out/..."
kind = "scheduler"
plugins = [{{ module = "hangs.wat", on_failure = "ignore" }}, {{ module = "{PACKAGES}/node-number-c.wasm" }}]
"""

# No proxy of the environment: everything is on loopback.
DIRECT = urllib.request.ProxyHandler({})


class Failure(Exception):
    """What did not hold."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Programs:
    """The programs that run, with their output in files."""

    def __init__(self, directory, stack):
        self.directory, self.stack, self.running = directory, stack, {}

    def start(self, name, *command):
        output = open(self.directory / f"{name}.out", "wb")
        errors = open(self.directory / f"{name}.log", "wb")
        process = subprocess.Popen([str(word) for word in command], cwd=self.directory, stdout=output, stderr=errors)
        output.close()
        errors.close()
        self.running[name] = process
        self.stack.callback(self.stop, name)

    def stop(self, name):
        process = self.running.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self, name):
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def wait(self, what, found):
        """Polls until `found` returns something; programs that end before are failures."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if (value := found()) is not None:
                return value
            for name, process in self.running.items():
                if process.poll() is not None:
                    raise Failure(f"{name} ended with {process.returncode}:\n{self.log(name)[-2000:]}")
            time.sleep(0.05)
        raise Failure(f"{what}: not within {PATIENCE} s")


class Api:
    """The Kubernetes API."""

    def __init__(self, port, ca):
        self.url, self.ca, self.opener = f"https://127.0.0.1:{port}", ca, None

    def request(self, method, path, body=None):
        if self.opener is None:
            tls = ssl.create_default_context(cafile=self.ca)
            self.opener = urllib.request.build_opener(DIRECT, urllib.request.HTTPSHandler(context=tls))
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with self.opener.open(request, timeout=PATIENCE) as response:
            return json.load(response)

    def found(self, path):
        """The object, or nothing as long as there is none."""
        try:
            return self.request("GET", path)
        except urllib.error.HTTPError as error:
            if error.code in (403, 404):
                return None
            raise
        except OSError:
            return None

    def create_node(self, name):
        labels = {"kubernetes.io/hostname": name}
        node = self.request("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
        room = {"cpu": "4", "memory": "4Gi", "pods": "100"}
        node["status"] = {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]}
        self.request("PUT", f"/api/v1/nodes/{name}/status", node)

    def create_pod(self, name, node=None, cpu="100m", priority=None):
        container = {"name": "main", "image": "registry.example/main:1", "resources": {"requests": {"cpu": cpu}}}
        spec = {"containers": [container]}
        if node:
            spec["nodeSelector"] = {"kubernetes.io/hostname": node}
        if priority:
            spec["priorityClassName"] = priority
        self.request("POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": name}, "spec": spec})

    def pods(self):
        return self.request("GET", "/api/v1/namespaces/default/pods")["items"]

    def delete_pods(self):
        for pod in self.pods():
            self.remove_pod(pod["metadata"]["name"])

    def remove_pod(self, name):
        """Removes a pod at once. There is no kubelet to confirm its end."""
        self.request("DELETE", f"/api/v1/namespaces/default/pods/{name}", {"gracePeriodSeconds": 0})

    def node_of(self, name):
        return self.request("GET", f"/api/v1/namespaces/default/pods/{name}")["spec"].get("nodeName")

    def refusal(self, name):
        """The message of an event that the pod was not scheduled."""
        events = self.request("GET", f"/api/v1/namespaces/default/events?fieldSelector=involvedObject.name={name}")
        messages = [event["message"] for event in events["items"] if event["reason"] == "FailedScheduling"]
        return messages[0] if messages else None


class Cluster:
    def __init__(self, directory, programs, binaries, mistctl, engine):
        self.directory, self.programs, self.binaries = directory, programs, binaries
        self.start_api()
        self.start_extender(mistctl, engine)

    def start_api(self):
        client, peer, port = (free_port() for _ in range(3))
        self.programs.start(
            "etcd", self.binaries / "server", "--data-dir", "etcd", "--unsafe-no-fsync",
            "--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls", f"http://127.0.0.1:{client}",
            "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", f"default=http://127.0.0.1:{peer}")
        key = self.directory / "service-accounts.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (self.directory / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
        self.programs.start(
            "kube-apiserver", self.binaries / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{client}",
            "--cert-dir=certificates", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
            f"--secure-port={port}", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://cluster.example", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", "--token-auth-file=tokens.csv", "--authorization-mode=AlwaysAllow",
            # Their parts are those of controllers, which do not run here.
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition")
        ca = self.directory / "certificates/apiserver.crt"
        self.api = Api(port, ca)
        self.programs.wait("the certificate", lambda: True if ca.exists() and ca.stat().st_size else None)
        self.programs.wait("the namespace", lambda: self.api.found("/api/v1/namespaces/default"))
        self.kubeconfig = self.directory / "kubeconfig"
        self.kubeconfig.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": self.api.url, "certificate-authority-data": base64.b64encode(ca.read_bytes()).decode()}}],
            "users": [{"name": "c", "user": {"token": TOKEN}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]}))
        for node in NODES:
            self.api.create_node(node)
        for name, value in (("low", 1), ("high", 1000)):
            self.api.request("POST", "/apis/scheduling.k8s.io/v1/priorityclasses",
                             {"metadata": {"name": name}, "value": value})

    def start_extender(self, mistctl, engine):
        (self.directory / "full.wat").write_text(FULL)
        (self.directory / "hangs.wat").write_text(HANGS)
        (self.directory / "serve.toml").write_text(EXTENDER)
        self.programs.start("extender", mistctl, "serve", "--backend", engine, "serve.toml")

        def address():
            line = re.search(r"listening on (http://[\d.:]+\d)", self.programs.log("extender"))
            return line and line[1]

        self.extender = self.programs.wait("the extender", address)

    def start_scheduler(self, route, **keys):
        """Starts a scheduler with one extender. `keys` are changes of its configuration."""
        self.programs.stop("kube-scheduler")
        text = (HERE.parent / "kubernetes/scheduler.yaml").read_text()
        keys |= {"urlPrefix": f"{self.extender}/{route}", "kubeconfig": self.kubeconfig}
        for key, value in keys.items():
            text, count = re.subn(rf"\b{key}: \S+", f"{key}: {value}", text)
            if count != 1:
                raise Failure(f"scheduler.yaml has {count} lines with `{key}`")
        config = self.directory / "scheduler.yaml"
        config.write_text(text + "leaderElection:\n  leaderElect: false\n")
        self.programs.start("kube-scheduler", self.binaries / "kube-scheduler", f"--config={config}", "--secure-port=0",
                            f"--authentication-kubeconfig={self.kubeconfig}",
                            f"--authorization-kubeconfig={self.kubeconfig}")

    def landed(self, pod):
        return self.programs.wait(f"{pod} on a node", lambda: self.api.node_of(pod))

    def refused(self, pod):
        return self.programs.wait(f"an event of {pod}", lambda: self.api.refusal(pod))

    def requests(self):
        """The number of responses to each path, by status, from the extender's access log."""
        lines = (self.directory / "extender.out").read_text().splitlines()
        requests = [line for line in map(json.loads, lines) if line["event"] == "request"]
        return collections.Counter((line["target"], line["status"]) for line in requests)


@contextlib.contextmanager
def scenario(cluster, title, route, **keys):
    """One scheduler with one extender. Checks that it was asked."""
    before = cluster.requests()
    cluster.start_scheduler(route, **keys)
    print(f"{title}:")
    yield
    cluster.api.delete_pods()

    def asked():
        new = cluster.requests() - before
        return new if any(path.startswith(f"/{route}/") for path, _ in new) else None

    new = cluster.programs.wait(f"a request to {route}", asked)
    print("    requests:", ", ".join(f"{path} {status} x{count}" for (path, status), count in sorted(new.items())))
    others = [path for path, _ in new if not path.startswith(f"/{route}/")]
    if others:
        raise Failure(f"requests of another extender: {others}")


def expect(what, found, expected):
    """Fails unless a text contains what is expected, or another value is it."""
    print(f"    {what}: {found}")
    held = expected in found if isinstance(found, str) else found == expected
    if not held:
        raise Failure(f"{what}: {expected!r} was expected")


def lands(cluster):
    """Each pod lands on the node of its number, and not because there is less on it."""
    for number in (1, 2, 3, 3, 3, 2, 1):
        name = f"web-{len(cluster.api.pods())}-{number}"
        cluster.api.create_pod(name)
        expect(name, cluster.landed(name), f"node-{number}")


def run(cluster):
    with scenario(cluster, "nodes as objects", "number"):
        lands(cluster)
        cluster.api.create_pod("away-1", node="control")
        expect("the event of away-1", cluster.refused("away-1"), "1 the node's name does not end with a digit")

    with scenario(cluster, "names of nodes", "number", nodeCacheCapable="true"):
        lands(cluster)

    with scenario(cluster, "preemption", "number"):
        cluster.api.create_pod("first-1", node="node-1", cpu="4", priority="low")
        expect("first-1", cluster.landed("first-1"), "node-1")
        cluster.api.create_pod("second-1", node="node-1", cpu="4", priority="high")

        def victim():
            pods = {pod["metadata"]["name"]: pod["metadata"] for pod in cluster.api.pods()}
            return True if "deletionTimestamp" in pods["first-1"] else None

        cluster.programs.wait("the victim", victim)
        cluster.api.remove_pod("first-1")
        expect("second-1", cluster.landed("second-1"), "node-1")
        expect("preempt was asked", cluster.requests()["/number/preempt", 200] > 0, True)

    with scenario(cluster, "a plugin that refuses with status 2", "full"):
        cluster.api.create_pod("refused-1")
        expect("the event of refused-1", cluster.refused("refused-1"), "4 the quota is used up")

    with scenario(cluster, "a plugin that hangs, `ignorable: true`", "hangs", ignorable="true"):
        start = time.monotonic()
        cluster.api.create_pod("goes-on-1")
        expect("goes-on-1 is on a node", cluster.landed("goes-on-1") in NODES, True)
        print(f"    after {time.monotonic() - start:.1f} s")

    with scenario(cluster, "a plugin that hangs, `ignorable: false`", "hangs", ignorable="false"):
        cluster.api.create_pod("waits-1")
        expect("the event of waits-1", cluster.refused("waits-1"), "wasm: filter error")
        expect("waits-1 has no node", cluster.api.node_of("waits-1") is None, True)

    with scenario(cluster, "a plugin that hangs, `on_failure = \"ignore\"`, with a second plugin", "left-out"):
        cluster.api.create_pod("web-3")
        expect("web-3", cluster.landed("web-3"), "node-3")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--mistctl", type=pathlib.Path, default=TARGET / "debug/mistctl", help="the program to try")
    arguments.add_argument("--backend", default="wasmi", help="the engine (default: wasmi)")
    arguments.add_argument("--logs", type=pathlib.Path, help="copy the output of all programs into this directory")
    options = arguments.parse_args()
    binaries = TARGET / "cluster"
    binaries.mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", "build", "-o", f"{binaries}/", "tool"], cwd=HERE, check=True)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        directory = pathlib.Path(directory)
        try:
            programs = Programs(directory, stack)
            run(Cluster(directory, programs, binaries, options.mistctl.resolve(), options.backend))
        except Failure as failure:
            sys.exit(f"error: {failure}")
        finally:
            if options.logs:
                options.logs.mkdir(parents=True, exist_ok=True)
                for file in [*directory.glob("*.log"), *directory.glob("*.out")]:
                    shutil.copy(file, options.logs)
    print("all held")


if __name__ == "__main__":
    main()
