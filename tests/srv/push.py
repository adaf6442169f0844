# SPDX-License-Identifier: Apache-2.0
"""The half of srv.py that takes pushes (--push DIR), into DIR.

Faults of its own (path, method, skip, count as with the others):
    cut           takes `after` bytes of the body, and resets the connection
    full          takes the body, and resets the connection before an answer
    no-mount      202 for a mount, as for any upload
    ignore-chunk  202 for a chunk, of which nothing is kept
    crumbs        100 bytes are taken of each chunk
    no-range      does not say how much of an upload is there
    relative      Locations without a host
    expire        the upload is not known any more
    wrong-digest  Docker-Content-Digest of something else
--referrers: keeps lists of artifacts, --page N of them a page; --chunk-min N:
OCI-Chunk-Min-Length, and shorter chunks that are not the last are refused.
"""
import hashlib
import json
import os
import re
import secrets
from urllib.parse import parse_qs

STEP = 65536
INDEX = "application/vnd.oci.image.index.v1+json"


class Store:
    """What was pushed. S.lock of srv.py guards it."""

    def __init__(self, d):
        self.dir = d
        self.blobs, self.manifests, self.uploads = set(), {}, {}
        os.makedirs(d, exist_ok=True)

    def path(self, digest):
        return os.path.join(self.dir, digest.replace(":", "-"))


