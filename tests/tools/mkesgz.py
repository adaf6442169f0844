#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes eStargz blobs: from a tar, or good and hostile ones by name.

  mkesgz.py list [good|hostile|big]      names and what is expected of them
  mkesgz.py make CASE OUT                writes OUT and OUT.json
  mkesgz.py all KIND DIR                 each case of a kind: DIR/CASE.esgz
  mkesgz.py from-tar [options] TAR OUT
  mkesgz.py from-tars [options] DIR      each DIR/X.tar to DIR/X.esgz
  mkesgz.py oci LAYOUT TAG BLOB...       an image of blobs that have a .json

Prints, and writes beside the blob as .json: toc_digest, blob_digest, size,
toc_off, diff_id, and of a case: files (name: SHA-256), expect (ok, refused, eio, any), why (a regular
expression for the message), bad (files that must give EIO or right bytes).
"""
import argparse
import base64
import gzip
import hashlib
import json
import os
import random
import shutil
import struct
import sys
import tarfile
import tempfile
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from esgz import (Blob, Entry, FILE_4G, LANDMARK, NO_LANDMARK, make_footer,  # noqa
                  sha256, tar_header)

MIB = 1 << 20
CASES = {}


def case(kind, expect="ok", why=None, bad=None):
    def reg(f):
        name = f.__name__[2:].replace("_", "-")
        CASES[name] = {"kind": kind, "expect": expect, "why": why,
                       "bad": bad or [], "make": f, "doc": f.__doc__ or ""}
        return f
    return reg


def rnd(n, seed=1):
    return random.Random(seed).randbytes(n)


def some(b):
    """A small ordinary tree, so that there is something right to read."""
    b.add("bin/", "dir")
    b.add("bin/tool", data=rnd(5000), mode=0o4755)
    b.add("etc/", "dir")
    b.add("etc/conf", data=b"key=value\n" * 50)
    b.add("etc/link", "symlink", link="conf")
    b.add("etc/hard", "hardlink", link="etc/conf")


def find(b, name, n=0):
    return [t for t in b.toc if t["name"] == name][n]


# ---------------------------------------------------------------- good

@case("good")
def c_plain(b):
    some(b)
    return b.finish()


@case("good")
def c_empty(b):
    return b.finish(toc_json=b'{"version":1,"entries":[]}')


@case("good")
def c_empty_no_entries(b):
    return b.finish(toc_json=b'{"version":1}')


@case("good")
def c_root_only(b):
    b.add("./", "dir", mode=0o1750, uid=7, gid=8, mtime=1234567890)
    return b.finish()


@case("good")
def c_indented(b):
    some(b)
    return b.finish(indent="\t")


@case("good")
def c_hardlinks(b):
    "Forward, chained, to a symlink, to a device."
    b.add("d/", "dir")
    b.add("d/forward", "hardlink", link="z-late")
    b.add("a", data=b"chain")
    b.add("b", "hardlink", link="a")
    b.add("c", "hardlink", link="b")
    b.add("d/e", "hardlink", link="./c")
    b.add("s", "symlink", link="a")
    b.add("s2", "hardlink", link="/s")
    b.add("n", "char", major=1, minor=3)
    b.add("n2", "hardlink", link="n")
    b.add("z-late", data=b"late" * 1000)
    return b.finish()


@case("good")
def c_names(b):
    "./ and / and ../ prefixes, // inside, missing parents, .. inside."
    b.add("./dot", data=b"1")
    b.add("/slash", data=b"2")
    b.add("../up", data=b"3")
    b.add("../../../up3", data=b"4")
    b.add("x//y///z", data=b"5")
    b.add("bar/../bar2////foo", data=b"6")
    b.add("missing/parents/of/this", data=b"7")
    b.add("./d/", "dir", mode=0o700, uid=3)
    b.add("./d/./e", data=b"8")
    b.add("hl", "hardlink", link="./x/y/z")
    b.add("weird...", data=b"9")
    b.add("..hidden", data=b"10")
    b.add("...", data=b"11")
    b.add(" ", data=b"12")
    b.add("tab\tnl\nquote\"bs\\", data=b"13")
    b.add("caf\u00e9/\U0001f600", data=b"14")
    return b.finish()


@case("good")
def c_long_names(b):
    b.add("n" * 255, data=b"1")
    b.add("/".join(["p" * 255] * 15), data=b"2")
    b.add("/".join("d%d" % i for i in range(200)), data=b"deep")
    b.add("sym", "symlink", link="t" * 4000)
    return b.finish()


@case("good")
def c_duplicates(b):
    "The later entry wins."
    b.add("f", data=b"first" * 100, mode=0o600)
    b.add("d/", "dir", mode=0o700)
    b.add("d/child", data=b"kept")
    b.add("f", data=b"second", mode=0o644, uid=5)
    b.add("d/", "dir", mode=0o755, uid=6)
    b.add("t", data=b"was a file")
    b.add("t", "symlink", link="f")
    b.add("./f2", data=b"1")
    b.add("f2", data=b"22")
    return b.finish()


@case("good")
def c_landmark(b):
    some(b)
    b.add(LANDMARK, data=b"\x0f")
    b.add("late", data=rnd(300000, 2))
    b.add("sub/", "dir")
    b.add("sub/" + LANDMARK, data=b"\x0f")
    b.add("sub/" + NO_LANDMARK, data=b"seen")
    b.add("sub/stargz.index.json", data=b"{}")
    return b.finish()


@case("good")
def c_no_landmark(b):
    b.add(NO_LANDMARK, data=b"\x0f")
    some(b)
    return b.finish()


@case("good")
def c_whiteouts(b):
    b.add("d/", "dir")
    b.add("d/.wh.gone")
    b.add(".wh.top")
    b.add("o/", "dir", mode=0o711, xattrs={"user.mine": b"1"})
    b.add("o/.wh..wh..opq")
    b.add("o/new", data=b"n")
    b.add("implicit/.wh..wh..opq")
    b.add("both/.wh.name")
    b.add("both/name", data=b"wins")
    b.add("both2/name", data=b"wins too")
    b.add("both2/.wh.name")
    b.add("dir/.wh.x")
    b.add("dir/x/", "dir")
    return b.finish()


@case("good")
def c_xattrs(b):
    b.add("f", data=b"f", xattrs={
        "user.bin": bytes(range(256)), "user.empty": b"",
        "user.utf8": "\u00e9".encode(), "trusted.x": b"\xff\xfe",
        "security.capability": bytes.fromhex(
            "0100000200200000000000000000000000000000"),
        "trusted.overlay.opaque": b"y", "trusted.overlay.redirect": b"/etc",
        "user.overlay.metacopy": b"", "trusted.overlay.": b"x",
        "user.overlayfs": b"kept"})
    b.add("big", xattrs={"user.big": rnd(60000, 3)})
    b.add("d/", "dir", xattrs={"trusted.overlay.opaque": b"y",
                               "user.overlay.origin": b"z"})
    b.add("many", xattrs={"user.n%d" % i: b"v%d" % i for i in range(200)})
    b.add("l", "symlink", link="f", xattrs={"trusted.l": b"on a link"})
    return b.finish()


@case("good")
def c_acls(b):
    def acl(*entries):
        return struct.pack("<I", 2) + b"".join(
            struct.pack("<HHI", tag, perm, who) for tag, perm, who in entries)
    none = 0xffffffff
    # For uid 12345 to read, too.
    given = acl((1, 6, none), (2, 4, 12345), (4, 0, none), (0x10, 4, none),
                (0x20, 0, none))
    b.add("f", data=b"for some\n", mode=0o640,
          xattrs={"system.posix_acl_access": given})
    b.add("d/", "dir", mode=0o750, xattrs={
        "system.posix_acl_access": acl(
            (1, 7, none), (2, 5, 12345), (4, 0, none), (0x10, 5, none),
            (0x20, 0, none)),
        "system.posix_acl_default": given})
    b.add("d/g", data=b"below\n", mode=0o644)
    return b.finish()


@case("good")
def c_special(b):
    b.add("null", "char", mode=0o666, major=1, minor=3)
    b.add("big", "char", major=511, minor=0xfffff)
    b.add("sda", "block", major=8, minor=0, uid=1, gid=6)
    b.add("fifo", "fifo", mode=0o600)
    b.add("modes/", "dir", mode=0o7777)
    for m in (0, 0o1, 0o4000, 0o2000, 0o1000, 0o4755, 0o7777, 0o200):
        b.add("modes/%04o" % m, data=b"m", mode=m)
    b.add("ids", data=b"i", uid=0xfffffffe, gid=0x80000000)
    for t in (0, 1, -1, -86400 * 365 * 20, 1 << 31, 1 << 32, 250000000000):
        b.add("time%d" % t, mtime=t)
    return b.finish()


@case("good")
def c_chunks(b):
    "Every small size around the chunk size."
    for n in list(range(0, 20)) + [4095, 4096, 4097, 8191, 8192, 12289]:
        b.add("c4/%d" % n, data=rnd(n, n), chunk=4)
        if n > 20:
            b.add("c4096/%d" % n, data=rnd(n, n), chunk=4096)
            b.add("c1000/%d" % n, data=rnd(n, n), chunk=1000)
    return b.finish()


@case("good")
def c_inner(b):
    "Many files in a member; a chunked one that starts inside of one."
    b.min_chunk = 20000
    for i in range(100):
        b.add("small/%03d" % i, data=rnd(i * 37, i))
    b.add("chunked", data=rnd(100000, 7), chunk=9000)
    for i in range(100):
        b.add("after/%03d" % i, data=rnd(400, i))
    return b.finish()


@case("good")
def c_zeros(b):
    b.add("zeros", data=bytes(5 * MIB), chunk=MIB)
    b.add("same1", data=rnd(100000, 5))
    b.add("same2", data=rnd(100000, 5))
    return b.finish()


@case("good")
def c_many_chunks(b):
    b.level = 1
    b.add("f", data=rnd(8 * MIB, 9), chunk=4096)
    return b.finish()


@case("good")
def c_legacy(b):
    "Footer of 47 bytes, chunk digests present."
    some(b)
    return b.finish(footer=lambda off: make_footer(off, legacy=True))


@case("good")
def c_unknown_keys(b):
    some(b)
    for t in b.toc:
        t["userName"] = "root"
        t["future"] = {"a": [1, {"b": None}], "c": "\ud83d\ude00"}
    return b.finish()


@case("good")
def c_one_file(b):
    "For tests that count: one incompressible file of 1 MiB in 16 chunks."
    b.level = 0
    b.add("data", data=rnd(MIB, 11), chunk=65536)
    return b.finish()


@case("good")
def c_few_files(b):
    "8 files of 8 MiB, incompressible: something to read for a while."
    b.level = 0
    for i in range(8):
        b.add("f%d" % i, data=rnd(8 * MIB, 20 + i), chunk=MIB)
    return b.finish()


@case("files")
def c_shuffled(b):
    "1000 small files of a directory, in the blob in another order."
    b.level = 0
    b.add("d/", "dir")
    for i in range(1000):
        n = i * 389 % 1000
        b.add("d/f%03d" % n, data=rnd(8000, n))
    return b.finish()


@case("files")
def c_small_files(b):
    "The same with files of 2 MiB."
    b.level = 0
    for i in range(8):
        b.add("f%d" % i, data=rnd(2 * MIB, 20 + i), chunk=256 * 1024)
    return b.finish()


# ---------------------------------------------------------------- big

@case("big")
def c_big_dir(b):
    "70,000 entries in one directory."
    b.min_chunk = 1 * MIB
    b.level = 1
    b.add("d/", "dir")
    for i in range(70000):
        b.add("d/file-%06d" % i, data=b"%d\n" % i if i % 50 == 0 else b"")
    return b.finish()


@case("big")
def c_file_4g(b):
    "Above 4 GiB; chunks at its ends and around 2 and 4 GiB say which they are."
    b.level = 1
    b.add(Entry("big", **FILE_4G))
    b.add("after", data=b"after")
    return b.finish()


@case("big")
def c_chunk_40m(b):
    "One chunk above 16 MiB: streamed."
    b.level = 1
    b.add("big", data=rnd(2 * MIB, 3) * 20 + b"tail", chunk=1 << 30)
    b.add("small", data=b"s")
    return b.finish()


# ---------------------------------------------------------------- hostile

def footer_case(name, make, why=None):
    def f(b):
        some(b)
        return b.finish(footer=make)
    f.__name__ = "c_footer_" + name
    case("hostile", "refused", why)(f)


footer_case("negative", lambda o: make_footer(0, b"-00000000000001fSTARGZ"[:22]))
footer_case("beyond", lambda o: make_footer(o + 1000000))
footer_case("huge", lambda o: make_footer(0xffffffffffffffff))
footer_case("max_int", lambda o: make_footer(0x7fffffffffffffff))
footer_case("zero", lambda o: make_footer(0))
footer_case("inside_footer", lambda o: make_footer(o).replace(
    b"%016x" % o, b"%016x" % (o + 10 ** 3)))
footer_case("one_off", lambda o: make_footer(o + 1))
footer_case("one_before", lambda o: make_footer(o - 1))
footer_case("not_hex", lambda o: make_footer(0, b"0x0000000000000gSTARGZ"))
footer_case("bad_magic", lambda o: make_footer(0, b"%016xSTARGX" % o))
footer_case("external", lambda o: make_footer(0, b"STARGZEXTERNALTOC"),
            "external|support")
footer_case("none", lambda o: b"")
footer_case("xlen_lies", lambda o: make_footer(o).replace(
    b"\x1a\0SG", b"\xff\xffSG"))
footer_case("sublen_lies", lambda o: make_footer(o).replace(
    b"SG\x16\0", b"SG\xff\xff"))
footer_case("zstd_huge", lambda o: struct.pack(
    "<QQQQ", o, 1 << 62, 1 << 62, 1) + b"GnUlInUx")
footer_case("zstd_wrap", lambda o: struct.pack(
    "<QQQQ", (1 << 64) - 10, 20, 100, 1) + b"GnUlInUx")
footer_case("zstd_on_gzip", lambda o: struct.pack(
    "<QQQQ", o, 64, 100, 1) + b"GnUlInUx")


def raw_case(name, data, why=None):
    def f(b):
        b.emit(data)
        return {"toc_digest": sha256(b""), "size": b.off, "toc_off": 0,
                "blob_digest": "sha256:" + b.hash.hexdigest(),
                "diff_id": sha256(b""), "uncompressed_size": 0}
    f.__name__ = "c_" + name
    case("hostile", "refused", why)(f)


raw_case("nothing", b"")
raw_case("one_byte", b"\x1f")
raw_case("fifty_bytes", make_footer(0)[:50])
raw_case("footer_alone", make_footer(0))
raw_case("zeros_only", bytes(100000))
raw_case("plain_gzip", gzip.compress(rnd(1000)))
raw_case("html", b"<html><body>Please log in</body></html>" * 20)


def toc_case(name, text, why=None, expect="refused"):
    def f(b):
        some(b)
        return b.finish(toc_json=text)
    f.__name__ = "c_toc_" + name
    case("hostile", expect, why)(f)


def wrap(s):
    return b'{"version":1,"entries":[' + s + b']}'


toc_case("entries_null_item", wrap(b"null"))
toc_case("entries_null", b'{"version":1,"entries":null}', expect="any")
toc_case("entries_string", b'{"version":1,"entries":"x"}')
toc_case("entry_array", wrap(b"[]"))
toc_case("not_json", b"hello")
toc_case("empty_file", b"")
toc_case("array", b"[]")
toc_case("version_2", b'{"version":2,"entries":[]}')
toc_case("version_missing", b'{"entries":[]}', expect="any")
toc_case("trailing", b'{"version":1,"entries":[]} x')
toc_case("truncated", wrap(b'{"name":"a","type":"reg"')[:-2])
toc_case("deep", b"[" * 200000)
toc_case("deep_value", b'{"version":1,"x":' + b"[" * 100000 + b"]" * 100000 +
         b',"entries":[]}')
toc_case("nul_in_name", wrap(b'{"name":"a\\u0000b","type":"reg"}'))
toc_case("raw_nul", wrap(b'{"name":"a\0b","type":"reg"}'))
toc_case("lone_surrogate", wrap(b'{"name":"\\ud800","type":"dir"}'),
         expect="any")
toc_case("no_name", wrap(b'{"type":"dir"}'), expect="any")
toc_case("no_type", wrap(b'{"name":"a"}'))
toc_case("bad_type", wrap(b'{"name":"a","type":"socket"}'))
toc_case("name_number", wrap(b'{"name":1,"type":"dir"}'))
toc_case("name_256", wrap(b'{"name":"' + b"n" * 256 + b'","type":"dir"}'))
toc_case("path_long", wrap(b'{"name":"' + b"d/" * 5000 + b'","type":"dir"}'))
toc_case("path_deep", wrap(b'{"name":"' + b"d/" * 1500 + b'","type":"dir"}'),
         expect="any")
toc_case("size_negative", wrap(b'{"name":"a","type":"reg","size":-1}'))
toc_case("size_huge", wrap(
    b'{"name":"a","type":"reg","size":9223372036854775807,"offset":10,'
    b'"chunkDigest":"sha256:' + b"0" * 64 + b'"}'))
toc_case("size_2_64", wrap(
    b'{"name":"a","type":"reg","size":18446744073709551616}'))
toc_case("size_float", wrap(b'{"name":"a","type":"reg","size":1.5}'))
toc_case("size_exp", wrap(b'{"name":"a","type":"reg","size":1e3}'))
toc_case("size_string", wrap(b'{"name":"a","type":"reg","size":"1"}'))
toc_case("size_sum", wrap(b",".join(
    b'{"name":"f%d","type":"reg","size":1099511627776,"offset":10,'
    b'"chunkDigest":"sha256:%064d"}' % (i, 0) for i in range(64))))
toc_case("offset_negative", wrap(
    b'{"name":"a","type":"reg","size":5,"offset":-5,"chunkDigest":'
    b'"sha256:' + b"0" * 64 + b'"}'))
toc_case("offset_beyond", wrap(
    b'{"name":"a","type":"reg","size":5,"offset":99999999999,"chunkDigest":'
    b'"sha256:' + b"0" * 64 + b'"}'))
toc_case("chunk_first", wrap(
    b'{"name":"a","type":"chunk","offset":5,"chunkSize":5}'))
toc_case("chunk_beyond_file", wrap(
    b'{"name":"a","type":"reg","size":5,"offset":0,"chunkSize":4,'
    b'"chunkDigest":"sha256:' + b"0" * 64 + b'"},{"name":"a","type":"chunk",'
    b'"offset":9,"chunkOffset":4,"chunkSize":50,"chunkDigest":"sha256:' +
    b"0" * 64 + b'"}'))
toc_case("digest_bad", wrap(
    b'{"name":"a","type":"reg","size":5,"offset":5,"chunkDigest":"md5:00"}'))
toc_case("xattr_not_base64", wrap(
    b'{"name":"a","type":"dir","xattrs":{"user.x":"!!!"}}'))
toc_case("xattr_70000", wrap(
    b'{"name":"a","type":"dir","xattrs":{"user.x":"' +
    base64.b64encode(bytes(70000)) + b'"}}'))
toc_case("xattr_total", wrap(
    b'{"name":"a","type":"dir","xattrs":{' + b",".join(
        b'"user.x%d":"%s"' % (i, base64.b64encode(bytes(60000)))
        for i in range(20)) + b'}}'), expect="any")
toc_case("xattr_name_long", wrap(
    b'{"name":"a","type":"dir","xattrs":{"user.' + b"x" * 300 + b'":"AA=="}}'))
toc_case("xattr_prefix_unknown", wrap(
    b'{"name":"a","type":"dir","xattrs":{"bogus.x":"AA=="}}'), expect="any")
toc_case("symlink_empty", wrap(
    b'{"name":"a","type":"symlink","linkName":""}'))
toc_case("symlink_no_target", wrap(b'{"name":"a","type":"symlink"}'))
toc_case("symlink_long", wrap(
    b'{"name":"a","type":"symlink","linkName":"' + b"t" * 70000 + b'"}'))
toc_case("hardlink_self", wrap(
    b'{"name":"a","type":"hardlink","linkName":"a"}'))
toc_case("hardlink_cycle", wrap(
    b'{"name":"a","type":"hardlink","linkName":"b"},'
    b'{"name":"b","type":"hardlink","linkName":"a"}'))
toc_case("hardlink_cycle_long", wrap(b",".join(
    b'{"name":"h%d","type":"hardlink","linkName":"h%d"}' % (
        i, (i + 1) % 50000) for i in range(50000))))
toc_case("hardlink_nowhere", wrap(
    b'{"name":"a","type":"hardlink","linkName":"nope"}'))
toc_case("hardlink_dir", wrap(
    b'{"name":"d/","type":"dir"},'
    b'{"name":"d/a","type":"hardlink","linkName":"d"}'))
toc_case("hardlink_root", wrap(
    b'{"name":"a","type":"hardlink","linkName":"/"}'))
toc_case("hardlink_empty", wrap(
    b'{"name":"a","type":"hardlink","linkName":""}'))
toc_case("file_as_parent", wrap(
    b'{"name":"a","type":"symlink","linkName":"/etc"},'
    b'{"name":"a/passwd","type":"dir"}'))
toc_case("root_is_file", wrap(
    b'{"name":"/","type":"symlink","linkName":"x"}'))
toc_case("mode_huge", wrap(
    b'{"name":"a","type":"dir","mode":99999999999999}'), expect="any")
toc_case("mode_negative", wrap(b'{"name":"a","type":"dir","mode":-1}'),
         expect="any")
toc_case("uid_huge", wrap(b'{"name":"a","type":"dir","uid":4294967296}'),
         expect="any")
toc_case("uid_negative", wrap(b'{"name":"a","type":"dir","uid":-1}'),
         expect="any")
toc_case("dev_huge", wrap(
    b'{"name":"a","type":"char","devMajor":4294967296,"devMinor":-1}'),
         expect="any")
toc_case("time_bad", wrap(
    b'{"name":"a","type":"dir","modtime":"not a time"}'), expect="any")
toc_case("time_overflow", wrap(
    b'{"name":"a","type":"dir","modtime":"99999-99-99T99:99:99Z"}'),
         expect="any")
toc_case("dup_keys", wrap(
    b'{"name":"a","name":"b","type":"dir","type":"reg","size":0}'),
         expect="any")
toc_case("many_components", wrap(b",".join(
    b'{"name":"%s","type":"dir"}' % b"/".join(
        b"%d" % ((i * 7919 + j) % 97) for j in range(100))
    for i in range(2000))), expect="any")


@case("hostile", "refused", "digest")
def c_toc_digest_wrong(b):
    some(b)
    r = b.finish()
    r["toc_digest"] = sha256(b"something else")
    return r


def bomb(b, n, front=b"", back=b""):
    """A TOC member of n bytes of spaces around JSON."""
    z = zlib.compressobj(9, zlib.DEFLATED, 31)
    h = hashlib.sha256()
    e = Entry("stargz.index.json", mode=0o444)
    size = n + len(front) + len(back)
    head = bytearray(tar_header(e))
    head[124:136] = b"%011o\0" % size
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    out = [z.compress(bytes(head) + front)]
    h.update(front)
    piece = b" " * MIB
    for _ in range(n // MIB):
        h.update(piece)
        out.append(z.compress(piece))
    h.update(back)
    out.append(z.compress(back + bytes(-size % 512 + 1024)))
    out.append(z.flush())
    return b.finish(toc_member=("sha256:" + h.hexdigest(), b"".join(out)))


@case("hostile", "refused", "large|big|limit|above|exceed|more than|over")
def c_toc_bomb_1g(b):
    some(b)
    return bomb(b, 1024 * MIB, b'{"version":1,"entries":[', b"]}")


@case("hostile", "refused", "large|big|limit|above|exceed|more than|over")
def c_toc_200m(b):
    return bomb(b, 200 * MIB, b'{"version":1,"entries":[', b"]}")


@case("hostile", "any")
def c_toc_100m(b):
    "Under the limit: spaces, mountable."
    return bomb(b, 100 * MIB, b'{"version":1,"entries":[', b"]}")


@case("hostile", "refused")
def c_toc_tar_size_lies(b):
    some(b)
    e = Entry("stargz.index.json")
    j = b'{"version":1,"entries":[]}'
    head = bytearray(tar_header(e))
    head[124:136] = b"77777777777\0"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return b.finish(toc_member=(sha256(j), b.member_of(bytes(head) + j)))


@case("hostile", "refused")
def c_toc_wrong_tar_name(b):
    some(b)
    j = b'{"version":1,"entries":[]}'
    e = Entry("other.json", data=j)
    return b.finish(toc_member=(sha256(j), b.member_of(
        tar_header(e) + j + bytes(-len(j) % 512 + 1024))))


@case("hostile", "refused")
def c_toc_member_garbage(b):
    some(b)
    return b.finish(toc_member=(sha256(b"x"), rnd(4000)))


@case("hostile", "refused")
def c_toc_member_cut(b):
    some(b)
    j = json.dumps({"version": 1, "entries": b.toc}).encode()
    e = Entry("stargz.index.json", data=j)
    m = b.member_of(tar_header(e) + j + bytes(-len(j) % 512 + 1024))
    return b.finish(toc_member=(sha256(j), m[:len(m) // 2]))


# Chunk faults: the mount works, the file gives EIO (or is refused), the rest
# reads right.

@case("hostile", "eio", bad=["bad"])
def c_chunk_digest_wrong(b):
    some(b)
    b.add("bad", data=rnd(10000, 4))
    t = find(b, "bad")
    t["chunkDigest"] = t["digest"] = sha256(b"no")
    b.add("good", data=b"good")
    return b.finish()


@case("hostile", "eio", bad=["bad"])
def c_chunk_inflates_to_less(b):
    b.add("bad", data=rnd(10000, 4))
    t = find(b, "bad")
    t["size"] = 50000
    t["chunkDigest"] = t["digest"] = sha256(rnd(10000, 4) + bytes(40000))
    b.close()
    b.add("good", data=b"good")
    return b.finish()


@case("hostile", "eio", bad=["bad"])
def c_chunk_inflates_to_more(b):
    some(b)
    b.add("bad", data=rnd(10000, 4))
    find(b, "bad")["size"] = 5000
    b.add("good", data=b"good")
    return b.finish()


@case("hostile", "eio", bad=["bad"])
def c_chunk_bomb(b):
    "A member of 200 KB that inflates to 200 MB, said to be of 100 bytes."
    b.add("bad", data=bytes(MIB), repeat=200, chunk=1 << 30)
    t = find(b, "bad")
    t["size"] = 100
    t["chunkDigest"] = t["digest"] = sha256(b"\1" * 100)
    b.close()
    b.add("good", data=b"good")
    return b.finish()


@case("hostile", "eio", bad=["bad"])
def c_chunk_crc_wrong(b):
    "Deflate data right, CRC of the member wrong: EIO or right bytes."
    b.add("pre", data=b"pre")
    b.close()
    e = Entry("bad", data=rnd(3000, 6))
    b.write(tar_header(e))
    b.close()
    m = bytearray(b.member_of(e.data))
    m[-8] ^= 1
    b.toc.append({"name": "bad", "type": "reg", "size": 3000, "mode": 0o644,
                  "modtime": "2020-01-01T00:00:00Z", "offset": b.off,
                  "chunkDigest": sha256(e.data), "digest": sha256(e.data)})
    b.emit(bytes(m))
    b.add("good", data=b"good")
    return b.finish()


@case("hostile", "eio", bad=["bad"])
def c_chunk_garbage(b):
    b.add("pre", data=b"pre")
    b.close()
    b.toc.append({"name": "bad", "type": "reg", "size": 3000, "mode": 0o644,
                  "modtime": "2020-01-01T00:00:00Z", "offset": b.off,
                  "chunkDigest": sha256(b"x"), "digest": sha256(b"x")})
    b.emit(rnd(2000, 8))
    b.add("good", data=b"good")
    return b.finish()


@case("hostile", "eio", bad=["bad"])
def c_chunk_inner_beyond(b):
    b.add("bad", data=rnd(1000, 4))
    find(b, "bad")["innerOffset"] = 1 << 40
    b.close()
    b.add("good", data=b"good")
    return b.finish()


@case("hostile", "any", bad=["bad"])
def c_chunk_overlap(b):
    b.add("bad", data=rnd(30000, 4), chunk=10000)
    c = [t for t in b.toc if t["name"] == "bad"]
    c[1]["chunkOffset"] = 5000
    b.add("good", data=b"good")
    return b.finish()


@case("hostile", "refused")
def c_chunk_gap(b):
    b.add("bad", data=rnd(30000, 4), chunk=10000)
    b.toc.remove([t for t in b.toc if t["name"] == "bad"][1])
    return b.finish()


@case("hostile", "any", bad=["bad", "same"])
def c_chunk_same_member(b):
    "Two files that claim the same member."
    b.add("bad", data=rnd(3000, 4))
    b.add("same", data=rnd(3000, 4))
    find(b, "same")["offset"] = find(b, "bad")["offset"]
    return b.finish()


@case("hostile", "any", bad=["bad", "a", "b"])
def c_chunk_backwards(b):
    "Files whose members are in the other order."
    b.add("a", data=rnd(3000, 4))
    b.add("b", data=rnd(3000, 5))
    a, c = find(b, "a"), find(b, "b")
    a["offset"], c["offset"] = c["offset"], a["offset"]
    return b.finish()


@case("hostile", "refused", "digest|verif")
def c_chunk_digest_missing(b):
    some(b)
    for t in b.toc:
        t.pop("chunkDigest", None)
        t.pop("digest", None)
    return b.finish()


@case("hostile", "any", bad=["bad"])
def c_chunk_in_toc(b):
    "A chunk whose member would be the TOC's."
    b.add("bad", data=rnd(1000, 4))
    b.close()
    find(b, "bad")["offset"] = b.off
    return b.finish()


@case("hostile", "any", bad=["bad"])
def c_chunk_offset_inside(b):
    "An offset into the middle of a member."
    b.add("bad", data=rnd(9000, 4))
    find(b, "bad")["offset"] += 100
    b.add("good", data=b"good")
    return b.finish()


def mangled(name, change, expect="any"):
    def f(b):
        keep = tempfile.TemporaryFile()
        out, b.out = b.out, keep
        some(b)
        b.add("data", data=rnd(200000, 9), chunk=50000)
        r = b.finish()
        keep.seek(0)
        data = bytearray(keep.read())
        data = change(data, r)
        out.write(data)
        r["size"] = len(data)
        r["blob_digest"] = sha256(bytes(data))
        return r
    f.__name__ = "c_" + name
    case("hostile", expect,
         bad=["data", "bin/tool", "etc/conf", "etc/hard"])(f)


for _cut in (1, 5, 51, 52, 500, 5000):
    mangled("cut_%d" % _cut, lambda d, r, n=_cut: d[:-n], "refused")
mangled("cut_half", lambda d, r: d[:len(d) // 2], "refused")
mangled("cut_front", lambda d, r: d[100:], "refused")
mangled("extra_tail", lambda d, r: d + b"x", "refused")


def flip(d, at):
    d[at] ^= 0x10
    return d


for _i in range(8):
    mangled("flip_data_%d" % _i,
            lambda d, r, i=_i: flip(d, (r["toc_off"] * (2 * i + 1)) // 16))
    mangled("flip_toc_%d" % _i, lambda d, r, i=_i: flip(
        d, r["toc_off"] + ((r["size"] - 51 - r["toc_off"]) * (2 * i + 1)) // 16),
        "any")
for _i in range(0, 51, 5):
    mangled("flip_footer_%d" % _i, lambda d, r, i=_i: flip(d, len(d) - 51 + i))


# ---------------------------------------------------------------- commands

def make(name, path):
    c = CASES[name]
    with open(path, "wb") as out:
        b = Blob(out)
        r = c["make"](b)
    r.update({"case": name, "expect": c["expect"], "why": c["why"],
              "bad": c["bad"],
              "files": b.files if len(b.files) < 1000 else {}})
    with open(path + ".json", "w") as f:
        json.dump(r, f)
    return r


def from_tar(a):
    types = {tarfile.REGTYPE: "reg", tarfile.AREGTYPE: "reg",
             tarfile.CONTTYPE: "reg", tarfile.LNKTYPE: "hardlink",
             tarfile.SYMTYPE: "symlink", tarfile.CHRTYPE: "char",
             tarfile.BLKTYPE: "block", tarfile.DIRTYPE: "dir",
             tarfile.FIFOTYPE: "fifo", tarfile.GNUTYPE_SPARSE: "reg"}
    pre = "SCHILY.xattr."
    with open(a.out, "wb") as out, tarfile.open(a.tar) as tar:
        b = Blob(out, a.level, a.chunk_size, a.min_chunk_size)
        if not a.landmark:
            b.add(NO_LANDMARK, data=b"\x0f")
        for m in tar:
            e = Entry(m.name if m.name != "." else "./", types[m.type],
                      mode=m.mode, uid=m.uid, gid=m.gid, mtime=int(m.mtime),
                      link=m.linkname if m.issym() or m.islnk() else "",
                      major=m.devmajor if m.isdev() else 0,
                      minor=m.devminor if m.isdev() else 0)
            e.xattrs = {k[len(pre):]: v.encode("utf-8", "surrogateescape")
                        for k, v in m.pax_headers.items() if k.startswith(pre)}
            if e.type == "reg":
                e.data = tar.extractfile(m).read()
            b.add(e)
            if a.landmark and e.name.lstrip("./") == a.landmark:
                b.add(LANDMARK, data=b"\x0f")
        r = b.finish(indent="\t")
    with open(a.out + ".json", "w") as f:
        json.dump(r, f)
    print(json.dumps(r))


def oci(a):
    d = a.layout
    os.makedirs(d + "/blobs/sha256", exist_ok=True)

    def put(data):
        g = sha256(data)
        with open(d + "/blobs/sha256/" + g[7:], "wb") as f:
            f.write(data)
        return {"digest": g, "size": len(data)}

    layers, diffs = [], []
    for blob in a.blobs:
        with open(blob + ".json") as f:
            j = json.load(f)
        shutil.copyfile(blob, d + "/blobs/sha256/" + j["blob_digest"][7:])
        layers.append({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": j["blob_digest"], "size": j["size"],
            "annotations": {
                "containerd.io/snapshot/stargz/toc.digest": j["toc_digest"],
                "io.containers.estargz.uncompressed-size":
                    str(j["uncompressed_size"])}})
        diffs.append(j["diff_id"])
    config = put(json.dumps({
        "architecture": a.arch, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diffs}}).encode())
    config["mediaType"] = "application/vnd.oci.image.config.v1+json"
    media = "application/vnd.oci.image.manifest.v1+json"
    m = put(json.dumps({"schemaVersion": 2, "mediaType": media,
                        "config": config, "layers": layers}).encode())
    m["mediaType"] = media
    m["annotations"] = {"org.opencontainers.image.ref.name": a.tag}
    with open(d + "/oci-layout", "w") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')
    index = {"schemaVersion": 2, "manifests": []}
    if os.path.exists(d + "/index.json"):
        with open(d + "/index.json") as f:
            index = json.load(f)
    index["manifests"] = [
        x for x in index["manifests"] if x.get("annotations", {}).get(
            "org.opencontainers.image.ref.name") != a.tag] + [m]
    with open(d + "/index.json.tmp", "w") as f:
        json.dump(index, f)
    os.rename(d + "/index.json.tmp", d + "/index.json")


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    s = p.add_subparsers(dest="cmd", required=True)
    q = s.add_parser("list")
    q.add_argument("kind", nargs="?")
    q = s.add_parser("make")
    q.add_argument("case")
    q.add_argument("out")
    q = s.add_parser("all")
    q.add_argument("kind")
    q.add_argument("dir")
    for cmd in "from-tar", "from-tars":
        q = s.add_parser(cmd)
        q.add_argument("--level", type=int, default=6)
        q.add_argument("--chunk-size", type=int, default=4 << 20)
        q.add_argument("--min-chunk-size", type=int, default=0)
        q.add_argument("--landmark", help="put the landmark behind this name")
        q.add_argument("tar" if cmd == "from-tar" else "dir")
        if cmd == "from-tar":
            q.add_argument("out")
    q = s.add_parser("oci")
    q.add_argument("--arch", default="amd64")
    q.add_argument("layout")
    q.add_argument("tag")
    q.add_argument("blobs", nargs="+")
    a = p.parse_args()
    if a.cmd == "list":
        for n, c in CASES.items():
            if a.kind in (None, c["kind"]):
                print(n, c["kind"], c["expect"])
    elif a.cmd == "make":
        print(json.dumps(make(a.case, a.out)))
    elif a.cmd == "all":
        os.makedirs(a.dir, exist_ok=True)
        for n, c in CASES.items():
            if c["kind"] == a.kind:
                make(n, "%s/%s.esgz" % (a.dir, n))
    elif a.cmd == "from-tar":
        from_tar(a)
    elif a.cmd == "from-tars":
        for n in sorted(os.listdir(a.dir)):
            if n.endswith(".tar"):
                a.tar = os.path.join(a.dir, n)
                a.out = a.tar[:-4] + ".esgz"
                from_tar(a)
    else:
        oci(a)


main()
