#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The input of the benchmarks.

  input.py big OUT KIB         a blob of two files of real bytes, "big" (1 GiB)
                               and "quick" (256 MiB), in chunks of KIB; writes
                               OUT.json as well
  input.py members BLOB FILE   prints the file's range in the blob, "A-B"; then
                               a line a member: compressed and inflated bytes
"""
import json
import os
import stat
import sys
import zlib

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "tests", "tools"))
from esgz import Blob, NO_LANDMARK  # noqa: E402

MIB = 1 << 20
FILES = (("big", 1024 * MIB), ("quick", 256 * MIB))


def real_bytes(top="/usr/lib"):
    """The files below top, one after the other, and again if too few."""
    while True:
        some = False
        for d, dirs, names in os.walk(top):
            dirs.sort()
            for n in sorted(names):
                p = os.path.join(d, n)
                if stat.S_ISREG(os.lstat(p).st_mode):
                    with open(p, "rb") as f:
                        yield f.read()
                    some = True
        if not some:
            sys.exit("no files in " + top)


def big(path, chunk):
    src, rest = real_bytes(), b""
    with open(path, "wb") as f:
        b = Blob(f, 6, chunk, 0)
        b.add(NO_LANDMARK, data=b"\x0f")
        for name, size in FILES:
            parts, n = [rest], len(rest)
            while n < size:
                parts.append(next(src))
                n += len(parts[-1])
            data = b"".join(parts)
            b.add(name, data=data[:size])
            rest = data[size:]
        r = b.finish()
    with open(path + ".json", "w") as f:
        json.dump(r, f)


def toc(path):
    with open(path + ".json") as f:
        at = json.load(f)["toc_off"]
    with open(path, "rb") as f:
        f.seek(at)
        t = zlib.decompressobj(31).decompress(f.read())
    size = int(t[124:135], 8)
    return json.loads(t[512:512 + size])["entries"]


def members(path, name):
    chunks = [e for e in toc(path) if e["name"] == name]
    size = chunks[0]["size"]
    out = []
    with open(path, "rb") as f:
        for i, e in enumerate(chunks):
            n = e.get("chunkSize") or size - e.get("chunkOffset", 0)
            f.seek(e["offset"])
            d = zlib.decompressobj(31)
            got = 0
            while not d.eof:
                got += len(d.decompress(f.read(65536)))
            end = f.tell() - len(d.unused_data)
            # The next file's tar header may follow in the last one.
            if got != n and not (got > n and i == len(chunks) - 1):
                sys.exit("%s: chunk %d is not a member of its own" % (name, i))
            if out and out[-1][1] != e["offset"]:
                sys.exit("%s: its members are not adjacent" % name)
            out.append((e["offset"], end, got))
    print("%d-%d" % (out[0][0], out[-1][1] - 1))
    for a, b, n in out:
        print(b - a, n)


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "big":
        big(sys.argv[2], int(sys.argv[3]) << 10)
    elif len(sys.argv) == 4 and sys.argv[1] == "members":
        members(*sys.argv[2:])
    else:
        sys.exit(__doc__)
