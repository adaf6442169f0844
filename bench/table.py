#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the tables: table.py SAMPLES [--short] [GROUP...]

SAMPLES has a line "KEY VALUE" a measurement, "# KEY WORDS" a note; the n-th value of a
figure and the n-th of what it is compared with are a pair, measured one after the
other. A ratio is that of the medians, and behind it the least and the greatest of
the pairs' ratios; noise is how much the reference differs from itself, from one
round to the next (median). --short: what the README shows.
"""
import statistics
import sys

# group, figure, unit, key, compared with, its key, target.
# Targets: of the value ("<= N", median) or of the ratio to the other
# ("x<= N", "x>= N").
MS, US, MBS, S, MIB, N = "ms", "us", "MB/s", "s", "MiB", "n"
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

    ("seq", "1 file, cold, 20 ms, 1 Gbit/s", MBS,
     "seq.far", "curl of its compressed bytes", "seq.far.wire", "x>= 0.9"),
    ("seq", "  the same against", MBS,
     "seq.far", "curl | inflate", "seq.far.curl", None),
    ("seq", "  with background fetching", MBS,
     "seq.far.bg", "curl | inflate", "seq.far.curl", None),
    ("seq", "1 file, cold, loopback", MBS,
     "seq.near", "curl | igzip -d | openssl sha256", "seq.near.openssl",
     None),
    ("seq", "  the same against", MBS,
     "seq.near", "curl | inflate", "seq.near.curl", None),
    ("seq", "1 file, cold, of a blob on disk", MBS,
     "seq.local", "igzip -d | openssl sha256", "seq.local.openssl",
     ">= 600"),
    ("seq", "  in chunks of 4 MiB", MBS,
     "seq.local4m", "in chunks of 64 KiB", "seq.local", None),
    ("seq", "SHA-256 of 16 chunks at once, one thread", MBS,
     "hash.many", "one after the other", "hash.one", None),
    ("seq", "10,000 files, 20 ms, 1 Gbit/s: mount, tar | wc", S,
     "layer.far", "curl | tar xz, tar | wc", "layer.far.curl", None),

    ("cpu", "CPU s/GB of filling: worker + estargzd", S,
     "cpu.ours", "curl | igzip -d | sha256sum", "cpu.igzip", "x<= 1.3"),
    ("cpu", "  the same against", S, "cpu.ours",
     "curl | igzip -d | openssl sha256", "cpu.openssl", None),
    ("cpu", "  the same against", S, "cpu.ours", "curl | inflate", "cpu.curl",
     None),
    ("cpu", "  of it the worker", S, "cpu.worker", None, None, None),
    ("cpu", "  of it estargzd", S, "cpu.fetcher", None, None, None),
    ("cpu", "  and cat, which waits for it", S, "cpu.cat", None, None, None),

    ("link", "background fetching, 20 ms, 100 Mbit/s", MBS,
     "link.background", "curl", "link.curl", "x>= 0.95"),
    ("link", "a demand miss meanwhile, 4 KiB", MS,
     "link.miss.busy", "on an idle link", "link.miss.idle", "x<= 1.5"),
    ("link", "  the slowest of a round", MS,
     "link.miss.busy.max", "on an idle link", "link.miss.idle.max", None),

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

    ("ten", "10 images: layers", N, "ten.layers", None, None, ">= 20"),
    ("ten", "lazy, idle: private dirty of all processes", MIB, "ten.lazy",
     None, None, "<= 40"),
    ("ten", "  of it monitors and workers", MIB, "ten.lazy.layers", None, None,
     None),
    ("ten", "  page cache of the layers' files", MIB, "ten.lazy.cached", None,
     None, None),
    ("ten", "complete, idle: processes of layers", N, "ten.complete.procs",
     None, None, "<= 0"),
    ("ten", "  private dirty of them", MIB, "ten.complete.layers", None, None,
     "<= 0"),
    ("ten", "  private dirty of all processes", MIB, "ten.complete", None,
     None, "<= 40"),
    ("ten", "  page cache of the layers' files", MIB, "ten.complete.cached",
     None, None, None),

    ("meta", "mount of a complete layer", MS,
     "mount.complete", None, None, "<= 30"),
    ("meta", "find -printf, by EROFS, second time", MS,
     "find.warm.erofs", "ext4", "find.warm.ext4", "x<= 1.05"),
    ("meta", "  by FUSE", MS,
     "find.warm", "ext4", "find.warm.ext4", "x<= 1.3"),
    ("meta", "find -printf, by EROFS, caches dropped", MS,
     "find.cold.erofs", "ext4", "find.cold.ext4", "x<= 1.05"),
    ("meta", "  by FUSE", MS,
     "find.cold", "ext4", "find.cold.ext4", None),
    ("meta", "find -printf, by EROFS, first after a mount", MS,
     "find.first.erofs", "ext4, caches warm", "find.warm.ext4", None),
    ("meta", "  by FUSE", MS,
     "find.first", "ext4, caches warm", "find.warm.ext4", None),
    ("meta", "tar cf - . | wc -c, by EROFS, second time", MS,
     "tar.warm.erofs", "ext4", "tar.warm.ext4", "x<= 1.05"),
    ("meta", "  by FUSE", MS,
     "tar.warm", "ext4", "tar.warm.ext4", "x<= 1.3"),
    ("meta", "tar cf - . | wc -c, by EROFS, caches dropped", MS,
     "tar.cold.erofs", "ext4", "tar.cold.ext4", "x<= 1.05"),
    ("meta", "  by FUSE", MS,
     "tar.cold", "ext4", "tar.cold.ext4", None),
    ("meta", "tar cf - . | wc -c, by EROFS, first after a mount", MS,
     "tar.first.erofs", "ext4, caches warm", "tar.warm.ext4", None),
    ("meta", "  by FUSE", MS,
     "tar.first", "ext4, caches warm", "tar.warm.ext4", None),
] + [
    ("rpc", m + ", by way of containerd", US, "rpc.%s.ours" % m,
     "its overlayfs snapshotter", "rpc.%s.overlayfs" % m, None)
    for m in ("Stat", "Mounts", "Prepare", "Remove")
] + [
    ("stack", what % n, unit, key % n, None, None, target)
    for n in (1, 5, 20) for what, unit, key, target in (
        ("%d layers: requests until all are mounted", N, "s%d.requests",
         None),
        ("%d layers: from complete to the kernel's mounts", MS,
         "s%d.handover", None))]
SHORT = {"req.layer", "req.second.blob", "mount.20", "mount.20.net",
         "second.20", "seq.far", "seq.near", "seq.local", "layer.far", "cpu.ours",
         "link.background", "link.miss.busy", "mem.layer", "ten.lazy",
         "ten.complete.procs", "mount.complete", "find.warm.erofs",
         "tar.warm.erofs"}

# The root file system of a container: bench/stack. operation, key, state of
# the caches, targets of a container without file data, of one that was
# started so and still runs, of a new one.
OLD, NEW, LAZY = "x<= 1.15", "x<= 1.05", "x<= 1.1"
STACK = [
    ("find -printf, first", "find", "first", LAZY, None, None),
    ("find -printf, second", "find", "second", LAZY, None, None),
    ("find -printf", "find", "warm", None, OLD, NEW),
    ("stat of everything", "stat", "warm", None, OLD, None),
    ("open and close", "open", "warm", None, OLD, NEW),
    ("all small files", "small", "warm", None, OLD, None),
    ("tar | cat", "tar", "warm", None, OLD, NEW),
    ("random 4 KiB", "rand", "warm", None, None, NEW),
    ("page faults", "fault", "warm", None, None, None),
    ("files from 16 MiB on", "big", "warm", None, None, None),
    ("exec of python3, numpy", "python", "warm", None, None, NEW),
    ("exec of node", "node", "warm", None, None, NEW),
    ("exec of java", "java", "warm", None, None, NEW),
    ("find -printf", "find", "cold", None, None, NEW),
    ("tar | cat", "tar", "cold", None, "x<= 2", NEW),
    ("open and close", "open", "cold", None, None, NEW),
    ("random 4 KiB", "rand", "cold", None, None, NEW),
    ("page faults", "fault", "cold", None, None, None),
    ("files from 16 MiB on", "big", "cold", None, "x<= 2", None),
    ("  opened with backing files", "big", "pass", None, "x<= 1.3", None),
    ("exec of python3, numpy", "python", "cold", None, None, NEW),
    ("exec of node", "node", "cold", None, None, NEW),
    ("exec of java", "java", "cold", None, None, NEW),
]
WAYS = (("lazy", "no file data is here"), ("old", "started so, still runs"),
        ("new", "new, all is here"))


class Samples:
    def __init__(self, path):
        self.of, self.notes = {}, {}
        with open(path) as f:
            for line in f:
                k, v = line.rstrip("\n").split(" ", 1)
                if k == "#":
                    k, v = v.split(" ", 1)
                    self.notes[k] = v
                else:
                    self.of.setdefault(k, []).append(float(v))

    def get(self, key):
        return self.of.get(key, [])


def num(v, unit):
    if unit == N:
        return "%g" % v
    if unit in (MIB, S):
        return "%.2f" % v
    return "%.0f" % v if v >= 100 else "%.1f" % v


def spread(v, unit):
    m = num(statistics.median(v), unit)
    if len(v) == 1 or unit == N and min(v) == max(v):
        return m
    return "%s [%s..%s]" % (m, num(min(v), unit), num(max(v), unit))


def ratio(v, o):
    """Of the medians; None where there is nothing to compare with."""
    if not v or not o or statistics.median(o) <= 0:
        return None
    return statistics.median(v) / statistics.median(o)


def ratio_text(v, o):
    r = ratio(v, o)
    if r is None:
        return ""
    pairs = [a / b for a, b in zip(v, o) if b > 0]
    if len(v) != len(o) or len(pairs) < 2:
        return "%.2f" % r
    return "%.2f [%.2f..%.2f]" % (r, min(pairs), max(pairs))


def noise(o):
    """How much the reference differs from itself, one round to the next."""
    d = [abs(b / a - 1) for a, b in zip(o, o[1:]) if a > 0]
    return "%.0f %%" % (100 * statistics.median(d)) if d else ""


def judge(target, v, o):
    """The verdict on a row, or ""."""
    if target is None:
        return ""
    m = ratio(v, o) if target[0] == "x" else statistics.median(v)
    if m is None:
        return "?"
    op, limit = target.lstrip("x").split()
    good = m <= float(limit) if op == "<=" else m >= float(limit)
    return "ok" if good else "MISS"


def show(rows):
    width = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for n, r in enumerate(rows):
        print("  ".join(c.ljust(w) for c, w in zip(r, width)).rstrip())
        if n == 0:
            print("  ".join("-" * w for w in width))


def plain(s, groups, short):
    out = [("figure", "", "measured [min..max]", "compared with",
            "measured [min..max]", "ratio [min..max]", "noise", "target", "")]
    for group, title, unit, key, other, okey, target in ROWS:
        v, o = s.get(key), s.get(okey)
        if not v or (groups and group not in groups) or (
                short and (key not in SHORT or title.startswith("  the same"))):
            continue
        out.append((title, unit, spread(v, unit), other if o else "",
                    spread(o, unit) if o else "", ratio_text(v, o), noise(o),
                    (target or "").replace("x", "ratio "), judge(target, v, o)))
    if len(out) > 1:
        show(out)
        print()


def stack(s, layers):
    """A table of one image."""
    key = "s%d" % layers
    ways = [w for w in WAYS if "%s.%s" % (key, w[0]) in s.notes]
    if not ways:
        return
    print("%d layer%s, %s entries" % (layers, "s" if layers > 1 else "",
                                      s.notes.get(key + ".entries", "?")))
    for way, what in ways:
        print("  %-24s %s" % (what + ":", s.notes["%s.%s" % (key, way)]))
    out = [["", "", "overlayfs, ms", "noise"] + [w[1] for w in ways]]
    for title, op, state, *targets in STACK:
        o = s.get("%s.%s.%s.ref" % (key, op, state))
        if not o:
            continue
        row = [title, {"pass": "cold", "warm": "warm",
                       "cold": "cold"}.get(state, ""),
               spread(o, MS), noise(o)]
        for (way, _), target in zip(WAYS, targets):
            if way not in [w[0] for w in ways]:
                continue
            v = s.get("%s.%s.%s.%s" % (key, op, state, way))
            row.append(" ".join(filter(None, (
                ratio_text(v, o), (target or "").lstrip("x"),
                judge(target, v, o)))) if v else "")
        out.append(row)
    show(out)
    print()


def main():
    args = [a for a in sys.argv[1:] if a != "--short"]
    s, groups = Samples(args[0]), args[1:]
    short = "--short" in sys.argv
    n = s.notes
    print(", ".join(x for x in (
        n.get("machine", ""), "load " + n["load"] if "load" in n else "",
        n["rounds"] + " rounds, in turn; medians" if "rounds" in n else "")
        if x) + ".")
    plain(s, groups, short)
    if not groups or "stack" in groups:
        for layers in (1, 5, 20):
            if not short or layers != 1:
                stack(s, layers)


if __name__ == "__main__":
    main()
