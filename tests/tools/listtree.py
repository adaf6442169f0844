#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prints all that stat, readlink, listxattr and read say of a tree.

  listtree.py DIR      a line an entry, sorted; times but those of access
"""
import hashlib
import os
import stat
import sys


def show(path, name):
    st = os.lstat(path)
    out = [os.fsencode(name), b"%d %o %d %d:%d %d %d %d" % (
        st.st_ino, st.st_mode, st.st_nlink, st.st_uid, st.st_gid,
        0 if stat.S_ISDIR(st.st_mode) else st.st_size, st.st_mtime_ns,
        st.st_rdev)]
    for x in sorted(os.listxattr(path, follow_symlinks=False)):
        value = os.getxattr(path, x, follow_symlinks=False)
        out.append(b"%s=%s" % (x.encode(), value.hex().encode()))
    if stat.S_ISLNK(st.st_mode):
        out.append(os.fsencode(os.readlink(path)))
    if stat.S_ISREG(st.st_mode):
        with open(path, "rb") as f:
            out.append(hashlib.sha256(f.read()).hexdigest().encode())
    return b"|".join(o.replace(b"\n", b"\\n") for o in out)


def main():
    top = sys.argv[1]
    lines = [show(top, ".")]
    for dir, dirs, files in os.walk(top):
        for n in dirs + files:
            p = os.path.join(dir, n)
            lines.append(show(p, os.path.relpath(p, top)))
    sys.stdout.buffer.write(b"\n".join(sorted(lines)) + b"\n")


main()
