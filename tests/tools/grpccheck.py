#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""grpccheck.py SOCKET CHECK [ARGUMENT...]: what a gRPC server does for clients
of every kind, good and bad; the server is tests/tools/grpclab. Exit 0: as
it should be."""
import os
import sys
import threading

import grpc

import h2raw
from h2raw import Conn, frame, hpack, request, request_headers, start

SOCKET = sys.argv[1]
ECHO = b"/lab.Lab/Echo"


def channel(**options):
    return grpc.insecure_channel("unix:" + SOCKET, options=[
        ("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1)] + [
            ("grpc." + k, v) for k, v in options.items()])


def method(ch, name):
    return ch.unary_unary("/lab.Lab/" + name)


def stream(ch, name):
    return ch.unary_stream("/lab.Lab/" + name)


def error(call, *args, **kw):
    try:
        call(*args, **kw)
    except grpc.RpcError as e:
        return e.code().name, e.details()
    raise AssertionError("no error")


def alive():
    """The server serves others."""
    with channel() as ch:
        assert method(ch, "Echo")(b"alive", timeout=30) == b"alive"


### gRPC as it should be ###

def check_statuses():
    with channel() as ch:
        fail = method(ch, "Fail")
        for code, name in ((17, "ALREADY_EXISTS"), (2, "NOT_FOUND"),
                           (16, "FAILED_PRECONDITION"),
                           (22, "INVALID_ARGUMENT"), (11, "UNAVAILABLE"),
                           (38, "UNIMPLEMENTED"), (110, "DEADLINE_EXCEEDED"),
                           (125, "CANCELLED"), (12, "RESOURCE_EXHAUSTED"),
                           (28, "RESOURCE_EXHAUSTED"), (5, "UNKNOWN")):
            text = "%d: 100%% \u00e9\u20ac\U0001f40b \t~" % code
            got = error(fail, b"%d " % code + text.encode(), timeout=30)
            assert got == (name, text), got
        assert error(method(ch, "Nix"), b"") == ("UNIMPLEMENTED",
                                                 "unknown method")


def check_large():
    body = os.urandom(4 << 20)
    with channel() as ch:
        echo = method(ch, "Echo")
        assert echo(body, timeout=60) == body
        assert error(echo, body + b"x", timeout=60) == (
            "RESOURCE_EXHAUSTED", "the message is too large")
        assert echo(b"", timeout=60) == b""


def check_stream():
    with channel() as ch:
        for n, size in ((0, 0), (1, 1), (1000, 0), (3000, 100000), (2, 9 << 20)):
            got = 0
            for i, m in enumerate(stream(ch, "Stream")(
                    b"%d %d" % (n, size), timeout=120)):
                assert m == bytes([i & 255]) * size, i
                got += 1
            assert got == n, got


def check_slow(pid):
    """Many who do not read cost no more than what is allowed for all."""
    def dirty():
        with open("/proc/%s/smaps_rollup" % pid) as f:
            return sum(int(x.split()[1]) for x in f
                       if x.startswith(("Private_Dirty", "Swap:")))
    with channel() as ch:
        calls = [stream(ch, "Stream")(b"2000 50000", timeout=120)
                 for _ in range(20)]
        firsts = [next(c) for c in calls]
        assert all(len(x) == 50000 for x in firsts)
        alive()
        # 1 MiB each are held, of 100. Sanitizers keep what was freed.
        assert dirty() < 600 * 1024, dirty()
        for c in calls:
            assert sum(1 for _ in c) == 1999


def check_parallel(n):
    n = int(n)
    with channel() as ch:
        for name in ("Echo", "Quick"):
            calls = [(b"%d" % i, method(ch, name).future(b"%d" % i, timeout=60))
                     for i in range(n)]
            for want, f in calls:
                assert f.result() == want


def check_connections(n):
    """Each with its own connection, all at once."""
    bad = []

    def one(i):
        try:
            with channel() as ch:
                for _ in range(5):
                    assert method(ch, "Echo")(b"%d" % i,
                                              timeout=60) == b"%d" % i
        except Exception as e:  # noqa: any is a failure
            bad.append(e)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(int(n))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not bad, bad[0]


def check_pings():
    with channel(keepalive_time_ms=50, keepalive_timeout_ms=20000,
                 keepalive_permit_without_calls=1,
                 http2__max_pings_without_data=0) as ch:
        got = sum(len(m) for m in stream(ch, "Stream")(b"2000 100000",
                                                       timeout=60))
        assert got == 200000000


def check_wait(fifo):
    """A call that lasts; prints what comes of it."""
    with channel() as ch:
        print(method(ch, "Wait")(fifo.encode(), timeout=60).decode())


def check_cancel(fifo):
    with channel() as ch:
        call = method(ch, "Wait").future(fifo.encode(), timeout=60)
        with open(fifo, "w"):  # it has begun
            assert call.cancel()
            assert method(ch, "Echo")(b"x", timeout=60) == b"x"
    alive()


def check_deadline(fifo):
    """The server's own: this client has none. On a busy machine it may be over
    before the method has begun: nobody waits for that."""
    c = Conn(SOCKET)
    c.send(request(1, b"/lab.Lab/Wait", fifo.encode(),
                   (b"grpc-timeout", b"200m")))
    with open(os.open(fifo, os.O_RDWR), "wb", 0):
        for t, flags, s, _ in c.frames():
            if s == 1:
                assert t == h2raw.HEADERS and flags & h2raw.END_STREAM
                break


### HTTP/2 by hand ###

def check_split():
    """Header blocks, messages and frames cut at every byte."""
    c = Conn(SOCKET)
    h, m = request_headers(ECHO), h2raw.message(b"hello")
    stream_id = 1
    for i in range(len(h) + 1):
        c.send(frame(h2raw.HEADERS, 0, stream_id, h[:i]) +
               frame(h2raw.CONT, h2raw.END_HEADERS, stream_id, h[i:]) +
               frame(h2raw.DATA, h2raw.END_STREAM, stream_id, m))
        assert c.until(h2raw.DATA, stream_id) == m
        stream_id += 2
    for i in range(len(m) + 1):
        c.send(frame(h2raw.HEADERS, h2raw.END_HEADERS, stream_id, h) +
               frame(h2raw.DATA, 0, stream_id, m[:i]) +
               frame(h2raw.DATA, h2raw.END_STREAM, stream_id, m[i:]))
        assert c.until(h2raw.DATA, stream_id) == m
        stream_id += 2
    for b in request(stream_id, ECHO, b"hello"):
        c.send(bytes([b]))
    assert c.until(h2raw.DATA, stream_id) == m


def check_window():
    """Windows of one byte: the reply comes byte by byte."""
    c = Conn(SOCKET, h2raw.PREFACE +
             frame(h2raw.SETTINGS, 0, 0, b"\0\4\0\0\0\1"))
    c.send(request(1, ECHO, b"hello"))
    got = b""
    for t, _, s, payload in c.frames():
        if t == h2raw.DATA:
            assert len(payload) == 1
            got += payload
            if len(got) == 10:
                break
            c.send(frame(h2raw.WINDOW, 0, 1, b"\0\0\0\1"))
    assert got == h2raw.message(b"hello"), got


def check_garbage():
    for first in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                  b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(99),
                  os.urandom(4096), bytes(100), h2raw.PREFACE[:-1] + b"x"):
        Conn(SOCKET, first).closed()
        alive()
    good = Conn(SOCKET)
    good.send(request(1, ECHO, b"x"))
    assert good.until(h2raw.DATA, 1) == h2raw.message(b"x")
    for bad in (frame(h2raw.DATA, 0, 1, b"x"),             # idle stream
                frame(h2raw.HEADERS, 4, 2, b""),           # a server's id
                frame(h2raw.HEADERS, 4, 1, b"\xff" * 9),   # not HPACK
                frame(h2raw.PING, 0, 0, b"x"),             # size
                frame(h2raw.WINDOW, 0, 0, bytes(4)),       # 0
                frame(h2raw.SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"),
                frame(h2raw.PUSH, 4, 1, bytes(4)),
                frame(h2raw.CONT, 4, 1, b""),
                b"\xff\xff\xff" + bytes(6)):               # 16 MiB
        codes = Conn(SOCKET, start() + bad).closed()
        assert codes and codes[-1] != 0, (bad, codes)
    for n in range(len(start())):  # those that leave in the middle
        Conn(SOCKET, start()[:n]).s.close()
    # Through all of this others were not disturbed.
    good.send(request(3, ECHO, b"y"))
    assert good.until(h2raw.DATA, 3) == h2raw.message(b"y")


def flood(c, data, most):
    """Sends until the server has enough of it. True: it closed, or stopped
    reading."""
    c.s.settimeout(5)
    sent = 0
    try:
        while sent < most:
            c.send(data)
            sent += len(data)
    except (TimeoutError, ConnectionError):
        return True
    return False


def check_floods():
    ping = frame(h2raw.PING, 0, 0, bytes(8)) * 1000
    assert flood(Conn(SOCKET), ping, 64 << 20)
    alive()
    settings = frame(h2raw.SETTINGS, 0, 0, b"\0\3\0\0\0\1") * 1000
    assert flood(Conn(SOCKET), settings, 64 << 20)
    alive()
    # A header block without an end.
    c = Conn(SOCKET)
    c.send(frame(h2raw.HEADERS, 0, 1, request_headers(ECHO)))
    assert flood(c, frame(h2raw.CONT, 0, 1, hpack([(b"x", b"y" * 99)])) * 100,
                 64 << 20)
    alive()
    # Streams that are opened and reset.
    c, i, over = Conn(SOCKET), 1, False
    while i < 400000 and not over:
        data = b""
        for i in range(i, i + 400, 2):
            data += request(i, ECHO, b"") + frame(h2raw.RST, 0, i, bytes(4))
        over = flood(c, data, 1)
        i += 2
    alive()


def check_header_bomb():
    """4,000 bytes in the table, named 10,000 times."""
    c = Conn(SOCKET)
    bomb = (hpack([(b":method", b"POST")]) + b"\x40\1x" +
            h2raw.integer(4000, 7) + b"v" * 4000 + b"\xbe" * 10000)
    c.send(frame(h2raw.HEADERS, h2raw.END_HEADERS | h2raw.END_STREAM, 1,
                 bomb))
    assert c.until(h2raw.RST, 1) is not None
    c.send(request(3, ECHO, b"x"))
    assert c.until(h2raw.DATA, 3) == h2raw.message(b"x")


def check_many_clients():
    """The idle make room; those with calls do not."""
    def begin(data):
        c = Conn(SOCKET)
        c.send(data + frame(h2raw.PING, 0, 0, bytes(8)))
        assert c.until(h2raw.PING) is not None
        return c
    idle = [begin(b"") for _ in range(400)]
    alive()
    for c in idle[:100]:
        c.closed()
    idle[-1].send(request(1, ECHO, b"x"))
    assert idle[-1].until(h2raw.DATA, 1) == h2raw.message(b"x")
    busy = [begin(frame(h2raw.HEADERS, h2raw.END_HEADERS, 1,
                        request_headers(ECHO))) for _ in range(256)]
    assert Conn(SOCKET, b"").closed() == []
    for c in busy:
        c.send(frame(h2raw.DATA, h2raw.END_STREAM, 1, h2raw.message(b"z")))
        assert c.until(h2raw.DATA, 1) == h2raw.message(b"z")
    alive()


def check_half_requests():
    """What is held for requests that never end is bounded."""
    body = h2raw.message(bytes(4 << 20))[:3 << 20]
    conns, refused = [], 0
    for _ in range(40):
        c = Conn(SOCKET)
        c.send(frame(h2raw.HEADERS, h2raw.END_HEADERS, 1,
                     request_headers(ECHO)))
        sent, window, gone = 0, 65535, False
        while sent < len(body) and not gone:
            n = min(16384, window, len(body) - sent)
            if n > 0:
                try:
                    c.send(frame(h2raw.DATA, 0, 1, body[sent:sent + n]))
                except ConnectionError:
                    break
                sent += n
                window -= n
                continue
            for t, flags, s, p in c.frames():
                if t == h2raw.HEADERS:
                    gone = True
                    break
                if t == h2raw.WINDOW and s == 1:
                    window += int.from_bytes(p, "big")
                    break
        refused += gone
        conns.append(c)
    assert 10 <= refused <= 30, refused
    alive()


def main():
    globals()["check_" + sys.argv[2]](*sys.argv[3:])


if __name__ == "__main__":
    main()
