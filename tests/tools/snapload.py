#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""snapload.py SOCKET COMMAND: many calls of a snapshotter at once.

fill N       N committed snapshots, each on the one before up to 100 deep
list N       List gives exactly those of fill, in order, and each once
stat N       N calls of Stat at once on one connection
churn N      N threads that prepare, stat and remove, beside a List
"""
import sys
import threading

from snapctl import Client


def name(i):
    return "load-%06d" % i


def fill(c, n):
    # Chains side by side: a snapshot waits for its parent only.
    def chain(first, last):
        parent = ""
        for i in range(first, last):
            key = "k-%d" % i
            c.prepare(key, parent, {"n": str(i), "a/b.c": "x" * 100})
            c.commit(name(i), key, {"n": str(i), "a/b.c": "x" * 100})
            parent = name(i)
    run([threading.Thread(target=chain, args=(i, min(n, i + 100)))
         for i in range(0, n, 100)], 32)


def run(threads, at_once):
    for i in range(0, len(threads), at_once):
        for t in threads[i:i + at_once]:
            t.start()
        for t in threads[i:i + at_once]:
            t.join()


def listed(c, n):
    got = [s for s in c.list() if s["name"].startswith("load-")]
    assert [s["name"] for s in got] == [name(i) for i in range(n)]
    for i, s in enumerate(got):
        assert s["kind"] == "committed"
        assert s["parent"] == (name(i - 1) if i % 100 else "")
        assert s["labels"]["n"] == str(i)


def stat(c, n):
    call = c.method("Stat", "StatSnapshotResponse")
    calls = [(i, call.future(c.request("StatSnapshotRequest", key=name(i)),
                             timeout=60)) for i in range(n)]
    for i, f in calls:
        assert f.result().info.labels["n"] == str(i)


def churn(c, n):
    bad = []

    def work(me):
        try:
            for i in range(20):
                key = "churn-%d-%d" % (me, i)
                c.prepare(key, name(me), {"n": "x"})
                assert c.stat(key)["parent"] == name(me)
                c.remove(key)
        except Exception as e:  # noqa: any is a failure
            bad.append(e)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        assert sum(s["name"].startswith("load-") for s in c.list()) >= n
    for t in threads:
        t.join()
    assert not bad, bad[0]
    assert not [s for s in c.list() if s["name"].startswith("churn-")]


def main():
    c = Client(sys.argv[1])
    {"fill": fill, "list": listed, "stat": stat, "churn": churn}[
        sys.argv[2]](c, int(sys.argv[3]))


if __name__ == "__main__":
    main()
