#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# events=FILE: the reads that were made and no others, what was fetched for
# them, through the death of a worker, on a disk that is full, into a pipe.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq
images small small-chunk64k
M=$T/m
E=$T/events
BLOB=$(layer_blob "$IMAGES" small-chunk64k 0)
TOC=toc_digest=$(layer_toc "$IMAGES" small-chunk64k 0)
EXACT=noreadahead,noprefetch,nobackground

# reads FILE [JQ-FILTER]: path, offset, length of each read, in order
reads() { jq -r "select(.e == \"read\") ${2:+| select($2)} | \"\(.p) \(.o) \(.n)\"" <"$1"; }
count() { jq -c "select(.e == \"$2\")" <"$1" | wc -l; }

mount_esgz "$BLOB" "$M" "$TOC,$EXACT,events=$E" || bail "cannot mount"
like "$(stat -c '%a %F' "$E")" '^600 regular( empty)? file$' "the file is made for root alone"
F=$(find "$M" -type f -size +600k -printf '%P\n' | sort | head -1)
G=$(find "$M" -type f -size +200k ! -size +500k -printf '%P\n' | sort | head -1)
timeout 30 dd if="$M/$F" of=/dev/null bs=4096 skip=3 count=2 status=none
timeout 30 dd if="$M/$F" of=/dev/null bs=8192 skip=40 count=1 status=none
timeout 30 dd if="$M/$F" of=/dev/null bs=4096 skip=3 count=2 status=none
timeout 30 "$PYTHON" - "$M/$G" <<'PY'
import mmap, sys
f = open(sys.argv[1], "rb")
m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
for page in (9, 2, 30):
    m[page * 4096 + 17]
