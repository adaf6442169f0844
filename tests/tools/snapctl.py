#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Client of a snapshotter's gRPC socket, for tests.

snapctl.py -a SOCKET COMMAND [ARGUMENTS]
  prepare KEY [PARENT]      mount KEY DIR       list [FILTER...]
  view KEY [PARENT]         commit NAME KEY     usage KEY
  mounts KEY                remove KEY          cleanup
  stat KEY                  update KEY          health [SERVICE]
  batch                     commands from stdin, a line each, quoted as sh does
-l KEY=VALUE  a label (prepare, view, commit, update), any number
-p PATH       of the field mask (update), any number

Prints one line of JSON, list a line a snapshot. A call that fails: exit 1, and
"CODE: message" on stderr; batch prints {"error": CODE, "message": …}
and goes on. Tests in Python import it and use Client.
"""
import argparse
import importlib
import json
import os
import shlex
import subprocess
import sys
import tempfile

import grpc

SERVICE = "/containerd.services.snapshots.v1.Snapshots/"
KINDS = ["unknown", "view", "active", "committed"]


def stubs():
    """The messages of snapshots.proto, as a Python module."""
    top = os.environ.get("top_srcdir") or os.path.join(
        os.path.dirname(os.path.abspath(__file__)), "../..")
    with tempfile.TemporaryDirectory() as d:
        subprocess.run(["protoc", "-I" + top + "/daemon/snapshotter",
                        "--python_out=" + d, "snapshots.proto"], check=True)
        sys.path.insert(0, d)
        try:
            return importlib.import_module("snapshots_pb2")
        finally:
            sys.path.remove(d)


def time_ns(t):
    return t.seconds * 10**9 + t.nanos


def info_dict(i):
    return {"name": i.name, "parent": i.parent, "kind": KINDS[i.kind],
            "created_ns": time_ns(i.created_at),
            "updated_ns": time_ns(i.updated_at),
            "labels": dict(i.labels)}


def mounts_dict(m):
    return {"mounts": [{"type": x.type, "source": x.source,
                        "target": x.target, "options": list(x.options)}
                       for x in m.mounts]}


class Client:
    """Each method returns what snapctl.py prints; errors are grpc.RpcError."""

    def __init__(self, address, namespace=None, snapshotter="estargz",
                 timeout=120, options=()):
        self.pb = stubs()
        self.channel = grpc.insecure_channel(
            "unix:" + address, options=(("grpc.enable_http_proxy", 0),
                                        *options))
        self.metadata = ([("containerd-namespace", namespace)]
                         if namespace else None)
        self.snapshotter = snapshotter
        self.timeout = timeout

    def request(self, message, /, **fields):
        return getattr(self.pb, message)(snapshotter=self.snapshotter,
                                         **fields)

    def method(self, name, reply, stream=False):
        make = self.channel.unary_stream if stream else self.channel.unary_unary
        return make(SERVICE + name,
                    request_serializer=lambda m: m.SerializeToString(),
                    response_deserializer=getattr(self.pb, reply).FromString)

    def call(self, method, request, reply):
        return self.method(method, reply)(request, timeout=self.timeout,
                                          metadata=self.metadata)

    def prepare(self, key, parent="", labels=None):
        return mounts_dict(self.call("Prepare", self.request(
            "PrepareSnapshotRequest", key=key, parent=parent,
            labels=labels or {}), "PrepareSnapshotResponse"))

    def view(self, key, parent="", labels=None):
        return mounts_dict(self.call("View", self.request(
            "ViewSnapshotRequest", key=key, parent=parent,
            labels=labels or {}), "ViewSnapshotResponse"))

    def mounts(self, key):
        return mounts_dict(self.call("Mounts", self.request(
            "MountsRequest", key=key), "MountsResponse"))

    def commit(self, name, key, labels=None):
        self.call("Commit", self.request(
            "CommitSnapshotRequest", name=name, key=key,
            labels=labels or {}), "Empty")
        return {}

    def remove(self, key):
        self.call("Remove", self.request("RemoveSnapshotRequest", key=key),
                  "Empty")
        return {}

    def stat(self, key):
        return info_dict(self.call("Stat", self.request(
            "StatSnapshotRequest", key=key), "StatSnapshotResponse").info)

    def update(self, key, labels=None, paths=()):
        mask = self.pb.FieldMask(paths=paths) if paths else None
        return info_dict(self.call("Update", self.request(
            "UpdateSnapshotRequest",
            info=self.pb.Info(name=key, labels=labels or {}),
            update_mask=mask), "UpdateSnapshotResponse").info)

    def list(self, *filters):
        call = self.method("List", "ListSnapshotsResponse", stream=True)
        for m in call(self.request("ListSnapshotsRequest", filters=filters),
                      timeout=self.timeout, metadata=self.metadata):
            for i in m.info:
                yield info_dict(i)

    def usage(self, key):
        u = self.call("Usage", self.request("UsageRequest", key=key),
                      "UsageResponse")
        return {"size": u.size, "inodes": u.inodes}

    def cleanup(self):
        self.call("Cleanup", self.request("CleanupRequest"), "Empty")
        return {}

    def health(self, service=""):
        """grpc.health.v1: both messages are small enough to do by hand."""
        name = service.encode()
        call = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        reply = call(b"\n" + bytes([len(name)]) + name if name else b"",
                     timeout=self.timeout)
        return {"status": "SERVING" if reply == b"\x08\x01" else reply.hex()}

    def mount(self, key, where):
        """What containerd does with the mounts of a snapshot."""
        got = self.mounts(key)
        for m in got["mounts"]:
            do_mount(m, where)
        return got


def do_mount(m, where):
    bind = m["type"] == "bind"
    options = [o for o in m["options"] if o not in ("bind", "rbind")]
    args = ["-i", "--rbind"] if bind else ["-i", "-t", m["type"]]
    cwd = None
    if options and not bind:
        cwd, options = shorten(options)
        args += ["-o", ",".join(options)]
    subprocess.run(["mount", *args, m["source"], where], check=True, cwd=cwd)
    if bind and "ro" in options:
        subprocess.run(["mount", "-o", "remount,bind,ro", where], check=True)


def shorten(options):
    """A page is all that mount(2) takes. As containerd does it, long lists of lower
    directories are relative to a working directory."""
    lower = next((o for o in options if o.startswith("lowerdir=")), "")
    dirs = lower[len("lowerdir="):].split(":")
    if sum(map(len, options)) < 3500 or len(dirs) < 2:
        return None, options
    top = os.path.commonpath(dirs)
    short = "lowerdir=" + ":".join(os.path.relpath(d, top) for d in dirs)
    return top, [short if o == lower else o for o in options]


def parser():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("-a", "--address",
                   default=os.environ.get("SNAPSHOTTER_ADDRESS"))
    p.add_argument("-n", "--namespace")
    p.add_argument("-s", "--snapshotter", default="estargz")
    p.add_argument("-t", "--timeout", type=float, default=120)
    command_arguments(p)
    return p


def command_arguments(p):
    p.add_argument("-l", "--label", action="append", default=[])
    p.add_argument("-p", "--path", action="append", default=[])
    p.add_argument("command")
    p.add_argument("args", nargs="*")


def run(client, o):
    labels = dict(x.split("=", 1) for x in o.label)
    if o.command in ("prepare", "view", "commit"):
        return getattr(client, o.command)(*o.args, labels=labels)
    if o.command == "update":
        return client.update(*o.args, labels=labels, paths=o.path)
    if o.command in ("mounts", "mount", "remove", "stat", "list", "usage",
                     "cleanup", "health"):
        return getattr(client, o.command)(*o.args)
    raise SystemExit("snapctl: what is " + o.command + "?")


def show(result):
    for line in [result] if isinstance(result, dict) else result:
        print(json.dumps(line), flush=True)


def batch(client):
    p = argparse.ArgumentParser()
    command_arguments(p)
    for line in sys.stdin:
        try:
            show(run(client, p.parse_intermixed_args(shlex.split(line))))
        except grpc.RpcError as e:
            show({"error": e.code().name, "message": e.details()})


def main():
    o = parser().parse_intermixed_args()
    if not o.address:
        raise SystemExit("snapctl: no --address")
    client = Client(o.address, o.namespace, o.snapshotter, o.timeout)
    try:
        if o.command == "batch":
            batch(client)
        else:
            show(run(client, o))
    except grpc.RpcError as e:
        print(e.code().name + ": " + (e.details() or ""), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
