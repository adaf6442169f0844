#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Compares a directory with what layers of tar files say it must hold.

  treecmp.py [options] DIR TAR          one layer: overlay whiteouts as devices
  treecmp.py --stack DIR TAR...         layers, lowest first, applied
  treecmp.py --dirs DIR REFERENCE       two trees, entry by entry; what eStargz
                                        adds to a layer is not looked for

A TAR may be compressed (gzip, zstd): an eStargz blob as it is. Compared are
names, types, modes, owners, times, sizes, link counts, devices, xattrs and
content. Prints what differs, one line a difference; exit 1 if anything does.
"""
import argparse
import errno
import hashlib
import io
import os
import random
import stat
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor

HIDDEN = {".prefetch.landmark", ".no.prefetch.landmark", "stargz.index.json"}
PRE = "SCHILY.xattr."
WH, OPQ = ".wh.", ".wh..wh..opq"


class Node:
    __slots__ = ("type", "mode", "uid", "gid", "mtime", "size", "link",
                 "rdev", "xattrs", "sha", "implicit", "names", "whiteout",
                 "nlink")

    def __init__(self, type):
        self.type, self.mode, self.uid, self.gid = type, 0o755, 0, 0
        self.mtime, self.size, self.link, self.rdev = None, 0, "", None
        self.xattrs, self.sha = {}, None
        self.implicit = self.whiteout = False
        self.names = 0
        self.nlink = None  # as a reference has it; of tars: the names


def clean(name):
    out = []
    for c in name.split("/"):
        if c in ("", "."):
            continue
        if c == "..":
            if out:
                out.pop()
            continue
        out.append(c)
    return "/".join(out)


def open_tar(path):
    with open(path, "rb") as f:
        magic = f.read(4)
    if magic[:2] == b"\x1f\x8b":
        return tarfile.open(path, "r:gz")
    if magic == b"\x28\xb5\x2f\xfd":
        p = subprocess.Popen(["zstd", "-dcq", path], stdout=subprocess.PIPE)
        return tarfile.open(fileobj=p.stdout, mode="r|")
    return tarfile.open(path, "r:")


def fs(s):
    return os.fsencode(s) if isinstance(s, str) else s


class Tree:
    def __init__(self):
        root = Node("dir")
        root.implicit = True
        self.nodes = {"": root}
        self.opaque = set()
        self.wh = set()

    def parents(self, name):
        while "/" in name:
            name = name.rsplit("/", 1)[0]
            n = self.nodes.get(name)
            if n is None:
                n = self.nodes[name] = Node("dir")
                n.implicit = True

    def read(self, path, hash=True):
        links = {}
        with open_tar(path) as tar:
            for m in tar:
                self.member(tar, m, links, hash)
        # Links to what comes later, or to other links.
        for name, target in links.items():
            seen = set()
            while target in links and target not in seen:
                seen.add(target)
                target = links[target]
            self.nodes[name] = self.nodes[target]
        for w in self.wh:
            if w not in self.nodes:
                n = Node("char")
                n.whiteout, n.rdev = True, 0
                self.parents(w)
                self.nodes[w] = n
        for d in self.opaque:
            self.parents(d + "/x")
        return self

    def member(self, tar, m, links, hash):
        name = clean(m.name)
        base = name.rsplit("/", 1)[-1]
        if name in HIDDEN:
            return
        if base == OPQ:
            self.opaque.add(name[:-len(OPQ)].rstrip("/"))
            return
        if base.startswith(WH):
            self.wh.add(name[:-len(base)] + base[len(WH):])
            return
        self.parents(name)
        links.pop(name, None)
        if m.islnk():
            target = clean(m.linkname)
            if target in self.nodes and target not in links:
                self.nodes[name] = self.nodes[target]
            else:
                links[name] = target
            return
        kind = ("dir" if m.isdir() else "symlink" if m.issym() else
                "char" if m.ischr() else "block" if m.isblk() else
                "fifo" if m.isfifo() else "reg")
        n = Node(kind)
        n.mode = m.mode & 0o7777
        n.uid, n.gid = m.uid, m.gid
        n.mtime = m.mtime
        if kind == "symlink":
            n.link = m.linkname
        if kind in ("char", "block"):
            n.rdev = os.makedev(m.devmajor, m.devminor)
        n.xattrs = {
            fs(k[len(PRE):]): v.encode("utf-8", "surrogateescape")
            for k, v in m.pax_headers.items() if k.startswith(PRE)}
        if kind == "reg":
            n.size = m.size
            if hash:
                h = hashlib.sha256()
                f = tar.extractfile(m)
                while True:
                    b = f.read(1 << 20)
                    if not b:
                        break
                    h.update(b)
                n.sha = h.hexdigest()
        old = self.nodes.get(name)
        if kind != "dir" and old is not None and old.type == "dir":
            self.drop(name)
        self.nodes[name] = n

    def drop(self, name):
        p = name + "/"
        for k in [k for k in self.nodes if k == name or k.startswith(p)]:
            del self.nodes[k]

    def apply(self, up):
        """Puts the layer up on top."""
        for d in up.opaque:
            for k in [k for k in self.nodes
                      if k.startswith(d + "/" if d else "") and k != d]:
                del self.nodes[k]
        for name in sorted(up.nodes):
            n = up.nodes[name]
            old = self.nodes.get(name)
            if n.whiteout:
                self.drop(name)
            elif n.type == "dir" and old is not None and old.type == "dir":
                # A parent that the layer does not have says nothing, but it
                # is a directory of the upper layer all the same.
                self.nodes[name] = n
            else:
                if old is not None:
                    self.drop(name)
                self.nodes[name] = n
        return self

    def finish(self, opaque_name, single):
        if single and opaque_name:
            for d in self.opaque:
                self.nodes[d].xattrs[opaque_name.encode()] = b"y"
        for n in set(self.nodes.values()):
            n.names = 0
        for n in self.nodes.values():
            n.names += 1
        return self


class Compare:
    def __init__(self, a):
        self.a = a
        self.bad = []
        self.files = self.bytes = self.eio = 0
        self.ignore = {x.encode() for x in getattr(a, "ignore_xattr", [])}

    def say(self, name, what, got, want):
        self.bad.append("%s: %s: got %s, want %s" % (
            ascii(name), what, got, want))

    def xattrs(self, path):
        out = {}
        try:
            for k in os.listxattr(path, follow_symlinks=False):
                if k.startswith("security.selinux"):
                    continue
                out[fs(k)] = os.getxattr(path, k, follow_symlinks=False)
        except OSError as e:
            if e.errno != errno.ENOTSUP:
                raise
        return out

    def walk(self, root):
        names = {}
        todo = [""]
        dev = os.lstat(root).st_dev
        while todo:
            d = todo.pop()
            try:
                with os.scandir(os.path.join(root, d) if d else root) as it:
                    for e in it:
                        n = d + "/" + e.name if d else e.name
                        try:
                            st = e.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            # A whiteout, in a directory that is not merged.
                            if self.a.whiteouts:
                                continue
                            raise
                        if self.a.xdev and stat.S_ISDIR(st.st_mode) and \
                                st.st_dev != dev:
                            continue
                        if st.st_ino != e.inode() and not self.a.no_ino:
                            self.say(n, "d_ino", e.inode(), st.st_ino)
                        names[n] = st
                        if stat.S_ISDIR(st.st_mode):
                            todo.append(n)
            except OSError as e:
                self.bad.append("%s: readdir: %s" % (ascii(d), e))
        names[""] = os.lstat(root)
        return names

    def file(self, root, name, n, st):
        h = hashlib.sha256()
        size = 0
        try:
            with open(os.path.join(root, name), "rb", buffering=0) as f:
                while True:
                    b = f.read(self.a.block)
                    if not b:
                        break
                    size += len(b)
                    h.update(b)
        except OSError as e:
            if self.a.allow_eio and e.errno == errno.EIO:
                self.eio += 1
            else:
                self.bad.append("%s: read at %d: %s" % (ascii(name), size, e))
            return
        self.files += 1
        self.bytes += size
        if size != n.size:
            self.say(name, "bytes read", size, n.size)
        if n.sha and h.hexdigest() != n.sha:
            self.say(name, "content", h.hexdigest()[:16], n.sha[:16])

    def node(self, root, name, n, st, inodes):
        a = self.a
        path = os.path.join(root, name) if name else root
        kind = {stat.S_IFDIR: "dir", stat.S_IFREG: "reg",
                stat.S_IFLNK: "symlink", stat.S_IFCHR: "char",
                stat.S_IFBLK: "block", stat.S_IFIFO: "fifo"}.get(
                    stat.S_IFMT(st.st_mode), "?")
        if kind != n.type:
            return self.say(name, "type", kind, n.type)
        if n.whiteout:
            if st.st_rdev:
                self.say(name, "whiteout's device", hex(st.st_rdev), 0)
            return None
        mode = stat.S_IMODE(st.st_mode)
        if mode != n.mode and not (kind == "symlink" and mode == 0o777):
            self.say(name, "mode", "%04o" % mode, "%04o" % n.mode)
        for f in ("uid", "gid"):
            if getattr(st, "st_" + f) != getattr(n, f):
                self.say(name, f, getattr(st, "st_" + f), getattr(n, f))
        if n.mtime is not None and not a.no_times and not (
                a.since and n.mtime >= a.since and
                (st.st_mtime >= a.since or not name)):
            sec, nsec = divmod(st.st_mtime_ns, 10 ** 9)
            if sec not in (int(n.mtime // 1), round(n.mtime)) or nsec:
                self.say(name, "mtime", "%d.%09d" % (sec, nsec), n.mtime)
        if kind == "symlink":
            if os.readlink(path) != n.link:
                self.say(name, "target", ascii(os.readlink(path)),
                         ascii(n.link))
            if st.st_size != len(fs(n.link)):
                self.say(name, "size", st.st_size, len(fs(n.link)))
        if kind in ("char", "block") and st.st_rdev != n.rdev:
            self.say(name, "device", hex(st.st_rdev), hex(n.rdev))
        if kind == "reg" and st.st_size != n.size:
            self.say(name, "size", st.st_size, n.size)
        if kind != "dir" and not a.no_nlink:
            want = n.names if n.nlink is None else n.nlink
            if st.st_nlink != want:
                self.say(name, "links", st.st_nlink, want)
            first = inodes.setdefault(id(n), (st.st_ino, name))
            if first[0] != st.st_ino:
                self.say(name, "inode", st.st_ino, "%d of %s" % first)
        if not a.no_xattrs:
            got = self.xattrs(path)
            want = {k: v for k, v in n.xattrs.items()
                    if not k.startswith((b"trusted.overlay.",
                                         b"user.overlay."))
                    or k.decode() == a.opaque}
            if a.opaque and n.xattrs.get(a.opaque.encode()) and \
                    name not in self.opaque:
                want.pop(a.opaque.encode(), None)
            for k in sorted((set(got) | set(want)) - self.ignore):
                if got.get(k) != want.get(k):
                    self.say(name, "xattr " + ascii(k), got.get(k),
                             want.get(k))
        return None

    def run(self, root, tree):
        a = self.a
        self.opaque = tree.opaque
        got = self.walk(root)
        if a.converted:
            got = {k: v for k, v in got.items() if k not in HIDDEN}
        for name in sorted(set(got) - set(tree.nodes)):
            self.bad.append("%s: is there, must not be" % ascii(name))
        for name in sorted(set(tree.nodes) - set(got)):
            self.bad.append("%s: missing" % ascii(name))
        inodes, subdirs = {}, {}
        for name, st in got.items():
            if name and stat.S_ISDIR(st.st_mode):
                d = name.rpartition("/")[0]
                subdirs[d] = subdirs.get(d, 0) + 1
        both = sorted(set(got) & set(tree.nodes))
        for name in both:
            n, st = tree.nodes[name], got[name]
            if n.type == "dir" and n.nlink is not None:
                # 1 where overlayfs merges.
                if st.st_nlink != n.nlink and not a.no_dir_nlink and (
                        a.merged or 1 not in (st.st_nlink, n.nlink)):
                    self.say(name, "links", st.st_nlink, n.nlink)
            elif n.type == "dir" and not a.no_dir_nlink and \
                    stat.S_ISDIR(st.st_mode) and \
                    st.st_nlink != 2 + subdirs.get(name, 0):
                self.say(name, "links", st.st_nlink,
                         2 + subdirs.get(name, 0))
            self.node(root, name, n, st, inodes)
        if a.no_content:
            return
        todo = []
        seen = set()
        for name in both:
            n = tree.nodes[name]
            if n.type == "reg" and stat.S_ISREG(got[name].st_mode) and \
                    id(n) not in seen:
                seen.add(id(n))
                todo.append(name)
        if a.order == "random":
            random.Random(a.seed).shuffle(todo)
        elif a.order == "reverse":
            todo.reverse()
        with ThreadPoolExecutor(a.jobs) as ex:
            list(ex.map(lambda x: self.file(root, x, tree.nodes[x], got[x]),
                        todo))


def tree_of_dir(root, hash, xdev, whiteouts):
    t = Tree()
    t.nodes = {}
    inodes = {}
    c = Compare(argparse.Namespace(no_ino=True, xdev=xdev,
                                   whiteouts=whiteouts))
    for name, st in c.walk(root).items():
        if name in HIDDEN:
            continue
        path = os.path.join(root, name) if name else root
        key = (st.st_dev, st.st_ino)
        if not stat.S_ISDIR(st.st_mode) and key in inodes:
            t.nodes[name] = inodes[key]
            continue
        kind = {stat.S_IFDIR: "dir", stat.S_IFREG: "reg",
                stat.S_IFLNK: "symlink", stat.S_IFCHR: "char",
                stat.S_IFBLK: "block"}.get(stat.S_IFMT(st.st_mode), "fifo")
        n = Node(kind)
        n.mode, n.uid, n.gid = stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid
        n.mtime, n.size = st.st_mtime_ns // 10 ** 9, st.st_size
        n.nlink = st.st_nlink
        n.rdev = st.st_rdev
        n.xattrs = c.xattrs(path)
        if kind == "symlink":
            n.link = os.readlink(path)
        if kind == "reg" and hash:
            h = hashlib.sha256()
            with open(path, "rb") as f:
                for b in iter(lambda: f.read(1 << 20), b""):
                    h.update(b)
            n.sha = h.hexdigest()
        inodes[key] = t.nodes[name] = n
    for d, n in t.nodes.items():
        if b"trusted.overlay.opaque" in n.xattrs or \
                b"user.overlay.opaque" in n.xattrs:
            t.opaque.add(d)
    return t


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--stack", action="store_true")
    p.add_argument("--dirs", action="store_true")
    p.add_argument("--opaque", default="trusted.overlay.opaque",
                   help="xattr of an opaque directory")
    p.add_argument("--order", choices=["name", "reverse", "random"],
                   default="name")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--block", type=int, default=1 << 17)
    for o in ("content", "xattrs", "times", "nlink", "dir-nlink", "ino"):
        p.add_argument("--no-" + o, action="store_true")
    p.add_argument("--converted", action="store_true",
                   help="DIR may have the files that eStargz adds")
    p.add_argument("--xdev", action="store_true",
                   help="leave out what is mounted below")
    p.add_argument("--since", type=int, default=0,
                   help="times from then on are all alike, and the root's is"
                   " another if the reference's is from then on")
    p.add_argument("--ignore-xattr", action="append", default=[])
    p.add_argument("--merged", action="store_true",
                   help="--dirs: REFERENCE is an overlayfs of the same layers:"
                   " directories that are merged say so in both, and of"
                   " whiteouts that it lists nothing is there")
    p.add_argument("--allow-eio", action="store_true",
                   help="a read may fail with EIO (but never give other bytes)")
    p.add_argument("--max", type=int, default=40, help="lines to print")
    p.add_argument("dir")
    p.add_argument("tars", nargs="+")
    a = p.parse_args()
    a.whiteouts = False
    hash = not a.no_content
    c = Compare(a)
    if a.dirs:
        t = tree_of_dir(a.tars[0], hash, a.xdev, a.merged)
        t.finish(None, False)
    else:
        t = Tree().read(a.tars[0], hash)
        for up in a.tars[1:]:
            t.apply(Tree().read(up, hash))
        if a.stack:
            t.opaque = set()
            for w in [k for k, n in t.nodes.items() if n.whiteout]:
                del t.nodes[w]
            a.no_dir_nlink = True
            # overlayfs has its own idea of inode numbers in readdir, and the
            # names of a file can be parted by another layer.
        t.finish(a.opaque, not a.stack)
    c.run(a.dir, t)
    for line in c.bad[:a.max]:
        print(line)
    if len(c.bad) > a.max:
        print("… and %d more" % (len(c.bad) - a.max))
    print("%d entries, %d files read, %d bytes, %d EIO, %d differences" % (
        len(t.nodes), c.files, c.bytes, c.eio, len(c.bad)))
    return 1 if c.bad else 0


if __name__ == "__main__":
    sys.exit(main())
