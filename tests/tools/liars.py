#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Blobs of which one thing is not as it says, for `estargz verify`.

  liars.py DIR      writes DIR/NAME.esgz and DIR/NAME.want: a regular expression
                    for a line about it; "right" is the blob they all come from
"""
import io
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from esgz import Blob, Entry, sha256, tar_header  # noqa

CHUNK = 4096
BIG = bytes(i * i % 251 for i in range(3 * CHUNK + 77))
OTHER = "sha256:" + "0" * 64
CASES = {}


def fill(b):
    """The blob of all; b.at: where its chunks are."""
    b.add("d", type="dir", uid=5, gid=6)
    b.add("d/a", data=b"first\n" * 50, xattrs={"user.x": b"\0\1"})
    b.add("d/big", data=BIG, mode=0o4755)
    b.add("d/sym", type="symlink", link="a")
    b.add("d/hard", type="hardlink", link="d/a")
    b.add("d/null", type="char", major=1, minor=3)
    b.add("d/fifo", type="fifo")
    b.add("empty")
    b.add("z", data=b"last")


def find(b, name, n=0):
    return [t for t in b.toc if t["name"].rstrip("/") == name][n]


def case(want, **kw):
    """A function that changes what the TOC says, after all is written."""
    def reg(f):
        CASES[f.__name__[2:].replace("_", "-")] = (f, want, kw)
        return f
    return reg


def lie(name, entry, key, value, want, n=0):
    def f(b):
        t = find(b, entry, n)
        t[key] = value(t.get(key)) if callable(value) else value
    CASES[name] = (f, want, {})


lie("mode", "d/big", "mode", 0o755, "^d/big: mode 4755, the TOC says 0755")
lie("uid", "d", "uid", 7, "^d: uid 5, the TOC says 7")
lie("gid", "d", "gid", 7, "^d: gid 6, the TOC says 7")
lie("mtime", "z", "modtime", "2001-01-01T00:00:00Z", "^z: mtime 1600000000, ")
lie("size", "z", "size", 5, "^z: size 4, the TOC says 5")
lie("size-less", "z", "size", 3, "^z: size 4, the TOC says 3")
lie("type", "d/fifo", "type", "char", "^d/fifo: type fifo, the TOC says char")
lie("symlink", "d/sym", "linkName", "b", "^d/sym: links to a, the TOC says b")
lie("hardlink", "d/hard", "linkName", "d/big", "^d/hard: links to d/a, ")
lie("major", "d/null", "devMajor", 2, "^d/null: major 1, the TOC says 2")
lie("minor", "d/null", "devMinor", 2, "^d/null: minor 3, the TOC says 2")
lie("xattr", "d/a", "xattrs", {"user.x": "AAI="}, "^d/a: xattr user.x ")
lie("xattr-more", "d/a", "xattrs", {"user.x": "AAE=", "user.y": ""},
    "^d/a: 1 xattrs, the TOC says 2")
lie("digest", "d/a", "chunkDigest", OTHER,
    "^d/a: at [0-9]+: chunk at 0 is sha256:.* the TOC says sha256:0000")
lie("digest-2", "d/big", "chunkDigest", OTHER,
    "^d/big: at [0-9]+: chunk at 4096 is sha256:", 1)
lie("offset", "d/big", "offset", lambda v: v + 1,
    r"^d/big: at [0-9]+: chunk at 4096 is at [0-9]+\+0 of the blob, ", 1)
lie("inner", "d/big", "innerOffset", 1,
    r"^d/big: at [0-9]+: chunk at 8192 is at .*\+0 of the blob, .*\+1", 2)
lie("name", "d/fifo", "name", "d/fifa", "^d/fifo: .*not in the TOC")
lie("chunk-size", "d/big", "chunkSize", CHUNK - 1,
    "^d/big: at [0-9]+: a chunk at 4096 follows what ends at 4095")


@case("^d/sym: .*in the tar, but not in the TOC")
def c_missing(b):
    b.toc.remove(find(b, "d/sym"))


@case("^d/more: in the TOC, but not in the tar")
def c_more(b):
    b.toc.insert(1, {"name": "d/more", "type": "dir", "mode": 493})


@case("^zz: in the TOC, but not in the tar")
def c_more_at_end(b):
    b.toc.append({"name": "zz", "type": "fifo", "mode": 420})


@case("^d/big: the chunks of the TOC end at 12288")
def c_chunk_missing(b):
    b.toc.remove(find(b, "d/big", 3))
    find(b, "d/big", 2)["chunkSize"] = CHUNK


@case("no digest in the TOC")
def c_no_digest(b):
    for key in ("digest", "chunkDigest"):
        find(b, "d/a").pop(key)


def make(f=lambda b: None):
    out = io.BytesIO()
    b = Blob(out, chunk_size=CHUNK)
    fill(b)
    f(b)
    return out, b


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1:]


def main():
    d = sys.argv[1]
    os.makedirs(d)

    def write(name, data, want):
        with open("%s/%s.esgz" % (d, name), "wb") as f:
            f.write(data)
        re.compile(want)
        with open("%s/%s.want" % (d, name), "w") as f:
            f.write(want + "\n")

    for name, (f, want, _) in CASES.items():
        out, b = make(f)
        b.finish()
        write(name, out.getvalue(), want)

    out, b = make()
    end = b.finish()
    right = out.getvalue()
    write("right", right, ": right$")
    big = [t["offset"] for t in b.toc if t["name"] == "d/big"]
    z = find(b, "z")["offset"]
    # A byte in each region.
    write("flip-first", flip(right, 20), "gzip member at 0: corrupt")
    write("flip-magic", flip(right, big[1]), "member at %d: corrupt" % big[1])
    write("flip-data", flip(right, big[1] + 40),
          "member at %d: corrupt|d/big: .*chunk at 4096 is" % big[1])
    write("flip-crc", flip(right, big[2] - 8),
          "member at %d: corrupt" % big[1])
    write("flip-two", flip(flip(right, big[1] - 8), z + 12),
          "^z: at %d: chunk at 0" % z)
    write("flip-toc", flip(right, end["toc_off"] + 300), "TOC")
    write("flip-toc-crc", flip(right, len(right) - 51 - 6), "corrupt")
    write("flip-footer", flip(right, len(right) - 30), "footer")
    # Cut.
    for n in (len(right) - 1, len(right) - 51, end["toc_off"], big[2] + 5, 100,
              3, 0):
        write("cut-%d" % n, right[:n], "footer")
    # Whose footer says another place.
    out, b = make()
    b.finish(footer=lambda off: __import__("esgz").make_footer(off + 7))
    write("footer-lies", out.getvalue(), "TOC")
    # Another tar behind the TOC's entry, and one that is no tar.
    out, b = make()
    b.write(b"\1" * 512)
    b.finish()
    write("no-tar", out.getvalue(), "tar: ")
    out, b = make()
    b.write(tar_header(Entry("hidden", data=b"x")) + b"x" + bytes(511))
    b.finish()
    write("hidden", out.getvalue(), "^hidden: .*in the tar, but not in the TOC")
    out, b = make()
    b.write(bytes(1024))
    b.finish()
    write("ended", out.getvalue(), "the tar has no stargz.index.json")
    with open("%s/right.toc" % d, "w") as f:
        f.write(end["toc_digest"] + "\n")
    assert sha256(b"") != OTHER


if __name__ == "__main__":
    main()
