#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Layers that are complete are mounted by the kernel: who is told of which
# mount, how long both stay, what a restart, a reboot and a SIGKILL leave, and
# what becomes of layers that cannot be handed over.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
. "${top_srcdir:-.}/tests/snap.sh"
requires_snapshotter
requires_fs erofs
images web1 web2
# Of the snapshotter, while it answers.
KILLS=${KILLS:-3}

start_srv srv --oci "$IMAGES"
R=$SRV_ADDR/lab/img
SNAP_NATIVE=true
SNAP_MOUNT='metadata = "fuse"'
SNAP_BACKGROUND=true
snap_start
# hold: nothing but the ends of layers comes until srv_clear.
hold() {
	srv_fault '{"kind": "stall", "after": 0, "path": "/blobs/",
		"range": "bytes=[0-9]"}'
}

# container KEY [TAG]: an overlayfs as containerd would make it of View's
# reply, at $T/KEY; what it names is in $T/KEY.json.
container() {
	sctl view "$1" "$(chain_id "$IMAGES" "${2:-web1}")" >"$T/$1.json" ||
		return 1
	mkdir -p "$T/$1"
	mount -i -t overlay -o "$(jget "$T/$1.json" \
		'.mounts[0].options | join(",")')" overlay "$T/$1"
}
# drop KEY: it ends.
drop() { umount "$T/$1" && sctl remove "$1" >/dev/null; }
# lowers KEY: which mounts a reply has named, "e e m"
lowers() {
	jget "$T/$1.json" '.mounts[0].options[]' | sed -n 's/^lowerdir=//p' |
		tr : '\n' | sed "s,^$SNAP/\([a-z]*\)/.*,\1," | xargs
}
# sums DIR, same DIR: its files, names and owners; as is_image has seen them
sums() {
	(cd "$1" && find . -printf '%p %y %m %U %G %T@ %l\n' | sort &&
		find . -type f -print0 | sort -z | xargs -0 sha256sum) |
		sha256sum
}
same() { [ "$(sums "$1")" = "$SUMS" ]; }
native() { [ "$(n_native)" = "$1" ]; }
fuse() { [ "$(n_lazy)" = "$1" ] && [ "$(monitor_pids | wc -w)" = "$1" ]; }
mount_ids() { findmnt -rno ID,TARGET | grep "$SNAP/e/" | sort; }
# restart SIGNAL
restart() {
	kill "-$1" "$SNAP_PID"
	wait_for 20 pid_gone "$SNAP_PID"
	snap_start
}
usages() {
	local i
	for i in 1 2 3; do
		echo "usage $(chain_id "$IMAGES" web1 $i)"
	done | sctl batch
}
logged() { grep -c "$1" "$T/snapshotter.log"; }

### A layer completes ###
hold
is "$(lazypull web1)" "3 lazy" "an image is pulled"
ok "a container begins" container old
is "$(lowers old)" "m m m" "on FUSE"
for s in TERM KILL; do
	restart $s
	ok "SIG$s: its mounts go on" wait_for 20 fuse 3
