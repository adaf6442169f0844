# SPDX-License-Identifier: Apache-2.0
"""Requests of several ranges, and the ways in which their answers lie.

Fault "several", how:
    right       all parts, as nginx writes them
    reverse     the last part first         twice     each part twice
    early       parts begin 10 bytes before what was asked for
    short       parts are 10 bytes shorter, and say so
    long        parts go on for 10 bytes, and say so
    elsewhere   parts of other places       total     of a blob of another size
    none        no part at all              left-out  the last one is missing
    cut         the body ends in a part, and is over as far as HTTP goes
    stall       till /_ctl/clear, in the middle of it
    reset       RST in the middle of it     endless   parts without end
    lines       lines of a header without end
    bytes       all is right but for the bytes
    noise       no parts, but it says so
    first       a 206 of the first range    span      of all, and between
"""
import os
import re

BOUNDARY = "00000000000000000017"
END = b"\r\n--%s--\r\n" % BOUNDARY.encode()


class Several:
    def several(self, f, size, how):
        # What was asked for and is there.
        v = [(int(a), min(int(b) + 1, size)) for a, b in
             re.findall(r"(\d+)-(\d+)", self.range) if int(a) < size]
        if not v:
            return self.simple(416, b"", {"Content-Range":
                                          "bytes */%d" % size})
        if how in ("first", "span") or (how == "right" and len(v) == 1):
            a, b = v[0][0], v[-1 if how == "span" else 0][1]
            return self.simple(206, os.pread(f.fileno(), b - a, a), {
                "Content-Range": "bytes %d-%d/%d" % (a, b - 1, size)})
        if how == "twice":
            v = [x for x in v for _ in range(2)]
        move = {"early": (-10, -10), "elsewhere": (50000, 50000),
                "short": (0, -10), "long": (0, 10)}.get(how, (0, 0))
        v = [(a + move[0], b + move[1]) for a, b in v]
        if how == "reverse":
            v.reverse()
        if how == "left-out":
            v.pop()
        if how == "none":
            v = []
        body = [self.part(f, a, b, size, how) for a, b in v]
        out = b"".join(body) + END
        if how == "cut":
            out = out[:-len(END) - 20]
        if how == "noise":
            out = os.urandom(len(out))
        if how == "stall":
            return self.broken(out[:len(out) // 2], wait=True)
        if how == "reset":
            return self.broken(out[:len(out) - 100])
        if how == "endless":
            return self.broken(b"".join(body), body[-1])
        if how == "lines":
            return self.broken(body[0][:60], b"X-Y: z\r\n")
        return self.simple(206, out, {"Content-Type": self.multi()})

    @staticmethod
    def multi():
        return "multipart/byteranges; boundary=" + BOUNDARY

    @staticmethod
    def part(f, a, b, size, how):
        data = os.pread(f.fileno(), b - a, a)
        if how == "bytes":
            data = bytes(x ^ 1 for x in data)
        return (b"\r\n--%s\r\nContent-Type: application/octet-stream\r\n"
                b"Content-Range: bytes %d-%d/%d\r\n\r\n" % (
                    BOUNDARY.encode(), a, b - 1,
                    size + (how == "total")) + data)

    def broken(self, out, again=b"", wait=False):
        """A body without length that is cut off, or goes on as long as it may."""
        self.head(206, {"Content-Type": self.multi(), "Connection": "close"})
        self.wfile.write(out)
        if wait:
            self.wfile.flush()
            self.fault.over.wait(120)
        for _ in range((64 << 20) // len(again) if again else 0):
            self.wfile.write(again)
        return self.abort(True)
