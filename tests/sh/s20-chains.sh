#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Merged metadata: a container on lazy layers is one image of the kernel's, with
# data behind "::". What it looks like, that nobody of ours is asked but for
# data, copying up, who shares it, when it goes; and what goes wrong while it is
# made, which leaves layer by layer.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
. "${top_srcdir:-.}/tests/snap.sh"
requires_snapshotter
requires_cmd getfattr

# The program of layers, as long as nobody says otherwise.
cat >"$T/estargzfs" <<END
#!/bin/bash
case \$1 in
--meta=*)
	echo x >>"$T/meta-runs"
	[ ! -e "$T/meta-fails" ] || exit 1
	while [ -e "$T/meta-waits" ]; do sleep 0.05; done
	;;
esac
exec "$MOUNT_ESTARGZ" "\$@"
END
chmod +x "$T/estargzfs"
real=$MOUNT_ESTARGZ
MOUNT_ESTARGZ=$T/estargzfs
n_meta() { wc -l 2>/dev/null <"$T/meta-runs" || echo 0; }

# Images of layers that do to each other what layers do, some of them twice; what
# overlayfs makes of them unpacked is at $T/TAG.
# image TAG LAYERS ENTRIES REPEATED
OCI=$T/oci
image() {
	local i blobs=() todo=() lower= above=
	mkdir "$T/$1.d" "$T/$1" &&
		"$PYTHON" "$TOOLS/mkstack.py" "$2" "$2" "$T/$1.d" "$3" &&
		mkesgz from-tars "$T/$1.d" >/dev/null || return
	for ((i = 0; i < $2; i++)); do
		blobs+=("$T/$1.d/$i.esgz")
		todo+=("$T/$1.d/$i.esgz" "$T/$1.d/$i")
		# One that comes again counts where it is topmost.
		if ((i >= 1 && i <= $4)); then
			above=:$i$above
		else
			lower=:$i$lower
		fi
	done
	"$PYTHON" "$TOOLS/unpack.py" "${todo[@]}" && (
		cd "$T/$1.d" && lower=$above$lower &&
			mount -t overlay overlay -o "lowerdir=${lower#:}" "$T/$1"
	) &&
		mkesgz oci "$OCI" "$1" "${blobs[@]}" "${blobs[@]:1:$4}" \
			>/dev/null
}
ok "an image of 4 layers" image small 4 60 1
ok "one of 100" image many 100 12 4
is_it() { treecmp --dirs --merged --no-ino "$1" "$T/$2"; }
# One client for all that is asked of a snapshotter. q COMMAND...: $REPLY
client() {
	coproc CLIENT { exec "$PYTHON" "$TOOLS/snapctl.py" -a "$SNAP.sock" \
		batch 2>/dev/null; }
}
q() {
	printf '%q ' "$@" >&"${CLIENT[1]}"
	echo >&"${CLIENT[1]}"
	read -r -t 120 REPLY <&"${CLIENT[0]}" && [[ $REPLY != '{"error"'* ]]
}
client_end() {
	exec {CLIENT[1]}>&- {CLIENT[0]}<&-
	wait "$CLIENT_PID" 2>/dev/null
}
begin() {
	snap_start
	client
}
again() {
	kill -9 "$SNAP_PID" 2>/dev/null
	wait "$SNAP_PID" 2>/dev/null
	client_end
	begin
}
# Mounted for the time of a command, at $T/ro
view_at() {
	q view view "$1" && q mount view "$T/ro" || return 1
	"${@:2}"
	set -- $?
	umount "$T/ro"
	q remove view && return "$1"
}

# Seen through a view, of which no directory is an upper one's.
view_is() { view_at "$(chain_id "$OCI" "$1")" is_it "$T/ro" "$1"; }

start_srv srv --oci "$OCI"
R=$SRV_ADDR/lab/img
SNAP_LEVEL=debug
begin
merges || plan_skip "this kernel cannot have merged metadata"

chain_mounts() { mounts_below "$SNAP/c/"; }
n_chains() { chain_mounts | wc -l; }
one_chain() { [ "$(n_chains)" = 1 ]; }
no_chains() { [ "$(n_chains)" = 0 ]; }
chain_files() { find "$SNAP/chains" -name meta.erofs; }
# lower KEY: its lowerdir=, without the state directory
lower() {
	q mounts "$1" && jq -r '.mounts[0].options[]' <<<"$REPLY" |
		sed -n "s,^lowerdir=,,p" | sed "s,$SNAP/,,g"
}
MERGED='c/[0-9]+(::m/[0-9]+)'

