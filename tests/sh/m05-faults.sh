#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Servers that fail: a read gives the right bytes or EIO, never others, and
# all is well again when the server is.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq curl

mkdir -p "$T/f"
# Several members, some compressed, some not; much more than what comes with
# the TOC (1 MiB where the size is not known).
"$PYTHON" - "$T/in.tar" <<'END'
import io, random, sys, tarfile
with tarfile.open(sys.argv[1], "w") as t:
    for i in range(16):
        r = random.Random(i)
        d = r.randbytes(200000 + i * 29000)
        if i % 4 == 3:
            d = d[:1000] * (len(d) // 1000)
        m = tarfile.TarInfo("f%d" % i)
        m.size = len(d)
        t.addfile(m, io.BytesIO(d))
END
mkesgz from-tar --chunk-size 150000 "$T/in.tar" "$T/f/b" >"$T/b.json"
D=$(jget "$T/b.json" .toc_digest)
SIZE=$(jget "$T/b.json" .size)
FILES=$T/f
lane() {
	M=$T/m
	N=0
	start_srv srv --files "$FILES"
	URL=$SRV_URL/f/b
}
OPTS=nobackground,noprefetch,toc_digest=$D
# Where a fault is for good, somebody has to give up.
SOON=read_timeout=2

# while_reading DESC right|any FAULT...: the fault comes after the mount.
while_reading() {
	local d=$1 want=$2 allow='' soon='' t0
	shift 2
	t0=$(now_ms)
	[ "$want" = right ] || allow=--allow-eio soon=,$SOON
	STATE=$T/state-$((N += 1))
	srv_reset
	ok "$d: mounts" mount_esgz "$URL" "$M" "$OPTS$soon" || return
	srv_fault "$@"
	ok "$d: right bytes${allow:+ or EIO}" timeout 120 "$PYTHON" \
		"$TOOLS/treecmp.py" --jobs 16 $allow "$M" "$FILES/b"
	at_most 1 "$(srv_count fault=.)" "$d: the fault was met"
	srv_clear
	diag "$(($(now_ms) - t0)) ms, EIO: $(sed -n 's/.* \([0-9]*\) EIO.*/\1/p' \
		"$T/.ok")"
	ok "$d: recovers" wait_for 60 treecmp --jobs 4 "$M" "$FILES/b"
	ok "$d: unmounts" umount_esgz "$M"
	diag "$(($(now_ms) - t0)) ms in all"
	rm -rf "$STATE"
}
# at_mount DESC right|any|refused FAULT...
at_mount() {
	local d=$1 want=$2 rc t0
	shift 2
	STATE=$T/state-$((N += 1))
	srv_reset
	srv_fault "$@"
	t0=$(now_ms)
	mount_esgz "$URL" "$M" "$OPTS" >/dev/null
	rc=$?
	diag "mount.estargz took $(($(now_ms) - t0)) ms"
	if [ $rc = 0 ] && [ "$want" != refused ]; then
		pass "at mount, $d: mounts"
		srv_clear
		ok "at mount, $d: right bytes" wait_for 60 treecmp --jobs 4 \
			"$M" "$FILES/b"
		ok "at mount, $d: unmounts" umount_esgz "$M"
	elif [ $rc = 1 ] && [ "$want" != right ]; then
		pass "at mount, $d: is refused"
		is "$(err_lines)" 1 "at mount, $d: one line"
		like "$(cat "$T/mount.err")" "127.0.0.1.*/f/b" \
			"at mount, $d: names the source"
		ok "at mount, $d: nothing mounted" not is_mounted "$M"
		srv_clear
		ok "at mount, $d: mounts afterwards" mount_esgz "$URL" "$M" \
			"$OPTS"
		ok "at mount, $d: right bytes" treecmp --jobs 4 "$M" "$FILES/b"
		ok "at mount, $d: unmounts" umount_esgz "$M"
	else
		fail "at mount, $d: exit $rc, want $want"
		diag_file "$T/mount.err"
		umount -l "$M" 2>/dev/null
	fi
	rm -rf "$STATE"
}
not() { ! "$@"; }

# Faults that pass: nobody notices.
once='"count":1'
once_any() { while_reading "once: $1" any "{$1,$once}"; }
in_lanes 4 lane once_any '"kind":"drop"' '"kind":"drop","rst":true' \
	'"kind":"reset"' '"kind":"reset","after":0' \
	'"kind":"short"' '"kind":"short","after":0' \
	'"kind":"garbage"' '"kind":"length"' '"kind":"close"' \
	'"kind":"flip","every":1000' '"kind":"zeros"' '"kind":"shift"' \
	'"kind":"less","n":10' '"kind":"html"' '"kind":"headers"' \
	'"kind":"status","status":500' '"kind":"status","status":502' \
	'"kind":"status","status":503,"retry_after":1' \
	'"kind":"status","status":429,"retry_after":1' \
	'"kind":"content-range","value":"bytes 0-1/5"' \
	'"kind":"multipart"' '"kind":"delay","ms":300'
# Those that must not be seen at all by the reader.
unseen() { while_reading "once, unseen: $1" right "{$1,$once}"; }
in_lanes 4 lane unseen '"kind":"drop"' '"kind":"reset"' '"kind":"short"' \
	'"kind":"status","status":503' '"kind":"flip","every":1000'
# Odd, but legal: right bytes, always.
always() { while_reading "always: $1" right "{$1}"; }
in_lanes 4 lane always '"kind":"http10"' '"kind":"chunked"' '"kind":"close"' \
	'"kind":"less","n":30000' '"kind":"ignore-range"' \
	'"kind":"redirect"' '"kind":"redirect","relative":true' \
	'"kind":"redirect","uses":2' '"kind":"redirect","status":302' \
	'"kind":"no-suffix"' '"kind":"slow","bps":2000000'
# For good, until it is over.
for_good() { while_reading "for good: $1" any "{$1}"; }
in_lanes 6 lane for_good '"kind":"drop"' '"kind":"reset"' '"kind":"short"' \
	'"kind":"garbage"' '"kind":"flip","every":1000' '"kind":"zeros"' \
	'"kind":"shift"' '"kind":"html"' '"kind":"multipart"' \
	'"kind":"status","status":500' '"kind":"status","status":503' \
	'"kind":"status","status":429,"retry_after":5' \
	'"kind":"status","status":401' '"kind":"status","status":403' \
	'"kind":"status","status":404' '"kind":"status","status":416' \
	'"kind":"redirect","loop":true' \
	'"kind":"redirect","to":"http://127.0.0.1:1/x"' \
	'"kind":"redirect","to":"file:///etc/passwd"' \
	'"kind":"content-range","value":"bytes {a}-{b}/7"' \
	'"kind":"content-range","value":""' \
	'"kind":"stall"' '"kind":"stall","after":0' \
	'"kind":"stall","sticky":true' '"kind":"slow","bps":2000' \
	'"kind":"slow","bps":2000,"sticky":true'

# At the first request of all.
lane
for f in '"kind":"drop"' '"kind":"reset"' '"kind":"short"' \
	'"kind":"status","status":503'; do
	at_mount "once $f" right "{$f,$once}"
done
for f in '"kind":"no-suffix"' '"kind":"no-suffix","answer":400' \
	'"kind":"no-suffix","answer":501' '"kind":"no-suffix","answer":200' \
	'"kind":"ignore-range"' '"kind":"http10"' '"kind":"chunked"' \
	'"kind":"redirect"' '"kind":"redirect","uses":1'; do
	at_mount "$f" right "{$f}"
done
for f in '"kind":"less","n":100' '"kind":"multipart"' \
	'"kind":"content-range","value":""' \
	'"kind":"content-range","value":"bytes {a}-{b}/*"'; do
	at_mount "$f" any "{$f}"
done
for f in '"kind":"status","status":404' '"kind":"status","status":401' \
	'"kind":"status","status":403' '"kind":"html"' '"kind":"garbage"' \
	'"kind":"flip","every":1000' '"kind":"zeros"' '"kind":"shift"' \
	'"kind":"content-range","value":"bytes {a}-{b}/7"' \
	'"kind":"redirect","loop":true' \
	'"kind":"redirect","to":"file:///etc/passwd"'; do
	at_mount "$f" refused "{$f}"
done
no_leaks
done_testing
