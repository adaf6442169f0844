#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What estargz convert writes is what others take for eStargz, and for an
# ordinary image: ctr-remote, containerd, umoci, podman, skopeo; and our own
# mounts. What ctr-remote writes is converted, and kept.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
. "${top_srcdir:-.}/tests/convert.sh"
requires_convert
requires_containerd own
requires_cmd docker-registry umoci podman busybox
images small small-src awkward-src

L=$T/l
O=overlayfs
start_registry
R=$REG/lab/img
for t in small awkward; do
	converts "$t: to a layout" "oci:$IMAGES:$t-src" "oci:$L:$t"
	ok "$t: is right in itself" is_esgz "$L" "$CONVERTED"
	converts "$t: to a registry" --plain-http "oci:$L:$t" --reuse \
		"docker://$R:$t"
	is "$CONVERTED" "$(root "$L" "$t")" "$t: is the same there"
done

### ctr-remote ###
ctd_start own
snap_start
# toc_digests TAG: of each layer, by ctr-remote and by our annotation
toc_digests() {
	local d
	for d in $(layers "$L" "$(root "$L" "$1")"); do
		"${CTR_REMOTE[@]}" images get-toc-digest "$d" || return 1
	done >"$T/tocs"
	doc "$L" "$(root "$L" "$1")" '.layers[].annotations[
		"containerd.io/snapshot/stargz/toc.digest"]' |
		diff "$T/tocs" -
}
for t in small awkward; do
	ok "$t: containerd pulls it to overlayfs" pull "$R:$t" $O
	ok "$t: ctr-remote finds the TOC digests" toc_digests "$t"
done

# Where there is none, stargz-snapshotter shows the year 1.
is "$(for d in $(layers "$L" "$(root "$L" small)"); do
	gzip -dc "$(blob "$L" "$d")" | tar -xOf - stargz.index.json |
		jq -r '.entries[] | select(.name | endswith("time/t0")) | .modtime'
done)" 1970-01-01T00:00:00Z "small: the TOC has the time of 1970 too"

# What each of them makes of our image is what it makes of the source: two
# directories that may be written to, or two views.
same_dirs() {
	touch -d @0 "$1" "$2"
	# Orders to overlayfs, which umoci unpacks or does not.
	treecmp --dirs --converted --ignore-xattr user.overlay.opaque \
		--ignore-xattr trusted.overlay.redirect "$1" "$2"
}
same_views() {
	with_view "$1" "$(chain_id "$L" "$2")" "$T/v1" \
		with_view $O "$(chain_id "$IMAGES" "$2-src")" "$T/v2" \
		same_root --converted --ignore-xattr user.overlay.opaque \
		"$T/v1" "$T/v2"
}

SINCE=$(date +%s)

### containerd, with overlayfs and lazily ###
for t in small awkward; do
	push "$IMAGES:$t-src" "lab/img:$t-src" || bail push
	ok "$t: containerd pulls the source" pull "$R:$t-src" $O
	ok "$t: unpacked by containerd it is the source" same_views $O "$t"
done
is "$(run_in $O "$R:awkward" /bin/inside)" \
	"$(printf 'uid 0 euid 0 egid 0 eff 00000000a80425fb')" \
	"overlayfs: a container runs"
for t in small awkward; do
	"${CTR[@]}" images rm --sync "$R:$t" >/dev/null
	ok "$t: pulled lazily" rpull "$R:$t"
done
is "$(n_lazy)" "$(for t in small awkward; do
	layers "$L" "$(root "$L" $t)"
done | sort -u | wc -l)" "each layer is mounted"
is "$(run_in "$SNAPSHOTTER" "$R:awkward" /bin/inside)" \
	"$(printf 'uid 0 euid 0 egid 0 eff 00000000a80425fb')" \
	"a container runs from it"
for t in small awkward; do
	ok "$t: the lazy tree is that of the source" \
		same_views "$SNAPSHOTTER" "$t"
done
converts "small: to an archive" --reuse "oci:$L:small" \
	"oci-archive:$T/small.tar:i"
ok "containerd imports it" "${CTR[@]}" images import --no-unpack \
	--base-name lab/archive "$T/small.tar"

### umoci ###
for t in small awkward; do
	ok "$t: umoci unpacks the source" umoci unpack \
		--image "$IMAGES:$t-src" "$T/umoci-$t-src"
	ok "$t: umoci unpacks it" umoci unpack --image "$L:$t" "$T/umoci-$t"
	ok "$t: the trees are the same" \
		same_dirs "$T/umoci-$t/rootfs" "$T/umoci-$t-src/rootfs"
done

### podman, by skopeo ###
P=(podman --root "$T/podman" --runroot "$T/podrun" --storage-driver vfs
	--cgroup-manager cgroupfs)
to_podman() {
	skopeo copy -q "oci:$1" "containers-storage:[vfs@$T/podman+$T/podrun]$2"
}
ok "skopeo copies the source to containers' storage" to_podman \
	"$IMAGES:awkward-src" localhost/src:x
ok "skopeo copies the image" to_podman "$L:awkward" localhost/dst:x
src=$("${P[@]}" image mount localhost/src:x 2>"$T/podman.err")
dst=$("${P[@]}" image mount localhost/dst:x 2>"$T/podman.err")
ok "podman's trees are the same" same_dirs "$dst" "$src"
"${P[@]}" image umount -fa >/dev/null 2>&1

### What ctr-remote wrote ###
theirs=sha256:$(basename "$(manifest_of "$IMAGES" small)")
converts "what ctr-remote wrote, again" "oci:$IMAGES:small" "oci:$L:again"
ok "is right in itself" is_esgz "$L" "$CONVERTED"
converts "and --reuse" --reuse "oci:$IMAGES:small" "oci:$L:kept"
is "$(layers "$L" "$CONVERTED")" "$(layers "$IMAGES" "$theirs")" \
	"keeps its layers"
is "$(for d in $(layers "$L" "$(root "$L" again)"); do
	names "$(blob "$L" "$d")" | sed 's,^\./,,' | sort | sha256sum
done)" "$(for d in $(layers "$L" "$(root "$L" small)"); do
	names "$(blob "$L" "$d")" | sed 's,^\./,,' | sort | sha256sum
done)" "what it added is not there twice"

snap_end
done_testing
