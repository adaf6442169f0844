#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""activate.py KIND PATH COMMAND...: what systemd does for a service: makes a
listening socket (KIND stream or seqpacket), as descriptor 3, and runs the command."""
import os
import socket
import sys

kind = {"stream": socket.SOCK_STREAM,
        "seqpacket": socket.SOCK_SEQPACKET}[sys.argv[1]]
s = socket.socket(socket.AF_UNIX, kind)
if os.path.exists(sys.argv[2]):
    os.unlink(sys.argv[2])
s.bind(sys.argv[2])
s.listen(64)
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[3], sys.argv[3:])