PY
# Of the worker, but not the kernel's own (iou-wrk-…). They are started when the
# mount is there; and a complete layer's worker is relieved, which this one's is not.
threads() {
	local p
	for p in $(worker_pids); do cat "/proc/$p"/task/*/comm; done | grep -c estargz
}
N=$(nproc)
N=$((N < 2 ? 2 : N > 4 ? 4 : N))
all_started() { [ "$(threads)" -ge $((2 + 2 * N)) ]; }
ok "a thread for events, beside two a CPU and the first" wait_for 10 all_started
n_threads=$(threads)
umount_esgz "$M"
wait_for 10 no_mount_procs
ok "every line is JSON" jq -e . "$E"
is "$(reads "$E")" "$F 12288 4096
$F 16384 4096
$F 327680 4096
$F 331776 4096
$G 36864 4096
$G 8192 4096
$G 122880 4096" "the reads are the pages that were touched, in order"
is "$(jq -c 'select(.e == "mount") | [.v, .toc, .number]' <"$E")" \
	"[1,\"${TOC#*=}\",0]" "mount says which layer"
is "$(count "$E" mount) $(count "$E" end)" "1 1" "... once, and ends once"
is "$(jq -s 'map(select(.e == "read")) | [.[0].w, .[1].w] | join(" ")' <"$E")" \
	'"wait hit"' "the first of a chunk waits, the next does not"
is "$(jq -s 'map(select(.e == "read" and .w != "hit" and .c != "demand")) | length' <"$E")" 0 \
	"... for what nobody had asked for"
is "$(jq -c 'select(.e == "fetch" and .c == "tail") | .o + .n' <"$E" | tail -1)" \
	"$(stat -c %s "$BLOB")" "the tail was fetched, up to the end of the blob"
ok "what a reader waited for was fetched" jq -es '
	(map(select(.e == "fetch"))) as $f |
	all(map(select(.w == "wait"))[]; . as $r |
		any($f[]; .o <= $r.bo and .o + .n >= $r.bo + $r.bn))' "$E"
ok "chunks hold the range that was read" jq -es '
	all(map(select(.e == "read"))[]; .co <= .o and .co + .cn >= .o + .n)' "$E"
ok "times are sane" jq -es 'map(select(.e == "read")) |
	all(.[]; .d <= .t) and (map(.t) | . == sort)' "$E"

# ---- with read-ahead ---------------------------------------------------------

STATE=$T/state-b
mount_esgz "$BLOB" "$M" "$TOC,noprefetch,events=$E" || bail "cannot mount"
timeout 30 cat "$M/$F" >/dev/null
in_background() { jq -e 'select(.c == "background")' "$E"; }
wait_for 20 in_background
umount_esgz "$M"
wait_for 10 no_mount_procs
is "$(count "$E" mount)" 2 "a second run is appended"
ok "without noreadahead the kernel asks for more at once" jq -es '
	any(.[]; .e == "read" and .n > 65536)' "$E"
is "$(jq -s 'map(select(.e == "fetch") | .c) | unique - ["demand", "ahead", "prefetch", "tail"] | join(" ")' \
	<"$E")" '"background"' "what comes in the background is said to"
mount_esgz "$BLOB" "$M" "$TOC,nonative" || bail "cannot mount"
one_less() { [ "$(threads)" = $((n_threads - 1)) ]; }
ok "no events, no thread" wait_for 10 one_less
umount_esgz "$M"
wait_for 10 no_mount_procs

# ---- an image, and a worker that dies ----------------------------------------

E=$T/events2
STATE=$T/state-c
mount_esgz "oci:$IMAGES:small" "$M" "$EXACT,events=$E" || bail "cannot mount"
read_all() { timeout 60 find "$M" -type f -size -20k -exec cat {} + >/dev/null; }
read_all &
read_all
wait
seen() { [ "$(jq -r 'select(.e == "read") | .l' <"$E" | sort -u | wc -l)" -ge 2 ]; }
ok "layers write to one file, soon" wait_for 10 seen
w=$(worker_pids)
kill -9 $w
new_workers() { [ "$(count "$E" again)" = "$(count "$E" mount)" ]; }
ok "successors of workers that died go on" wait_for 20 new_workers
timeout 30 dd if="$M/$F" of=/dev/null bs=4096 count=1 status=none
umount_esgz "$M"
wait_for 10 no_mount_procs
ok "lines of several workers do not mix" jq -e . "$E"
is "$(jq -r 'select(.e == "mount") | .layer' <"$E" | sort)" \
	"$(jq -r '.layers[].digest' <"$(manifest_of "$IMAGES" small)" | sort -u)" \
	"each layer is told of once"
is "$(count "$E" end)" "$(count "$E" mount)" "... and ends once"
is "$(reads "$E" '.o == 0' | grep -c "^$F ")" 1 "what was read after the death is there"

# ---- a full disk, a file that is large enough ---------------------------------

mkdir "$T/tiny"
mount -t tmpfs -o size=32k tmpfs "$T/tiny" || bail tmpfs
E=$T/tiny/events
STATE=$T/state-d
mount_esgz "$BLOB" "$M" "$TOC,$EXACT,events=$E" || bail "cannot mount"
ok "readers do not mind a full disk" timeout 30 cat "$M/$F"
full() { ! head -c 4096 /dev/zero >>"$T/tiny/x"; }
ok "the disk is full" wait_for 10 full
mount -o remount,size=1m "$T/tiny"
timeout 30 dd if="$M/$G" of=/dev/null bs=4096 count=1 status=none
umount_esgz "$M"
wait_for 10 no_mount_procs
grep -ac '"e":"lost"' "$E" >"$T/n"
at_least=$(cat "$T/n")
ok "what was lost is counted when there is room" test "$at_least" -ge 1
ok "at most one line is cut a failure" test \
	"$(grep -acvE '^\{.*\}$' "$E")" -le "$at_least"
is "$(tail -1 "$E" | jq -r .e)" end "... and events go on"
umount "$T/tiny"

E=$T/events3
STATE=$T/state-e
mount_esgz "$BLOB" "$M" "$TOC,$EXACT,events=$E,events_max=16KiB" || bail "cannot mount"
timeout 60 cat "$M/$F" >/dev/null
umount_esgz "$M"
wait_for 10 no_mount_procs
ok "events_max holds" test "$(stat -c %s "$E")" -le 16384
ok "... and is used" test "$(stat -c %s "$E")" -gt 8192
ok "... by whole lines" jq -e . "$E"

# ---- a pipe, and what is neither ----------------------------------------------

STATE=$T/state-f
mkfifo "$T/pipe"
refused "a pipe that nobody reads" "$BLOB" 'pipe: nobody reads this pipe' "$TOC,events=$T/pipe"
timeout 60 cat "$T/pipe" >"$T/piped" &
cat=$!
wait_for 10 mount_esgz "$BLOB" "$M" "$TOC,$EXACT,events=$T/pipe" || bail "cannot mount"
timeout 30 dd if="$M/$F" of=/dev/null bs=4096 count=1 status=none
umount_esgz "$M"
wait "$cat"
is "$(reads "$T/piped")" "$F 0 4096" "a pipe gets it as well, and its end"
refused "a directory" "$BLOB" "events=$T: Is a directory" "$TOC,events=$T"
refused "a device" "$BLOB" 'neither a regular file nor a pipe' "$TOC,events=/dev/null"
ln -s "$T/elsewhere" "$T/link"
refused "a symbolic link" "$BLOB" 'Too many levels' "$TOC,events=$T/link"
not_ok "a relative path" mount_esgz "$BLOB" "$M" "$TOC,events=here"
like "$(cat "$T/mount.err")" 'events=here: not an absolute path' "... is refused as well"
no_leaks "nothing is left"
done_testing
