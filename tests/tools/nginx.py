#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Becomes nginx on a port of the kernel's choice: nginx.py CONFIG.in PORT-FILE

@PORT@ in the configuration is replaced; nginx inherits the listening socket
for it, so nobody can take the port meanwhile."""
import os
import socket
import sys

template, port_file = sys.argv[1:]
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(128)
port = str(s.getsockname()[1])
config = template.removesuffix(".in") + ".conf"
with open(template) as f, open(config, "w") as out:
    out.write(f.read().replace("@PORT@", port))
with open(port_file + ".tmp", "w") as f:
    f.write(port + "\n")
os.rename(port_file + ".tmp", port_file)
s.set_inheritable(True)
os.environ["NGINX"] = "%d;" % s.fileno()
os.execvp("nginx", ["nginx", "-e", config + ".err", "-c", config])
