#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# estargz-snapshotter as a program: its command line, its socket, one of it a
# state directory, systemd's protocols, signals, what it keeps when it is killed,
# many calls at once, what it leaves behind of them.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
# shellcheck source=tests/containerd.sh
. "$top_srcdir/tests/containerd.sh"
# shellcheck source=tests/snap.sh
. "$top_srcdir/tests/snap.sh"
requires_snapshotter
requires_cmd protoc
"$PYTHON" -c 'import grpc' 2>/dev/null || plan_skip "needs python3-grpcio"
images small

S=$T/s.sock
ROOT=$T/root
printf '[fetcher]\naddress = "%s/none.sock"\nstart = false\n' "$T" >"$T/c.toml"

# snapshotter LOG [arguments]: in the foreground; the socket is $S.
args() {
	set -- --config "$T/c.toml" --address "$S" --root "$ROOT" "$@"
	ARGS=("$@")
}
# start_snapshotter LOG [arguments]: SNAP_PID
start_snapshotter() {
	local log=$1
	shift
	args "$@"
	background "$log" "$ESTARGZ_SNAPSHOTTER" "${ARGS[@]}"
	SNAP_PID=$BG_PID
	wait_for 20 ctl health || {
		diag_file "$T/$log.log"
		bail "estargz-snapshotter did not start"
	}
}
ctl() { timeout 120 "$PYTHON" "$TOOLS/snapctl.py" -a "$S" "$@" 2>"$T/ctl.err"; }
load() { timeout 300 "$PYTHON" "$TOOLS/snapload.py" "$S" "$@"; }
# ends_with CODE REGEX DESC [arguments]: it does not start, and says why.
ends_with() {
	local code=$1 re=$2 d=$3 rc
	shift 3
	args "$@"
	timeout 20 "$ESTARGZ_SNAPSHOTTER" "${ARGS[@]}" >"$T/out" 2>&1 </dev/null
	rc=$?
	is $rc "$code" "$d: exit $code" && like "$(grep -v ^level= "$T/out")" \
		"$re" "$d: the reason"
}

### The command line ###

"$ESTARGZ_SNAPSHOTTER" --help >"$T/out" 2>&1
is $? 0 "--help"
like "$(cat "$T/out")" '^Usage: estargz-snapshotter' "its text"
is "$("$ESTARGZ_SNAPSHOTTER" --version | cut -d ' ' -f 1)" \
	estargz-snapshotter "--version"
ends_with 2 "unrecognized option" "an unknown option" --nix
ends_with 2 "what is more" "an argument" more
ends_with 1 "bad log level loud" "a log level that is none" --log-level loud
ends_with 1 "$T/nix: " "a configuration that is missing" --config "$T/nix"
echo 'mount_timeout = 1' >"$T/bad.toml"
ends_with 1 "$T/bad.toml: .*mount_timeout" "a wrong key" --config "$T/bad.toml"
echo 'root = ' >"$T/bad.toml"
ends_with 1 "$T/bad.toml: " "not TOML" --config "$T/bad.toml"
ends_with 1 "root" "a relative root" --root here
ends_with 1 "address: longer than" "a path too long for a socket" \
	--address "$T/$(printf '%0120d' 0)"
echo x >"$T/file"
ends_with 1 "$T/file: not a socket" "a file in the place of the socket" \
	--address "$T/file"
is "$(cat "$T/file")" x "it is still there"
not_ok "nothing was left of these" test -e "$S"

# It goes on, with ordinary layers.
cat >"$T/nix.toml" <<END
[fetcher]
address = "$T/none.sock"
program = "$T/nix/estargzd"
[layers]
program = "$T/nix/estargzfs"
END
start_snapshotter nix --config "$T/nix.toml"
stop_pid "$SNAP_PID"
is "$(grep -c "level=err .*$T/nix/estargz[a-z]*: No such file" "$T/nix.log")" 2 \
	"programs that are not there: said at once"

### A socket, a state directory, one process ###

(umask 077; start_snapshotter first; echo "$SNAP_PID" >"$T/pid") # in a shell of its own: the mask
SNAP_PID=$(cat "$T/pid")
is "$(stat -c %a "$S")" 600 "the socket is root's"
is "$(stat -c %a "$ROOT")" 700 "so is the state directory"
ok "a snapshot" ctl prepare one
is "$(stat -c %a "$ROOT/snapshots/1/fs")" 755 \
	"its directory does not have the mask of who started us"
ends_with 1 "$ROOT: another estargz-snapshotter" "another one with its root" \
	--address "$T/other.sock"
not_ok "has no socket" test -e "$T/other.sock"
ends_with 1 "$S: another instance" "another one with its socket" \
	--root "$T/root2"
ok "the first one serves" ctl stat one
like "$(awk '/^SigIgn/ {print $2}' "/proc/$SNAP_PID/status")" '[13579bdf]$' \
	"SIGHUP is ignored"
open_files=$(awk '/^Max open files/ {print ($4 == $5)}' "/proc/$SNAP_PID/limits")
is "$open_files" 1 "it may open as many files as it can"

ok "a snapshot is committed" ctl commit done one -l a=b
kill -9 "$SNAP_PID"
wait_for 10 pid_gone "$SNAP_PID"
ok "SIGKILL leaves a socket" test -S "$S"
# A process that was just being started may have the lock a moment longer.
flock "$ROOT/snapshotter.lock" sleep 0.3 &
wait_for 10 sh -c '! flock -n "$0" true' "$ROOT/snapshotter.lock"
start_snapshotter second
is "$(ctl list | jq -c '[.name, .kind, .labels]')" \
	'["done","committed",{"a":"b"}]' "which the next one replaces"

