#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Containers that read an image while its layers complete, over and over.

handover.py sums DIR           the files below it and their digests, as JSON
handover.py run -a SOCKET -r ROOT -s SUMS [-n ROUNDS] [-c CONTAINERS]
                OCI-DIR TAG HOST/REPO:TAG

A round: the layers are not in the cache; the image is pulled; each container
is an overlayfs of what Prepare, View or Mounts says, made at a moment of its own. Those
with an even number stay until all layers are the kernel's, and a file is open and
mapped in each the whole time; the others end at once and begin again. All
read files at random, and compare. Then everything is removed, and no mount and
no process may be left. Prints a line at the first error, and what there was.
"""
import argparse
import ctypes
import hashlib
import json
import mmap
import os
import random
import shutil
import sys
import threading
import time
import types

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lazypull  # noqa: E402
import snapctl  # noqa: E402

WAIT_S = 120
BATCH = 12  # files between two looks at the layers
LIBC = ctypes.CDLL(None, use_errno=True)


def files(top):
    for d, _, names in os.walk(top):
        for n in names:
            path = os.path.join(d, n)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def digest(data):
    return hashlib.sha256(data).hexdigest()


def sums(top):
    out = {}
    for path in files(top):
        with open(path, "rb") as f:
            out[os.path.relpath(path, top)] = digest(f.read())
    json.dump(out, sys.stdout)


def mount(m, where):
    options = ",".join(o for o in m["options"] if o not in ("ro", "rw"))
    if LIBC.mount(m["source"].encode(), where.encode(), m["type"].encode(),
                  0, options.encode()) < 0:
        raise OSError(ctypes.get_errno(), "mount: " + options)


def umount(where):
    if LIBC.umount2(where.encode(), 0) < 0:
        raise OSError(ctypes.get_errno(), "umount: " + where)


def mounts_below(where):
    with open("/proc/self/mountinfo") as f:
        return [x.split()[4] for x in f if x.split()[4].startswith(where)]


def serving(root):
    """The processes of layers below a root."""
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % p, "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if b"--supervisor=3" in words and any(
                w.startswith(root.encode() + b"/m/") for w in words):
            yield p


def wait_for(what, holds):
    until = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(0.005)


class Round:
    def __init__(self, o, client, n):
        self.o, self.client, self.n = o, client, n
        self.errors = []
        self.named = {"m": 0, "e": 0, "c": 0}
        self.lock = threading.Lock()
        self.chains = list(lazypull.chain_ids(
            o.oci, lazypull.manifest(o.oci, o.tag)))
        self.n_layers = len({x["digest"] for x in
                             lazypull.manifest(o.oci, o.tag)["layers"]})

    def pull(self):
        layers = lazypull.manifest(self.o.oci, self.o.tag)["layers"]
        how = types.SimpleNamespace(labels="cri", cut=None, no_toc=False,
                                    toc=None, ref=self.o.ref)
        parent = ""
        for i, chain in enumerate(self.chains):
            got = lazypull.prepare(
                self.client, "extract-%d %s" % (i, chain), parent,
                lazypull.labels_of(how, layers, i, chain))
            if got != "lazy":
                raise RuntimeError("layer %d is %s" % (i, got))
            parent = chain

    def all_native(self):
        return len(mounts_below(self.o.root + "/e/")) == self.n_layers

    def check(self, top, name):
        with open(os.path.join(top, name), "rb") as f:
            if digest(f.read()) != self.o.sums[name]:
                raise ValueError("wrong bytes: " + name)

    def count(self, m):
        lower = next(o for o in m["options"] if o.startswith("lowerdir="))
        with self.lock:
            for d in filter(None, lower[9:].split(":")):
                kind = d[len(self.o.root) + 1:].split("/")[0]
                self.named[kind] = self.named.get(kind, 0) + 1

    def begin(self, key, where, rnd):
        make = rnd.choice((self.client.prepare, self.client.view))
        m = make(key, self.chains[-1])["mounts"][0]
        if rnd.random() < 0.3:
            m = self.client.mounts(key)["mounts"][0]
        self.count(m)
        mount(m, where)

    def container(self, number, stays, rnd):
        key = "c%d-%d-%d" % (self.n, number, rnd.getrandbits(40))
        where = os.path.join(self.o.dir, key)
        os.mkdir(where)
        self.begin(key, where, rnd)
        names = list(self.o.sums)
        mapped = rnd.choice([n for n in names if os.path.getsize(
            os.path.join(where, n)) > 0])
        with open(os.path.join(where, mapped), "rb") as f:
            p = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
            over = False
            while not over:
                over = not stays or self.all_native()
                for name in rnd.sample(names, min(BATCH, len(names))):
                    self.check(where, name)
            if digest(p) != self.o.sums[mapped] or \
                    digest(f.read()) != self.o.sums[mapped]:
                raise ValueError("wrong bytes, mapped: " + mapped)
            p.close()
        umount(where)
        os.rmdir(where)
        self.client.remove(key)

    def live(self, number):
        rnd = random.Random("%s %d %d" % (self.o.seed, self.n, number))
        try:
            time.sleep(rnd.random() * 0.3)
            if number % 2 == 0:
                self.container(number, True, rnd)
            else:
                until = time.monotonic() + WAIT_S
                while not self.all_native():
                    self.container(number, False, rnd)
                    if time.monotonic() > until:
                        raise TimeoutError("layers do not complete")
        except Exception as e:  # pylint: disable=broad-except
            self.errors.append("round %d, container %d: %r" % (
                self.n, number, e))

    def nothing_left(self):
        return not any(mounts_below("%s/%s/" % (self.o.root, d))
                       for d in "mec") and not any(serving(self.o.root))

    def run(self):
        self.pull()
        threads = [threading.Thread(target=self.live, args=(i,))
                   for i in range(self.o.containers)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if self.errors:
            raise RuntimeError(self.errors[0])
        # The last container is gone: the layers' processes, too.
        wait_for("processes are left", lambda: not any(serving(self.o.root)))
        for chain in reversed(self.chains):
            self.client.remove(chain)
        wait_for("mounts are left", self.nothing_left)
        shutil.rmtree(self.o.root + "/layers")


def run(o):
    client = snapctl.Client(o.address)
    named = {}
    with open(o.sums) as f:
        o.sums = json.load(f)
    for n in range(o.rounds):
        r = Round(o, client, n)
        r.run()
        for k, v in r.named.items():
            named[k] = named.get(k, 0) + v
    print(json.dumps({"rounds": o.rounds, "containers": o.containers,
                      "named": named}))


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    sub = p.add_subparsers(dest="command", required=True)
    s = sub.add_parser("sums")
    s.add_argument("dir")
    r = sub.add_parser("run")
    r.add_argument("-a", "--address", required=True)
    r.add_argument("-r", "--root", required=True)
    r.add_argument("-s", "--sums", required=True)
    r.add_argument("-d", "--dir", required=True, help="for mount points")
    r.add_argument("-n", "--rounds", type=int, default=1)
    r.add_argument("-c", "--containers", type=int, default=20)
    r.add_argument("--seed", default="0")
    for a in ("oci", "tag", "ref"):
        r.add_argument(a)
    o = p.parse_args()
    return sums(o.dir) if o.command == "sums" else run(o)


if __name__ == "__main__":
    sys.exit(main())
