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
mkesgz make one-file "$T/f/one" >"$T/one.json"
D1=$(jget "$T/one.json" .toc_digest)
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

# supervisor: what status says of it
supervisor() {
	"$ESTARGZ" status --json |
		jq -r --arg m "$M" '.[] | select(.target == $m).supervisor'
}

### Start, read, end ###
start_supervisor one
start a "$M" suid,dev
e=$(event a ready)
is "$(got .target "$e")" "$M" "READY names the mount point"
is "$(got .pid "$e")" "$(got .pid "$(event a started)")" \
	"the monitor is the process that was started"
pid=$(got .pid "$e")
ok "right bytes" treecmp "$M" "$T/f/few"
ok "STATE, when all is there" test -n "$(event a state)"
is "$(ps -o sid= -p "$pid" | tr -d ' ')" "$pid" "it has a session of its own"
w=$(pgrep -P "$pid")
not_ok "and nothing that its supervisor had open" \
	sh -c "ls -l /proc/$pid/fd /proc/$w/fd | grep -F supervise.py"
was=$(cat /proc/$$/oom_score_adj)
# Where the machine lets us.
low=$(sh -c 'echo -999 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj' \
	2>/dev/null)
is "$(cat "/proc/$pid/oom_score_adj" "/proc/$w/oom_score_adj" | xargs)" \
	"$low $was" "when memory is short the worker goes, the monitor stays"
like "$(findmnt -no OPTIONS --mountpoint "$M")" '^ro,relatime' \
	"suid and dev are allowed"
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
is "$(supervisor)" gone "status says so"
start_supervisor two
tell adopt c "$(got .pid "$e")"
a=$(event c ready)
is "$(got .target "$a")" "$M" "another supervisor adopts it"
is "$(supervisor)" connected "status says that, too"
kill -9 "$(got .pid "$e")"
ok "... and has what a successor needs" test -n "$(event c closed)"
tell succeed c "$URL" "$M" -o "$(opts)"
ok "... which serves" test -n "$(event c ready 2)"
ok "right bytes" treecmp "$M" "$T/f/few"
tell end c
ok "ENDED" test -n "$(event c ended)"


### What cannot be begun ###
STATE=$T/state-no
tell version 2
start v "$M"
e=$(event v failed)
is "$(got '.code' "$e")" "Protocol error" "another version is refused"
like "$(got .text "$e")" 'version 2' "... and named"
tell version 1
start n "$T/none"
is "$(got .code "$(event n failed)")" "No such file or directory" \
	"no place to mount on"
start t "$M" "toc_digest=sha256:$(printf '%064d' 0)"
e=$(event t failed)
is "$(got .code "$e")" "Bad message" "a wrong TOC digest"
like "$(got .text "$e")" 'TOC digest is' "... with the cause"
not_ok "nothing is mounted" is_mounted "$M"
tell start i "oci:$T" "$M" -o "$(opts)"
ok "no such image" test -n "$(event i failed)"

# An index is made as soon as there is a fetcher; one that is there needs none.
tell start w "$URL" "$M" -o "$(opts "fetcher=$T/run/late.sock")"
event w started >"$T/w"
start_estargzd late
e=$(event w ready)
is "$(got .target "$e")" "$M" "a fetcher that comes late is waited for"
tell end w
event w ended >/dev/null
tell start x "$URL" "$M" -o "$(opts "fetcher=$T/run/never.sock")"
ok "an indexed layer is mounted without" test -n "$(event x ready)"
tell end x
event x ended >/dev/null
STATE=$T/state-none
tell start y "$URL" "$M" -o "$(opts "fetcher=$T/run/never.sock")"
e=$(event y failed)
like "$(got .text "$e")" "never.sock" "else it fails, naming what is missing"
is "$(test_procs estargzd | wc -l)" 2 "no private fetcher was started"

# A layer that is named by both digests: no manifest, no network.
STATE=$T/state
tell start l "127.0.0.1:1/some/repo:tag" "$M" \
	-o "$(opts "layer=sha256:$(printf '%064d' 7)")"
ok "layer= and toc_digest= of an index: no registry is asked" \
	test -n "$(event l ready)"
is "$("$ESTARGZ" status | grep -F "$M")" "$M" "which of its layers is not known"
ok "right bytes" treecmp "$M" "$T/f/few"
tell end l
event l ended >/dev/null

### A successor waits until nobody of before is left ###
STATE=$T/state-lock
start k "$M"
e=$(event k ready)
dev=$(mountpoint -d "$M")
lock=/run/estargz/layers/$(sed 's/:/./' <<<"$dev").lock
ok "there is a lock" test -f "$lock"
not_ok "which is held" flock -n "$lock" true
kill -9 "$(got .pid "$e")"
event k closed >/dev/null
# Somebody of before, who is slow to die.
background slow flock "$lock" sleep 300
slow=$BG_PID
held() { ! flock -n "$lock" true; }
wait_for 10 held
tell succeed k
waits() { [ -n "$(pgrep -P "$(got .pid "$(event k started 2)")")" ]; }
wait_for 10 waits
is "$(grep -c '"k", "event": "ready"' "$EV")" 1 "it is not ready while one lives"
pkill -P "$slow"
kill "$slow" 2>/dev/null
ok "then it is" test -n "$(event k ready 2)"
ok "right bytes" treecmp "$M" "$T/f/few"