### One image, as soon as its last layer is there ###
is "$(lazypull small)" "5 lazy" "an image is pulled, one layer of it twice"
top=$(chain_id "$OCI" small)
ok "its metadata is merged and mounted at once" wait_for 20 one_chain
is "$(n_meta)" 2 "by one process that merges and one that looks through it"
ok "a container" q prepare box "$top"
like "$(lower box)" "^$MERGED{4}\$" "has it, and each layer once behind ::"
is "$(n_meta)" 2 "and nothing was merged for that"
mkdir "$T/rw" "$T/ro"
ok "it mounts" q mount box "$T/rw"

### Nobody of ours is asked for anything but data ###
looked_at() {
	timeout 60 find "$T/rw" -printf '%p %y %m %U %G %s %T@ %n %l %i\n' \
		>"$T/find" &&
		timeout 60 find "$T/rw" ! -type l \
			-exec getfattr -h -d -m - {} + >"$T/xattrs" &&
		timeout 60 find "$T/rw" -type d -exec sh -c \
			'for d; do [ ! -e "$d/nobody" ] || exit 1; done' sh {} +
}
# shellcheck disable=SC2046
kill -STOP $(test_procs mount.estargz)
ok "names, attributes and what is not there: with all of them stopped" \
	looked_at
# shellcheck disable=SC2046
kill -CONT $(test_procs mount.estargz)
at_most 5 "$(wc -l <"$T/find")" "that was $(wc -l <"$T/find") names"
is "$(grep -c 'overlay\.' "$T/xattrs")" 0 "no order to overlayfs is seen"
ok "it is the image" view_is small

