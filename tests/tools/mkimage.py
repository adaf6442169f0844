#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes images of tar files in an OCI layout, good ones and ones that lie.

  mkimage.py [options] LAYOUT:TAG IMAGE...

An IMAGE is [OS/ARCH[/VARIANT]=]LAYER[,LAYER...], a LAYER COMP:FILE with COMP
none, gzip, members (a gzip member a mebibyte), zstd, or raw: FILE is the blob
as it is (its diff_id that of nothing). More than one IMAGE, or --index, is an
index.

  --docker       media types of docker
  --index        an index, of one image too
  --attest       an attestation beside each image of the index
  --lie WHAT     size: the last layer's descriptor says one byte more
                 diff-id: the config says something else of the last layer
                 more: the manifest has a layer more than the config
                 foreign: the last layer is not to be distributed
Prints the digest that the tag points to.
"""
import argparse
import gzip
import hashlib
import json
import os
import subprocess
import sys

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
TYPES = {
    False: {"manifest": OCI + "manifest.v1+json", "index": OCI + "index.v1+json",
            "config": OCI + "config.v1+json",
            "none": OCI + "layer.v1.tar", "gzip": OCI + "layer.v1.tar+gzip",
            "zstd": OCI + "layer.v1.tar+zstd",
            "foreign": OCI + "layer.nondistributable.v1.tar+gzip"},
    True: {"manifest": DOCKER + "distribution.manifest.v2+json",
           "index": DOCKER + "distribution.manifest.list.v2+json",
           "config": DOCKER + "container.image.v1+json",
           "none": DOCKER + "image.rootfs.diff.tar",
           "gzip": DOCKER + "image.rootfs.diff.tar.gzip",
           "zstd": DOCKER + "image.rootfs.diff.tar.zstd",
           "foreign": DOCKER + "image.rootfs.foreign.diff.tar.gzip"},
}


def sha(b):
    return "sha256:" + hashlib.sha256(b).hexdigest()


class Layout:
    def __init__(self, path):
        self.path = path
        os.makedirs(path + "/blobs/sha256", exist_ok=True)
        with open(path + "/oci-layout", "w") as f:
            f.write('{"imageLayoutVersion":"1.0.0"}')

    def put(self, media_type, data):
        d = sha(data)
        with open(self.path + "/blobs/sha256/" + d[7:], "wb") as f:
            f.write(data)
        return {"mediaType": media_type, "digest": d, "size": len(data)}

    def doc(self, media_type, o):
        return self.put(media_type, json.dumps(o).encode())

    def tag(self, tag, desc):
        name = self.path + "/index.json"
        index = {"schemaVersion": 2, "manifests": []}
        if os.path.exists(name):
            with open(name) as f:
                index = json.load(f)
        key = "org.opencontainers.image.ref.name"
        index["manifests"] = [m for m in index["manifests"]
                              if m.get("annotations", {}).get(key) != tag]
        index["manifests"].append(dict(desc, annotations={key: tag}))
        with open(name, "w") as f:
            json.dump(index, f)


def compress(comp, tar):
    if comp == "gzip":
        return gzip.compress(tar, 6, mtime=0)
    if comp == "members":
        return b"".join(gzip.compress(tar[i:i + (1 << 20)], 6, mtime=0)
                        for i in range(0, len(tar), 1 << 20))
    if comp == "zstd":
        return subprocess.run(["zstd", "-3", "-c"], input=tar, check=True,
                              stdout=subprocess.PIPE).stdout
    return tar


def image(out, a, types, spec):
    platform, _, layers = spec.rpartition("=")
    part = (platform or "linux/amd64").split("/")
    descs, diff_ids = [], []
    for x in layers.split(","):
        comp, _, name = x.partition(":")
        with open(name, "rb") as f:
            tar = f.read()
        kind = {"members": "gzip", "raw": "gzip"}.get(comp, comp)
        descs.append(out.put(types[kind], compress(comp, tar)))
        diff_ids.append(sha(b"" if comp == "raw" else tar))
    if a.lie == "size":
        descs[-1]["size"] += 1
    elif a.lie == "diff-id":
        diff_ids[-1] = sha(b"something else")
    elif a.lie == "more":
        diff_ids.pop()
    elif a.lie == "foreign":
        descs[-1]["mediaType"] = types["foreign"]
        descs[-1]["urls"] = ["https://example.com/layer"]
    config = {"architecture": part[1], "os": part[0],
              "created": "2026-01-02T03:04:05Z", "x-unknown": {"kept": [1, 2.5]},
              "config": {"Cmd": ["/bin/sh"], "Env": ["A=\u00e4 \"b\""],
                         "Labels": {"l": "v"}},
              "rootfs": {"type": "layers", "diff_ids": diff_ids},
              "history": [{"created_by": "layer %d" % i}
                          for i in range(len(descs))] +
                         [{"created_by": "CMD", "empty_layer": True}]}
    manifest = {"schemaVersion": 2, "mediaType": types["manifest"],
                "config": out.doc(types["config"], config), "layers": descs,
                "annotations": {"unknown": "kept"}}
    desc = out.doc(types["manifest"], manifest)
    p = {"os": part[0], "architecture": part[1]}
    if len(part) > 2:
        p["variant"] = part[2]
    return desc, p


def attestation(out, desc):
    statement = out.put("application/vnd.in-toto+json",
                        b'{"_type":"https://in-toto.io/Statement/v0.1"}')
    config = out.doc(OCI + "config.v1+json", {
        "architecture": "unknown", "os": "unknown", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]}})
    m = out.doc(OCI + "manifest.v1+json", {
        "schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
        "config": config, "layers": [statement]})
    return dict(m, annotations={
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": desc["digest"]},
        platform={"os": "unknown", "architecture": "unknown"})


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--docker", action="store_true")
    p.add_argument("--index", action="store_true")
    p.add_argument("--attest", action="store_true")
    p.add_argument("--lie")
    p.add_argument("to")
    p.add_argument("images", nargs="+")
    a = p.parse_args()
    path, _, tag = a.to.rpartition(":")
    out = Layout(path)
    types = TYPES[a.docker]
    made = [image(out, a, types, x) for x in a.images]
    if len(made) == 1 and not a.index:
        desc = made[0][0]
    else:
        manifests = [dict(d, platform=x) for d, x in made]
        if a.attest:
            manifests += [attestation(out, d) for d, _ in made]
        desc = out.doc(types["index"], {
            "schemaVersion": 2, "mediaType": types["index"],
            "manifests": manifests, "annotations": {"unknown": "kept"}})
    out.tag(tag, desc)
    print(desc["digest"])


if __name__ == "__main__":
    sys.exit(main())