### SIGTERM ###

# Enough that some are under way when it comes.
load fill 10000 >"$T/fill.out" 2>&1 &
FILL=$!
some() { [ "$(ctl list | wc -l)" -gt 50 ]; }
ok "snapshots are being made" wait_for 60 some
kill -TERM "$SNAP_PID"
ok "SIGTERM ends it" wait_for 20 pid_gone "$SNAP_PID"
wait "$SNAP_PID"
is $? 0 "with exit 0"
not_ok "and the socket is gone" test -e "$S"
wait $FILL
grep '^	details =' "$T/fill.out" | sort | uniq -c >"$T/details"
like "$(cat "$T/details")" "failed to connect" "who comes later is told"
is "$(grep -vc "failed to connect" "$T/details")" 0 "nobody was cut off" ||
	diag_file "$T/details"
rm -rf "$ROOT"

### systemd ###

cat >"$T/notify.py" <<'PY'
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    print(s.recv(4096).decode(), flush=True)
PY
background notify "$PYTHON" "$T/notify.py" "$T/notify.sock"
wait_for 10 test -S "$T/notify.sock"
export NOTIFY_SOCKET=$T/notify.sock
args
background active "$PYTHON" "$TOOLS/activate.py" stream "$S" \
	"$ESTARGZ_SNAPSHOTTER" "${ARGS[@]}"
SNAP_PID=$BG_PID
ok "READY=1" wait_for 20 grep -qx READY=1 "$T/notify.log"
unset NOTIFY_SOCKET
ok "it serves on the socket it was given" ctl prepare two
kill -TERM "$SNAP_PID"
ok "it ends" wait_for 20 pid_gone "$SNAP_PID"
ok "STOPPING=1" grep -qx STOPPING=1 "$T/notify.log"
ok "the socket stays" test -S "$S"
args
timeout 20 "$PYTHON" "$TOOLS/activate.py" seqpacket "$T/seq.sock" \
	"$ESTARGZ_SNAPSHOTTER" "${ARGS[@]}" >"$T/out" 2>&1
is $? 1 "a socket of another type is refused"
like "$(cat "$T/out")" "descriptor 3 is not a listening SOCK_STREAM socket" \
	"and named"
rm -f "$S"

### Many calls ###

start_snapshotter many
fds() { find "/proc/$SNAP_PID/fd" -mindepth 1 | wc -l; }
dirty() { awk '/^(Private_Dirty|Swap):/ {s += $2} END {print s}' \
	"/proc/$SNAP_PID/smaps_rollup"; }
threads() { awk '/^Threads/ {print $2}' "/proc/$SNAP_PID/status"; }
idle() { [ "$(threads)" -le "$few" ]; }
before=$(fds)
few=1
! grep -q __tsan_init "$ESTARGZ_SNAPSHOTTER" || few=2
ok "5,000 snapshots" load fill 5000
ok "List gives each of them once, in order" load list 5000
ok "500 calls of Stat at once" load stat 500
ok "what comes and goes beside a List" load churn 20
is "$(ctl list 'name~=load-0000[0-9]' | wc -l)" 100 "a filter"
ctl list 'name~=(' >"$T/out"
like "$(cat "$T/ctl.err")" ^INVALID_ARGUMENT "one that makes no sense"
ok "its threads go" wait_for 60 idle
ok "its connections are gone" wait_for 20 eval '[ "$(fds)" -le "$before" ]'
# A later C library than Debian 12's gives less of it back.
limit=5
[[ "$(getconf GNU_LIBC_VERSION)" != "glibc 2.36" ]] || limit=4
small() { [ "$(dirty)" -le $((limit << 10)) ]; }
if grep -qE '__[at]san_init' "$ESTARGZ_SNAPSHOTTER"; then
	skip "$limit MiB of memory are its own" "sanitizers need more"
else
	ok "$limit MiB of memory are its own" wait_for 60 small || diag "$(dirty) KiB"
fi
stop_pid "$SNAP_PID"

### A call that waits for a registry ###

start_srv srv --oci "$IMAGES"
R=$SRV_ADDR/lab/img
srv_fault '{"kind": "stall", "after": 0, "path": "blobs"}'
snap_start
lazypull small >"$T/lazy.out" 2>&1 &
PULL=$!
asked() { [ "$(srv_count path=blobs)" -gt 0 ]; }
ok "a layer is being mounted" wait_for 60 asked
kill -TERM "$SNAP_PID"
ok "SIGTERM: it is not waited for" wait_for 20 pid_gone "$SNAP_PID"
wait "$SNAP_PID"
is $? 0 "exit 0"
ok "the log says so" grep -q 'msg="calls are left behind"' "$T/snapshotter.log"
not_ok "the socket is gone" test -e "$SNAP.sock"
wait $PULL
like "$(cat "$T/pull.log")" UNAVAILABLE "the client is told"
srv_clear
snap_start
is "$(lazypull small)" "5 lazy" "the next one mounts the layer"
remove_all
ok "everything goes" wait_for 20 nothing_left
snap_end
not_ok "nothing was reported by a sanitizer" \
	grep -l -e ' .*Sanitizer' -e 'runtime error' "$T"/*.log
done_testing
