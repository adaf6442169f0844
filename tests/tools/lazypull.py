#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Asks a snapshotter for the layers of an image as containerd does: one after
the other, lowest first, each with the labels of a lazy layer.

lazypull.py -a SOCKET [OPTION...] OCI-DIR TAG HOST/REPO:TAG

Prints a line a layer: NUMBER RESULT MILLISECONDS CHAIN-ID. RESULT is "lazy"
(the snapshot is there now, as Stat confirms), "ordinary" (containerd would
unpack it; that snapshot is removed again, and the rest of the image is not
asked for), or the code of an error. Exit: 0 all lazy, 1 not.
--labels cri|stargz|none  whose (cri)
--cut BYTES          of the list of layers, as containerd cuts a label
--first N            only the lowest ones
--bare               with the labels that every eStargz layer has
--no-toc             as if no layer had a digest of its TOC
--toc DIGEST         as if all had this one
--times              and at the end: total, the mark, and what was left
--rtt-ms N           round trip of the network, for the mark
"""
import argparse
import hashlib
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import grpc  # noqa: E402
import snapctl  # noqa: E402

CRI = "containerd.io/snapshot/cri."
STARGZ = "containerd.io/snapshot/remote/stargz."
TOC = "containerd.io/snapshot/stargz/toc.digest"
REF = "containerd.io/snapshot.ref"


def blob(oci, digest):
    with open(os.path.join(oci, "blobs", *digest.split(":"))) as f:
        return json.load(f)


def manifest(oci, tag):
    with open(os.path.join(oci, "index.json")) as f:
        index = json.load(f)
    found = [m["digest"] for m in index["manifests"] if m.get(
        "annotations", {}).get("org.opencontainers.image.ref.name") == tag]
    m = blob(oci, found[-1])
    while "manifests" in m:
        m = blob(oci, m["manifests"][0]["digest"])
    return m


def chain_ids(oci, m):
    chain = None
    for d in blob(oci, m["config"]["digest"])["rootfs"]["diff_ids"]:
        if chain is not None:
            d = "sha256:" + hashlib.sha256((chain + " " + d).encode()
                                           ).hexdigest()
        chain = d
        yield chain


def labels_of(o, layers, i, chain):
    names = ",".join(x["digest"] for x in layers[i:])[:o.cut]
    notes = layers[i].get("annotations", {})
    toc = o.toc or notes.get(TOC)
    # containerd hands on all annotations that begin so.
    labels = {k: v for k, v in notes.items()
              if k.startswith("containerd.io/snapshot/") and k != TOC and
              not o.bare}
    labels[REF] = chain
    if o.labels == "cri":
        labels.update({CRI + "image-ref": o.ref,
                       CRI + "layer-digest": layers[i]["digest"],
                       CRI + "image-layers": names})
    elif o.labels == "stargz":
        labels.update({STARGZ + "reference": o.ref,
                       STARGZ + "digest": layers[i]["digest"],
                       STARGZ + "layers": names})
    if toc and not o.no_toc:
        labels[TOC] = toc
    return labels


def prepare(client, key, parent, labels):
    """As containerd's unpacker does."""
    try:
        client.prepare(key, parent, labels)
    except grpc.RpcError as e:
        if e.code() != grpc.StatusCode.ALREADY_EXISTS:
            return e.code().name
        return "lazy" if client.stat(
            labels[REF])["kind"] == "committed" else "lost"
    client.remove(key)
    return "ordinary"


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("-a", "--address", required=True)
    p.add_argument("--labels", choices=("cri", "stargz", "none"), default="cri")
    p.add_argument("--cut", type=int)
    p.add_argument("--bare", action="store_true")
    p.add_argument("--no-toc", action="store_true")
    p.add_argument("--toc")
    p.add_argument("--first", type=int, default=512)
    p.add_argument("--times", action="store_true")
    p.add_argument("--rtt-ms", type=int, default=0)
    p.add_argument("oci")
    p.add_argument("tag")
    p.add_argument("ref")
    o = p.parse_args()
    client = snapctl.Client(o.address)
    m = manifest(o.oci, o.tag)
    chains = list(chain_ids(o.oci, m))[:o.first]
    layers = m["layers"]
    parent, n = "", 0
    # The connection itself is not what is measured.
    list(client.list('name==""'))
    start = time.monotonic()
    for i, chain in enumerate(chains):
        at = time.monotonic()
        result = prepare(client, "extract-%d-%d %s" % (os.getpid(), i, chain),
                         parent, labels_of(o, layers, i, chain))
        print(i, result, "%.1f" % ((time.monotonic() - at) * 1000), chain,
              flush=True)
        if result != "lazy":
            break
        parent = chain
        n += 1
    total = (time.monotonic() - start) * 1000
    if o.times:
        print("total %.1f ms, mark %d ms" % (total,
                                             4 * o.rtt_ms + 20 * len(layers)))
    return 0 if n == len(chains) else 1


if __name__ == "__main__":
    sys.exit(main())
