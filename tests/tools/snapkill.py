#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kills snaplab again and again, and looks at what is left.

snapkill.py SNAPLAB ROOT ROUNDS SEED                 SIGKILL
snapkill.py SNAPLAB ROOT ROUNDS SEED DEVICE-FILE     a power cut

Of what snaplab said was done, everything must be there; what it was doing may be. A
power cut is played: ROOT is a file system in DEVICE-FILE, which is copied once
snaplab is dead, so that only what was written to the device is in the copy. Then only
commits must be there, and removals may be undone. Exit 1 where a snapshot is
lost or has come back, has no directory, or a directory has no snapshot.
"""
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys


def run(lab, root, seed, lines):
    """Kills it in the middle. Return: what it said"""
    p = subprocess.Popen([lab, "run", root, str(seed), "4"],
                         stdout=subprocess.PIPE)
    said = [p.stdout.readline() for _ in range(lines)]
    p.send_signal(signal.SIGKILL)
    said += p.stdout.readlines()
    p.wait()
    if p.returncode != -signal.SIGKILL:
        raise SystemExit("snaplab ended: %d" % p.returncode)
    return [x.decode().split() for x in said if x.endswith(b"\n")]


def model(before, said, power):
    """name -> "yes", "no" or "maybe" """
    m = dict(before)
    for what, name, _ in said:
        if what == "p":
            m[name] = "maybe"
        elif what == "P":
            m[name] = "maybe" if power else "yes"
        elif what == "c":
            m[name] = m["a" + name[1:]] = "maybe"
        elif what == "C":
            m[name] = "yes"
            m["a" + name[1:]] = "no"
        elif what == "r":
            m[name] = "maybe"
        elif what == "R":
            m[name] = "maybe" if power else "no"
    return m


def look(lab, root):
    got = subprocess.run([lab, "list", root], stdout=subprocess.PIPE)
    db = sqlite3.connect(os.path.join(root, "snapshots.db"))
    state = db.execute("PRAGMA integrity_check").fetchone()[0]
    keys = db.execute("PRAGMA foreign_key_check").fetchall()
    db.close()
    if got.returncode or state != "ok" or keys:
        raise SystemExit("list %d, integrity %s, keys %r" % (
            got.returncode, state, keys))
    return {x.split()[1] for x in got.stdout.decode().splitlines()}


def judge(want, there, what):
    for name, w in want.items():
        if w == "yes" and name not in there:
            raise SystemExit("%s: %s is lost" % (what, name))
        if w == "no" and name in there:
            raise SystemExit("%s: %s is back" % (what, name))
    stray = there - set(want)
    if stray:
        raise SystemExit("%s: where do they come from: %r" % (what, stray))


def power_cut(root, device, name):
    """Where the file system is mounted as the cut has left it."""
    copy, where = device + ".cut", root + "-" + name
    subprocess.run(["cp", "--sparse=always", device, copy], check=True)
    os.makedirs(where, exist_ok=True)
    subprocess.run(["mount", "-o", "loop", copy, where], check=True)
    return where


def main():
    lab, root, rounds, seed = sys.argv[1:5]
    device = sys.argv[5] if len(sys.argv) > 5 else None
    rng = random.Random(int(seed))
    known, top = {}, root
    for i in range(int(rounds)):
        said = run(lab, os.path.join(top, "state"), int(seed) + i,
                   rng.randrange(1, rng.choice((100, 3000))))
        want = model(known, said, device is not None)
        if device:
            cut = power_cut(root, device, str(i))
            try:
                there = look(lab, os.path.join(cut, "state"))
            finally:
                subprocess.run(["umount", cut], check=True)
        else:
            there = look(lab, os.path.join(top, "state"))
            known = {n: "yes" for n in there}
        judge(want, there, "round %d" % i)
        if device:
            shutil.rmtree(os.path.join(top, "state"))
    print("rounds:", rounds)


if __name__ == "__main__":
    main()
