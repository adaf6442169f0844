#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Lazy layers over the snapshotter's socket, asked for as containerd does: what
# is mounted, shared, asked of the registry, refused, and given back.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
. "${top_srcdir:-.}/tests/snap.sh"
requires_snapshotter
images small small-src web1 web2 pause

start_srv srv --oci "$IMAGES"
R=$SRV_ADDR/lab/img
SNAP_LEVEL=debug
snap_start

### An image ###
is "$(lazypull small)" "5 lazy" "all layers of an image are lazy"
is "$(n_lazy)" 4 "the one that it has twice is mounted once"
is "$(srv_count path=/blobs/)" 4 "one request a layer"
is "$(srv_count path=manifests)" 0 "and none for a manifest"
top=$(chain_id "$IMAGES" small)
sctl stat "$top" >"$T/stat"
is "$(jget "$T/stat" .kind)" committed "it is committed"
is "$(jget "$T/stat" .parent)" "$(chain_id "$IMAGES" small 4)" "with its parent"
is "$(jget "$T/stat" '.labels["containerd.io/snapshot.ref"]')" "$top" \
	"with the label that containerd looks for"
is "$(jget "$T/stat" '.labels["containerd.io/snapshot/remote"]')" \
	"remote snapshot" "and the one that says that it is lazy"
is "$(sctl list "labels.\"containerd.io/snapshot.ref\"==\"$top\"" | wc -l)" 1 \
	"and is found by it"
ok "seen from its top it is the image" with_image small is_image "$T/ro" small
lowers='^lowerdir=[^:]*(:[^:]*){3}$'
! merges || lowers='^lowerdir=[^:]*/c/1(::[^:]*/m/[0-9]*){4}$'
like "$(jget "$T/mounts" '.mounts[0].options[0]')" "$lowers" \
	"over four lowers"

sctl view view1 "$(chain_id "$IMAGES" small 1)" >"$T/view"
is "$(jget "$T/view" '.mounts[0] | .type, .options[]' | xargs)" "bind ro rbind" \
	"a view of the lowest layer is a bind mount"
like "$(jget "$T/view" '.mounts[0].source')" "^$SNAP/m/[0-9]+$" "of its mount"
mkdir "$T/view1"
ok "it mounts" sctl mount view1 "$T/view1"
ok "and is the layer" treecmp "$T/view1" "$(layer_blob "$IMAGES" small 0)"
umount "$T/view1"

### Disk ###
# Bytes allocated to the caches of all layers.
allocated() {
	du -sB1 "$SNAP/layers" | cut -f 1
}
usage_sum() {
	local n sum=0
	for n in $(sctl list 'kind==committed' | jq -r .name); do
		sum=$((sum + $(sctl usage "$n" | jq .size)))
	done
	echo "$sum"
}
sctl remove view1 >/dev/null
a=$(allocated)
u=$(usage_sum)
at_most "$u" "$a" "usage of all layers is what they take"
at_most "$((a - 65536))" "$u" "but for directories"

### What is there takes no request ###
srv_reset
is "$(lazypull small)" "5 lazy" "pulled again"
is "$(srv_count)" 0 "no request: the snapshots are there"
ok "all snapshots go" remove_all
ok "mounts, processes and mount points are given back" \
	wait_for 10 nothing_left
is "$(lazypull small --labels stargz)" "5 lazy" "pulled with the other labels"
is "$(srv_count)" 0 "no request: the caches are there"
ok "it is the image" with_image small is_image "$T/ro" small

### Shared layers ###
is "$(lazypull web1)" "3 lazy" "another image"
is "$(n_lazy)" 7 "has its mounts"
srv_reset
is "$(lazypull web2)" "3 lazy" "one more, of which two layers are there"
is "$(n_lazy)" 8 "shares them"
is "$(srv_count)" 1 "and one is asked for"
ok "it is the image" with_image web2 is_image "$T/ro" web2
ok "all snapshots go" remove_all
ok "and all mounts" wait_for 10 nothing_left

### Layers that will be asked for ###
ok "an image is converted" "$ESTARGZ" convert --quiet "oci:$IMAGES:small-src" \
	"oci:$T/conv:small"
was=("$SRV_PID" "$SRV_ADDR" "$SRV_LOG" "$R")
start_srv conv --oci "$T/conv"
OCI=$T/conv R=$SRV_ADDR/lab/conv
is "$(lazypull small --first 1)" "1 lazy" "its lowest layer is asked for"
mounted() { [ "$(n_lazy)" = "$1" ]; }
ok "the next ones are mounted as well" wait_for 20 mounted 4
is "$(lazypull small)" "5 lazy" "all are asked for"
is "$(srv_count path=/blobs/)" 4 "there was one request a layer"
ok "it is the image" with_image small is_image "$T/ro" small
ok "all snapshots go" remove_all
ok "and all mounts" wait_for 10 nothing_left
stop_pid "$SRV_PID"
SRV_PID=${was[0]} SRV_ADDR=${was[1]} SRV_LOG=${was[2]} R=${was[3]}
SRV_URL=http://$SRV_ADDR
unset OCI

