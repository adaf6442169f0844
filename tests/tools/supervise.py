#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A supervisor of layers for tests (common/sup.h).

  supervise.py [--program P] FIFO LOG

Reads commands from FIFO, one a line, until it is told to quit:
  start NAME ARGS...    executes the program with --supervisor and says START
  succeed NAME [N ARGS...]
                        the same, with NAME's session, for the last ARGS; the
                        new monitor has the same name
  spoil NAME            the same, with a descriptor that is not the session's
  adopt NAME PID        connects to RUN/layers/PID.sup
  end NAME              says END
  drop NAME             closes the session's /dev/fuse
  leave NAME            closes the connection
  version N             of the STARTs that follow
  quit
and writes what happens to LOG, one JSON object a line: name, event (ready,
failed, ended, state, closed, started), what came with it, and ms since
the monitor was executed.
"""
import json
import os
import selectors
import shlex
import socket
import struct
import subprocess
import sys
import time

RUN = "/run/estargz/layers"
START, END, READY, FAILED, ENDED, STATE = 1, 2, 16, 17, 18, 19
HDR = struct.Struct("<HHI")
SESSION = struct.Struct("<IIII256s")


class Layer:
    def __init__(self, name):
        self.name, self.args, self.sock, self.proc = name, [], None, None
        self.fuse, self.session = -1, SESSION.pack(0, 0, 0, 0, b"")
        self.began = time.monotonic()


class Supervisor:
    def __init__(self, program, log):
        self.program, self.log = program, log
        self.layers, self.version = {}, 1
        self.sel = selectors.DefaultSelector()
        # What it should not keep: this file.
        self.leak = os.open(__file__, os.O_RDONLY)

    def say(self, layer, event, **more):
        self.log.write(json.dumps({
            "name": layer.name, "event": event,
            "ms": round((time.monotonic() - layer.began) * 1000, 2),
            **more}) + "\n")
        self.log.flush()

    def watch(self, layer, sock):
        self.leave(layer)
        layer.sock = sock
        self.sel.register(sock, selectors.EVENT_READ,
                          lambda: self.hear(layer))

    def leave(self, layer):
        if layer.sock:
            self.sel.unregister(layer.sock)
            layer.sock.close()
            layer.sock = None

    def drop(self, layer):
        if layer.fuse >= 0:
            os.close(layer.fuse)
            layer.fuse = -1

    def start(self, layer, args, session=None, fds=()):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        layer.args, layer.began = args, time.monotonic()
        layer.proc = subprocess.Popen(
            [self.program, "--supervisor=%d" % theirs.fileno()] + args,
            pass_fds=[theirs.fileno(), self.leak], stdin=subprocess.DEVNULL)
        theirs.close()
        self.watch(layer, ours)
        session = session or SESSION.pack(0, 0, 0, 0, b"")
        socket.send_fds(ours, [HDR.pack(START, self.version,
                                        HDR.size + len(session)) + session],
                        list(fds))
        self.say(layer, "started", pid=layer.proc.pid)

    def hear(self, layer):
        try:
            data, fds, _, _ = socket.recv_fds(layer.sock, 8192, 4)
        except OSError:
            data, fds = b"", []
        if not data:
            self.leave(layer)
            return self.say(layer, "closed")
        kind, version, size = HDR.unpack_from(data)
        assert size == len(data), "length"
        more = {"version": version}
        if kind == READY:
            self.drop(layer)
            (layer.fuse,) = fds
            pid, flags = struct.unpack_from("<II", data, 8)
            layer.session = data[16:16 + SESSION.size]
            more.update(pid=pid, complete=bool(flags & 1),
                        init_len=SESSION.unpack(layer.session)[2],
                        target=data[16 + SESSION.size:].decode())
        elif kind == FAILED:
            more.update(code=os.strerror(struct.unpack_from("<I", data, 8)[0]),
                        text=data[16:].decode())
        elif kind == ENDED:
            self.drop(layer)
        names = {READY: "ready", FAILED: "failed", ENDED: "ended",
                 STATE: "state"}
        return self.say(layer, names[kind], **more)

    def command(self, words):
        if words[0] == "version":
            self.version = int(words[1])
            return
        layer = self.layers.setdefault(words[1], Layer(words[1]))
        if words[0] == "start":
            self.start(layer, words[2:])
        elif words[0] == "succeed":
            self.start(layer, words[2:] or layer.args, layer.session,
                       [layer.fuse])
        elif words[0] == "spoil":
            null = os.open("/dev/null", os.O_RDONLY)
            self.start(layer, layer.args, layer.session, [null])
            os.close(null)
        elif words[0] == "adopt":
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            layer.began = time.monotonic()
            try:
                s.connect("%s/%s.sup" % (RUN, words[2]))
                self.watch(layer, s)
            except OSError as e:
                self.say(layer, "refused", code=e.strerror)
        elif words[0] == "end":
            layer.sock.send(HDR.pack(END, self.version, HDR.size))
        elif words[0] == "drop":
            self.drop(layer)
        elif words[0] == "leave":
            self.leave(layer)
        else:
            raise ValueError(words[0])

    def run(self, fifo):
        f = os.open(fifo, os.O_RDWR)
        self.sel.register(f, selectors.EVENT_READ, None)
        rest = b""
        while True:
            for key, _ in self.sel.select():
                if key.data:
                    key.data()
                    continue
                rest += os.read(f, 65536)
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    if line == b"quit":
                        return
                    if line:
                        self.command(shlex.split(line.decode()))
            for layer in self.layers.values():
                if layer.proc:
                    layer.proc.poll()


def main(argv):
    program = os.environ.get("MOUNT_ESTARGZ", "mount.estargz")
    if len(argv) > 2 and argv[1] == "--program":
        program = argv[2]
        del argv[1:3]
    with open(argv[2], "a", encoding="utf-8") as log:
        Supervisor(program, log).run(argv[1])


main(sys.argv)
