#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Reads every file of a mounted hostile blob: rdcheck.py DIR BLOB.json

A read gives the right bytes (files in the JSON) or EIO, never other bytes.
Where the case expects EIO, it is those in "bad" and no others. Exit 1 with a
line for each file that is wrong.
"""
import errno
import hashlib
import json
import os
import stat
import sys

root, meta = sys.argv[1], json.load(open(sys.argv[2]))
bad, eio, right = [], [], 0
for d, dirs, names in os.walk(root, onerror=lambda e: bad.append(str(e))):
    for n in dirs + names:
        path = os.path.join(d, n)
        name = os.path.relpath(path, root)
        try:
            st = os.lstat(path)
            try:
                os.listxattr(path, follow_symlinks=False)
            except OSError as e:
                # What a layer without any says.
                if e.errno != errno.ENOTSUP:
                    raise
            if stat.S_ISLNK(st.st_mode):
                os.readlink(path)
            if not stat.S_ISREG(st.st_mode):
                continue
            h = hashlib.sha256()
            with open(path, "rb", buffering=0) as f:
                for b in iter(lambda: f.read(1 << 17), b""):
                    h.update(b)
        except OSError as e:
            if e.errno != errno.EIO:
                bad.append("%s: %s" % (ascii(name), e))
            eio.append(name)
            continue
        want = meta["files"].get(name)
        if want and want != h.hexdigest():
            bad.append("%s: wrong bytes" % ascii(name))
        right += 1
if meta["expect"] == "eio":
    for n in eio:
        if n not in meta["bad"]:
            bad.append("%s: EIO, but nothing is wrong with it" % ascii(n))
print("\n".join(bad + ["%d right, EIO: %s" % (right, eio)]))
sys.exit(1 if bad else 0)
