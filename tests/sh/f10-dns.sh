#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A name server that does not answer: who asks for what is elsewhere does not
# wait for that. In namespaces of its own, with a name server of its own.
if [ -z "${ALONE:-}" ] && unshare --mount --net true 2>/dev/null; then
	exec env ALONE=1 unshare --mount --net bash "$0" "$@"
fi
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_cmd curl jq unshare
[ -n "${ALONE:-}" ] || plan_skip "needs namespaces of its own"
FETCHCTL=${FETCHCTL:-$top_builddir/tests/tools/fetchctl}
[ -x "$ESTARGZD" ] && [ -x "$FETCHCTL" ] || plan_skip "not built"

ctl() { timeout 60 "$FETCHCTL" -s "$FETCHER" "$@" 2>"$T/ctl.err"; }

# It notes what it is asked, and says nothing. First, lo is brought up.
cat >"$T/dns.py" <<'END'
import fcntl, socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS
s.bind(("127.0.0.1", 53))
open(sys.argv[1] + ".up", "w").close()
while True:
    s.recv(512)
    open(sys.argv[1], "a").write("asked\n")
END
# A look-up takes two and a half minutes.
printf 'nameserver 127.0.0.1\noptions timeout:30 attempts:5\n' \
	>"$T/resolv.conf"
echo "hosts: files dns" >"$T/nsswitch.conf"
mount --bind "$T/resolv.conf" /etc/resolv.conf &&
	mount --bind "$T/nsswitch.conf" /etc/nsswitch.conf ||
	plan_skip "names are looked up in another way"
background dns "$PYTHON" "$T/dns.py" "$T/asked"
wait_for 10 test -e "$T/asked.up" || bail "no name server"

mkdir -p "$T/oci/blobs/sha256" "$T/certs.d/up.test"
head -c 3000000 /dev/urandom >"$T/blob"
H=$(sha256sum <"$T/blob")
H=${H%% *}
ln "$T/blob" "$T/oci/blobs/sha256/$H"
M=$(echo "a manifest" | sha256sum)
M=${M%% *}
start_srv good --oci "$T/oci"
# A mirror that has all, of a registry that is out of reach.
cat >"$T/certs.d/up.test/hosts.toml" <<END
server = "http://gone.test"
[host."http://$SRV_ADDR"]
  capabilities = ["pull", "resolve"]
END
printf 'hosts_dir = "%s"\nspool_dir = "%s"\nconnect_timeout_ms = 500\n' \
	"$T/certs.d" "$T" >"$T/conf.toml"
start_estargzd d1 --config "$T/conf.toml" --log-level debug
B=up.test/a/b@sha256:$H
looked() { grep -q 'no trace: gone.test' "$T/d1.log"; }
reads() { # FROM: some of the blob, from its mirror
	timeout 30 "$FETCHCTL" -s "$FETCHER" read "$B" "$1" 100000 \
		2>"$T/ctl.err" >"$T/got" &&
		tail -c "+$(($1 + 1))" "$T/blob" | head -c 100000 |
		cmp - "$T/got"
}

# The mirror has no trace of it; then the registry is asked for by its name.
background hints "$FETCHCTL" -s "$FETCHER" -T "?sha256:$M" hints "$B"
ok "a trace is looked for everywhere" wait_for 20 test -s "$T/asked"
ok "the blob is read meanwhile" reads 0
ok "the look-up is given up" wait_for 30 looked
ok "... and nothing waits for its end" reads 1000000

# One who asks, and goes.
rm "$T/asked"
background gone "$FETCHCTL" -s "$FETCHER" resolve "gone.test/a/b:c"
PID=$BG_PID
wait_for 20 test -s "$T/asked"
stop_pid "$PID"
ok "what nobody wants any more is not waited for, either" reads 2000000
done_testing