### Copying up ###
f=$(find "$T/rw" -type f -size +0 -links 1 | sort | head -n 1)
g=$(find "$T/rw" -type f -size +0 -links 1 | sort | sed -n 2p)
was=$(sha256sum <"$f")
q mounts box
up=$(jq -r '.mounts[0].options[]' <<<"$REPLY" | sed -n 's,^upperdir=,,p')
chmod 700 "$f"
is "$(sha256sum <"$f")" "$was" "chmod leaves the data"
is "$(sha256sum <"$up/${f#"$T/rw/"}")" "$was" "and copies it up"
is "$(getfattr -d -m trusted.overlay.metacopy "$up/${f#"$T/rw/"}")" "" \
	"not its attributes alone"
was=$(sha256sum <"$g")
ok "rename" mv "$g" "$T/rw/moved"
is "$(sha256sum <"$T/rw/moved")" "$was" "keeps the data"
not_ok "and takes the name away" test -e "$g"
ok "a hard link" ln "$T/rw/moved" "$T/rw/linked"
echo more >>"$T/rw/linked"
is "$(tail -c 5 "$T/rw/moved")" more "is one file with the other"
umount "$T/rw"

### Who has it, and when it goes ###
file=$(chain_files)
ok "another container" q prepare box2 "$top"
is "$(lower box2)" "$(lower box)" "has the same"
q remove box
is "$(n_chains)" 1 "which stays for it"
q remove box2
is "$(n_chains)" 0 "and is unmounted with the last of them"
ok "the next one" q prepare box "$top"
like "$(lower box)" "^c/1::" "has the same"
is "$(n_meta) $(chain_files)" "2 $file" "from the disk"
q view view1 "$(chain_id "$OCI" small 1)"
is "$(jq -r '.mounts[0].type' <<<"$REPLY")" bind \
	"a view of one layer is that layer"
q remove view1

### Killed meanwhile ###
ok "a view" q view view "$top"
ok "mounts" q mount view "$T/ro"
like "$(lower view)" "^$MERGED{4}\$" "has it without an upper directory"
dev=$(stat -c %d "$SNAP/c/1")
again
is "$(stat -c %d "$SNAP/c/1")" "$dev" "the next snapshotter lets it be"
like "$(lower box)" "^c/1::" "and names it again"
ok "and who has it mounted goes on" is_it "$T/ro" small
umount "$T/ro"
q remove view
umount "$SNAP/c/1"
like "$(lower box)" "^c/1::" "taken away by somebody, it is mounted again"
is "$(n_chains)" 1 "before it is named"
q remove box

### Ordinary layers above ###
ok "one more layer" q prepare "ns/1/extract-9 above" "$top"
like "$(lower "ns/1/extract-9 above")" '^m/[0-9]+(:m/[0-9]+){3}$' \
	"is unpacked to one that has no ::"
ok "mounts" q mount "ns/1/extract-9 above" "$T/rw"
some=$(find "$T/rw" -type f | sort | head -n 1)
some=${some#"$T/rw/"}
rm "$T/rw/$some"
echo new >"$T/rw/new"
umount "$T/rw"
ok "is there" q commit above "ns/1/extract-9 above"
ok "a container on it" q prepare box above
like "$(lower box)" "^snapshots/[0-9]+/fs:$MERGED{4}\$" \
	"has it above the merged ones"
ok "mounts" q mount box "$T/rw"
is "$(cat "$T/rw/new")" new "has what it brought"
not_ok "not what it took away" test -e "$T/rw/$some"
umount "$T/rw"
q remove box
q remove above

### What was written is damaged ###
printf x | dd of="$file" bs=1 seek=5000 conv=notrunc status=none
n=$(n_meta)
again
ok "one that is damaged on the disk" q prepare box "$top"
like "$(lower box)" "^c/1::" "is merged"
is "$(n_meta)" $((n + 2)) "once more"
ok "with a line in the log" grep -q 'made again: .*is damaged' \
	"$T/snapshotter.log"
ok "and is the image" view_is small

### Nothing is left ###
ok "all goes" remove_all
ok "mounts, files and processes" wait_for 20 nothing_left
is "$(n_chains) $(chain_files | wc -l)" "0 0" "no chain is mounted, or stored"

### It cannot be made ###
# fresh: an image without any metadata of it
fresh() {
	remove_all && wait_for 20 no_lazy && wait_for 20 no_chains &&
		[ "$(lazypull small)" = "5 lazy" ]
}
PLAIN='m/[0-9]+(:m/[0-9]+){3}'
touch "$T/meta-fails"
ok "where merging fails: pulled" fresh
ok "a container" q prepare box "$top"
like "$(lower box)" "^$PLAIN\$" "is stacked layer by layer"
ok "the log says why" grep -q 'level=warn mod=chains.*no merged metadata' \
	"$T/snapshotter.log"
rm "$T/meta-fails"

mount -t tmpfs -o size=16k tmpfs "$SNAP/chains"
again
ok "where the disk is full: a container" q prepare box2 "$top"
like "$(lower box2)" "^$PLAIN\$" "is stacked layer by layer"
ok "the log says why" grep -q 'err=ENOSPC.*no merged metadata' \
	"$T/snapshotter.log"
snap_stop
client_end
umount "$SNAP/chains"

touch "$T/meta-waits"
begin
sctl prepare box3 "$top" >/dev/null 2>&1 &
waiter=$!
asked() { [ -n "$(pgrep -f "^/bin/bash $T/estargzfs --meta")" ]; }
ok "while it is being merged" wait_for 20 asked
kill -9 "$SNAP_PID"
rm "$T/meta-waits"
again
wait $waiter
ok "the snapshotter was killed: a container" q prepare box4 "$top"
like "$(lower box4)" "^c/[0-9]+::" "has it now"
like "$(lower box)" "^c/[0-9]+::" "and the ones from before get it"
ok "it is the image" view_is small
ok "all goes" remove_all
ok "mounts, files and processes" wait_for 20 nothing_left
client_end
snap_stop

### Many layers ###
top=$(chain_id "$OCI" many)
begin
is "$(lazypull many)" "104 lazy" "100 layers and four of them again: pulled"
ok "a container" q prepare box "$top"
like "$(lower box)" "^$MERGED{100}\$" "has each of them once"
ok "it is the image" view_is many
ok "all goes" remove_all
client_end
snap_end

### Configured otherwise ###
SNAP=$T/user
SNAP_MOUNT='userxattr = "yes"'
top=$(chain_id "$OCI" small)
begin
is "$(lazypull small)" "5 lazy" "userxattr: pulled"
ok "a container" q prepare box "$top"
like "$(lower box)" "^$MERGED{4}\$" "has merged metadata, too"
q mounts box
is "$(jq -r '.mounts[0].options[-1]' <<<"$REPLY")" userxattr \
	"and the option"
ok "it is the image" view_is small
hidden() { ! getfattr -R -h -d -m - "$T/ro" 2>/dev/null | grep 'overlay\.'; }
ok "and shows no order to overlayfs" view_at "$top" hidden
sed -i 's/^userxattr = .*/userxattr = "no"/' "$SNAP.toml"
again
like "$(lower box)" '^m/[0-9]+(:m/[0-9]+){3}$' \
	"without userxattr, layers of before are stacked one by one"
ok "all goes" remove_all
client_end
snap_end

SNAP=$T/fuse
SNAP_MOUNT='metadata = "fuse"'
begin
is "$(lazypull small)" "5 lazy" "metadata = fuse: pulled"
ok "a container" q prepare box "$top"
like "$(lower box)" '^m/[0-9]+(:m/[0-9]+){3}$' "is stacked layer by layer"
is "$(n_chains) $(chain_files | wc -l)" "0 0" "nothing is merged"
ok "all goes" remove_all
client_end
snap_end
MOUNT_ESTARGZ=$real
SNAP=$T/snap
umount "$T/small" "$T/many"
no_leaks
done_testing
