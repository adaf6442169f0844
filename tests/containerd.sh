# SPDX-License-Identifier: Apache-2.0
# containerd, its snapshotters and its containers, for the end-to-end tests;
# sourced after lib.sh. Each test has a containerd of its own under $T, with
# the snippet of contrib/containerd/ as its configuration, and a namespace of
# its own, because runc and the shims share /run/containerd.
# shellcheck shell=bash

# The snapshotter under test. With SNAPSHOTTER=overlayfs the same scripts run
# on containerd's own, to see what is theirs and what is ours.
SNAPSHOTTER=${SNAPSHOTTER:-estargz}
NS=lab-${T##*.}

# What is installed: 1.6 by Debian 12.
CTD_OWN=$(containerd --version 2>/dev/null |
	sed -n 's/.* v\{0,1\}\([0-9][0-9]*\.[0-9]*\)\..*/\1/p')
# ctd_is_own VERSION: "own", or as much of its number as matters
ctd_is_own() { [ "$1" = own ] || [[ $CTD_OWN. == "$1".* ]]; }

# requires_containerd VERSION...: others than the machine's own are other
# Debians', in the cache of the images.
requires_containerd() {
	local v
	requires_mount
	requires_fs overlay
	requires_cmd jq curl containerd ctr ctr-remote runc
	[ -x "$ESTARGZ_SNAPSHOTTER" ] || [ "$SNAPSHOTTER" = overlayfs ] ||
		plan_skip "estargz-snapshotter is not built"
	for v; do
		ctd_is_own "$v" || { images containerd; break; }
	done
}

### containerd ###

# ctd_start VERSION: sets CTD (its directory), CTD_PID, CTR and CTR_REMOTE
# (arrays), and SNAP, which is where its snapshotter will be. Called again it
# starts the same one again. With SANDBOX, that is the image of pods.
ctd_start() {
	local v=$1 n=2 major=$1
	CTD=$T/ctd-$v
	SNAP=$T/snap-$v
	CTD_PATH=$PATH
	if ctd_is_own "$v"; then
		major=$CTD_OWN
	else
		CTD_PATH=${IMAGES%/oci}/containerd-$v/usr/bin:$PATH
	fi
	major=${major%%.*}
	[ "$major" = 1 ] || n=3
	mkdir -p "$CTD"
	ctd_snippet "$top_srcdir/contrib/containerd/containerd-$major.toml" \
		>"$CTD/snippet.toml"
	[ -z "${SANDBOX:-}" ] || ctd_cri "$n"
	cat >"$CTD/config.toml" <<-END
	version = $n
	root = "$CTD/root"
	state = "$CTD/state"
	oom_score = 0
	imports = ["$CTD/snippet.toml"]
	disabled_plugins = ["io.containerd.internal.v1.opt",
	  "io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri",
	  "io.containerd.snapshotter.v1.btrfs",
	  "io.containerd.snapshotter.v1.devmapper",
	  "io.containerd.snapshotter.v1.blockfile",
	  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
	[grpc]
	address = "$CTD/c.sock"
	[ttrpc]
	address = "$CTD/c.sock.ttrpc"
	[debug]
	address = "$CTD/debug.sock"
	level = "${CTD_LEVEL:-info}"
	END
	background "containerd-$v" env PATH="$CTD_PATH" \
		containerd --config "$CTD/config.toml"
	CTD_PID=$BG_PID
	CTD_LOG=$T/containerd-$v.log
	CTR=(env PATH="$CTD_PATH" timeout 120 ctr --address "$CTD/c.sock"
		--namespace "$NS")
	CTR_REMOTE=(timeout 120 ctr-remote --address "$CTD/c.sock"
		--namespace "$NS")
	wait_for 30 "${CTR[@]}" version || {
		diag_file "$CTD_LOG"
		bail "containerd $v did not start"
	}
}
ctd_stop() {
	[ -z "${CTD_PID:-}" ] || stop_pid "$CTD_PID"
	CTD_PID=
}

# The file that users are shown, with our socket for the system's.
SYSTEM_SOCKET=/run/estargz/snapshotter.sock
ctd_snippet() {
	grep -qF "\"$SYSTEM_SOCKET\"" "$1" || bail "$1 does not name the socket"
	sed "s,$SYSTEM_SOCKET,$SNAP.sock,
		s,/var/lib/estargz,$SNAP,
		s,snapshotter = \"estargz\",snapshotter = \"$SNAPSHOTTER\"," "$1"
}

# What only a test wants of CRI: it may run where scores cannot be lowered. Not in config.toml: a plugin's table in a file
# that is imported replaces the whole of it there.
ctd_cri() {
	if [ "$1" = 2 ]; then
		cat >>"$CTD/snippet.toml" <<-END
		[plugins."io.containerd.grpc.v1.cri"]
		sandbox_image = "$SANDBOX"
		stats_collect_period = 1
		restrict_oom_score_adj = true
		END
	else
		sed -i '/^.plugins."io.containerd.cri.v1.images".$/a \
			stats_collect_period = 1' "$CTD/snippet.toml"
		cat >>"$CTD/snippet.toml" <<-END
		[plugins."io.containerd.cri.v1.images".pinned_images]
		sandbox = "$SANDBOX"
		[plugins."io.containerd.cri.v1.runtime"]
		restrict_oom_score_adj = true
		END
	fi
}

cri() { "$PYTHON" "$TOOLS/cri.py" -a "$CTD/c.sock" "$@"; }

# with_cri FUNCTION: is called with each containerd that there is, and a fresh
# snapshotter; with the images that it removes go the layers.
with_cri() {
	local v
	for v in own 2; do
		[ "$v" = own ] || ! ctd_is_own 2 || continue
		ctd_start "$v"
		rm -f "$SNAP.toml"
		snap_start
		"$1" "$v"
		ok "$v: and the layers with it" wait_for 30 no_lazy
		snap_end
		ctd_stop
		no_leaks "$v: nothing is left"
	done
}

### The snapshotter ###

# snap_start: SNAP_PID; its state is in $SNAP, its configuration $SNAP.toml. Where
# containerd runs, it has found it: it gives a connection up that is not answered
# within a second.
snap_start() {
	[ "$SNAPSHOTTER" = estargz ] || return 0
	[ -f "$SNAP.toml" ] || snap_config
	rm -f "$SNAP.sock"
	background snapshotter "$ESTARGZ_SNAPSHOTTER" --config "$SNAP.toml"
	SNAP_PID=$BG_PID
	wait_for 20 listens "$SNAP.sock" || {
		diag_file "$T/snapshotter.log"
		bail "estargz-snapshotter did not start"
	}
	[ -z "${CTD_PID:-}" ] || wait_for 20 snap_reached ||
		bail "containerd does not reach estargz-snapshotter"
}
snap_config() {
	cat >"$SNAP.toml" <<-END
	root = "$SNAP"
	address = "$SNAP.sock"
	log_level = "${SNAP_LEVEL:-info}"
	[fetcher]
	address = "$SNAP.fetch.sock"
	program = "$ESTARGZD"
	[layers]
	program = "$MOUNT_ESTARGZ"
	background = ${SNAP_BACKGROUND:-false}
	prefetch = ${SNAP_PREFETCH:-false}
	native = ${SNAP_NATIVE:-false}
	open_mode = "${SNAP_OPEN_MODE:-auto}"
	END
	[ -z "${SNAP_EVENTS:-}" ] ||
		echo "events_dir = \"$SNAP_EVENTS\"" >>"$SNAP.toml"
	[ -z "${SNAP_MOUNT:-}" ] ||
		printf '[mount]\n%s\n' "$SNAP_MOUNT" >>"$SNAP.toml"
}
# Whether containerd has found it. (What is listed containerd itself may know.)
snap_reached() {
	snapshots prepare reached ""
	snapshots rm reached
}
# Whether this kernel can have merged metadata, as the snapshotter has found.
merges() {
	wait_for 20 grep -q 'mod=chains metadata=' "$T/snapshotter.log" &&
		grep -q 'mod=chains metadata=erofs' "$T/snapshotter.log"
}
# For good: the fetcher that it started, which would stay for its layers.
snap_end() {
	local p
	snap_stop
	for p in $(test_procs estargzd); do
		stop_pid "$p"
	done
}
# Mounts and their processes stay.
snap_stop() {
	[ -z "${SNAP_PID:-}" ] || stop_pid "$SNAP_PID"
	SNAP_PID=
}

# What there is of the snapshotter's: lazy layers that are mounted.
lazy_mounts() { mounts_below "$SNAP/m/"; }
n_lazy() { lazy_mounts | wc -l; }
no_lazy() { [ "$(n_lazy)" = 0 ]; }
# And complete ones that the kernel has mounted.
n_native() { mounts_below "$SNAP/e/" | wc -l; }
no_native() { [ "$(n_native)" = 0 ]; }
snapshots() { "${CTR[@]}" snapshots --snapshotter "$SNAPSHOTTER" "$@"; }

### Images ###

# rpull REF: lazily, with the labels of ctr-remote.
rpull() {
	"${CTR_REMOTE[@]}" images rpull --plain-http \
		--snapshotter "$SNAPSHOTTER" "$1"
}
# lazily TAG COMMAND...: what pulls $R:TAG brings an eighth of it at most (of each
# layer 2 MiB may come), and mounts each of its layers once.
lazily() {
	local tag=$1 all sent layers n
	shift
	all=$(jq '[.layers[].size] | add' <"$(manifest_of "$IMAGES" "$tag")")
	layers=$(jq -r '.layers[].digest' \
		<"$(manifest_of "$IMAGES" "$tag")" | sort -u)
	LAZY=$(sort -u <<<"${LAZY:-$layers}
$layers")
	srv_reset
	ok "$tag: pulls" "$@" || return
	[ "$SNAPSHOTTER" = estargz ] || return 0
	sent=$(srv_ctl "$SRV_URL/_ctl/sent")
	n=$(wc -w <<<"$layers")
	at_most "$((sent * 8))" "$((all + (n << 24)))" \
		"$tag: $sent of $all bytes came"
	is "$(n_lazy)" "$(wc -w <<<"$LAZY")" "$tag: each layer is mounted once"
}
# pull REF [SNAPSHOTTER]: with ctr's own way.
pull() {
	"${CTR[@]}" images pull --plain-http \
		--snapshotter "${2:-$SNAPSHOTTER}" "$1"
}
# Both, where only one will do.
drop_images() {
	local i
	i=$("${CTR[@]}" images ls -q)
	# shellcheck disable=SC2086
	[ -z "$i" ] || "${CTR[@]}" images rm --sync $i
}

### Containers ###

# run_in SNAPSHOTTER [ctr options] REF COMMAND...: a container's output.
RUN_N=0
run_in() {
	local s=$1 opts=()
	shift
	while [[ $1 == -* ]]; do
		opts+=("$1")
		shift
	done
	local ref=$1
	shift
	RUN_N=$((RUN_N + 1))
	"${CTR[@]}" run --rm --snapshotter "$s" \
		${opts[@]+"${opts[@]}"} "$ref" "run$BASHPID-$RUN_N" "$@"
}
# ct_start ID SNAPSHOTTER REF COMMAND...: a container that stays.
ct_start() {
	local id=$1 s=$2 ref=$3
	shift 3
	"${CTR[@]}" run -d --allow-new-privs --snapshotter "$s" "$ref" "$id" \
		"$@" </dev/null
}
# Its root file system is $(ct_root ID), as it sees it.
ct_pid() {
	cat "$CTD/state/io.containerd.runtime.v2.task/${2:-$NS}/$1/init.pid"
}
ct_root() { echo "/proc/$(ct_pid "$@")/root/."; }
ct_exec() {
	local id=$1 opts=()
	shift
	while [[ $1 == -* ]]; do
		opts+=("$1")
		shift
	done
	RUN_N=$((RUN_N + 1))
	"${CTR[@]}" tasks exec --exec-id "e$BASHPID-$RUN_N" \
		${opts[@]+"${opts[@]}"} "$id" "$@"
}
ct_rm() {
	local id
	for id; do
		"${CTR[@]}" tasks kill -s 9 "$id" >/dev/null 2>&1
		"${CTR[@]}" tasks rm -f "$id" >/dev/null 2>&1
		"${CTR[@]}" containers rm "$id" || return 1
	done
}

# A container's file system is compared with that of one by overlayfs. Not
# looked for: what eStargz adds to a layer, and trusted xattrs, which containerd
# does not unpack (a lazy layer has them). A file that has been copied up keeps
# its inode number in the kernel's cache only, where the lower layer is FUSE.
same_root() {
	echo 2 >/proc/sys/vm/drop_caches
	treecmp --dirs --no-ino --xdev --since "${SINCE:-0}" \
		--ignore-xattr trusted.lab "$@"
}

# The name of an image's uppermost snapshot: chain_id LAYOUT TAG [LAYERS]
chain_id() {
	local m c d chain=
	m=$(manifest_of "$1" "$2")
	c=$(jq -r .config.digest <"$m")
	for d in $(jq -r '.rootfs.diff_ids[]' <"$1/blobs/sha256/${c#*:}" |
		head -n "${3:-999}"); do
		[ -z "$chain" ] || d=sha256:$(printf %s "$chain $d" |
			sha256sum | cut -d ' ' -f 1)
		chain=$d
	done
	echo "$chain"
}
# with_view SNAPSHOTTER SNAPSHOT DIR COMMAND...: while it is mounted there.
with_view() {
	local s=$1 snap=$2 dir=$3 key rc ctl
	shift 3
	RUN_N=$((RUN_N + 1))
	key=view$RUN_N
	mkdir -p "$dir"
	# containerd takes away what nothing refers to, at any moment: ctr would
	# label it too late.
	ctl=(timeout 120 "$PYTHON" "$TOOLS/snapctl.py" -a "$CTD/c.sock" -n "$NS"
		-s "$s" -l containerd.io/gc.root=view)
	"${ctl[@]}" view "$key" "$snap" >/dev/null || return 1
	"${ctl[@]}" mount "$key" "$dir" >/dev/null || return 1
	"$@"
	rc=$?
	umount "$dir"
	"${CTR[@]}" snapshots --snapshotter "$s" rm "$key" || return 1
	return $rc
}

# Containers do not carry the test's mark: they are found by their shims' files.
at_cleanup() {
	local f ns c
	for f in "$T"/ctd-*/state/io.containerd.runtime.v2.task/*/*/init.pid; do
		[ -f "$f" ] || continue
		kill -9 "$(cat "$f")" 2>/dev/null
	done
	for f in "$T"/ctd-*/state/io.containerd.runtime.v2.task/*/*; do
		[ -d "$f" ] || continue
		ns=$(basename "$(dirname "$f")")
		runc --root "/run/containerd/runc/$ns" delete -f \
			"$(basename "$f")" 2>/dev/null
	done
	rm -rf "/run/containerd/runc/$NS"
	for c in /sys/fs/cgroup/*/"$NS"; do
		[ ! -d "$c" ] || rmdir "$c" 2>/dev/null
	done
}
