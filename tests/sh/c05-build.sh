#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The builder on real layers: what is unpacked is what was, however the layer
# came, and the bytes are the same again and again. Interoperation and whole
# images are c10 and c11.
. "${top_srcdir:-.}/tests/lib.sh"
requires_cmd "$PYTHON" jq zstd

TREECMP=$top_srcdir/tests/tools/treecmp.py
BUILD=$top_builddir/bench/build
images small

# Times of directories are set last, because what is in front makes tar leave
# them and come back; treecmp.py has its own way with overlayfs's xattrs.
unpack() {
	mkdir "$2"
	tar -C "$2" --xattrs --xattrs-include='*' \
		--xattrs-exclude='*.overlay.*' --delay-directory-restore \
		--warning=no-timestamp -xpf "$1"
}
# tree_kept LAYER [OPTION...]: and the archive ends as one should.
tree_kept() {
	local l=$LAYERS/$1.tar
	shift
	"$BUILD" "$@" "$l" "$T/blob" >"$T/json" &&
		gzip -dc <"$T/blob" >"$T/out.tar" &&
		rm -rf "$T/a" "$T/b" && unpack "$l" "$T/a" &&
		unpack "$T/out.tar" "$T/b" &&
		"$PYTHON" "$TREECMP" --dirs "$T/a" "$T/b"
}
same_bytes() {
	"$BUILD" "$@" "$T/blob.2" >"$T/json.2" && cmp "$T/blob" "$T/blob.2" &&
		cmp <(jq -r .in_diff_id "$T/json") \
			<(jq -r .in_diff_id "$T/json.2")
}

for l in special awk wh; do
	ok "$l: the same tree" tree_kept $l -l 2 -c 16KiB
done
FILES=(-w bin/bash -w usr/bin/perl:0+4096,100000+5000 -w etc/passwd)
ok "small, some files in front: the same tree" \
	tree_kept small -l 2 -j 3 "${FILES[@]}"
ok "they are in front" [ "$(tar -tf "$T/out.tar" |
	grep -n prefetch.landmark | cut -d: -f1)" -lt 12 ]
ok "and said so" [ "$(jq .landmark "$T/json")" = true ]

S=$LAYERS/special.tar
for level in 1 2; do
	"$BUILD" -l $level -j 1 "$S" "$T/blob" >"$T/json"
	ok "level $level: diff_id" [ "$(jq -r .diff_id "$T/json")" = \
		"sha256:$(gzip -dc <"$T/blob" | sha256sum | cut -d' ' -f1)" ]
	ok "level $level: blob" [ "$(jq -r .blob "$T/json")" = \
		"sha256:$(sha256sum <"$T/blob" | cut -d' ' -f1)" ]
	ok "level $level: the same bytes with four threads" \
		same_bytes -l $level -j 4 "$S"
done
gzip -1 <"$S" >"$T/in.gz"
ok "from gzip" same_bytes -l 2 "$T/in.gz"
zstd -q <"$S" >"$T/in.zst"
ok "from zstd" same_bytes -l 2 "$T/in.zst"
head -c 1000000 "$T/in.gz" >"$T/cut.gz"
ok "from what was cut off: one line, exit 1" eval \
	'! "$BUILD" "$T/cut.gz" "$T/blob.2" 2>"$T/err" &&
		[ "$(wc -l <"$T/err")" = 1 ] &&
		grep -q "ends early, at byte 1000000" "$T/err"'
# Level 1 is by igzip, whose bytes at other levels depend on addresses.
again() {
	local i
	"$BUILD" -l 1 "$S" "$T/blob" >"$T/json"
	for i in 1 2 3 4 5; do
		same_bytes -l 1 "$S" || return 1
	done
}
ok "level 1, five times more: the same bytes" again
ok "nothing is left in the temporary directory" \
	eval '! ls "$T" | grep -q "^estargz"'
done_testing
