#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# How files are opened: without a round trip, or with backing files of the
# kernel's, which readers cannot tell from others, whatever is killed.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_mount
requires_cmd jq
images small

M=$T/m
mkdir -p "$T/f" "$M"
mkesgz make small-files "$T/f/files" >"$T/files.json"
D=$(jget "$T/files.json" .toc_digest)

# st FIELD [MOUNT]: what status says of it
st() {
	"$ESTARGZ" status --json |
		jq -r --arg t "${2:-$M}" ".[] | select(.target == \$t).$1"
}
st_is() { [ "$(st "$1")" = "$2" ]; }
complete() { st_is state complete; }
sum() { sha256sum "$1" | cut -d' ' -f1; }
right() { [ "$(sum "$M/$1")" = "$(jget "$T/files.json" ".files.$1")" ]; }
mount_files() { mount_esgz "$T/f/files" "$M" "toc_digest=$D,nonative,$1"; }

### The mode ###
not_ok "an unknown mode is refused" mount_files open_mode=fast
like "$(cat "$T/mount.err")" 'open_mode=fast: not one of auto, noopen, passthrough' \
	"... and named"
ok "noopen" mount_files open_mode=noopen
wait_for 20 complete
ok "right bytes" treecmp "$M" "$T/f/files"
is "$(st open_mode) $(st opens) $(st open_why)" "noopen 0 " "nothing is opened"
umount_esgz "$M"

ok "passthrough" mount_files open_mode=passthrough
ok "right bytes" treecmp "$M" "$T/f/files"
why=$(st open_why)
case "$(st open_mode) $why" in
"passthrough ") ;;
"noopen "*"has no passthrough")
	pass "status says why not: $why"
	is "$(st opens_passthrough)" 0 "nothing is opened with backing files"
	umount_esgz "$M"
	no_leaks
	skip "passthrough" "needs passthrough: $why"
	done_testing
	exit
	;;
*) fail "the mode is passthrough" ;;
esac
umount_esgz "$M"

# wait for PASSTHROUGH opens: how many there were
opens() { st opens_passthrough; }

### From incomplete to complete ###
STATE=$T/state-lazy
ok "mounts with nothing there" mount_files \
	open_mode=passthrough,noprefetch,nobackground
exec 7<"$M/f0"
head -c 4096 <&7 >/dev/null
ok "a file that is fetched as it is read" right f1
is "$(st opens) $(opens)" "2 0" "what is incomplete is opened without"
ok "all the rest" treecmp "$M" "$T/f/files"
ok "complete" wait_for 20 complete
n=$(opens)
ok "what is held open since before" right f0
is "$(opens)" "$n" "... is opened as before"
ok "what is not" right f1
is "$(opens)" $((n + 1)) "... with its backing file"
exec 7<&-
released() { right f0 && [ "$(opens)" -gt $((n + 1)) ]; }
ok "so is the first one, once it was released" wait_for 10 released
r=$(st reads)
echo 1 >"$T/ok"
for i in 0 1 2 3 4 5 6 7; do
	right "f$i" || echo "f$i" >>"$T/ok"
done
is "$(cat "$T/ok")" 1 "right bytes"
is "$(st reads)" "$r" "and no read that comes to us"

### At once, held, mapped ###
many() {
	local i p pids=()
	for i in 1 2 3 4 5 6 7 8; do
		right f5 &
		pids+=($!)
	done
	for p in "${pids[@]}"; do
		wait "$p" || return 1
	done
}
umount_esgz "$M"
mount_files open_mode=passthrough
ok "opened by many at once, for the first time" many
is "$(opens)" 8 "... all with the backing file"
ok "mapped" "$PYTHON" - "$M/f6" "$(jget "$T/files.json" .files.f6)" <<'END'
import hashlib, mmap, sys
a, b = open(sys.argv[1], "rb"), open(sys.argv[1], "rb")
m = mmap.mmap(a.fileno(), 0, prot=mmap.PROT_READ)
n = mmap.mmap(b.fileno(), 0, prot=mmap.PROT_READ)
a.close()
assert hashlib.sha256(m).hexdigest() == sys.argv[2]
assert hashlib.sha256(n[:]).hexdigest() == sys.argv[2]
assert hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest() == sys.argv[2]
END

