#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the tars of a stack of layers with everything that layers do to one
another, from a number.

  mkstack.py SEED N DIR [ENTRIES]       DIR/0.tar (lowest) to DIR/<N-1>.tar

Few names, so that most of them meet others of other types: whiteouts, opaque
directories, files over directories and the reverse, hardlinks, symbolic links,
devices, attributes, ACLs, depth, a directory of thousands of names.
"""
import io
import os
import random
import sys
import tarfile

PRE = "SCHILY.xattr."
NAMES = ["a", "b", "c", "d", "e", "lib", "bin", "etc", ".hidden", "!before",
         "-", "...", "é", "x" * 200]
ACL = bytes([2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0,
             0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255,
             255, 32, 0, 4, 0, 255, 255, 255, 255])


class Layer:
    def __init__(self, rnd, path, number):
        self.r, self.number = rnd, number
        self.tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)
        self.have = {}  # what the layer has: name to type
        self.whited = set()
        self.dir("")

    def info(self, name, kind):
        m = tarfile.TarInfo(name or "./")
        m.type = kind
        m.mode = self.r.choice([0o644, 0o755, 0o600, 0o4755, 0o1777, 0o2750])
        m.uid, m.gid = self.r.randrange(3) * 1000, self.r.randrange(70000)
        m.mtime = self.r.randrange(1, 1 << 31)
        return m

    def put(self, m, name, kind, data=None):
        if kind != "link" and self.r.random() < .15:
            m.pax_headers[PRE + "trusted.t"] = str(self.r.random())
            if kind in ("dir", "reg"):
                m.pax_headers[PRE + "user.layer"] = str(self.number)
        if kind in ("dir", "reg") and self.r.random() < .05:
            m.pax_headers[PRE + "system.posix_acl_access"] = \
                ACL.decode("utf-8", "surrogateescape")
            m.mode = 0o644
        self.tar.addfile(m, data)
        self.have[name] = kind

    def dir(self, name):
        if name:
            self.parents(name)
        self.put(self.info(name, tarfile.DIRTYPE), name, "dir")

    def parents(self, name):
        dir = name.rpartition("/")[0]
        if dir and self.have.get(dir) != "dir":
            self.dir(dir)

    def free(self, name):
        """Whether the name can be made: below directories, and new."""
        if name in self.have or name in self.whited:
            return False
        while "/" in name:
            name = name.rpartition("/")[0]
            if self.have.get(name, "dir") != "dir" or name in self.whited:
                return False
        return True

    def reg(self, name, data):
        self.parents(name)
        m = self.info(name, tarfile.REGTYPE)
        m.size = len(data)
        self.put(m, name, "reg", io.BytesIO(data))

    def other(self, name, kind):
        self.parents(name)
        m = self.info(name, kind)
        if kind == tarfile.SYMTYPE:
            m.linkname = self.r.choice(NAMES) * self.r.randrange(1, 18)
        elif kind == tarfile.LNKTYPE:
            of = [n for n, k in self.have.items() if k != "dir"]
            if not of:
                return
            m.linkname = self.r.choice(of)
            return self.put(m, name, "link")
        elif kind != tarfile.FIFOTYPE:
            m.devmajor, m.devminor = self.r.randrange(1, 300), \
                self.r.randrange(100000)
        self.put(m, name, "other")

    def whiteout(self, name):
        dir, _, base = name.rpartition("/")
        self.parents(name)
        self.whited.add(name)
        self.tar.addfile(tarfile.TarInfo((dir and dir + "/") + ".wh." + base))

    def opaque(self, name):
        if self.have.get(name, "dir") == "dir" and (
                name in self.have or self.free(name)):
            if name not in self.have:
                self.dir(name)
            self.tar.addfile(tarfile.TarInfo(
                (name and name + "/") + ".wh..wh..opq"))

    def some(self):
        depth = self.r.choice([1, 1, 2, 2, 2, 3, 3, 4, 6])
        name = "/".join(self.r.choice(NAMES) for _ in range(depth))
        what = self.r.random()
        if what < .05:
            return self.opaque(name)
        if not self.free(name):
            return None
        if what < .20:
            return self.whiteout(name)
        if what < .45:
            return self.dir(name)
        if what < .80:
            return self.reg(name, self.r.randbytes(self.r.choice(
                [0, 1, 100, 4095, 4096, 4097, 9000])))
        return self.other(name, self.r.choice([
            tarfile.SYMTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE,
            tarfile.LNKTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE,
            tarfile.BLKTYPE, tarfile.FIFOTYPE]))

    def many(self, n):
        for i in range(n):
            k = self.r.randrange(n * 2)
            name = "many/%s%d" % ("n" * (k % 90), k)
            if self.free(name):
                if self.r.random() < .2:
                    self.whiteout(name)
                else:
                    self.reg(name, b"x" * (k % 3))

    def deep(self, depth):
        name = ""
        for i in range(depth):
            name += ("/" if name else "") + "deep"
            if not self.free(name) and self.have.get(name) != "dir":
                return
            if name not in self.have:
                self.dir(name)
        self.reg(name + "/%d" % self.number, b"deep")


def main():
    seed, n, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    entries = int(sys.argv[4]) if len(sys.argv) > 4 else 120
    r = random.Random(seed)
    for i in range(n):
        l = Layer(r, "%s/%d.tar" % (out, i), i)
        for _ in range(entries):
            l.some()
        if r.random() < .5:
            l.many(r.choice([5, 400]))
        if r.random() < .3:
            l.deep(r.choice([20, 200]))
        l.tar.close()


if __name__ == "__main__":
    main()
