#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A monitor with a supervisor (common/sup.h): started, adopted, succeeded and
# ended; whatever is killed, readers see a pause at most.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq curl

M=$T/m
mkdir -p "$T/f" "$M"
mkesgz make few-files "$T/f/few" >"$T/few.json"
D=$(jget "$T/few.json" .toc_digest)
start_srv srv --files "$T/f"
URL=$SRV_URL/f/few
start_estargzd

# The supervisor: tell COMMAND...; its events are in $EV.
start_supervisor() {
	EV=$T/ev-$1
	CMD=$T/cmd-$1
	mkfifo "$CMD"
	background "sup-$1" "$PYTHON" "$TOOLS/supervise.py" \
		--program "$MOUNT_ESTARGZ" "$CMD" "$EV"
	SUP_PID=$BG_PID
}
tell() { echo "$*" >"$CMD"; }
# event NAME EVENT [N] : waits for the Nth such event, and prints the last.
event() {
	local n=${3:-1}
	happened() {
		[ "$(jq -c "select(.name == \"$1\" and .event == \"$2\")" \
			"$EV" 2>/dev/null | wc -l)" -ge "$3" ]
	}
	wait_for 60 happened "$1" "$2" "$n"
	jq -c "select(.name == \"$1\" and .event == \"$2\")" "$EV" | tail -n 1
}
got() { jq -r "$1" <<<"$2"; }
opts() { mount_opts "nobackground,noprefetch,toc_digest=$D${1:+,$1}"; }
start() { tell start "$1" "$URL" "$2" -o "$(opts "${3:-}")"; }

### Start, read, end ###
start_supervisor one
start a "$M" suid,dev
e=$(event a ready)
is "$(got .target "$e")" "$M" "READY names the mount point"
is "$(got .pid "$e")" "$(got .pid "$(event a started)")" \
	"the monitor is the process that was started"
pid=$(got .pid "$e")
ok "right bytes" treecmp "$M" "$T/f/few"
tell end a
ok "ENDED" test -n "$(event a ended)"
ok "and it is over" wait_for 10 pid_gone "$pid"
not_ok "nothing is mounted" is_mounted "$M"
not_ok "its socket is gone" test -e "/run/estargz/layers/$pid.sup"

### The monitor is killed while a read waits ###
STATE=$T/state-kill
srv_reset
start b "$M"
e=$(event b ready)
pid=$(got .pid "$e")
srv_fault '{"kind":"stall","after":1000}'
background stalled head -c 100 "$M/f3"
r=$BG_PID
stalled() { [ "$(srv_count fault=stall)" -ge 1 ]; }
ok "a read waits" wait_for 20 stalled
kill -9 "$pid"
ok "the supervisor sees it" test -n "$(event b closed)"
srv_clear
tell succeed b
ok "a successor is ready" test -n "$(event b ready 2)"
e=$(event b ready 2)
ok "it is another process" test "$(got .pid "$e")" != "$pid"
ok "the read is answered" wait "$r"
is "$(sha256sum <"$T/stalled.log")" "$("$PYTHON" -c 'import random,sys
sys.stdout.buffer.write(random.Random(23).randbytes(8<<20)[:100])' | sha256sum)" \
	"and right"
ok "all the rest too" treecmp "$M" "$T/f/few"
is "$(findmnt -n --mountpoint "$M" | wc -l)" 1 "it is the same mount"

### The supervisor is killed ###
kill -9 "$SUP_PID"
wait_for 10 pid_gone "$SUP_PID"
ok "without a supervisor the mount stays" treecmp "$M" "$T/f/few"
start_supervisor two
tell adopt c "$(got .pid "$e")"
a=$(event c ready)
is "$(got .target "$a")" "$M" "another supervisor adopts it"
kill -9 "$(got .pid "$e")"
ok "... and has what a successor needs" test -n "$(event c closed)"
tell succeed c "$URL" "$M" -o "$(opts)"
ok "... which serves" test -n "$(event c ready 2)"
ok "right bytes" treecmp "$M" "$T/f/few"
tell end c
ok "ENDED" test -n "$(event c ended)"

cat "$T"/ev-* | sed 's/^/# /'
tell quit
no_leaks
done_testing
