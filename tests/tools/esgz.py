# SPDX-License-Identifier: Apache-2.0
"""An eStargz writer that does as it is told, and lies when asked to.

Python's standard library only. Blob.add() takes entries in order and writes
the tar and the gzip members as the eStargz specification has them; the TOC
entries it made are in Blob.toc, to be changed at will before Blob.finish().
"""
import base64
import binascii
import datetime
import hashlib
import json
import random
import struct
import zlib

TOC_NAME = "stargz.index.json"
LANDMARK = ".prefetch.landmark"
NO_LANDMARK = ".no.prefetch.landmark"
TAR_TYPE = {"reg": b"0", "hardlink": b"1", "symlink": b"2", "char": b"3",
            "block": b"4", "dir": b"5", "fifo": b"6"}


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def rfc3339(t):
    try:
        d = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=t)
        return d.strftime("%04d-%%m-%%dT%%H:%%M:%%SZ" % d.year)
    except OverflowError:
        return "9999-12-31T23:59:59Z"


class Entry:
    def __init__(self, name, type="reg", data=b"", mode=None, uid=0, gid=0,
                 mtime=1600000000, link="", major=0, minor=0, xattrs=None,
                 repeat=1, chunk=None, marked=()):
        self.name, self.type, self.link = name, type, link
        self.data, self.repeat = data, repeat
        self.marked = marked
        self.mode = mode if mode is not None else (
            0o755 if type == "dir" else 0o777 if type == "symlink" else 0o644)
        self.uid, self.gid, self.mtime = uid, gid, mtime
        self.major, self.minor = major, minor
        self.xattrs = xattrs or {}
        self.chunk = chunk

    @property
    def size(self):
        return len(self.data) * self.repeat if self.type == "reg" else 0

    def pieces(self, chunk):
        """(bytes, count): runs of equal pieces of at most chunk bytes."""
        if self.repeat > 1 and len(self.data) == chunk:
            at = 0
            for i in self.marked:
                if i > at:
                    yield self.data, i - at
                yield marked(self.data, i), 1
                at = i + 1
            if at < self.repeat:
                yield self.data, self.repeat - at
            return
        data = self.data * self.repeat
        for i in range(0, len(data), chunk):
            yield data[i:i + chunk], 1


def marked(data, i):
    """What stands for the data in repetition i, if that is marked."""
    return (b"%15d\n" % i) * (len(data) // 16)


# Above 4 GiB in chunks of 4 MiB, which are alike but for some.
FILE_4G = {"data": random.Random(1).randbytes(64) * (64 * 1024),
           "repeat": 1030, "marked": (0, 511, 512, 1023, 1024, 1029)}


def raw_name(s):
    return s if isinstance(s, bytes) else s.encode("utf-8", "surrogateescape")


def octal(n, width):
    if 0 <= n < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, n)
    return None


def number(n, width):
    """A tar number, base-256 where octal has no room."""
    return octal(n, width) or (
        b"\xff" if n < 0 else b"\x80") + (n % 256 ** (width - 1)).to_bytes(
            width - 1, "big")


def pax_record(key, value):
    body = b" " + key + b"=" + value + b"\n"
    n = len(body)
    while True:
        rec = str(n).encode() + body
        if len(rec) == n:
            return rec
        n = len(rec)


def tar_block(name, type, size, e, link=b""):
    h = bytearray(512)
    h[0:100] = name[:100].ljust(100, b"\0")
    h[100:108] = number(e.mode, 8)
    h[108:116] = number(e.uid, 8)
    h[116:124] = number(e.gid, 8)
    h[124:136] = number(size, 12)
    h[136:148] = number(e.mtime, 12)
    h[148:156] = b" " * 8
    h[156:157] = type
    h[157:257] = link[:100].ljust(100, b"\0")
    h[257:265] = b"ustar\x0000"
    h[329:337] = number(e.major, 8)
    h[337:345] = number(e.minor, 8)
    h[148:156] = b"%06o\0 " % sum(h)
    return bytes(h)


def pad(n):
    return b"\0" * (-n % 512)


def tar_header(e, name=None):
    name = raw_name(name if name is not None else e.name)
    link = raw_name(e.link)
    if e.type == "dir" and not name.endswith(b"/"):
        name += b"/"
    pax = b""
    if len(name) > 100:
        pax += pax_record(b"path", name)
    if len(link) > 100:
        pax += pax_record(b"linkpath", link)
    for k, v in sorted(e.xattrs.items()):
        pax += pax_record(b"SCHILY.xattr." + raw_name(k), v)
    out = b""
    if pax:
        x = Entry("PaxHeaders/x")
        out += tar_block(b"PaxHeaders/x", b"x", len(pax), x) + pax
        out += pad(len(pax))
    return out + tar_block(name, TAR_TYPE[e.type], e.size, e, link)