### What is not lazy ###
# ordinary DESC REGEX TAG [options]: containerd has to unpack, the log says why,
# and nothing is left of the attempt.
ordinary() {
	local d=$1 re=$2
	shift 2
	# Of a repository that nobody has heard of, and without cache.
	R=$SRV_ADDR/lab/n$((N += 1))
	rm -rf "$SNAP/layers"
	: >"$T/snapshotter.log"
	like "$(lazypull "$@")" '^([0-9] lazy )?1 ordinary$' "$d: is ordinary"
	like "$(cat "$T/snapshotter.log")" "$re" "$d: the log has the reason"
	is "$(grep -cE '^mount.estargz: |not mounted lazily' \
		"$T/snapshotter.log")" 1 "$d: once"
	remove_all
	ok "$d: nothing is left" wait_for 10 nothing_left
}
N=0
none=sha256:$(printf '%064d' 0)
ordinary "no digest of a TOC" \
	"image=$SRV_ADDR/lab/n.* err=ENODATA .*no digest of a table of contents" \
	web1 --no-toc
ordinary "no image" 'does not say of which image' web1 --labels none
: >"$T/snapshotter.log"
sctl prepare "lab/1/extract-1 $top" >/dev/null
like "$(cat "$T/snapshotter.log")" "snapshot=$top .*no label containerd" \
	"unpacked as ctr does: the log has the reason"
sctl remove "lab/1/extract-1 $top"
ordinary "wrong digest of the TOC" 'TOC digest|digest of the TOC' web1 \
	--toc "$none"
ordinary "not eStargz" 'footer|not an? eStargz' small-src --toc "$none"
srv_fault '{"kind": "status", "status": 404, "path": "/blobs/"}'
ordinary "404" 'HTTP 404|not found|404' web1
srv_reset
srv_fault '{"kind": "status", "status": 401, "path": "/blobs/"}'
ordinary "401" '401|credential|authenti' web1
srv_reset
srv_fault '{"kind": "flip", "every": 1000, "path": "/blobs/"}'
ordinary "corrupt" 'TOC|footer|digest' web1
srv_reset
# The second layer is not there.
srv_fault "$(printf '{"kind": "status", "status": 404, "path": "%s"}' \
	"$(layer_digest "$IMAGES" web1 1)")"
ordinary "half an image" '404' web1
is "$(wc -l <"$T/pull.log")" 2 "the first layer was lazy"
srv_reset
stop_pid "$SRV_PID"
ordinary "registry down" 'refused|connect|unreachable' web1

### Processes die while a layer is mounted ###
start_srv srv2 --oci "$IMAGES"
# dies NAME: a process of that program is killed while the registry lets it wait.
dies() {
	R=$SRV_ADDR/lab/n$((N += 1))
	rm -rf "$SNAP/layers"
	srv_reset
	srv_fault '{"kind": "stall", "path": "/blobs/", "count": 1}'
	background pull "$PYTHON" "$TOOLS/lazypull.py" -a "$SNAP.sock" \
		"$IMAGES" pause "$R:pause"
	wait_for 20 stalls
	wait_for 20 some "$@"
	kill -9 $("$@")
	srv_clear
	wait_for 60 pid_gone "$BG_PID"
	is "$(cut -d ' ' -f 2 "$T/pull.log")" lazy \
		"$* killed: the layer is lazy all the same"
	remove_all
	wait_for 10 nothing_left
}
some() { [ -n "$("$@")" ]; }
stalls() { [ "$(srv_count fault=stall)" -ge 1 ]; }
: >"$T/snapshotter.log"
dies test_procs estargzd
dies monitor_pids
dies worker_pids
is "$(grep -c 'not mounted lazily' "$T/snapshotter.log")" 0 "none is given up"

### The quota ###
snap_stop
printf '[cache]\nmax_bytes = "4MiB"\n' >>"$SNAP.toml"
snap_start
R=$SRV_ADDR/lab/img
is "$(lazypull small)" "5 lazy" "an image larger than the quota"
ok "is all there" with_image small is_image "$T/ro" small
is "$(lazypull web1)" "3 lazy" "another one"
ok "snapshots go" remove_all
below_quota() { [ "$(allocated)" -le $((4 << 20)) ]; }
ok "caches that nobody needs go, down to the quota" wait_for 60 below_quota

### Not lazy ###
snap_stop
kill $(test_procs estargzd)
sed -i '/^.layers/a lazy = false' "$SNAP.toml"
snap_start
is "$(lazypull web1)" "1 ordinary" "lazy = false: nothing is"
is "$(test_procs estargzd)" "" "and there is no estargzd"
sed -i '/^lazy/d' "$SNAP.toml"
snap_stop
snap_start

### The end ###
snap_stop
ok "estargzd outlives the snapshotter" test -n "$(test_procs estargzd)"
kill $(test_procs estargzd)
no_leaks
done_testing
