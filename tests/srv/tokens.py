#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A token server for docker-registry's `auth: token`.

GET /token?service=&scope= answers {"token": JWT}, signed RS256 by openssl.
--user NAME:PASSWORD asks for Basic credentials (may be given several times);
with --anonymous, pull tokens are given to anybody. --identity T: accepts
POST with grant_type=refresh_token&refresh_token=T. --expires N: seconds a
token lives. The log (stdout): one JSON line a request. No third-party modules.
"""
import argparse
import base64
import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


def b64(b):
    return base64.urlsafe_b64encode(b).rstrip(b"=").decode()


def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], input=data, check=True,
                          stdout=subprocess.PIPE).stdout


def key_id(key):
    """libtrust's: base32 of 30 bytes of SHA-256 of the public key, by fours."""
    der = openssl("rsa", "-in", key, "-pubout", "-outform", "DER", "-out",
                  "/dev/stdout")
    s = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(s[i:i + 4] for i in range(0, len(s), 4))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def note(self, status, scopes, auth):
        print(json.dumps({"method": self.command, "path": self.path,
                          "status": status, "scopes": scopes, "auth": auth}),
              flush=True)

    def reply(self, status, doc, headers=()):
        body = json.dumps(doc).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for k, v in headers:
            self.send_header(k, v)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, scopes, auth):
        self.note(401, scopes, auth)
        self.reply(401, {"errors": [{"code": "UNAUTHORIZED"}]},
                   [("WWW-Authenticate", 'Basic realm="lab"')])

    def do_GET(self):
        q = parse_qs(urlsplit(self.path).query)
        scopes = [x for s in q.get("scope", []) for x in s.split(" ")]
        a = self.headers.get("Authorization", "")
        user = None
        if a.startswith("Basic "):
            user = base64.b64decode(a[6:]).decode()
            if user not in args.user:
                return self.refuse(scopes, "basic")
        elif not args.anonymous:
            return self.refuse(scopes, "none")
        return self.give(scopes, q.get("service", [""])[0],
                         user.split(":")[0] if user else "",
                         "basic" if user else "none")

    def do_POST(self):
        n = int(self.headers.get("Content-Length", 0))
        q = parse_qs(self.rfile.read(n).decode())
        scopes = [x for s in q.get("scope", []) for x in s.split(" ")]
        if q.get("grant_type") != ["refresh_token"] or not args.identity or \
                q.get("refresh_token") != [args.identity]:
            return self.refuse(scopes, "identity")
        return self.give(scopes, q.get("service", [""])[0], "identity",
                         "identity", "access_token")

    def give(self, scopes, service, user, auth, field="token"):
        now = int(time.time())
        access = []
        for s in scopes:
            kind, _, rest = s.partition(":")
            name, _, acts = rest.rpartition(":")
            acts = [x for x in acts.split(",") if user or x == "pull"]
            if name:
                access.append({"type": kind, "name": name, "actions": acts})
        claims = {"iss": args.issuer, "sub": user, "aud": service,
                  "exp": now + args.expires, "nbf": now - 10, "iat": now,
                  "jti": str(uuid.uuid4()), "access": access}
        head = {"typ": "JWT", "alg": "RS256", "kid": KID}
        text = (b64(json.dumps(head).encode()) + "." +
                b64(json.dumps(claims).encode()))
        sig = openssl("dgst", "-sha256", "-sign", args.key,
                      data=text.encode())
        self.note(200, scopes, auth)
        doc = {field: text + "." + b64(sig), "issued_at": time.strftime(
            "%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))}
        # What a client is told may be shorter than the truth, never longer;
        # 60 is the protocol's default when nothing is said.
        if args.say_expires:
            doc["expires_in"] = args.expires
        self.reply(200, doc)


p = argparse.ArgumentParser()
p.add_argument("--key", required=True)
p.add_argument("--cert")
p.add_argument("--issuer", default="lab")
p.add_argument("--user", action="append", default=[])
p.add_argument("--anonymous", action="store_true")
p.add_argument("--identity")
p.add_argument("--expires", type=int, default=300)
p.add_argument("--say-expires", action="store_true")
p.add_argument("--port-file", required=True)
args = p.parse_args()
KID = key_id(args.key)
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
with open(args.port_file + ".tmp", "w") as f:
    f.write("%d\n" % server.server_port)
os.rename(args.port_file + ".tmp", args.port_file)
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
