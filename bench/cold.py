#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Table and plot of bench/cold-start:
cold.py SAMPLES TOUCHED [--mbit N] [--rtt MS] [--traced DIR] [--plot FILE.svg]

SAMPLES: lines "WAY IMAGE PULL RUN", in seconds; TOUCHED: "IMAGE WHAT BYTES";
DIR: IMAGE.json of estargz trace, a start by the image's trace.
"""
import argparse
import json
import os
import statistics
import subprocess

from table import show

WAYS = {"eager": "pulled", "lazy": "lazy", "opt": "trace", "peer": "stargz"}
OF_TOUCHED, PLUS_S = 1.25, 0.4
OF_EAGER = 0.35
OF_PEER = 0.5
OF_CHUNKS, OF_PAGES = 1.3, 3


class Start:
    """All starts of an image in one way."""

    def __init__(self):
        self.pull, self.run, self.total = [], [], []

    def add(self, pull, run):
        self.pull.append(pull)
        self.run.append(run)
        self.total.append(pull + run)

    def medians(self):
        return [statistics.median(v) for v in (self.pull, self.run, self.total)]


def read(samples, touched):
    starts, bytes_ = {}, {}
    with open(samples) as f:
        for line in f:
            way, image, pull, run = line.split()
            starts.setdefault(image, {}).setdefault(way, Start()).add(
                float(pull), float(run))
    with open(touched) as f:
        for line in f:
            image, what, n = line.split()
            bytes_[image, what] = int(n)
    return starts, bytes_


def cells(start):
    pull, run, total = start.medians()
    return ["%.2f" % pull, "%.2f" % run, "%.2f [%.2f..%.2f]" % (
        total, min(start.total), max(start.total))]


def mark(value, limit):
    return "%.2f <= %.2f %s" % (value, limit,
                                "ok" if value <= limit else "MISS")


def ratios(by_way, limit):
    """The columns of an image that compare its ways."""
    total = {w: by_way[w].medians()[2] for w in by_way}
    out = []
    if "eager" in total and "lazy" in total:
        out += [mark(total["lazy"] / total["eager"], OF_EAGER),
                mark(total["lazy"], limit)]
    if "opt" in total and "peer" in total:
        out.append(mark(total["opt"] / total["peer"], OF_PEER))
    return out


def table(starts, bytes_, rate, ways):
    head = ["image", "MB", "read MB"]
    for w in ways:
        head += [WAYS[w] + ": pull", "run", "total [min..max]"]
    if "eager" in ways and "lazy" in ways:
        head += ["lazy / pulled", "lazy / what reading takes"]
    if "opt" in ways and "peer" in ways:
        head.append("trace / stargz")
    out = [head]
    for image, by_way in starts.items():
        need = bytes_[image, "touched"]
        row = [image, "%.0f" % (bytes_[image, "image"] / 1e6),
               "%.1f" % (need / 1e6)]
        for w in ways:
            row += cells(by_way[w])
        limit = PLUS_S + OF_TOUCHED * need / rate
        if "eager" in ways:
            limit += by_way["eager"].medians()[1]
        out.append(row + ratios(by_way, limit))
    return out


def traced(images, folder, rtt_s):
    """What the starts by a trace read and fetched."""
    out = [["trace", "touched MB", "fetched MB", "background MB",
            "fetched / touched chunks", "chunks / pages", "misses",
            "they wait s", "all waits s", "longest s"]]
    for image in images:
        path = os.path.join(folder, image + ".json")
        if not os.path.exists(path):
            continue
        with open(path) as f:
            t = json.load(f)
        got, waits = t["fetched"], t["waits"]
        ahead = got["demand"] + got["ahead"] + got["prefetch"] + got["background"]
        need = t["touched"]["compressed_bytes"]
        out.append([
            image, "%.1f" % (need / 1e6), "%.1f" % (ahead / 1e6),
            "%.1f" % (got["background"] / 1e6),
            mark(ahead / need if need else 0, OF_CHUNKS),
            mark(t["ratios"]["chunks_pages"], OF_PAGES),
            "%d" % waits["demand"],
            mark(waits["demand_us"] / 1e6, rtt_s),
            "%.3f" % (waits["blocked_us"] / 1e6),
            "%.3f" % (waits["longest_us"] / 1e6)])
    return out


def plot(path, starts, ways):
    """Bars of pull and run, an image a group."""
    data, labels = "", ""
    for n, (image, by_way) in enumerate(starts.items()):
        for way, name in ways.items():
            data += '"%s" %f %f\n' % ((name,) + tuple(
                by_way[way].medians()[:2]))
        data += '"" 0 0\n'
        labels += 'set label "%s" at %f, graph -0.14 center\n' % (
            image, n * (len(ways) + 1) + (len(ways) - 1) / 2)
    script = """
set terminal svg size 960,360 font "sans-serif,11" background "white"
set output "%s"
set style data histograms
set style histogram rowstacked
set style fill solid noborder
set boxwidth 0.8
set bmargin 4
set ylabel "seconds"
set yrange [0:*]
set offsets 0, 0, 1, 0
set grid ytics lc "#dddddd"
set border 3
set xtics nomirror scale 0
set ytics nomirror
%s
$d << EOD
%sEOD
plot $d using 2:xtic(1) title "pull" lc "#4477aa", \
     "" using 3 title "run" lc "#ee8866", \
     "" using 0:($2+$3):($2+$3 > 0 ? sprintf("%%.1f", $2+$3) : "") \
     with labels offset 0,0.6 notitle
""" % (path, labels, data)
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("samples")
    p.add_argument("touched")
    p.add_argument("--mbit", type=float, default=100)
    p.add_argument("--rtt", type=float, default=20)
    p.add_argument("--traced")
    p.add_argument("--plot")
    a = p.parse_args()
    starts, bytes_ = read(a.samples, a.touched)
    ways = {w: n for w, n in WAYS.items()
            if all(w in by_way for by_way in starts.values())}
    show(table(starts, bytes_, a.mbit * 1e6 / 8, ways))
    if "opt" in ways and a.traced:
        print()
        show(traced(starts, a.traced, a.rtt / 1e3))
    if a.plot:
        plot(a.plot, starts, ways)


if __name__ == "__main__":
    main()
