#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Splits a tar into N of about the same size: split.py TAR N OUT-DIR

Entries stay in order; directories that a later part needs are in it again, and
a hard link whose file is in another part is left out.
"""
import os
import sys
import tarfile


def parents(name):
    while os.path.dirname(name):
        name = os.path.dirname(name)
        yield name


def main():
    src, n, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with tarfile.open(src) as t:
        members = t.getmembers()
        dirs = {m.name: m for m in members if m.isdir()}
        size = sum(m.size + 512 for m in members) / n
        part, done, have = -1, 0, set()
        to = None
        for m in members:
            if done >= (part + 1) * size or to is None:
                if to is not None:
                    to.close()
                part += 1
                to = tarfile.open("%s/%d.tar" % (out, part), "w",
                                  format=tarfile.PAX_FORMAT)
                have = set()
            done += m.size + 512
            if m.islnk() and m.linkname not in have:
                continue
            for d in reversed(list(parents(m.name))):
                if d in dirs and d not in have:
                    have.add(d)
                    to.addfile(dirs[d])
            if m.name not in have:
                have.add(m.name)
                to.addfile(m, t.extractfile(m) if m.isreg() else None)
        to.close()


if __name__ == "__main__":
    main()