class Blob:
    """Writes one eStargz blob to the binary file out."""

    def __init__(self, out, level=6, chunk_size=4 << 20, min_chunk=0):
        self.out, self.level = out, level
        self.chunk_size, self.min_chunk = chunk_size, min_chunk
        self.off = 0
        self.hash = hashlib.sha256()
        self.diff = hashlib.sha256()
        self.diff_len = 0
        self.toc = []
        self.z = None
        self.files = {}  # name: SHA-256 of what was given to add()

    # One gzip member at a time.
    def emit(self, b):
        self.out.write(b)
        self.hash.update(b)
        self.off += len(b)

    def open(self):
        if self.z is None:
            self.z = zlib.compressobj(self.level, zlib.DEFLATED, -15)
            self.crc, self.n, self.member = 0, 0, self.off
            self.emit(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")

    def write(self, b):
        self.open()
        self.crc = zlib.crc32(b, self.crc)
        self.n += len(b)
        self.emit(self.z.compress(b))
        self.diff.update(b)
        self.diff_len += len(b)

    def close(self):
        if self.z is not None:
            self.emit(self.z.flush() + struct.pack(
                "<II", self.crc, self.n & 0xffffffff))
            self.z = None

    def member_of(self, data, level=None):
        z = zlib.compressobj(self.level if level is None else level,
                             zlib.DEFLATED, -15)
        return (b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + z.compress(data) + z.flush() +
                struct.pack("<II", zlib.crc32(data), len(data) & 0xffffffff))

    def add(self, *args, **kw):
        e = args[0] if args and isinstance(args[0], Entry) else Entry(
            *args, **kw)
        t = {"name": e.name if isinstance(e.name, str) else
             e.name.decode("utf-8", "surrogateescape"), "type": e.type}
        if e.type == "dir" and not t["name"].endswith("/"):
            t["name"] += "/"
        if e.type == "reg" and e.size:
            t["size"] = e.size
        t["modtime"] = rfc3339(e.mtime)
        if e.link:
            t["linkName"] = e.link
        t["mode"] = e.mode
        if e.uid:
            t["uid"] = e.uid
        if e.gid:
            t["gid"] = e.gid
        if e.major:
            t["devMajor"] = e.major
        if e.minor:
            t["devMinor"] = e.minor
        if e.xattrs:
            t["xattrs"] = {k: base64.b64encode(v).decode()
                           for k, v in e.xattrs.items()}
        self.toc.append(t)
        self.write(tar_header(e))
        if e.type == "reg":
            self.payload(e, t)
            self.write(pad(e.size)) if e.size % 512 else None
        return t

    def payload(self, e, t):
        chunk = e.chunk or self.chunk_size
        total = hashlib.sha256()
        done = 0
        cur = t
        for piece, count in e.pieces(chunk):
            digest = sha256(piece)
            comp = None
            for _ in range(count):
                total.update(piece)
                if done:
                    cur = {"name": t["name"], "type": "chunk"}
                    self.toc.append(cur)
                if count > 1:
                    # The same member again and again: no need to deflate.
                    if comp is None:
                        comp = self.member_of(piece)
                    self.close()
                    cur["offset"] = self.off
                    self.emit(comp)
                    self.diff_len += len(piece)
                else:
                    if self.z is None or self.n >= self.min_chunk or \
                            not self.min_chunk:
                        self.close()
                        self.open()
                    cur["offset"] = self.member
                    if self.n:
                        cur["innerOffset"] = self.n
                    self.write(piece)
                if e.size > chunk:
                    if done:
                        cur["chunkOffset"] = done
                    if done + len(piece) < e.size:
                        cur["chunkSize"] = len(piece)
                cur["chunkDigest"] = digest
                done += len(piece)
        if not e.size:
            t["chunkDigest"] = sha256(b"")
        self.files[t["name"]] = total.hexdigest()
        t["digest"] = "sha256:" + total.hexdigest()

    def finish(self, toc_json=None, footer=None, toc_member=None,
               after=b"", indent=None):
        """Ends the blob. toc_json: bytes instead of the TOC made so far;
        toc_member: bytes instead of the gzip member that holds it; footer:
        bytes, or a function of the TOC's offset."""
        self.close()
        toc_off = self.off
        if toc_json is None and toc_member is None:
            toc_json = json.dumps({"version": 1, "entries": self.toc},
                                  indent=indent).encode(
                                      "utf-8", "surrogateescape")
        if toc_member is None:
            toc_digest = sha256(toc_json)
            e = Entry(TOC_NAME, mode=0o444, mtime=0)
            e.data = toc_json
            self.write(tar_header(e))
            self.write(toc_json)
            self.write(pad(len(toc_json)) + bytes(1024))
            self.close()
        else:
            toc_digest, toc_member = toc_member
            self.emit(toc_member)
        if callable(footer):
            footer = footer(toc_off)
        self.emit(make_footer(toc_off) if footer is None else footer)
        self.emit(after)
        return {"toc_digest": toc_digest,
                "blob_digest": "sha256:" + self.hash.hexdigest(),
                "diff_id": "sha256:" + self.diff.hexdigest(),
                "size": self.off, "toc_off": toc_off,
                "uncompressed_size": self.diff_len}


def make_footer(off, text=None, legacy=False):
    text = text if text is not None else b"%016xSTARGZ" % off
    extra = text if legacy else b"SG" + struct.pack("<H", len(text)) + text
    return (b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" +
            struct.pack("<H", len(extra)) + extra +
            b"\x01\0\0\xff\xff" + bytes(8))
