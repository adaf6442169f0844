# SPDX-License-Identifier: Apache-2.0
# A root file system of Debian packages, some 40,000 entries, as images of 1, 5 and 20
# layers; sourced after lib.sh (bash). Made once and kept.
#
# have_stack: STACK has oci/, with the tags 1, 5 and 20 as eStargz; and of each tag what
# containerd's overlayfs snapshotter made of it, in TAG/: TAG/lower has its lower
# directories, the uppermost first, TAG/list its entries, as bench/ops reads them.
# shellcheck shell=bash
. "$top_srcdir/tests/containerd.sh"
. "$here/images.sh"

STACK=$CACHE/stack-1

# cold_tar NAME LAYER FILE: a layer of an image of bench/images.sh, unzipped.
cold_tar() { gzip -dc "$(layer_blob "$COLD/oci" "$1" "$2")" >"$3"; }
# What apt-get made of the base for three languages, and a program of each.
stack_tars() {
	local d=$1 n i=1
	cold_tar python 0 "$d/base.tar" || return 1
	mkdir "$d/top"
	for n in python node openjdk; do
		cold_tar "$n" 1 "$d/$n.tar" && cold_tar "$n" 2 "$d/top.tar" &&
			tar -C "$d/top" -xpf "$d/top.tar" || return 1
	done
	tar -C "$d/top" --numeric-owner --sort=name -cf "$d/top.tar" .
}
# stack_image TAG TAR...: eStargz, in as little time as it can be made.
stack_image() {
	local tag=$1 at=$T/plain
	shift
	rm -rf "$at"
	"$PYTHON" "$TOOLS/mkimage.py" "$at:$tag" \
		"$(printf ',none:%s' "$@" | cut -c 2-)" >/dev/null &&
		"$ESTARGZ" convert --quiet --compression-level 1 "oci:$at:$tag" \
			"oci:$STACK/oci:$tag" &&
		rm -rf "$at"
}
# stack_unpacked N: by containerd, from where its directories are taken.
stack_unpacked() {
	local n=$1 d=$STACK/$1 lowers l i=0 ref=$REG/stack:$1
	push "$STACK/oci:$n" "stack:$n" &&
		"${CTR[@]}" images pull --plain-http --snapshotter overlayfs \
			"$ref" || return 1
	snapshots prepare key "$(chain_id "$STACK/oci" "$n")" >/dev/null &&
		lowers=$("${CTR[@]}" snapshots --snapshotter overlayfs \
			mounts /x key | sed -n 's/.*lowerdir=\([^, ]*\).*/\1/p')
	[ -n "$lowers" ] || return 1
	rm -rf "$d"
	mkdir -p "$d"
	for l in ${lowers//:/ }; do
		mv "$l" "$d/$((i += 1))" || return 1
	done
	[ "$i" = "$n" ] || return 1
	# What eStargz has beside the files of a layer.
	rm -f "$d"/*/{.no.prefetch.landmark,.prefetch.landmark,stargz.index.json}
	seq -f "$d/%.0f" "$n" | paste -sd : >"$d/lower"
	snapshots rm key
}
stack_list() {
	mkdir -p "$T/ro"
	if [ "$1" = 1 ]; then
		mount --bind "$(cat "$STACK/1/lower")" "$T/ro"
	else
		mount -t overlay -o "lowerdir=$(cat "$STACK/$1/lower")" overlay \
			"$T/ro"
	fi || return 1
	find "$T/ro" -mindepth 1 -type f -printf '%s %P\n' -o \
		-mindepth 1 -printf '- %P\n' | LC_ALL=C sort -k 2 >"$STACK/$1/list"
}
# stack_parts TAG N...: the image, each tar in so many layers.
stack_parts() {
	local tag=$1 i of=() parts
	shift
	for i in base python node openjdk top; do
		of+=("$d/$i.tar:$1")
		shift
	done
	rm -rf "$d/parts"
	mkdir "$d/parts" &&
		parts=$("$PYTHON" "$here/stack.py" "$d/parts" "${of[@]}") &&
		stack_image "$tag" $parts && # shellcheck disable=SC2086
		rm -rf "$d/parts"
}
stack_make() {
	local d=$T/make i SNAPSHOTTER=overlayfs
	for i in python node openjdk; do
		have_image "$i" || return 1
	done
	rm -rf "$STACK"
	mkdir -p "$STACK/oci" "$d" && stack_tars "$d" &&
		stack_parts 5 1 1 1 1 1 && stack_parts 20 5 3 8 3 1 || return 1
	start_registry
	ctd_start 1.6
	stack_unpacked 5 && stack_list 5 &&
		tar -C "$T/ro" --numeric-owner --xattrs --sort=name \
			-cf "$d/one.tar" . || return 1
	umount "$T/ro"
	stack_image 1 "$d/one.tar" && rm -rf "$d" && stack_unpacked 20 &&
		stack_list 20 && umount "$T/ro" && stack_unpacked 1 &&
		stack_list 1 && umount "$T/ro" || return 1
	ctd_stop
	stop_pid "$REG_PID"
	rm -rf --one-file-system "$CTD"
	touch "$STACK/ok"
}
have_stack() {
	local c
	[ ! -e "$STACK/ok" ] || return 0
	for c in containerd ctr runc umoci skopeo docker-registry; do
		command -v "$c" >/dev/null || die "needs $c"
	done
	say "making $STACK (once; some minutes)"
	(
		flock 9
		[ -e "$STACK/ok" ] || stack_make >"$T/make.log" 2>&1 9>&-
	) 9>"$STACK.lock" || die "no input: $(tail -n 3 "$T/make.log")"
}
