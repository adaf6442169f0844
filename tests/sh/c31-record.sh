#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Records of what a workload has read: ours are taken by ctr-remote, and its are
# taken by us.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
. "${top_srcdir:-.}/tests/convert.sh"
requires_convert
requires_containerd own
requires_cmd busybox umoci

L=$T/l
SNAPSHOTTER=overlayfs
mkdir -p "$T/base/bin" "$T/base/etc" "$T/top"
cp "$(command -v busybox)" "$T/base/bin/busybox"
ln -s busybox "$T/base/bin/sh"
ln -s busybox "$T/base/bin/cat"
for i in one two three four; do
	echo $i >"$T/top/$i"
done
for i in base top; do
	tar -C "$T/$i" --sort=name -cf "$T/$i.tar" .
done
mkimage "$L:src" "gzip:$T/base.tar,gzip:$T/top.tar"
umoci config --image "$L:src" --config.cmd /bin/sh --config.cmd -c \
	--config.cmd 'cat /three /one' 2>"$T/umoci.log" ||
	bail "$(cat "$T/umoci.log")"

# front LAYOUT TAG: the files in front of the upper layer's landmark
front() {
	gzip -dc "$(blob "$1" "$(layers "$1" "$(root "$1" "$2")" | tail -n 1)")" |
		tar -tf - | sed '/prefetch.landmark/q' | sed 's,^\./,,; /^$/d' |
		tr '\n' ' '
}

timeout 60 "$ESTARGZ" optimize -q --record-out "$T/ours" "oci:$L:src" \
	"oci:$L:opt" >"$T/out" 2>&1 || diag_file "$T/out"
is "$(front "$L" opt)" "three one .prefetch.landmark " \
	"what was read is in front, in that order"

ctd_start own
skopeo copy -q "oci:$L:src" "oci-archive:$T/in.tar:src" &&
	"${CTR_REMOTE[@]}" images import --base-name lab.local/x "$T/in.tar" \
		>"$T/out" 2>&1 || { diag_file "$T/out"; bail "import"; }
ok "ctr-remote takes our record" "${CTR_REMOTE[@]}" images convert --oci \
	--estargz --estargz-record-in "$T/ours" lab.local/x:src lab.local/x:theirs
"${CTR_REMOTE[@]}" images export "$T/out.tar" lab.local/x:theirs &&
	skopeo copy -q --preserve-digests "oci-archive:$T/out.tar" \
		"oci:$T/back:theirs" || bail "export"
is "$(front "$T/back" theirs)" "three one .prefetch.landmark " \
	"... and puts the same in front"

ok "ctr-remote records" "${CTR_REMOTE[@]}" images optimize --oci --period 5 \
	--record-out "$T/theirs" lab.local/x:src lab.local/x:opt
converts "its record is taken" --record-in "$T/theirs" "oci:$L:src" "oci:$L:c"
is "$(grep -c 'not there' "$T/convert.err")" 0 "... all of it is found"
is "$(front "$L" c)" "three one .prefetch.landmark " "... and in front"
ctd_stop
no_leaks
done_testing
