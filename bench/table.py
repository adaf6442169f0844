#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the table: table.py SAMPLES [GROUP...]

SAMPLES has a line "KEY VALUE" a measurement; the n-th value of a figure and
the n-th of what it is compared with are a pair, measured one after the other.
A ratio is the median of the pairs' ratios.
"""
import statistics
import sys

# group, figure, unit, key, compared with, its key, target.
# Targets: of the value ("<= N", median) or of the ratio to the other
# ("x<= N", "x>= N").
MS, MBS, S, MIB, N = "ms", "MB/s", "s", "MiB", "n"
ROWS = [
    ("requests", "mount one layer, known image, token there: all requests", N,
     "req.layer", None, None, "<= 2"),
    ("requests", "  of them for its blob", N,
     "req.blob", None, None, "<= 1"),
    ("requests", "mount the layer a second time, by digest: for its blob", N,
     "req.second.blob", None, None, "<= 0"),
    ("requests", "  all", N, "req.second", None, None, "<= 0"),
    ("requests", "mount by URL", N, "req.url", None, None, "<= 1"),
    ("requests", "  a second time", N, "req.url.second", None, None, "<= 0"),

    ("mount", "start to exit, image layer, 20 ms", MS,
     "mount.20", "curl of footer+TOC, warm", "curl.20", None),
    ("mount", "  less the round trips counted", MS,
     "mount.20.net", None, None, "<= 60"),
    ("mount", "start to exit, blob by URL, 20 ms", MS,
     "url.20", "curl of footer+TOC, warm", "curl.20", None),
    ("mount", "  less the round trips counted", MS,
     "url.20.net", None, None, "<= 60"),
    ("mount", "image layer, 0 ms", MS,
     "mount.0", "curl of footer+TOC, warm", "curl.0", None),
    ("mount", "image layer, private estargzd, 20 ms", MS,
     "private.20", None, None, None),
    ("mount", "  less the round trips counted", MS,
     "private.20.net", None, None, None),
    ("mount", "image layer, private estargzd, 0 ms", MS,
     "private.0", None, None, None),
    ("mount", "second mount, image layer, 20 ms", MS,
     "second.20", "fork and exec of true", "true", "<= 30"),
    ("mount", "  0 ms", MS, "second.0", "mount -t erofs of the image",
     "erofs", "<= 30"),
    ("mount", "second mount, by URL, 20 ms", MS,
     "url.second.20", None, None, "<= 30"),
    ("mount", "second mount, image layer, private, 20 ms", MS,
     "private.second.20", None, None, None),

    ("seq", "1 file, cold, 20 ms, 100 MB/s", MBS,
     "seq.far", "curl | inflate", "seq.far.curl", "x>= 0.8"),
    ("seq", "  with background fetching", MBS,
     "seq.far.bg", "curl | inflate", "seq.far.curl", None),
    ("seq", "1 file, cold, loopback", MBS,
     "seq.near", "curl | inflate | sha256sum", "seq.near.sha", None),
    ("seq", "  the same against", MBS,
     "seq.near", "curl | inflate", "seq.near.curl", None),
    ("seq", "10,000 files, 20 ms, 100 MB/s: mount, tar | wc", S,
     "layer.far", "curl | tar xz, tar | wc", "layer.far.curl", None),

    ("cpu", "CPU s/GB of filling: worker + estargzd", S,
     "cpu.ours", "curl | inflate | sha256sum", "cpu.sha", None),
    ("cpu", "  the same against", S, "cpu.ours", "curl | inflate", "cpu.curl",
     None),
    ("cpu", "  of it the worker", S, "cpu.worker", None, None, None),
    ("cpu", "  of it estargzd", S, "cpu.fetcher", None, None, None),
    ("cpu", "  and cat, which waits for it", S, "cpu.cat", None, None, None),

    ("memory", "private dirty, 10,000 files, idle after full read", MIB,
     "mem.layer", "a process that sleeps", "mem.sleep", "<= 2"),
    ("memory", "  of it the monitor", MIB, "mem.layer.monitor", None, None,
     None),
    ("memory", "  of it the worker", MIB, "mem.layer.worker", None, None,
     None),
    ("memory", "  memory shared with estargzd, not in it", MIB,
     "mem.layer.memfd", None, None, None),
    ("memory", "  before the read", MIB, "mem.layer.before", None, None, None),
    ("memory", "private dirty, after reading 1 big file", MIB,
     "mem.big", "10,000 files", "mem.layer", "<= 2"),
    ("memory", "  memory shared with estargzd, not in it", MIB,
     "mem.big.memfd", None, None, None),
    ("memory", "estargzd, after all of it", MIB, "mem.fetcher", None, None,
     None),

    ("meta", "find -printf, second time", MS,
     "find.warm", "ext4", "find.warm.ext4", "x<= 1.3"),
    ("meta", "tar cf - . | wc -c, second time", MS,
     "tar.warm", "ext4", "tar.warm.ext4", "x<= 1.3"),
    ("meta", "find -printf, caches dropped", MS,
     "find.cold", "ext4", "find.cold.ext4", None),
    ("meta", "tar cf - . | wc -c, caches dropped", MS,
     "tar.cold", "ext4", "tar.cold.ext4", None),
    ("meta", "find -printf, first after a mount, cache complete", MS,
     "find.first", "ext4, caches warm", "find.warm.ext4", None),
    ("meta", "tar cf - . | wc -c, first, cache complete", MS,
     "tar.first", "ext4, caches warm", "tar.warm.ext4", None),
]


def num(v, unit):
    if unit == N:
        return "%g" % v
    if unit in (MIB, S):
        return "%.2f" % v
    return "%.0f" % v if v >= 100 else "%.1f" % v


def spread(v, unit, fmt=None):
    fmt = fmt or (lambda x: num(x, unit))
    m = fmt(statistics.median(v))
    if len(v) == 1:
        return m
    return "%s [%s..%s]" % (m, fmt(min(v)), fmt(max(v)))


def pairs(v, o):
    """Ratios of pairs; of the medians where they are not pairs."""
    if len(v) != len(o):
        v, o = [statistics.median(v)], [statistics.median(o)] if o else []
    return [a / b for a, b in zip(v, o) if b > 0]


def judge(target, v, ratios):
    """The verdict on a row, or ""."""
    if target is None:
        return ""
    of = ratios if target[0] == "x" else v
    op, limit = target.lstrip("x").split()
    if not of:
        return "?"
    m = statistics.median(of)
    good = m <= float(limit) if op == "<=" else m >= float(limit)
    return "ok" if good else "MISS"


def main():
    samples = {}
    with open(sys.argv[1]) as f:
        for line in f:
            k, v = line.split()
            samples.setdefault(k, []).append(float(v))
    out = [("figure", "", "measured [min..max]", "compared with",
            "measured [min..max]", "ratio [min..max]", "target", "")]
    missed = 0
    for group, title, unit, key, other, okey, target in ROWS:
        v = samples.get(key)
        if v is None or (sys.argv[2:] and group not in sys.argv[2:]):
            continue
        o = samples.get(okey, []) if okey else []
        ratios = pairs(v, o)
        verdict = judge(target, v, ratios)
        missed += verdict == "MISS"
        out.append((title, unit, spread(v, unit), other if o else "",
                    spread(o, unit) if o else "",
                    spread(ratios, "", lambda x: "%.2f" % x) if ratios else "",
                    (target or "").replace("x", "ratio "), verdict))
    width = [max(len(r[i]) for r in out) for i in range(len(out[0]))]
    for n, r in enumerate(out):
        print("  ".join(c.ljust(w) for c, w in zip(r, width)).rstrip())
        if n == 0:
            print("  ".join("-" * w for w in width))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
