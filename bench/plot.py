#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what bench/run has measured: plot.py SAMPLES DIR

DIR/stack-N.svg   times of a container of N layers, as parts of overlayfs'
DIR/figures.svg   everything else that has something to be compared with
"""
import statistics
import subprocess
import sys

import table

HEAD = """
set terminal svg size %d,%d font "sans-serif,11" background "white"
set output "%s"
set border 3
set xtics nomirror scale 0
set ytics nomirror
"""
COLOURS = {"lazy": "#ccbb44", "old": "#ee8866", "new": "#4477aa"}


def gnuplot(script):
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def bars(path, title, rows, ways):
    """Groups of bars with the pairs' range; rows: label, {way: (ratio, lo, hi)}"""
    top = max(2, 1.1 * max(r[2] for _, by_way in rows for r in by_way.values()))
    script = HEAD % (1180, 420, path) + """
set title "%s"
set bmargin 9
set ylabel "time / overlayfs"
set logscale y 2
set yrange [0.25:%g]
set ytics ("1/4" 0.25, "1/2" 0.5, "1" 1, "2" 2, "4" 4, "8" 8, "16" 16, "32" 32)
set grid ytics lc "#dddddd"
set key outside top center horizontal
set style fill solid noborder
set xrange [-0.7:%f]
set xtics rotate by 40 right (%s)
set arrow from graph 0, first 1 to graph 1, first 1 nohead lc "#444444" front
""" % (title, top, len(rows) - 0.3, ", ".join(
        '"%s" %d' % (r[0], i) for i, r in enumerate(rows)))
    width = 0.8 / len(ways)
    plots = []
    for n, (way, what) in enumerate(ways):
        script += "$%s << EOD\n" % way
        for i, (_, by_way) in enumerate(rows):
            if way in by_way:
                m, lo, hi = by_way[way]
                script += "%f %f %f %f %f\n" % (
                    i + (n - (len(ways) - 1) / 2) * width, m, lo, hi,
                    width * 0.9)
        script += "EOD\n"
        plots += ['$%s using 1:(0.5*($2+1)):(0.5*$5):(0.5*($2-1)) with boxxy '
                  'lc "%s" title "%s"' % (way, COLOURS[way], what),
                  '$%s using 1:3:(0):($4-$3) with vectors nohead lc "#333333" notitle'
                  % way]
    gnuplot(script + "plot " + ", \\\n".join(plots) + "\n")


def ratios(v, o):
    """The middle half of the pairs' ratios around that of the medians."""
    r = table.ratio(v, o)
    if r is None:
        return None
    pairs = sorted(a / b for a, b in zip(v, o) if b > 0)
    n = len(pairs)
    return r, min(r, pairs[n // 4]), max(r, pairs[n - 1 - n // 4])


def stack(s, layers, path):
    key = "s%d" % layers
    ways = [(w, "%s (%s)" % (what, s.notes["%s.%s" % (key, w)]))
            for w, what in table.WAYS if "%s.%s" % (key, w) in s.notes]
    rows = []
    for title, op, state, *_ in table.STACK:
        o = s.get("%s.%s.%s.ref" % (key, op, state))
        got = {w: ratios(s.get("%s.%s.%s.%s" % (key, op, state, w)), o)
               for w, _ in ways}
        got = {w: r for w, r in got.items() if r is not None}
        if got:
            rows.append((title + (", cold" if state == "cold" else ""), got))
    if rows:
        bars(path, "%d layers, %s entries: time beside overlayfs on unpacked "
             "layers" % (layers, s.notes.get(key + ".entries", "?")), rows,
             ways)


def figures(s, path):
    """One row a figure, on a scale of ratios."""
    rows = []
    for group, title, unit, key, other, okey, target in table.ROWS:
        r = ratios(s.get(key), s.get(okey)) if okey else None
        if r is not None:
            rows.append(("%s: %s / %s" % (group, title.strip(), other), r,
                         unit))
    if not rows:
        return
    script = HEAD % (1000, 60 + 20 * len(rows), path) + """
set title "ratio to the reference: times and sizes less is better; rates (green) more"
set lmargin 75
set logscale x 2
set grid xtics lc "#dddddd"
set yrange [-0.7:%f]
set ytics (%s)
set arrow from first 1, graph 0 to first 1, graph 1 nohead lc "#444444"
unset key
$d << EOD
""" % (len(rows) - 0.3, ", ".join(
        '"%s" %d' % (r[0].replace('"', ""), len(rows) - 1 - i)
        for i, r in enumerate(rows)))
    for i, (_, (m, lo, hi), unit) in enumerate(rows):
        script += "%f %d %f %f %d\n" % (m, len(rows) - 1 - i, lo, hi,
                                        0x228833 if unit == table.MBS
                                        else 0x4477aa)
    gnuplot(script + "EOD\nplot $d using 1:2:3:4:5 with xerrorbars pt 7 ps 0.8 "
            "lc rgb variable\n")


def main():
    s, out = table.Samples(sys.argv[1]), sys.argv[2]
    for layers in (1, 5, 20):
        stack(s, layers, "%s/stack-%d.svg" % (out, layers))
    figures(s, out + "/figures.svg")


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    main()
