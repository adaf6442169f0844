#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a program has read of an image: touched.py LAYOUT TAG LOWERDIR...

LAYOUT:TAG is the image as eStargz; LOWERDIR... the same layers, unpacked, the
uppermost first, whose page cache was empty before the program ran. Prints
  touched       compressed bytes of the chunks of which a page is in memory now
  prioritised   those in front of the landmarks
  image         all of the image's layers
"""
import ctypes
import gzip
import json
import mmap
import os
import sys

PAGE = mmap.PAGESIZE
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int,
                      ctypes.c_int, ctypes.c_int, ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def resident(path, size):
    """A byte a page of the file: odd where it is in memory."""
    vec = ctypes.create_string_buffer((size + PAGE - 1) // PAGE)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    at = LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    os.close(fd)
    if at == ctypes.c_void_p(-1).value or LIBC.mincore(at, size, vec) != 0:
        raise OSError(ctypes.get_errno(), path)
    LIBC.munmap(at, size)
    return vec.raw


def blob(layout, digest):
    return os.path.join(layout, "blobs", *digest.split(":"))


def document(layout, digest):
    with open(blob(layout, digest)) as f:
        return json.load(f)


def layers(layout, tag):
    with open(os.path.join(layout, "index.json")) as f:
        top = [m for m in json.load(f)["manifests"] if m.get(
            "annotations", {}).get("org.opencontainers.image.ref.name") == tag]
    m = document(layout, top[-1]["digest"])
    while "manifests" in m:
        m = document(layout, m["manifests"][0]["digest"])
    return m["layers"]


def toc(path):
    """Entries, and where they are in the blob."""
    with open(path, "rb") as f:
        f.seek(-51, os.SEEK_END)
        at = int(f.read(51)[16:32], 16)
        f.seek(at)
        text = gzip.decompress(f.read())
    # One tar member: 512 bytes of header, the document, padding of zeros.
    return json.loads(text[512:].rstrip(b"\0"))["entries"], at


def touched(path, lower):
    entries, end = toc(path)
    offs = sorted({e["offset"] for e in entries if e.get("offset")} | {end})
    length = dict(zip(offs, (b - a for a, b in zip(offs, offs[1:]))))
    seen, front, pages, size = set(), 0, b"", 0
    for e in entries:
        if e["name"] == ".prefetch.landmark":
            front = e["offset"]
        if e["type"] == "reg":
            size = e.get("size", 0)
            pages = b""
            file = os.path.join(lower, e["name"])
            if size > 0 and os.path.lexists(file):
                pages = resident(file, size)
        if e["type"] not in ("reg", "chunk") or not e.get("offset"):
            continue
        first = e.get("chunkOffset", 0)
        last = first + (e.get("chunkSize") or size - first)
        if any(p & 1 for p in pages[first // PAGE:-(-last // PAGE)]):
            seen.add(e["offset"])
    return sum(length[o] for o in seen), front


def main():
    layout, tag, lowers = sys.argv[1], sys.argv[2], sys.argv[3:]
    ls = layers(layout, tag)
    if len(ls) != len(lowers):
        sys.exit("%d layers, %d directories" % (len(ls), len(lowers)))
    total = [0, 0, 0]
    for layer, lower in zip(ls, reversed(lowers)):
        n, front = touched(blob(layout, layer["digest"]), lower)
        total = [total[0] + n, total[1] + front, total[2] + layer["size"]]
    print("touched %d\nprioritised %d\nimage %d" % tuple(total))


if __name__ == "__main__":
    main()
