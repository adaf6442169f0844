# SPDX-License-Identifier: Apache-2.0
# The snapshotter without a containerd, over its socket; sourced after lib.sh
# and containerd.sh. $R is the repository of the images in $OCI.
# shellcheck shell=bash

SNAP=$T/snap

requires_snapshotter() {
	requires_mount
	requires_fs overlay
	requires_cmd jq curl
	[ -x "$ESTARGZ_SNAPSHOTTER" ] ||
		plan_skip "estargz-snapshotter is not built"
}

sctl() { timeout 120 "$PYTHON" "$TOOLS/snapctl.py" -a "$SNAP.sock" "$@"; }

# lazypull TAG [options]: asks for the layers of an image as containerd does.
# Prints the results, "5 lazy"; a line a layer is in $T/pull.log.
lazypull() {
	local tag=$1 rc
	shift
	timeout 300 "$PYTHON" "$TOOLS/lazypull.py" -a "$SNAP.sock" "$@" \
		"${OCI:-$IMAGES}" "$tag" "$R:$tag" >"$T/pull.log" 2>&1
	rc=$?
	cut -d ' ' -f 2 "$T/pull.log" | uniq -c | xargs
	return $rc
}
# tars_of TAG: its layers, lowest first; is_image DIR TAG [treecmp options]
tars_of() {
	local i
	for ((i = 0; i < $(n_layers "${OCI:-$IMAGES}" "$1"); i++)); do
		layer_blob "${OCI:-$IMAGES}" "$1" $i
	done
}
is_image() {
	local dir=$1 tag=$2
	shift 2
	# shellcheck disable=SC2046
	treecmp --stack --no-ino "$@" "$dir" $(tars_of "$tag")
}

# mount_image KEY TAG DIR: a view of the image, which $T/mounts says
mount_image() {
	sctl view "$1" "$(chain_id "${OCI:-$IMAGES}" "$2")" >"$T/mounts" ||
		return 1
	mkdir -p "$3"
	sctl mount "$1" "$3" >/dev/null
}
# with_image TAG COMMAND...: one for the time of a command, at $T/ro
VIEW_N=0
with_image() {
	local rc key=view$((VIEW_N += 1)) tag=$1
	shift
	mount_image $key "$tag" "$T/ro" || return 1
	"$@"
	rc=$?
	umount "$T/ro"
	sctl remove $key >/dev/null || return 1
	return $rc
}

# Removes all snapshots, children first.
remove_all() {
	sctl list | jq -rs 'INDEX(.name) as $of |
		def depth: if .parent then 1 + ($of[.parent] | depth) else 0 end;
		sort_by(-depth)[] | .name' | sed 's/.*/remove "&"/' |
		sctl batch >"$T/removed" && ! grep error "$T/removed"
}
nothing_left() {
	no_lazy && no_native && no_mount_procs &&
		[ -z "$(find "$SNAP"/[em] -mindepth 1)" ]
}
