#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# SIGKILL of anything at any moment: a worker's death is a pause, estargzd's a
# delay; whatever dies, the next mount works and no byte is wrong.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq curl

M=$T/m
mkdir -p "$T/f"
mkesgz make few-files "$T/f/few" >"$T/few.json"
D=$(jget "$T/few.json" .toc_digest)
start_srv srv --files "$T/f"
URL=$SRV_URL/f/few
LAZY=nobackground,noprefetch,toc_digest=$D

# reader NAME: reads all in the background, its pid is in BG_PID.
reader() {
	background "$1" "$PYTHON" "$TOOLS/treecmp.py" --jobs 4 --order random \
		--block 65536 "$M" "$T/f/few"
}
served() { [ "$(srv_ctl "$SRV_URL/_ctl/sent")" -ge "$1" ]; }
pause() { sleep "0.0$((RANDOM % 90 + 10))"; }
rd_ok() {
	wait "$1"
	local rc=$?
	if [ $rc = 0 ]; then
		pass "$3"
	else
		fail "$3"
		diag_file "$T/$2.log"
	fi
}
gone_all() {
	local p
	for p in "$@"; do pid_gone "$p" || return 1; done
}

### The worker ###
for moment in 1 1000000 8000000; do
	d="worker killed after $moment bytes"
	STATE=$T/state-w$moment
	srv_reset
	srv_fault '{"kind":"slow","bps":1000000}'
	ok "$d: mounts" mount_esgz "$URL" "$M" "$LAZY" || continue
	mon=$(monitor_pids)
	reader "w$moment"
	r=$BG_PID
	wait_for 30 served "$moment"
	w=$(worker_pids)
	like "$w" '^[0-9]+$' "$d: there is one worker"
	[ -z "$w" ] || kill -9 $w
	new_worker() { [ -n "$(worker_pids)" ] && [ "$(worker_pids)" != "$w" ]; }
	ok "$d: there is another" wait_for 10 new_worker
	srv_clear
	rd_ok $r "w$moment" "$d: all reads are answered, and right"
	is "$(monitor_pids)" "$mon" "$d: the monitor is the same"
	ok "$d: reads again" treecmp "$M" "$T/f/few"
	ok "$d: unmounts" umount_esgz "$M"
	# Or the next round takes it for its own.
	ok "$d: and its monitor ends" wait_for 30 gone_all $mon
	rm -rf "$STATE"
done
no_leaks "worker: leaves nothing"

# A read that waits for bytes while the worker dies is answered.
STATE=$T/state-stall
srv_reset
ok "mounts" mount_esgz "$URL" "$M" "$LAZY"
srv_fault '{"kind":"stall","after":1000}'
background stalled head -c 100 "$M/f3"
r=$BG_PID
stalled() { [ "$(srv_count fault=stall)" -ge 1 ]; }
wait_for 20 stalled
kill -9 $(worker_pids) # one or none
srv_clear
rd_ok $r stalled "a read that waited when the worker died is answered"
is "$(sha256sum <"$T/stalled.log")" "$("$PYTHON" -c 'import random,sys
sys.stdout.buffer.write(random.Random(23).randbytes(8<<20)[:100])' | sha256sum)" \
	"and right"
ok "unmounts" umount_esgz "$M"
rm -rf "$STATE"

### estargzd ###
STATE=$T/state-f
srv_reset
srv_fault '{"kind":"slow","bps":1000000}'
start_estargzd shared
sock=$FETCHER
ok "with a shared fetcher: mounts" mount_esgz "$URL" "$M" "$LAZY"
reader fetcher
r=$BG_PID
for n in 1000000 6000000 12000000; do
	wait_for 30 served $n
	kill -9 "$ESTARGZD_PID"
	wait "$ESTARGZD_PID" 2>/dev/null
	pause
	start_estargzd shared
	is "$FETCHER" "$sock" "estargzd killed and started again after $n bytes"
done
srv_clear
rd_ok $r fetcher "estargzd killed three times: all reads are right"
ok "unmounts" umount_esgz "$M"
stop_estargzd
rm -rf "$STATE"

has_fetcher() { [ -n "$(test_procs estargzd)" ]; }
STATE=$T/state-p
srv_reset
srv_fault '{"kind":"slow","bps":1000000}'
ok "with a private fetcher: mounts" mount_esgz "$URL" "$M" "$LAZY"
reader private
r=$BG_PID
for n in 1000000 10000000; do
	wait_for 30 served $n
	wait_for 10 has_fetcher
	p=$(test_procs estargzd)
	like "$p" '^[0-9]+$' "private fetcher: there is one"
	[ -z "$p" ] || kill -9 $p
done
srv_clear
rd_ok $r private "private fetcher killed twice: all reads are right"
ok "unmounts" umount_esgz "$M"
no_leaks "private fetcher: leaves nothing"
rm -rf "$STATE"

### The monitor ###
STATE=$T/state-m
srv_reset
ok "mounts" mount_esgz "$URL" "$M" "$LAZY"
ok "reads a part" cat "$M/f0" "$M/f5"
all=$(product_procs)
kill -9 $(monitor_pids)
ok "monitor killed: the others end too" wait_for 20 gone_all $all
umount -l "$M" 2>/dev/null
ok "monitor killed: mounts again" mount_esgz "$URL" "$M" "$LAZY"
ok "monitor killed: all is right" treecmp "$M" "$T/f/few"
ok "unmounts" umount_esgz "$M"
no_leaks "monitor killed: leaves nothing"
rm -rf "$STATE"

### All at once, at many moments, on the same state ###
STATE=$T/state-all
bad=0
for i in {1..25}; do
	[ $((i % 8)) != 1 ] || rm -rf "$STATE"
	mkdir -p "$M"
	"$MOUNT_ESTARGZ" "$URL" "$M" -o "$(mount_opts "toc_digest=$D")" \
		>/dev/null 2>&1 </dev/null &
	p=$!
	if [ $((i % 2)) = 0 ]; then
		wait $p
		cat "$M/f$((i % 8))" >/dev/null 2>&1 &
	fi
	pause
	kill -9 $(product_procs) 2>/dev/null
	wait $p 2>/dev/null
	wait_for 5 no_product_procs
	while is_mounted "$M"; do umount -l "$M"; done
	mount_esgz "$URL" "$M" "$LAZY" >"$T/again" || {
		bad=$((bad + 1))
		diag "round $i: does not mount"
		diag_file "$T/mount.err"
		drop_leaks
		continue
	}
	treecmp --jobs 2 "$M" "$T/f/few" >"$T/cmp.log" || {
		bad=$((bad + 1))
		diag "round $i: wrong"
		diag_file "$T/cmp.log"
	}
	umount_esgz "$M" || bad=$((bad + 1))
	wait_for 5 no_product_procs
done
is $bad 0 "killed at 25 moments: the next mount works, no byte is wrong"
no_leaks
done_testing
