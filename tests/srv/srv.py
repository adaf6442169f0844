#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A registry and blob server that misbehaves on request.

Serves an OCI layout (--oci DIR) as /v2/REPO/{manifests,blobs}/…, whatever
REPO is, and the files of --files DIR as /f/NAME, on 127.0.0.1, a port of the
kernel's choice (--port-file); a second port is the "CDN" that redirects lead
to. Control, never logged and never faulty:
  POST /_ctl/fault   a JSON object, see Fault; faults are tried in order
  POST /_ctl/clear   forgets the faults, wakes what stalls
  POST /_ctl/reset   the same, and forgets the log
  GET  /_ctl/count?method=&path=&status=&range=&auth=&port=   regexes
  GET  /_ctl/log     all requests, one JSON line each
With --referrers DIR/referrers/HEX is the list of what refers to the manifest.
--push DIR takes pushes as well (push.py). --auth basic|bearer with --user NAME:PASSWORD; bearer tokens come from /token,
live --token-expires seconds and --token-uses requests; --anonymous gives
them to anybody; --read-only: none is for pushing. --tls CERT KEY. Python's standard library only.
"""
import argparse
import base64
import json
import os
import re
import secrets
import socket
import ssl
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from push import Push, Store
from several import Several

STEP = 65536


class Fault:
    """kind, and when: path, method, range (regexes; range is matched against
    the header, "" where none), skip (matches that pass first), count (how
    often, -1 for ever), port ("main" or "cdn"), sticky (/_ctl/clear does not
    mend the answers under way).

    status      status, retry_after, headers, body; early: before the body
                of the request was read
    drop        closes without an answer        garbage   answers not in HTTP
    reset       RST after `after` bytes         short     FIN after `after`
    stall       waits for /_ctl/clear after `after` bytes (at most `for` s)
    delay       ms before the answer            slow      bps
    flip        inverts the byte at blob offset `at`, or each `every`th one
    zeros       a body of the right length, all zeros
    shift       Content-Range right, bytes `by` further on
    content-range  value: the header as given ("" none; {a} {b} {n} are right)
    ignore-range   200 and the whole blob
    no-suffix   `bytes=-N` is not understood: answer 416, 400, 501 or 200
    redirect    status 307, to the CDN; uses: then its URL says 403; relative,
                loop, host, to
    http10      HTTP/1.0, no length              chunked  chunked coding
    length      Content-Length is off `by` bytes
    less        a 206 of `n` bytes only, honest about it
    multipart   206 multipart/byteranges
    several     how: several ranges at a time are answered (several.py)
    html        200 and a page that asks to log in
    headers     `n` bytes of headers more
    close       right, but closes the connection afterwards
    """

    def __init__(self, d):
        self.d = d
        self.kind = d["kind"]
        self.skip = d.get("skip", 0)
        self.count = d.get("count", -1)
        self.over = threading.Event()  # /_ctl/clear
        self.lock = threading.Lock()

    def take(self, h):
        d = self.d
        if self.count == 0 or not re.search(d.get("path", ""), h.path) or \
                not re.search(d.get("method", ""), h.command) or \
                not re.search(d.get("range", ""), h.range or "") or \
                d.get("port", h.port_name) != h.port_name:
            return False
        with self.lock:
            if self.skip > 0:
                self.skip -= 1
                return False
            if self.count == 0:
                return False
            if self.count > 0:
                self.count -= 1
            return True


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.log, self.faults, self.tokens, self.signed = [], [], {}, {}
        self.conns = 0


S = State()


class Handler(Push, Several, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = STEP * 2
    timeout = 300
    server_version = "lab"

    def log_message(self, *a):
        pass

    def setup(self):
        super().setup()
        with S.lock:
            S.conns += 1
            self.conn_id = S.conns

    def finish(self):
        try:
            super().finish()
        except (OSError, ValueError):
            pass

    def handle(self):
        try:
            super().handle()
        except (OSError, ssl.SSLError):
            self.close_connection = True

    # ------------------------------------------------------------ requests

    def do_GET(self):
        self.serve()

    do_HEAD = do_GET

    def do_POST(self):
        path = urlsplit(self.path).path
        if path.startswith("/_ctl/") or path == "/token":
            n = int(self.headers.get("Content-Length") or 0)
            self.body = self.rfile.read(n)
        self.serve()

    do_PUT = do_PATCH = do_DELETE = do_POST

    def serve(self):
        self.got_body = False
        self.range = self.headers.get("Range")
        self.port_name = self.server.port_name
        self.fault = None
        self.extra = []
        url = urlsplit(self.path)
        if url.path.startswith("/_ctl/"):
            return self.control(url)
        a = self.headers.get("Authorization", "")
        self.entry = {
            "t": round(time.time() * 1000), "conn": self.conn_id,
            "port": self.port_name, "method": self.command,
            "path": self.path, "range": self.range,
            "auth": a.split(" ")[0].lower() if a else "none",
            "host": self.headers.get("Host"),
            "accept": self.headers.get("Accept"),
            "length": self.headers.get("Content-Length"),
            "agent": self.headers.get("User-Agent"),
            "status": None, "sent": 0}
        with S.lock:
            S.log.append(self.entry)
            faults = list(S.faults)
        for f in faults:
            if f.take(self):
                self.fault = f
                self.entry["fault"] = f.kind
                break
        try:
            self.answer(url)
        finally:
            if LOG:
                with S.lock:
                    LOG.write(json.dumps(self.entry) + "\n")
                    LOG.flush()

    def answer(self, url):
        f = self.fault
        k = f.kind if f else None
        d = f.d if f else {}
        if k == "delay":
            f.over.wait(d.get("ms", 100) / 1000)
        elif k == "drop":
            self.close_connection = True
            return self.abort(d.get("rst", False))
        elif k == "garbage":
            self.entry["status"] = 0
            self.wfile.write(b"\x16\x03\x01 what?\r\n\r\n" * 100)
            self.close_connection = True
            return None
        elif k == "status":
            h = dict(d.get("headers", {}))
            if "retry_after" in d:
                h["Retry-After"] = str(d["retry_after"])
            if d.get("early"):
                self.got_body = self.close_connection = True
            return self.simple(d["status"], d.get("body", "{}").encode(), h)
        elif k == "html":
            return self.simple(200, b"<html>Please log in.</html>" * 40,
                               {"Content-Type": "text/html"})
        elif k == "headers":
            self.extra.append(("X-Filler", "x" * 1000))
            self.extra *= max(1, d.get("n", 1 << 20) // 1000)
        path = unquote(url.path)
        if path == "/token":
            return self.token(parse_qs(url.query))
        m = re.fullmatch(r"/cdn/(\w+)/(.*)", path)
        if m:
            return self.cdn(m)
        if path.startswith("/f/") and A.files:
            if A.auth and A.auth_files and not self.authorized(""):
                return None
            return self.blob(os.path.join(A.files, os.path.basename(path)),
                             "application/octet-stream", path)
        m = re.fullmatch(r"/v2/(?:(.+?)/(manifests|blobs/uploads|blobs|"
                         r"referrers)/([^/]*))?", path)
        if not m:
            return self.simple(404)
        if A.auth and not self.authorized(m.group(1) or ""):
            return None
        if not m.group(1):
            return self.simple(200)
        if A.push and self.pushed(*m.groups(), url.query):
            return None
        if A.oci and A.referrers and m.group(2) == "referrers":
            return self.blob(os.path.join(A.oci, "referrers", os.path.basename(
                m.group(3).replace("sha256:", ""))),
                "application/vnd.oci.image.index.v1+json", path)
        if not A.oci or m.group(2) not in ("manifests", "blobs"):
            return self.error(404, m.group(2).upper()[:-1] + "_UNKNOWN",
                              "unknown to the lab")
        if m.group(2) == "manifests":
            return self.manifest(m.group(3))
        return self.blob(os.path.join(
            A.oci or "/nonexistent", "blobs",
            os.path.normpath("/" + m.group(3).replace(":", "/"))[1:]),
            "application/octet-stream", path)

    def cdn(self, m):
        with S.lock:
            s = S.signed.get(m.group(1))
            if s is None or s["uses"] == 0:
                s = None
            elif s["uses"] > 0:
                s["uses"] -= 1
        if s is None:
            return self.simple(403, b"<Error>AccessDenied: expired</Error>")
        if self.headers.get("Authorization"):
            # As object stores do: one kind of credentials at a time.
            return self.simple(400, b"<Error>two kinds of auth</Error>")
        return self.blob(s["file"], "application/octet-stream", self.path)

    def manifest(self, ref):
        ref = ref.lower() if ref.startswith("sha256:") else ref
        with open(os.path.join(A.oci, "index.json")) as f:
            index = json.load(f)
        d = None
        if ref.startswith("sha256:"):
            d = ref
        for x in index["manifests"]:
            if x.get("annotations", {}).get(
                    "org.opencontainers.image.ref.name") == ref:
                d = x["digest"]
        p = os.path.join(A.oci, "blobs/sha256", (d or "x")[7:])
        if not d or not os.path.exists(p):
            return self.simple(404, b'{"errors":[{"code":'
                               b'"MANIFEST_UNKNOWN"}]}')
        with open(p, "rb") as f:
            data = f.read()
        j = json.loads(data)
        kind = j.get("mediaType") or (
            "application/vnd.oci.image.index.v1+json" if "manifests" in j
            else "application/vnd.oci.image.manifest.v1+json")
        return self.blob(p, kind, self.path, {"Docker-Content-Digest": d})

    # ------------------------------------------------------------ auth

    def authorized(self, repo):
        a = self.headers.get("Authorization", "")
        if A.auth == "basic":
            if a.startswith("Basic ") and base64.b64decode(
                    a[6:]).decode() in A.user:
                return True
            self.simple(401, headers={"WWW-Authenticate":
                                      'Basic realm="lab"'})
            return False
        what = "pull" if self.command in ("GET", "HEAD") else "push"
        if a.startswith("Bearer "):
            with S.lock:
                t = S.tokens.get(a[7:])
                if t and t["until"] > time.time() and t["uses"] != 0 and (
                        not repo or self.may(repo, what)):
                    t["uses"] -= 1
                    return True
        scheme = "https" if A.tls else "http"
        if what == "push":
            what = "pull,push"
        scope = ',scope="repository:%s:%s"' % (repo, what) if repo else ""
        self.simple(401, headers={
            "WWW-Authenticate": 'Bearer realm="%s://%s/token",'
            'service="lab"%s' % (scheme, self.headers.get("Host"), scope)})
        return False

    def may(self, repo, what):
        """Whether the token that came is for that."""
        t = S.tokens.get(self.headers.get("Authorization", "")[7:])
        for s in t["scopes"] if t else []:
            kind, name, actions = s.split(":")
            if name == repo and what in actions.split(","):
                return True
        return A.auth == "basic"

    def token(self, q):
        a = self.headers.get("Authorization", "")
        ok = A.anonymous or (a.startswith("Basic ") and base64.b64decode(
            a[6:]).decode() in A.user)
        if self.command == "POST":
            q = parse_qs(self.body.decode())
            ok = A.identity and q.get("refresh_token") == [A.identity]
        if not ok:
            return self.simple(401, headers={"WWW-Authenticate":
                                             'Basic realm="lab"'})
        t = secrets.token_urlsafe(24)
        with S.lock:
            S.tokens[t] = {"until": time.time() + A.token_expires,
                           "uses": A.token_uses,
                           "scopes": [
                               s.replace(",push", "") if A.read_only else s
                               for s in " ".join(q.get("scope", [])).split()]}
        return self.simple(200, json.dumps({
            "token": t, "access_token": t,
            "expires_in": A.token_says or A.token_expires}).encode())

    # ------------------------------------------------------------ answers

    def abort(self, rst):
        """Ends the connection now, with RST where wanted."""
        try:
            self.wfile.flush()
        except OSError:
            pass
        if rst:
            self.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            try:
                self.connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        self.close_connection = True
        self.server.hard_close(self.connection)

    def head(self, status, headers):
        # What was not read of a body would be the next request.
        if self.command in ("PUT", "PATCH") and not self.got_body:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.entry["status"] = status
        if self.fault and self.fault.kind == "http10":
            self.protocol_version = "HTTP/1.0"
            self.close_connection = True
        self.send_response(status)
        for k, v in list(headers.items()) + self.extra:
            self.send_header(k, v)
        if self.fault and self.fault.kind == "close":
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()

    def simple(self, status, body=b"{}", headers=None):
        h = {"Content-Type": "application/json",
             "Content-Length": str(len(body))}
        h.update(headers or {})
        self.head(status, h)
        if self.command != "HEAD":
            self.wfile.write(body)
            self.entry["sent"] = len(body)
        self.wfile.flush()

    def parse_range(self, size):
        """(status, first, end)"""
        m = re.fullmatch(r"bytes=(\d*)-(\d*)", self.range or "")
        if not m or m.group(0) == "bytes=-":
            return 200, 0, size
        a, b = m.groups()
        if a == "":
            n = min(int(b), size)
            return (206, size - n, size) if n else (416, 0, 0)
        if int(a) >= size or (b and int(b) < int(a)):
            return 416, 0, 0
        return 206, int(a), min(int(b) + 1 if b else size, size)

    def blob(self, file, media, path, headers=None):
        try:
            f = open(file, "rb")
        except OSError:
            return self.simple(404, b'{"errors":[{"code":"BLOB_UNKNOWN"}]}')
        with f:
            return self.send_file(f, file, media, headers or {})

    def send_file(self, f, file, media, headers):
        flt = self.fault
        k = flt.kind if flt else ""
        d = flt.d if flt else {}
        size = os.fstat(f.fileno()).st_size
        status, a, b = self.parse_range(size)
        if k == "redirect" and self.port_name == "main" and \
                not self.path.startswith("/cdn/"):
            return self.redirect(file, d)
        if k == "several" and "," in (self.range or ""):
            return self.several(f, size, d.get("how", "right"))
        if k == "no-suffix" and (self.range or "").startswith("bytes=-"):
            if d.get("answer", 416) != 200:
                return self.simple(d.get("answer", 416), headers={
                    "Content-Range": "bytes */%d" % size})
            status, a, b = 200, 0, size
        if k == "ignore-range":
            status, a, b = 200, 0, size
        if status == 416:
            return self.simple(416, b"", {"Content-Range":
                                          "bytes */%d" % size})
        if k == "less" and status == 206:
            b = min(b, a + d.get("n", 1000))
        h = {"Content-Type": media, "Accept-Ranges": "bytes"}
        h.update(headers)
        n = b - a
        if status == 206:
            h["Content-Range"] = "bytes %d-%d/%d" % (a, b - 1, size)
            if k == "content-range":
                h["Content-Range"] = d["value"].format(a=a, b=b - 1, n=size)
                if not d["value"]:
                    del h["Content-Range"]
        if k == "multipart" and status == 206:
            return self.multipart(f, a, b, size)
        if k not in ("http10", "chunked"):
            h["Content-Length"] = str(n + (
                d.get("by", 10) if k == "length" else 0))
        if k == "chunked":
            h["Transfer-Encoding"] = "chunked"
        self.head(status, h)
        if self.command == "HEAD":
            return self.wfile.flush()
        f.seek(a + (d.get("by", 1) if k == "shift" else 0))
        return self.body_out(f, a, n, k, d)

    def body_out(self, f, a, n, k, d):
        over = self.fault.over if self.fault else None
        done = 0
        limit = min(n, d.get("after", n // 2)) if k in (
            "reset", "short", "stall") else n
        step = max(1, d.get("bps", STEP * 20) // 20) if k == "slow" else STEP
        while done < n:
            if done >= limit and k in ("reset", "short"):
                return self.abort(k == "reset")
            if done >= limit and k == "stall":
                self.wfile.flush()
                over.wait(d.get("for", 120))
                if d.get("then") == "close":
                    return self.abort(False)
                limit = n
            room = limit - done if limit > done else n - done
            piece = f.read(min(step, room, n - done))
            if k == "zeros":
                piece = bytes(len(piece))
            if k == "flip":
                piece = bytearray(piece)
                at = d.get("at")
                if at is not None and a + done <= at < a + done + len(piece):
                    piece[at - a - done] ^= 0xff
                for i in range(0, len(piece) if d.get("every") else 0):
                    if (a + done + i) % d["every"] == 0:
                        piece[i] ^= 0xff
            if not piece:
                # shift ran over the end of the blob
                piece = bytes(min(step, n - done))
            if k == "chunked":
                self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
            else:
                self.wfile.write(piece)
            done += len(piece)
            self.entry["sent"] = done
            if k == "slow":
                self.wfile.flush()
                if over.wait(0.05):
                    step = STEP
        if k == "chunked":
            self.wfile.write(b"0\r\n\r\n")
        if k == "length":
            self.close_connection = True
        self.wfile.flush()
        return None

    def multipart(self, f, a, b, size):
        f.seek(a)
        part = (b"\r\n--XX\r\nContent-Type: application/octet-stream\r\n"
                b"Content-Range: bytes %d-%d/%d\r\n\r\n" % (a, b - 1, size) +
                f.read(b - a) + b"\r\n--XX--\r\n")
        self.head(206, {"Content-Type": "multipart/byteranges; boundary=XX",
                        "Content-Length": str(len(part))})
        self.wfile.write(part)
        self.wfile.flush()

    def redirect(self, file, d):
        t = secrets.token_hex(8)
        with S.lock:
            S.signed[t] = {"uses": d.get("uses", -1), "file": file}
        rest = "/cdn/%s/%s?sig=%s" % (t, os.path.basename(file), t)
        if d.get("loop"):
            to = self.path
        elif "to" in d:
            to = d["to"]
        elif d.get("relative"):
            to = rest
        else:
            to = "%s://%s:%d%s" % ("https" if A.tls else "http",
                                   d.get("host", "localhost"), CDN.server_port,
                                   rest)
        self.simple(d.get("status", 307), b"", {"Location": to})

    # ------------------------------------------------------------ control

    def control(self, url):
        self.entry = {"sent": 0}
        what = url.path[len("/_ctl/"):]
        out = b""
        if what == "fault":
            try:
                f = Fault(json.loads(self.body))
            except (ValueError, KeyError) as e:
                return self.simple(400, str(e).encode())
            with S.lock:
                S.faults.append(f)
        elif what in ("clear", "reset"):
            with S.lock:
                for f in S.faults:
                    if not f.d.get("sticky"):
                        f.over.set()
                S.faults = []
                if what == "reset":
                    S.log = []
        elif what in ("count", "log", "sent", "conns"):
            q = {k: v[0] for k, v in parse_qs(url.query).items()}
            with S.lock:
                log = list(S.log)
            log = [e for e in log if all(
                re.search(v, str(e.get(k) if e.get(k) is not None else ""))
                for k, v in q.items())]
            if what == "log":
                out = "".join(json.dumps(e) + "\n" for e in log).encode()
            elif what == "count":
                out = b"%d\n" % len(log)
            elif what == "sent":
                out = b"%d\n" % sum(e["sent"] for e in log)
            else:
                out = b"%d\n" % len(set(e["conn"] for e in log))
        else:
            return self.simple(404)
        return self.simple(200, out)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name):
        super().__init__(("127.0.0.1", 0), Handler)
        self.port_name = name
        self.tls = None
        if A.tls:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*A.tls)

    def finish_request(self, request, client_address):
        if self.tls:
            request.settimeout(30)
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except (OSError, ssl.SSLError):
                return
        super().finish_request(request, client_address)
        if self.tls:
            try:
                request.close()
            except OSError:
                pass

    def hard_close(self, request):
        # With SO_LINGER 0 set the kernel sends RST when the last
        # descriptor goes; socketserver would shut it down first.
        try:
            request.close()
        except OSError:
            pass

    def shutdown_request(self, request):
        try:
            linger = request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
            if struct.unpack("ii", linger)[0]:
                request.close()
                return
        except OSError:
            pass
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        if os.environ.get("LAB_DEBUG"):
            super().handle_error(request, client_address)


p = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
p.add_argument("--oci")
p.add_argument("--push")
p.add_argument("--referrers", action="store_true")
p.add_argument("--page", type=int, default=0)
p.add_argument("--chunk-min", type=int, default=0)
p.add_argument("--files")
p.add_argument("--port-file", required=True)
p.add_argument("--log")
p.add_argument("--tls", nargs=2)
p.add_argument("--auth", choices=["basic", "bearer"])
p.add_argument("--auth-files", action="store_true")
p.add_argument("--user", action="append", default=[])
p.add_argument("--anonymous", action="store_true")
p.add_argument("--identity")
p.add_argument("--read-only", action="store_true")
p.add_argument("--token-expires", type=int, default=300)
p.add_argument("--token-says", type=int, default=0)
p.add_argument("--token-uses", type=int, default=-1)
A = p.parse_args()
Handler.A, Handler.S = A, S
Handler.store = Store(A.push) if A.push else None
LOG = open(A.log, "a") if A.log else None
MAIN, CDN = Server("main"), Server("cdn")
threading.Thread(target=CDN.serve_forever, daemon=True).start()
with open(A.port_file + ".tmp", "w") as pf:
    pf.write("%d\n" % MAIN.server_port)
os.rename(A.port_file + ".tmp", A.port_file)
try:
    MAIN.serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
