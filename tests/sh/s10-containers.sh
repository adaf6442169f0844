#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Debian's containerd with the snapshotter: images are pulled lazily by
# ctr-remote; what a container sees, does and leaves is what it would be on
# overlayfs; a new image is made of it.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
requires_containerd own
requires_cmd umoci busybox
images debian awkward jdk pause

start_srv srv --oci "$IMAGES"
R=$SRV_ADDR/lab/img
O=overlayfs
S=$SNAPSHOTTER
ctd_start own
snap_start

### Containers see what they would see ###
lazily debian rpull "$R:debian"
is "$(run_in "$S" "$R:debian" /usr/bin/python3 -c 'print(6 * 7)')" 42 \
	"debian: python runs"
lazily jdk rpull "$R:jdk"
like "$(run_in "$S" "$R:jdk" java -version 2>&1)" 'openjdk version "17' \
	"jdk: java runs"
lazily awkward rpull "$R:awkward"
is "$(run_in "$S" "$R:awkward" /bin/inside)" \
	"$(printf 'uid 0 euid 0 egid 0 eff 00000000a80425fb')" "awkward: runs"

SINCE=$(date +%s)
for t in debian awkward; do
	ok "$t: overlayfs has it too" pull "$R:$t" "$O"
	ok "$t: starts" ct_start "$t-s" "$S" "$R:$t" sleep inf
	[ "$S" != estargz ] || ! merges ||
		like "$(grep -m 1 ' / / ' "/proc/$(ct_pid "$t-s")/mountinfo")" \
			"lowerdir=$SNAP/c/[0-9]+::$SNAP/m/[0-9]+" \
			"$t: on merged metadata"
	ok "$t: starts on overlayfs" ct_start "$t-o" "$O" "$R:$t" sleep inf
	ok "$t: the container sees the same tree" \
		same_root "$(ct_root "$t-s")" "$(ct_root "$t-o")"
	diag_file "$T/.ok" 1
done
# A view of each is all of it, what the container's mounts hide too.
both_views() {
	with_view "$O" "$1" "$T/vo" \
		with_view "$S" "$1" "$T/vs" same_root "$T/vs" "$T/vo"
}
for t in debian awkward; do
	ok "$t: all of it, mounts of the container aside" \
		both_views "$(chain_id "$IMAGES" "$t")"
done
ok "pause: a view of one layer" \
	both_views "$(chain_id "$IMAGES" awkward 1)"

### Who runs as whom ###
for u in inside inside-suid inside-sgid inside-cap inside-capuser; do
	got=$(ct_exec awkward-s --user=1000:1000 "/bin/$u")
	want=$(ct_exec awkward-o --user=1000:1000 "/bin/$u")
	is "$got" "$want" "$u: $want"
	case $u in
	*suid) like "$got" 'euid 0 ' "it is setuid" ;;
	*cap) like "$got" 'eff 0000000000002000' "it has its capability" ;;
	esac
done

### Writing ###
for x in s o; do
	ct_exec "awkward-$x" sh -c "$(cat "$TOOLS/mutate.sh")" >"$T/mutate.$x"
done
ok "what programs say while they write is the same" \
	diff "$T/mutate.o" "$T/mutate.s"
ok "and says that all was done" grep -q '== whole' "$T/mutate.s"
ok "what they leave is the same" \
	same_root "$(ct_root awkward-s)" "$(ct_root awkward-o)"
is "$(ct_exec debian-s python3 -c '
import os
os.setxattr("/etc/passwd", "user.x", b"y")
os.rename("/usr/bin/env", "/usr/bin/env2")
f = open("/etc/bash.bashrc", "r+b")
f.seek(100); f.write(b"-----"); f.close()
print(os.getxattr("/etc/passwd", "user.x"), os.path.exists("/usr/bin/env"),
      open("/etc/bash.bashrc", "rb").read()[98:107].count(b"-"))')" \
	"b'y' False 5" "python writes"

### A new image of a container ###
# changes OUT CONTAINER SNAPSHOTTER
changes() {
	"${CTR[@]}" snapshots --snapshotter "$3" diff "$2" >"$1.tar.gz" &&
		mkdir "$1" && tar -C "$1" -xzpf "$1.tar.gz" --xattrs \
			--xattrs-include='*'
}
ok "the changes of a container" changes "$T/diff-s" awkward-s "$S"
ok "the changes of the other" changes "$T/diff-o" awkward-o "$O"
ok "they are the same" same_root "$T/diff-s" "$T/diff-o"
"$PYTHON" "$TOOLS/compose.py" "$IMAGES" "$T/new" child \
	awkward:{0,1,2,3,4,5,6} "$T/diff-s.tar.gz" || bail compose
start_srv new --oci "$T/new"
ok "an image of it: pulls" rpull "$SRV_ADDR/lab/new:child"
[ "$S" != estargz ] || is "$(n_lazy)" "$(wc -w <<<"$LAZY")" \
	"its lower layers are those there are"
ok "a container of it" ct_start child "$S" "$SRV_ADDR/lab/new:child" sleep inf
ok "sees what the other left" \
	same_root "$(ct_root child)" "$(ct_root awkward-o)"

# An ordinary layer at the bottom, and one between lazy ones.
gzip -1 <"$LAYERS/bb.tar" >"$T/bb.tar.gz"
gzip -1 <"$LAYERS/awkwh.tar" >"$T/awkwh.tar.gz"
"$PYTHON" "$TOOLS/compose.py" "$IMAGES" "$T/new" mixed \
	"$T/bb.tar.gz" awkward:1 "$T/awkwh.tar.gz" web1:2 || bail compose
ok "ordinary and lazy layers in turn: pulls" rpull "$SRV_ADDR/lab/new:mixed"
ok "pulls for overlayfs" pull "$SRV_ADDR/lab/new:mixed" "$O"
ok "all of it" both_views "$(chain_id "$T/new" mixed)"
like "$(run_in "$S" "$SRV_ADDR/lab/new:mixed" ls /opt/opaque)" '^only$' "runs"

# The root's own attributes are those that overlayfs gives it, not the tar's.
mkdir -p "$T/odd"
tar -C "$T/odd" -xf "$LAYERS/bb.tar"
chown 1000:1000 "$T/odd"
chmod 700 "$T/odd"
tar -C "$T/odd" --numeric-owner -cf "$T/odd.tar" .
mkesgz from-tar "$T/odd.tar" "$T/odd.esgz" >/dev/null &&
	mkesgz oci "$T/new" odd "$T/odd.esgz" || bail mkesgz
ok "a layer whose root is a user's: pulls" rpull "$SRV_ADDR/lab/new:odd"
is "$(run_in "$S" "$SRV_ADDR/lab/new:odd" stat -c '%a %u:%g' /)" "755 0:0" \
	"the container's is not"

# Pulled by ctr, which fetches first: all layers are ordinary ones.
drop_images >/dev/null
"$PYTHON" "$TOOLS/compose.py" "$IMAGES" "$T/new" eager web2:{0,1,2} ||
	bail compose
ok "ctr image pull of this version fetches" pull "$SRV_ADDR/lab/new:eager" "$S"
is "$(run_in "$S" "$SRV_ADDR/lab/new:eager" sh -c 'ls /srv | wc -l')" 50 \
	"what it made runs"

### The end ###
ok "containers go" ct_rm debian-s debian-o awkward-s awkward-o child
drop_images >/dev/null
ok "with the last snapshot its layers go" wait_for 20 no_lazy
is "$(snapshots ls | wc -l)" 1 "no snapshot is left"
snap_end
ctd_stop
no_leaks
done_testing
