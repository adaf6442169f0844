#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a kubelet asks of containerd, old and new: images are lazy, pods run,
# what they take on the disk is told.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
requires_containerd own 2
images debian pause

start_srv srv --oci "$IMAGES"
R=$SRV_ADDR/lab/img
S=$SNAPSHOTTER
SANDBOX=$R:pause
NS=k8s.io
fs_bytes() { cri fsinfo | jq .bytes; }
fs_at_least() { [ "$(fs_bytes)" -ge "$1" ]; }
written() { [ "$(cri stats "$1" | jq .bytes)" -ge "$2" ]; }
on_disk() { du -s --block-size=1 "$@" | awk '{n += $1} END {print n}'; }

# usage_is_right SNAPSHOT TOC-DIGEST: but for 1 MiB
usage_is_right() {
	n=$(snapshots usage -b "$1" | awk 'END {print $(NF - 1)}')
	there=$(on_disk "$SNAP/layers/sha256/$2"*)
	[ "$n" -le $((there + (1 << 20))) ] &&
		[ "$there" -le $((n + (1 << 20))) ]
}

by() {
	local v=$1 pod ct n there top chain
	LAZY=
	lazily debian cri pull "$R:debian"
	like "$(cri images | jq -c '.[].tags')" "$R:debian" "$v: it is listed"

	# Asked once of each snapshot by containerd, soon after the pull.
	ok "$v: the images' space is known" wait_for 20 fs_at_least 1
	n=$(jq '[.layers[].size] | add' <"$(manifest_of "$IMAGES" debian)")
	[ "$S" != estargz ] || at_most "$(fs_bytes)" "$n" \
		"$v: and is that of what came"
	diag "$(cri fsinfo)"

	pod=$(cri pod p1)
	like "$pod" '^[0-9a-f]{64}$' "$v: a pod"
	ct=$(cri run "$pod" p1 "$R:debian" sleep inf)
	like "$ct" '^[0-9a-f]{64}$' "$v: a container"
	is "$(cri exec "$ct" python3 -c 'print(6 * 7)')" 42 "$v: python runs in it"
	ok "$v: it writes" cri exec "$ct" \
		dd if=/dev/urandom of=/new bs=1M count=5 status=none
	ok "$v: what it wrote is told" wait_for 20 written "$ct" 5242880

	# Usage is what is on the disk now.
	if [ "$S" = estargz ]; then
		cri exec "$ct" sh -c 'cat /usr/lib/x86_64-linux-gnu/*.so* >/dev/null'
		chain=$(chain_id "$IMAGES" debian 1)
		top=$(jq -r '.layers[0].annotations[
			"containerd.io/snapshot/stargz/toc.digest"]' \
			<"$(manifest_of "$IMAGES" debian)")
		# What is read ahead may still come.
		ok "$v: usage is what is there" \
			wait_for 20 usage_is_right "$chain" "${top#*:}" ||
			diag "$n of $there"
	fi
	ok "$v: the container goes" cri rm "$ct"
	ok "$v: the pod goes" cri rmpod "$pod"
	ok "$v: the image goes" cri rmi "$R:debian"
	ok "$v: and the pod's" cri rmi "$R:pause"
}
with_cri by
done_testing