class Push:
    """Of a handler; A, S and store are its class's."""

    def error(self, status, code, message="no"):
        body = {"errors": [{"code": code, "message": message}]}
        return self.simple(status, json.dumps(body).encode())

    def body_into(self, f):
        """Reads the request's body, as far as its fault wants it read."""
        n = int(self.headers.get("Content-Length") or 0)
        cut = self.is_fault("cut")
        left = min(n, self.fault.d.get("after", n // 2)) if cut else n
        self.got_body = True
        while left > 0:
            p = self.rfile.read(min(left, STEP))
            if not p:
                break
            f(p)
            left -= len(p)
        if cut or self.is_fault("full"):
            self.abort(True)
            return False
        return True

    def is_fault(self, kind):
        return self.fault is not None and self.fault.kind == kind

    def pushed(self, repo, what, name, query):
        """Answers what has to do with pushing. Return: False, it has not."""
        q = {k: v[0] for k, v in parse_qs(query).items()}
        if what == "blobs/uploads":
            self.upload(repo, name, q)
        elif what == "referrers":
            self.referrers(repo, name, q)
        elif what == "manifests" and self.command == "PUT":
            self.put_manifest(repo, name)
        elif what == "manifests":
            return self.get_manifest(repo, name)
        elif what == "blobs":
            with self.S.lock:
                if (repo, name) not in self.store.blobs:
                    return False
            self.blob(self.store.path(name), "application/octet-stream",
                      self.path, {"Docker-Content-Digest": name})
        else:
            return False
        return True

    def upload_at(self, repo, uid, status, more=None):
        to = "/v2/%s/blobs/uploads/%s?_state=%s" % (
            repo, uid, secrets.token_hex(4))
        if not self.is_fault("relative"):
            to = "%s://%s%s" % ("https" if self.A.tls else "http",
                                self.headers.get("Host"), to)
        h = {"Location": to, "Docker-Upload-UUID": uid}
        u = self.store.uploads[uid]
        if not self.is_fault("no-range"):
            h["Range"] = "0-%d" % max(0, len(u["data"]) - 1)
        if self.A.chunk_min:
            h["OCI-Chunk-Min-Length"] = str(self.A.chunk_min)
        h.update(more or {})
        self.simple(status, b"", h)

    def stored(self, repo, digest):
        said = digest
        if self.is_fault("wrong-digest"):
            said = "sha256:" + "5" * 64
        return self.simple(201, b"", {
            "Location": "/v2/%s/blobs/%s" % (repo, digest),
            "Docker-Content-Digest": said})

    def upload(self, repo, uid, q):
        st = self.store
        if self.command == "POST":
            if not self.body_into(lambda p: None):
                return None
            d = q.get("mount")
            if d and (q.get("from"), d) in st.blobs and \
                    not self.is_fault("no-mount") and \
                    (not self.A.auth or self.may(q["from"], "pull")):
                with self.S.lock:
                    st.blobs.add((repo, d))
                return self.stored(repo, d)
            uid = secrets.token_hex(8)
            st.uploads[uid] = {"repo": repo, "data": bytearray()}
            return self.upload_at(repo, uid, 202)
        if self.is_fault("expire"):
            st.uploads.pop(uid, None)
        u = st.uploads.get(uid)
        if u is None or u["repo"] != repo:
            self.body_into(lambda p: None)
            return self.error(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown")
        if self.command == "GET":
            return self.upload_at(repo, uid, 204)
        if self.command == "DELETE":
            del st.uploads[uid]
            return self.simple(204, b"")
        if self.command == "PATCH":
            return self.patch(repo, uid, u)
        return self.finish_upload(repo, uid, u, q)

    def patch(self, repo, uid, u):
        n = int(self.headers.get("Content-Length") or 0)
        m = re.fullmatch(r"(\d+)-(\d+)", self.headers.get("Content-Range", ""))
        if not m or int(m.group(1)) != len(u["data"]) or \
                int(m.group(2)) - int(m.group(1)) + 1 != n:
            self.body_into(lambda p: None)
            return self.error(416, "BLOB_UPLOAD_INVALID", "not in order")
        if self.is_fault("ignore-chunk"):
            self.body_into(lambda p: None)
            return self.upload_at(repo, uid, 202)
        had = len(u["data"])
        if self.body_into(u["data"].extend):
            if self.is_fault("crumbs"):
                del u["data"][had + 100:]
            self.upload_at(repo, uid, 202)
        return None

    def finish_upload(self, repo, uid, u, q):
        if not self.body_into(u["data"].extend):
            return None
        d = "sha256:" + hashlib.sha256(u["data"]).hexdigest()
        if d != q.get("digest"):
            return self.error(400, "DIGEST_INVALID", "digest does not match")
        with open(self.store.path(d), "wb") as f:
            f.write(u["data"])
        with self.S.lock:
            del self.store.uploads[uid]
            self.store.blobs.add((repo, d))
        return self.stored(repo, d)

    def put_manifest(self, repo, ref):
        data = bytearray()
        if not self.body_into(data.extend):
            return None
        d = "sha256:" + hashlib.sha256(data).hexdigest()
        j = json.loads(data)
        if ref.startswith("sha256:") and ref != d:
            return self.error(400, "DIGEST_INVALID", "digest does not match")
        for x in [j["config"]] + j["layers"] if "layers" in j else []:
            if (repo, x["digest"]) not in self.store.blobs:
                return self.error(404, "MANIFEST_BLOB_UNKNOWN", x["digest"])
        with open(self.store.path(d), "wb") as f:
            f.write(data)
        m = (self.headers.get("Content-Type"), d, j)
        with self.S.lock:
            self.store.manifests[repo, ref] = m
            self.store.manifests[repo, d] = m
        h = {"Location": "/v2/%s/manifests/%s" % (repo, d),
             "Docker-Content-Digest": d}
        if self.is_fault("wrong-digest"):
            h["Docker-Content-Digest"] = "sha256:" + "5" * 64
        if self.A.referrers and "subject" in j:
            h["OCI-Subject"] = j["subject"]["digest"]
        return self.simple(201, b"", h)

    def get_manifest(self, repo, ref):
        with self.S.lock:
            m = self.store.manifests.get((repo, ref))
        if m is None:
            return False
        self.blob(self.store.path(m[1]), m[0], self.path,
                  {"Docker-Content-Digest": m[1]})
        return True

    def referrers(self, repo, digest, q):
        if not self.A.referrers:
            return self.simple(404, b"404 page not found\n")
        with self.S.lock:
            found = {d: (t, j) for (r, _), (t, d, j) in
                     self.store.manifests.items() if r == repo and
                     j.get("subject", {}).get("digest") == digest}
        all_ = [{"mediaType": t, "digest": d,
                 "size": os.path.getsize(self.store.path(d)),
                 "artifactType": j.get("artifactType"),
                 "annotations": j.get("annotations", {})}
                for d, (t, j) in sorted(found.items())]
        a = int(q.get("from", 0))
        n = self.A.page or len(all_)
        h = {"Content-Type": INDEX}
        if a + n < len(all_):
            h["Link"] = '</v2/%s/referrers/%s?from=%d>; rel="next"' % (
                repo, digest, a + n)
        return self.simple(200, json.dumps({
            "schemaVersion": 2, "mediaType": INDEX,
            "manifests": all_[a:a + n]}).encode(), h)
