#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes an image of layers that other images have, or of tars.

  compose.py FROM TO TAG LAYER...

FROM and TO are OCI layouts. A LAYER is TAG:N, the Nth of that image of FROM as
it is there, or the path of a gzip'ed tar. The command is /bin/sh.
"""
import gzip
import hashlib
import json
import os
import shutil
import sys

GZ = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
REF = "org.opencontainers.image.ref.name"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def path(layout, d):
    return layout + "/blobs/sha256/" + d[7:]


def load(layout, d):
    with open(path(layout, d)) as f:
        return json.load(f)


def image(layout, tag):
    with open(layout + "/index.json") as f:
        index = json.load(f)
    d = [m["digest"] for m in index["manifests"]
         if m.get("annotations", {}).get(REF) == tag][-1]
    m = load(layout, d)
    while "manifests" in m:
        m = load(layout, m["manifests"][0]["digest"])
    return m, load(layout, m["config"]["digest"])


def put(layout, data, media):
    d = digest(data)
    with open(path(layout, d), "wb") as f:
        f.write(data)
    return {"mediaType": media, "digest": d, "size": len(data)}


def main():
    src, out, tag = sys.argv[1:4]
    os.makedirs(out + "/blobs/sha256", exist_ok=True)
    layers, diffs, arch = [], [], "amd64"
    for spec in sys.argv[4:]:
        if os.path.exists(spec):
            with open(spec, "rb") as f:
                data = f.read()
            layers.append(put(out, data, GZ))
            diffs.append(digest(gzip.decompress(data)))
            continue
        t, _, n = spec.rpartition(":")
        m, c = image(src, t)
        layer = m["layers"][int(n)]
        layers.append(layer)
        diffs.append(c["rootfs"]["diff_ids"][int(n)])
        arch = c["architecture"]
        if not os.path.exists(path(out, layer["digest"])):
            shutil.copyfile(path(src, layer["digest"]),
                            path(out, layer["digest"]))
    config = put(out, json.dumps({
        "architecture": arch, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diffs}}).encode(),
        "application/vnd.oci.image.config.v1+json")
    m = put(out, json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config,
        "layers": layers}).encode(), MANIFEST)
    m["annotations"] = {REF: tag}
    index = {"schemaVersion": 2, "manifests": []}
    if os.path.exists(out + "/index.json"):
        with open(out + "/index.json") as f:
            index = json.load(f)
    index["manifests"].append(m)
    with open(out + "/index.json", "w") as f:
        json.dump(index, f)
    with open(out + "/oci-layout", "w") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')


if __name__ == "__main__":
    main()