### Below overlayfs ###
O=$T/o
mkdir -p "$O" "$T/up" "$T/work"
over() {
	rm -rf "$T/up" "$T/work"
	mkdir -p "$T/up" "$T/work"
	mount -t overlay overlay "$O" \
		-o "lowerdir=$1,upperdir=$T/up,workdir=$T/work"
}
# written FILE: copied up, with its bytes, while it is open below
written() {
	local want
	want=$(sum "$O/$1")
	exec 8<"$O/$1" 9<"$O/$1"
	printf tail >>"$O/$1" && chmod 600 "$O/$1" && mv "$O/$1" "$O/moved" &&
		[ "$(head -c -4 "$O/moved" | sha256sum | cut -d' ' -f1)" = "$want" ] &&
		[ "$(head -c -4 <&8 | sha256sum | cut -d' ' -f1)" = "$want" ]
	local rc=$?
	exec 8<&- 9<&-
	return $rc
}
ok "a lower of overlayfs" over "$M"
r=$(st reads)
is "$(sum "$O/f2")" "$(jget "$T/files.json" .files.f2)" "read through it"
ok "copied up, changed, moved" written f3
is "$(st reads)" "$r" "and no read that comes to us"
umount "$O"
mkdir "$T/meta"
truncate -s "$(stat -c %s "$M/f4")" "$T/meta/name"
setfattr -n trusted.overlay.metacopy "$T/meta/name"
hex=${D#sha256:}
setfattr -n trusted.overlay.redirect -v "/${hex:0:16}/$(stat -c %i "$M/f4")" \
	"$T/meta/name"
ok "a data-only lower" over "$T/meta::$M"
n=$(opens)
is "$(sum "$O/name")" "$(jget "$T/files.json" .files.f4)" "read through it"
not_ok "... with its backing file" test "$(opens)" = "$n"
ok "copied up, changed, moved" written name
umount "$O"

### More files than there are backing files; programs ###
P=$T/p
blob=$(layer_blob "$IMAGES" small 0)
mount_esgz "$blob" "$P" \
	"open_mode=passthrough,nonative,toc_digest=$(layer_toc "$IMAGES" small 0)"
p_complete() { [ "$(st state "$P")" = complete ]; }
ok "a layer of many files" wait_for 60 p_complete
many_opened() {
	treecmp "$P" "$blob" && treecmp "$P" "$blob" &&
		[ "$(find "$P" -type f -size +0 | wc -l)" -gt 1024 ]
}
ok "more than 1024, all of them right, twice" many_opened
is "$(st reads "$P")" 0 "not one read comes to us"
is "$("$P/usr/bin/bash" -c 'echo $((6 * 7))')" 42 "a program runs"
over "$P"
is "$("$O/usr/bin/bash" -c 'echo $((6 * 7))')" 42 "also through overlayfs"
umount "$O"
umount_esgz "$P"
mount_esgz "$blob" "$P" "nonative,toc_digest=$(layer_toc "$IMAGES" small 0)"
is "$(st open_mode "$P")" noopen "chosen for small files"
umount_esgz "$P"
umount_esgz "$M"
mount_files open_mode=auto
is "$(st open_mode)" passthrough "chosen for large ones"
umount_esgz "$M"
mount_files "events=$T/events"
is "$(st open_mode)" noopen "but not where it is recorded what is read"
umount_esgz "$M"
mount_files open_mode=passthrough

### Ended with files open ###
exec 7<"$M/f7"
head -c 1 <&7 >/dev/null
ok "taken away while a file is open" umount -l "$M"
is "$({ head -c 1 "$T/ok" >/dev/null; cat <&7; } | wc -c)" $(((2 << 20) - 1)) \
	"which can be read to its end"
exec 7<&-
ok "its processes end with it" wait_for 20 no_mount_procs

### Workers killed ###
# hammer SECONDS: opens, reads, holds, closes; whatever fails is a line of $T/bad
hammer() {
	"$PYTHON" - "$M" "$1" "$T/files.json" >>"$T/bad" 2>&1 <<'END'
import hashlib, json, random, sys, time, os
want = json.load(open(sys.argv[3]))["files"]
end = time.monotonic() + float(sys.argv[2])
held = []
n = 0
while time.monotonic() < end:
    name = random.choice(list(want))
    try:
        f = open(os.path.join(sys.argv[1], name), "rb", buffering=0)
        n += 1
        if n % 50 == 0:
            d = f.read()
            if hashlib.sha256(d).hexdigest() != want[name]:
                print("wrong bytes", name)
        else:
            f.read(1)
        if random.random() < 0.3:
            held.append(f)
        else:
            f.close()
        if len(held) > 20:
            held = held[15:]
    except OSError as e:
        print(name, e)
if n < 20:
    print("opened only", n)
END
}
worker_of() { st worker.pid; }
other_worker() { [ "$(worker_of)" != "$1" ] && [ "$(worker_of)" -gt 0 ]; }
kill_worker() {
	local w
	w=$(worker_of)
	kill -9 "$w"
	wait_for 20 other_worker "$w"
}
: >"$T/bad"
# Twice each, because with the third what is sent again is answered with EIO.
for round in 1 2 3; do
	mount_files open_mode=passthrough
	if [ $round = 1 ]; then
		ok "complete" wait_for 20 complete
	fi
	pids=()
	for i in 1 2 3; do
		hammer 1 &
		pids+=($!)
	done
	kill_worker
	kill_worker
	wait "${pids[@]}"
	for i in 0 1 2 3 4 5 6 7; do
		right "f$i" || echo "round $round: f$i" >>"$T/bad"
	done
	# Nothing is left open: without the next it would stay so.
	umount_esgz "$M"
done
is "$(cat "$T/bad")" "" "workers are killed while files are opened and closed"

STATE=$T/state-killed
mount_files open_mode=passthrough,noprefetch,nobackground
exec 7<"$M/f0"
head -c 1 <&7 >/dev/null
kill_worker
ok "right bytes" treecmp "$M" "$T/f/files"
ok "complete" wait_for 20 complete
n=$(opens)
ok "what is open since before a worker's death" right f0
is "$(opens)" "$n" "... is opened as before"
exec 7<&-
ok "... and with its backing file after its release" wait_for 10 released
exec 7<"$M/f1"
kill_worker
exec 8<"$M/f1"
is "$(sha256sum <&8)" "$(sha256sum <&7)" "one open with it is opened with it again"
exec 7<&- 8<&-
umount_esgz "$M"

### The monitor killed, and succeeded ###
STATE=$T/state-sup
EV=$T/ev
mkfifo "$T/cmd"
background sup "$PYTHON" "$TOOLS/supervise.py" --program "$MOUNT_ESTARGZ" \
	"$T/cmd" "$EV"
SUP=$BG_PID
tell() { echo "$*" >"$T/cmd"; }
happened() {
	[ "$(jq -c "select(.event == \"$1\")" "$EV" 2>/dev/null | wc -l)" -ge "$2" ]
}
start_srv srv --files "$T/f"
start_estargzd
tell start a "$SRV_URL/f/files" "$M" -o \
	"$(mount_opts "open_mode=passthrough,noprefetch,nobackground,toc_digest=$D")"
wait_for 20 happened ready 1
exec 7<"$M/f0"
head -c 1 <&7 >/dev/null
treecmp "$M" "$T/f/files" >/dev/null
ok "complete" wait_for 20 complete
exec 8<"$M/f1"
n=$(opens)
other() {
	mount_esgz "$blob" "$P" "nonative,toc_digest=$(layer_toc "$IMAGES" small 0)" &&
		umount_esgz "$P"
}
: >"$T/bad"
for i in 1 2; do
	hammer 1 &
	pids[i]=$!
	kill -9 "$(st monitor.pid)"
	wait_for 20 happened closed $i
	# Who starts meanwhile clears away what nobody needs.
	[ $i = 1 ] || ok "another layer is mounted meanwhile" other
	tell succeed a
	wait_for 20 happened ready $((i + 1))
	wait "${pids[i]}"
done
is "$(cat "$T/bad")" "" "monitors are killed while files are opened and closed"
is "$(st open_mode)" passthrough "a successor goes on as it was"
ok "what is open since before" right f0
exec 9<"$M/f1"
is "$(sha256sum <&9)" "$(sha256sum <&8)" "what is open with its backing file"
exec 7<&- 8<&- 9<&-
n=$(opens)
ok "what was released" wait_for 10 released
ok "right bytes" treecmp "$M" "$T/f/files"
tell end a
ok "ends" wait_for 20 happened ended 1
kill "$SUP"
no_leaks
done_testing