### A successor with another index would give the wrong files ###
kill -9 "$(got .pid "$(event k ready 2)")"
event k closed 2 >/dev/null
tell succeed k "$SRV_URL/f/one" "$M" -o "$(mount_opts "toc_digest=$D1")"
e=$(event k failed)
is "$(got .code "$e")" "Stale file handle" "another layer cannot go on"
chunks=$STATE/layers/sha256/${D#sha256:}/chunks
head -c 100 /dev/zero >>"$chunks"
tell succeed k "$URL" "$M" -o "$(opts)"
ok "an index that was damaged is made anew" test -n "$(event k ready 3)"
ok "right bytes" treecmp "$M" "$T/f/few"

### A successor that fails leaves what is known of the session to the next ###
lock_ino=$(stat -c %i "$lock")
kill -9 "$(got .pid "$(event k ready 3)")"
event k closed 4 >/dev/null
background asks timeout 60 stat -f "$M"
asks=$BG_PID
# Where fusectl is not mounted, a monitor does not know whether somebody waits.
waiting=/sys/fs/fuse/connections/${dev#*:}/waiting
asked() { [ ! -e "$waiting" ] || [ "$(cat "$waiting")" -gt 0 ]; }
wait_for 10 asked
tell spoil k
like "$(got .text "$(event k failed 2)")" "cannot send requests again" \
	"one that has the lock fails"
event k closed 5 >/dev/null
is "$(stat -c %i "$lock")" "$lock_ino" "the lock's file stays"
tell succeed k
ok "the next goes on" test -n "$(event k ready 4)"
ok "who waited has an answer" wait "$asks"
ok "right bytes" treecmp "$M" "$T/f/few"

### A mount that was taken away while nobody served it ###
kill -9 "$(got .pid "$(event k ready 4)")"
event k closed 6 >/dev/null
# As it is: umount(8) would ask it first, and wait for ever.
ok "it is taken away" timeout 60 "$PYTHON" -c "import ctypes, sys
sys.exit(ctypes.CDLL(None).umount2(sys.argv[1].encode(), 2) != 0)" "$M"
tell succeed k
ok "ENDED at once" test -n "$(event k ended)"
start k "$M"
event k ready 6 >/dev/null

### A layer that kills its workers again and again ###
pid=$(got .pid "$(event k ready 6)")
for i in 1 2 3 4 5 6; do
	new_worker() { w=$(pgrep -P "$pid") && [ "$w" != "${old:-}" ]; }
	wait_for 10 new_worker || break
	old=$w
	kill -9 "$w"
done
ok "ENDED, when the monitor gives up" test -n "$(event k ended 2)"
ok "and is gone" wait_for 10 pid_gone "$pid"
# statfs is never answered from a cache.
dead() {
	timeout 60 stat -f "$M"
	[ $? = 1 ]
}
ok "nobody is kept waiting" dead
umount "$M"

### Both monitor and worker, or monitor and supervisor at once ###
STATE=$T/state-both
srv_fault '{"kind":"slow","bps":3000000}'
start o "$M"
e=$(event o ready)
background reading "$PYTHON" "$TOOLS/treecmp.py" --jobs 4 --order random \
	--block 65536 "$M" "$T/f/few"
r=$BG_PID
n=1
for i in 1 2 3 4 5; do
	pid=$(got .pid "$(event o ready $n)")
	case $((i % 3)) in
	0) kill -9 "$pid" ;;
	1) kill -9 "$pid" $(pgrep -P "$pid") ;;
	2) kill -9 $(pgrep -P "$pid") "$pid" ;;
	esac 2>/dev/null
	event o closed $i >/dev/null
	n=$((n + 1))
	tell succeed o
	event o ready $n >/dev/null
done
srv_clear
ok "five deaths of monitor and worker: all reads are right" wait "$r"
diag_file "$T/reading.log"
pid=$(got .pid "$(event o ready $n)")
kill -9 "$pid" "$SUP_PID"
wait_for 10 pid_gone "$pid"
wait_for 10 pid_gone "$SUP_PID"
ok "monitor and supervisor: an error, and no waiting" dead
start_supervisor three
# What killed processes leave: nobody has that pid, or that lock.
touch /run/estargz/layers/99999999.{sock,sup,sup.new} /run/estargz/layers/0.9999999.lock
start z "$M"
ok "the place can be mounted again" test -n "$(event z ready)"
ok "right bytes" treecmp "$M" "$T/f/few"
swept() { [ -z "$(ls /run/estargz/layers | grep -E '^(0\.)?9{7,}\.')" ]; }
ok "what the killed left is taken away" wait_for 10 swept

### An output that nobody reads, or that is closed ###
tell end z
event z ended >/dev/null
tell quit
# start_deaf NAME: what it starts has $T/NAME for its standard error
start_deaf() {
	EV=$T/ev-$1
	CMD=$T/cmd-$1
	mkfifo "$CMD"
	background "sup-$1" sh -c 'exec 2>"$0"; exec "$@"' "$T/$1" "$PYTHON" \
		"$TOOLS/supervise.py" --program "$MOUNT_ESTARGZ" "$CMD" "$EV"
	SUP_PID=$BG_PID
}
for kind in full closed; do
	mkfifo "$T/$kind"
	exec 7<>"$T/$kind"
	start_deaf $kind
	wait_for 10 test -p "/proc/$SUP_PID/fd/2"
	if [ $kind = full ]; then
		dd if=/dev/zero of="$T/$kind" bs=4k oflag=nonblock 2>/dev/null
	else
		exec 7>&-
	fi
	start d "$M" log_level=debug
	ok "$kind: ready" test -n "$(event d ready)"
	ok "$kind: right bytes" treecmp "$M" "$T/f/few"
	kill -9 "$(pgrep -P "$(got .pid "$(event d ready)")")"
	ok "$kind: right bytes, after a line of the log" treecmp "$M" "$T/f/few"
	tell end d
	ok "$kind: ended" test -n "$(event d ended)"
	tell quit
done
exec 7>&-
no_leaks
done_testing
