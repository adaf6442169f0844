#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Hostile blobs: refused with one clear line, or EIO for what is bad; bounded
# memory, no crash, nothing left.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq

M=$T/m
mkesgz all hostile "$T/h" || bail mkesgz
sanitized() { ldd "$MOUNT_ESTARGZ" | grep -q 'libasan\|libtsan\|libubsan'; }
crashed() { grep -rqsE 'Sanitizer|runtime error:|stack-overflow' \
	"$T/mount.err" "$T/serve.log"; }
# Memory: the TOC is bounded by 128 MiB, and what is made of it.
peak() {
	"$PYTHON" - "$@" <<'END'
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL,
               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
END
}
for n in toc-bomb-1g toc-200m toc-deep toc-hardlink-cycle-long; do
	! sanitized || continue
	b=$T/h/$n.esgz
	mkdir -p "$M"
	kb=$(STATE=$T/state-peak peak "$MOUNT_ESTARGZ" "$b" "$M" -o \
		"$(mount_opts "toc_digest=$(jget "$b.json" .toc_digest)")")
	at_most "$kb" 400000 "$n: at most 400 MB ($kb KB)"
done

# (Where all is there, it is relieved by another, which is no death.)
deaths() {
	"$ESTARGZ" status --json | jq --arg t "$M" \
		'.[] | select(.target == $t) | .worker_deaths'
}
for j in "$T"/h/*.json; do
	b=${j%.json}
	n=$(basename "$b" .esgz)
	STATE=$T/state-$n
	want=$(jget "$j" .expect)
	why=$(jget "$j" '.why // "."')
	toc=$(jget "$j" .toc_digest)
	if [ "$want" = refused ]; then
		refused "$n is refused" "$b" "$why" "toc_digest=$toc"
		[ ! -d "$STATE/layers" ] || is "$(find "$STATE/layers" -type f \
			-name 'layer.erofs')" "" "$n: leaves no state"
	else
		mount_esgz "$b" "$M" "toc_digest=$toc" >/dev/null
		rc=$?
		if [ $rc = 0 ]; then
			ok "$n: right bytes or EIO" timeout 60 "$PYTHON" \
				"$TOOLS/rdcheck.py" "$M" "$j"
			is "$(deaths)" 0 "$n: the worker lives"
			ok "$n: unmounts" umount_esgz "$M"
		elif [ "$want" = any ] && [ $rc = 1 ]; then
			pass "$n is refused"
			is "$(err_lines)" 1 "$n: one line"
		else
			fail "$n: exit $rc, expected $want"
			diag_file "$T/mount.err"
			umount -l "$M" 2>/dev/null
			drop_leaks
		fi
	fi
	! crashed || { fail "$n: crashed"; diag_file "$T/mount.err"; }
	rm -rf "$STATE"
done

# Not verified is refused, unless it is asked for.
mkesgz make plain "$T/plain" >"$T/plain.json"
STATE=$T/state-plain
refused "without a TOC digest" "$T/plain" 'digest|verif'
ok "insecure_no_verify mounts it" mount_esgz "$T/plain" "$M" insecure_no_verify
ok "and it reads right" treecmp "$M" "$T/plain"
ok "unmounts" umount_esgz "$M"
b=$T/h/chunk-digest-missing.esgz
STATE=$T/state-nodigest
ok "insecure_no_verify mounts chunks without digest" \
	mount_esgz "$b" "$M" insecure_no_verify
ok "and they read right" treecmp "$M" "$b"
ok "unmounts" umount_esgz "$M"

# A layout with a FIFO where a file should be: nobody waits for who writes to it.
images small
doc=$(manifest_of "$IMAGES" small)
blob=$(layer_blob "$IMAGES" small 2)
STATE=$T/state-fifo
MOUNT_DEADLINE=20
for n in index.json "blobs/sha256/${doc##*/}" "blobs/sha256/${blob##*/}"; do
	rm -rf "$T/lay"
	mkdir -p "$T/lay/blobs/sha256"
	ln -s "$IMAGES"/index.json "$T/lay"
	ln -s "$IMAGES"/blobs/sha256/* "$T/lay/blobs/sha256"
	rm "$T/lay/$n"
	mkfifo "$T/lay/$n"
	refused "a FIFO: ${n%%/*}" "oci:$T/lay:small" "$n: no regular file"
done
refused "a FIFO that is no layout's" "$T/lay/$n" 'no regular file' \
	"toc_digest=$(layer_toc "$IMAGES" small 2)"
MOUNT_DEADLINE=60

# Big, not hostile.
mkesgz all big "$T/big" || bail mkesgz
# Around its marks; all the rest is alike.
ends_of_4g() {
	PYTHONPATH=$TOOLS timeout 120 "$PYTHON" - "$M" <<'END'
import os, sys
from esgz import FILE_4G as big, marked
data, size = big["data"], len(big["data"])
def piece(i):
    return marked(data, i) if i in big["marked"] else data
f = os.open(sys.argv[1] + "/big", os.O_RDONLY)
assert os.fstat(f).st_size == size * big["repeat"]
for i in big["marked"]:
    assert os.pread(f, size, i * size) == piece(i), i
    if i > 0:
        want = piece(i - 1)[-5000:] + piece(i)[:5000]
        assert os.pread(f, 10000, i * size - 5000) == want, i
assert os.pread(f, 10, size * big["repeat"]) == b""
assert open(sys.argv[1] + "/after").read() == "after"
END
}
right() {
	case $1 in
	file-4g) ends_of_4g ;;
	*) treecmp "$M" "$2" ;;
	esac
}
# What a decoder had is given back when it has nothing to do.
kb() { awk '/^Private_Dirty/ {print $2}' "/proc/$1/smaps_rollup"; }
has_little() { [ ! -d "/proc/$1" ] || [ "$(kb "$1")" -le 100000 ]; }
for n in big-dir chunk-40m file-4g; do
	b=$T/big/$n.esgz
	STATE=$T/state-$n
	ok "$n mounts" mount_esgz "$b" "$M" \
		"nobackground,toc_digest=$(jget "$b.json" .toc_digest)"
	ok "$n: the tree is the tar's" right "$n" "$b"
	for p in $(worker_pids); do
		sanitized || ok "$n: the worker has 100 MB at most" \
			wait_for 10 has_little "$p" || diag "$(kb "$p") KB"
	done
	ok "$n: unmounts" umount_esgz "$M"
	rm -rf "$STATE" "$b"
done
no_leaks
done_testing