done
srv_clear
ok "it reads everything" is_image "$T/old" web1
SUMS=$(sums "$T/old")
ok "and the kernel mounts the layers" wait_for 20 native 3
for f in "$SNAP"/layers/sha256/*/layer.erofs; do
	ok "which nobody can write to" no_writers "$f"
done
u=$(usages)
ok "a new container begins" container new
is "$(lowers new)" "e e e" "on those"
ok "it is the image" same "$T/new"
ok "and the old one stays where it is" fuse 3
is "$(logged 'complete: mounted by the kernel')" 3 "each was mounted once"
is "$(sctl mounts old | jq -c '.mounts[0].options' |
	sed 's,^.*lowerdir=,,; s,".*,,' | tr : '\n' | xargs dirname | sort -u)" \
	"$SNAP/e" "asked for again, its mounts are the kernel's, too"
for s in TERM KILL; do
	ids=$(mount_ids)
	restart $s
	ok "SIG$s: FUSE goes on for the old one" wait_for 20 fuse 3
	is "$(mount_ids)" "$ids" "SIG$s: the kernel's mounts are left alone"
done
ok "both are the image" same "$T/new"
ok "both are the image" same "$T/old"
ok "the old one ends" drop old
ok "and with it its processes" wait_for 20 fuse 0
is "$(n_native)" 3 "not the new one's mounts"

### Part of an image ###
hold
is "$(lazypull web2)" "3 lazy" "another image, with two of the layers"
is "$(n_lazy)" 1 "one is mounted by FUSE"
ok "a container begins" container mixed web2
is "$(lowers mixed | tr ' ' '\n' | sort | xargs)" "e e m" "on both"
srv_clear
ok "it is the image" is_image "$T/mixed" web2
ok "which is complete then" wait_for 20 native 4
ok "it ends" drop mixed
ok "and its process" wait_for 20 fuse 0
is "$(usages)" "$u" "usage is as it was"

### Without a registry ###
stop_pid "$SRV_PID"
is "$(test_procs mount.estargz)" "" "no process serves a layer"
for s in TERM KILL; do
	ids=$(mount_ids)
	restart $s
	ok "SIG$s: a container begins" container c$s
	is "$(lowers c$s)" "e e e" "SIG$s: on the kernel's mounts"
	is "$(mount_ids)" "$ids" "SIG$s: which are the same"
	ok "SIG$s: it is the image" same "$T/c$s"
	ok "SIG$s: it ends" drop c$s
done
m=$(mounts_below "$SNAP/e/" | head -n 1)
umount -l "$m"
ok "a mount is taken away: a container begins" container taken
ok "it is all there" same "$T/taken"
ok "it ends" drop taken
is "$(n_native)" 4 "all are mounted again"

# reboot: nothing runs, nothing is mounted, and what was named is nothing.
reboot() {
	local m
	kill -9 "$SNAP_PID" $(product_procs) 2>/dev/null
	wait_for 20 pid_gone "$SNAP_PID"
	wait_for 10 no_product_procs
	umount "$T"/{old,new} 2>/dev/null
	for m in $(mounts_below "$SNAP"); do
		umount -l "$m"
	done
	"$PYTHON" - "$SNAP/snapshots.db" <<-END
	import sqlite3, sys
	db = sqlite3.connect(sys.argv[1])
	db.execute("UPDATE boot SET id = zeroblob(16)")
	db.commit()
	END
	rm -f "$SNAP".*sock
	: >"$T/snapshotter.log"
	snap_start
}
reboot
ok "a reboot: all layers are mounted" wait_for 20 native 4
is "$(test_procs mount.estargz)" "" "by the kernel alone"
sctl mount new "$T/new" >"$T/new.json"
is "$(lowers new)" "e e e" "a container of before is on them"
ok "and is the image" same "$T/new"
ok "it ends" drop new

### The quota ###
ok "an image goes" sctl remove "$(chain_id "$IMAGES" web2)"
ok "and its mount" wait_for 20 native 3
printf '[cache]\nmax_bytes = "1MiB"\n' >>"$SNAP.toml"
restart TERM
caches() { [ "$(ls "$SNAP/layers/sha256" | wc -l)" = "$1" ]; }
ok "what nobody needs goes" wait_for 20 caches 3
ok "what is mounted stays" with_image web1 same "$T/ro"
sed -i '/^.cache/,$d' "$SNAP.toml"
restart TERM

### Pulled again ###
ok "all snapshots go" remove_all
ok "and all mounts" wait_for 20 nothing_left
is "$(lazypull web1)" "3 lazy" "pulled again, without a registry"
is "$(n_native) $(n_lazy) $(test_procs mount.estargz | wc -w)" "3 0 0" \
	"by the kernel at once"

### Killed at any moment ###
top=$(chain_id "$IMAGES" web1)
for ((i = 0; i < KILLS; i++)); do
	for k in {1..30}; do
		echo "view v$i-$k $top"
	done >"$T/batch"
	: >"$T/views"
	sctl batch <"$T/batch" >"$T/views" 2>&1 &
	wait_for 20 [ -s "$T/views" ]
	kill -9 "$SNAP_PID"
	wait_for 20 pid_gone "$SNAP_PID"
	mounts_below "$SNAP/e/" | shuf -n 1 | xargs -r umount -l
	snap_start
done
ok "killed $KILLS times: the image is all there" \
	with_image web1 same "$T/ro"
ok "all snapshots go" remove_all
ok "and all mounts" wait_for 20 nothing_left

### What cannot be handed over ###
start_srv srv2 --oci "$IMAGES"
R=$SRV_ADDR/lab/img
is "$(lazypull web1)" "3 lazy" "pulled again"
d=$SNAP/layers/sha256/$(layer_toc "$IMAGES" web1 1 | cut -d : -f 2)
# A directory's name, in the middle of the metadata.
printf x | dd of="$d/layer.erofs" bs=1 seek=8000 conv=notrunc status=none
reboot
ok "a damaged image is not mounted by the kernel" wait_for 20 native 2
ok "but made anew" wait_for 20 fuse 1
like "$(grep 'stays on FUSE' "$T/snapshotter.log")" \
	"$(layer_digest "$IMAGES" web1 1)" "which the log says"
is "$(logged 'stays on FUSE')" 1 "once"
ok "a container begins" container broken
ok "and is the image" same "$T/broken"
ok "until it is complete again" wait_for 20 native 3
ok "it ends" drop broken
ok "all snapshots go" remove_all
ok "and all mounts" wait_for 20 nothing_left

is "$(lazypull web1)" "3 lazy" "pulled again"
id=$(mounts_below "$SNAP/e/" | head -n 1)
umount "$id"
rmdir "$id" && : >"$id"
ok "there is no place for a mount: a container begins" container nowhere
is "$(lowers nowhere | tr ' ' '\n' | sort | xargs)" "e e m" "on FUSE"
ok "and is the image" same "$T/nowhere"
is "$(logged "stays on FUSE: $id: ")" 1 "the log says so, once"
rm "$id"
ok "a while later it is the kernel's nevertheless" wait_for 20 native 3
ok "it ends" drop nowhere

### Removed while it is looked through ###
ok "all snapshots go" remove_all
ok "and all mounts" wait_for 20 nothing_left
cat >"$T/estargzfs" <<END
#!/bin/bash
case \$1 in
--meta=*)
	echo x >>"$T/meta-runs"
	while [ -e "$T/meta-waits" ]; do sleep 0.05; done
	;;
esac
exec "$MOUNT_ESTARGZ" "\$@"
END
chmod +x "$T/estargzfs"
: >"$T/meta-waits"
sed -i "s,\(program = \"\)$MOUNT_ESTARGZ\",\1$T/estargzfs\"," "$SNAP.toml"
rm -rf "$SNAP/layers"
restart TERM
is "$(lazypull web1)" "3 lazy" "pulled anew"
ok "one is complete, and looked through" wait_for 20 [ -s "$T/meta-runs" ]
ok "all snapshots go" remove_all
ok "the others end" wait_for 20 fuse 1
rm "$T/meta-waits"
ok "and then it, too" wait_for 20 nothing_left
is "$(find "$SNAP/layers" -name pin)" "" "no cache is kept"
is "$(lazypull web1)" "3 lazy" "pulled again"

### Not wanted ###
ok "a container is on them" container before
sed -i 's/^native = .*/native = false/' "$SNAP.toml"
restart TERM
ok "native = false: a container begins" container after
is "$(lowers after)" "m m m" "on FUSE"
ok "it is the image" same "$T/after"
ok "and so is the one of before" same "$T/before"
ok "they end" drop before
ok "they end" drop after
ok "all snapshots go" remove_all
ok "and all mounts" wait_for 20 nothing_left
snap_end
no_leaks
done_testing
