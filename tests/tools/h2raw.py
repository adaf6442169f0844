#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 frames made by hand, for what no client library would send.

Headers are literals without indexing and without Huffman coding, so that no
state of HPACK is needed to make them; nothing reads what the server encodes.
"""
import socket
import struct
import sys

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONT = \
    range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(type_, flags=0, stream=0, payload=b""):
    return (struct.pack(">I", len(payload))[1:] + bytes([type_, flags]) +
            struct.pack(">I", stream) + payload)


def integer(n, bits, first=0):
    limit = (1 << bits) - 1
    if n < limit:
        return bytes([first | n])
    out, n = [first | limit], n - limit
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + [n])


def hpack(headers):
    return b"".join(b"\0" + integer(len(k), 7) + k + integer(len(v), 7) + v
                    for k, v in headers)


def request_headers(path, *extra):
    return hpack([(b":method", b"POST"), (b":scheme", b"http"),
                  (b":path", path), (b":authority", b"localhost"),
                  (b"content-type", b"application/grpc"), (b"te", b"trailers"),
                  *extra])


def message(body):
    return b"\0" + struct.pack(">I", len(body)) + body


def request(stream, path, body, *extra):
    return (frame(HEADERS, END_HEADERS, stream, request_headers(path, *extra)) +
            frame(DATA, END_STREAM, stream, message(body)))


def start():
    return PREFACE + frame(SETTINGS)


class Conn:
    """A connection; frames() gives what the server sends."""

    def __init__(self, path, first=None, timeout=30):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.s.settimeout(timeout)
        self.s.connect(path)
        self.buf = b""
        try:
            self.send(start() if first is None else first)
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed at once: who receives sees it

    def send(self, data):
        self.s.sendall(data)

    def _fill(self, n):
        while len(self.buf) < n:
            try:
                got = self.s.recv(65536)
            except ConnectionResetError:
                got = b""
            if not got:
                return False
            self.buf += got
        return True

    def frames(self):
        """(type, flags, stream, payload), until the server closes."""
        while self._fill(9):
            n = int.from_bytes(self.buf[:3], "big")
            if not self._fill(9 + n):
                return
            head, payload = self.buf[:9], self.buf[9:9 + n]
            self.buf = self.buf[9 + n:]
            yield (head[3], head[4],
                   int.from_bytes(head[5:9], "big") & 0x7fffffff, payload)

    def until(self, type_, stream=None):
        """The payload of the next such frame, None where none comes."""
        for t, flags, s, payload in self.frames():
            if t == type_ and (stream is None or s == stream) and not (
                    t == SETTINGS and flags & ACK):
                return payload
        return None

    def closed(self):
        """Reads to the end, which must come. Return: codes of GOAWAY."""
        return [int.from_bytes(p[4:8], "big")
                for t, _, _, p in self.frames() if t == GOAWAY]


if __name__ == "__main__":
    Conn(sys.argv[1]).s.close()
