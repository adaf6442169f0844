#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# estargzd as another daemon starts it: at once, twice, with nothing prepared;
# and with the credentials of a node.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_cmd curl jq "$PYTHON"
FETCHCTL=${FETCHCTL:-$top_builddir/tests/tools/fetchctl}
[ -x "$ESTARGZD" ] && [ -x "$FETCHCTL" ] || plan_skip "not built"

ctl() { timeout 60 "$FETCHCTL" -s "$FETCHER" "$@" 2>"$T/ctl.err"; }

head -c 100000 /dev/urandom >"$T/blob"
DIGEST=sha256:$(sha256sum <"$T/blob" | cut -d' ' -f1)
mkdir -p "$T/oci/blobs/sha256"
ln "$T/blob" "$T/oci/blobs/sha256/${DIGEST#*:}"
printf 'hosts_dir = "%s"\n' "$T/certs.d" >"$T/conf.toml"

### In a session of its own, without descriptors ###

FETCHER=$T/run/a/b/fetcher.sock
# setsid --fork would hide the pid; exec keeps it.
(exec setsid "$ESTARGZD" --socket "$FETCHER" --config "$T/conf.toml" \
	--log-level debug 0<&- 1>&- 2>&-) &
PID=$!
PIDS+=($PID)
ok "starts without standard descriptors and without a directory" \
	wait_for 10 listens "$FETCHER"
is "$(readlink /proc/$PID/fd/{0,1,2} | sort | uniq -c | tr -s ' ')" \
	" 3 /dev/null" "has none that could be taken for them"
is "$(stat -c %a "$FETCHER")" 600 "its socket"
ok "reads" ctl read "$T/blob" 0 100000
# Debug lines went somewhere, not to the client.
not_ok "and fails" ctl -d 100 read http://127.0.0.1:1/x 0 10
like "$(cat "$T/ctl.err")" ETIMEDOUT "as it should"
# A sanitizer has memory of its own.
limit=3072
! grep -q libasan "/proc/$PID/maps" || limit=65536
dirty=$(awk '/^Private_Dirty/ {print $2}' "/proc/$PID/smaps_rollup")
at_most "${dirty:-99999}" $limit "private dirty memory, KiB"

### Two sockets, one path ###

mv "$FETCHER" "$FETCHER.moved"
background other "$ESTARGZD" --socket "$FETCHER" --config "$T/conf.toml"
ok "another one at the same path" wait_for 10 ctl hello
stop_pid $PID
ok "outlives the end of the first" ctl hello
stop_pid "$BG_PID"
[ ! -e "$FETCHER" ] && pass "its own end takes the socket away" ||
	fail "the socket is left"

# rounds N: three that start at once over the socket of a killed one.
one_left() {
	local p n=0
	for p in "${TRIO[@]}"; do
		pid_gone "$p" || n=$((n + 1))
	done
	[ $n = 1 ]
}
rounds() {
	local i n p
	for ((i = 0; i < $1; i++)); do
		TRIO=()
		for n in 1 2 3; do
			"$ESTARGZD" --socket "$FETCHER" --config "$T/conf.toml" \
				2>"$T/race.$n" &
			TRIO+=($!)
			PIDS+=($!)
		done
		wait_for 10 one_left && ctl hello || return 1
		[ "$(grep -l 'another instance is listening' "$T"/race.? |
			wc -l)" = 2 ] || return 1
		for p in "${TRIO[@]}"; do
			kill -9 "$p" 2>/dev/null
		done
		wait "${TRIO[@]}" 2>/dev/null
	done
	return 0
}
ok "of three that start at once, one runs" rounds 10

### Credentials of a node ###

# What kubelet has, and nobody's home.
start_srv basic --oci "$T/oci" --auth basic --user node:s3cret
export HOME=$T/nobody
cat >"$T/node.toml" <<-DONE
hosts_dir = "$T/certs.d"
docker_config = "$T/kubelet/config.json"
DONE
start_estargzd node --config "$T/node.toml"
not_ok "a file of credentials that is not there" \
	ctl read "$SRV_ADDR/a/b@$DIGEST" 0 100000
like "$(cat "$T/ctl.err")" "EACCES.*needs a login" "is none"
like "$(cat "$T/node.log")" "docker config: No such file" "but is logged"
mkdir -p "$T/kubelet"
cat >"$T/kubelet/config.json" <<-DONE
{"auths": {"$SRV_ADDR": {"username": "node", "password": "s3cret"}}}
DONE
ok "once it is there" ctl read "$SRV_ADDR/a/b@$DIGEST" 0 100000
stop_estargzd
not_ok "nothing was reported by a sanitizer" \
	grep -l -e 'ERROR: .*Sanitizer' -e 'runtime error' "$T"/*.log
done_testing
