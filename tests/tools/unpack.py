#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Unpacks a layer's tar to a directory as overlayfs wants it: whiteouts as
devices, opaque directories marked.

  unpack.py [--user] TAR DIR [TAR DIR]...

Later entries replace earlier ones, as in the index of a layer; times without
their fractions. What estargz adds to a layer is left out.
"""
import os
import shutil
import stat
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from treecmp import HIDDEN, OPQ, PRE, WH, clean, open_tar  # noqa


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def attributes(path, m):
    os.chown(path, m.uid, m.gid, follow_symlinks=False)
    if not m.issym():
        os.chmod(path, stat.S_IMODE(m.mode))
    for k, v in m.pax_headers.items():
        name = k[len(PRE):]
        if k.startswith(PRE) and not name.startswith(
                ("trusted.overlay.", "user.overlay.")):
            os.setxattr(path, name, v.encode("utf-8", "surrogateescape"),
                        follow_symlinks=False)


def make(tar, m, path, root):
    if m.isdir():
        if not os.path.isdir(path) or os.path.islink(path):
            remove(path)
            os.mkdir(path)
    elif m.islnk():
        target = os.path.join(root, clean(m.linkname))
        remove(path)
        os.link(target, path, follow_symlinks=False)
        return
    else:
        remove(path)
        if m.issym():
            os.symlink(m.linkname, path)
        elif m.isreg():
            with open(path, "wb") as f:
                shutil.copyfileobj(tar.extractfile(m), f)
        elif m.isfifo():
            os.mkfifo(path)
        else:
            os.mknod(path, (stat.S_IFBLK if m.isblk() else stat.S_IFCHR) |
                     0o600, os.makedev(m.devmajor, m.devminor))
    attributes(path, m)


def unpack(src, root, user):
    os.makedirs(root, exist_ok=True)
    os.chmod(root, 0o755)
    times, whiteouts, opaque = {root: 0}, [], []
    with open_tar(src) as tar:
        for m in tar:
            name = clean(m.name)
            dir, _, base = name.rpartition("/")
            if name in HIDDEN:
                continue
            path = os.path.join(root, name) if name else root
            parent = os.path.dirname(path)
            if name and not os.path.isdir(parent):
                os.makedirs(parent, 0o755)
            if base == OPQ:
                opaque.append(os.path.join(root, dir))
            elif base.startswith(WH):
                whiteouts.append(os.path.join(root, dir, base[len(WH):]))
            else:
                make(tar, m, path, root)
                if not m.islnk():
                    times[path] = m.mtime
    for w in whiteouts:
        if not os.path.lexists(w):
            os.mknod(w, stat.S_IFCHR)
    for d in opaque:
        os.setxattr(d, "user.overlay.opaque" if user
                    else "trusted.overlay.opaque", b"y")
    for path in sorted(times, reverse=True):
        if os.path.lexists(path):
            t = int(times[path] // 1)
            os.utime(path, (t, t), follow_symlinks=False)


def main():
    user = sys.argv[1] == "--user"
    a = sys.argv[1 + user:]
    for i in range(0, len(a), 2):
        unpack(a[i], a[i + 1], user)


if __name__ == "__main__":
    main()
