#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Layers of packages as a Dockerfile of many lines has them:
stack.py OUT-DIR TAR:PARTS...

Each TAR is a layer in which apt-get has installed packages; it becomes PARTS
layers, each with some of the packages, as if apt-get had been called so often.
What apt-get writes each time anew is in all of them: so many layers have the
same paths, directories and files. Files of no package are in the last part.
Marks of opaque directories go: what was made alone would hide another's files.
Prints the names of the layers, the lowest first.
"""
import os
import sys
import tarfile

INFO = "var/lib/dpkg/info/"
# Written by whoever installs something.
EACH = ("etc/ld.so.cache", "var/cache/ldconfig/aux-cache",
        "var/lib/dpkg/status", "var/lib/dpkg/status-old",
        "var/lib/apt/extended_states", "var/log/dpkg.log",
        "var/log/apt/history.log", "var/log/apt/term.log",
        "var/log/apt/eipp.log.xz", "var/log/alternatives.log")
MERGED = ("bin/", "sbin/", "lib/", "lib32/", "lib64/", "libx32/")


def clean(name):
    name = os.path.normpath(name).lstrip("/")
    return "" if name == "." else name


def owners(tar, members):
    """Path to package, by what dpkg has written down."""
    out = {}
    for name, m in members.items():
        if not name.startswith(INFO):
            continue
        pkg = os.path.splitext(name[len(INFO):])[0].split(":")[0]
        out[name] = pkg
        if not name.endswith(".list"):
            continue
        for line in tar.extractfile(m).read().decode().split("\n"):
            p = line.lstrip("/")
            # As merged /usr has it.
            out[("usr/" + p) if p.startswith(MERGED) else p] = pkg
    return out


def assign(members, owner, n):
    """Path to part: packages by name, parts of about as many entries."""
    files = [p for p, m in members.items() if not m.isdir() and p not in EACH]
    files.sort(key=lambda p: (p not in owner, owner.get(p, ""), p))
    out, last, part = {}, None, 0
    for i, p in enumerate(files):
        pkg = owner.get(p)
        if pkg is None:
            part = n - 1
        elif pkg != last:
            part = i * n // len(files)
        out[p] = part
        last = pkg
    return out


def write(tar, members, names, out):
    have = set()
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as to:
        def put(name):
            if name in have:
                return
            have.add(name)
            if name:
                put(os.path.dirname(name))
            m = members.get(name)
            if m is None:
                return
            if m.islnk():
                put(clean(m.linkname))
            to.addfile(m, tar.extractfile(m) if m.isreg() else None)

        for name in names:
            put(name)


def split(path, n, out, stem):
    with tarfile.open(path) as tar:
        members = {clean(m.name): m for m in tar.getmembers()
                   if not m.name.endswith("/.wh..wh..opq")}
        part_of = assign(members, owners(tar, members), n)
        each = [p for p in EACH if p in members]
        for part in range(n):
            names = [p for p in members if part_of.get(p) == part] + each
            if part == n - 1:
                names += [p for p, m in members.items() if m.isdir()]
            name = "%s/%s-%d.tar" % (out, stem, part)
            write(tar, members, sorted(names), name)
            print(name)


def main():
    for i, arg in enumerate(sys.argv[2:]):
        path, n = arg.rsplit(":", 1)
        split(path, int(n), sys.argv[1], "%02d" % i)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main()
