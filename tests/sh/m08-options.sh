#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The command line: options, their mistakes, mount(8) and fstab, foreground,
# the life of a private fetcher.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq

M=$T/m
mkesgz make plain "$T/blob" >"$T/blob.json"
D=$(jget "$T/blob.json" .toc_digest)
mkdir -p "$M"

run() {
	rm -f "$T/out" "$T/err"
	timeout 30 "$MOUNT_ESTARGZ" "$@" >"$T/out" 2>"$T/err" </dev/null
	RC=$?
}

run --help
is $RC 0 "--help exits 0"
for o in layer digest toc_digest root fetcher plain_http noprefetch \
	nobackground opaque insecure_no_verify read_timeout log_level; do
	like "$(cat "$T/out")" "$o" "--help tells of $o"
done
is "$(cat "$T/err")" "" "--help says nothing on stderr"
run -h
is $RC 0 "-h exits 0"
run --version
is $RC 0 "--version exits 0"
like "$(cat "$T/out")" '[0-9]+\.[0-9]+' "--version has a number"

# usage DESC REGEX ARGUMENT...
usage() {
	local d=$1 re=$2
	shift 2
	run "$@"
	is $RC 1 "$d: exit 1"
	is "$(wc -l <"$T/err")" 1 "$d: one line on stderr"
	like "$(cat "$T/err")" "$re" "$d: says what is wrong"
	is "$(cat "$T/out")" "" "$d: nothing on stdout"
}
usage "no argument" 'SOURCE'
usage "no target" 'TARGET' "$T/blob"
usage "too many arguments" 'argument' "$T/blob" "$M" more
usage "unknown letter" 'Z' "$T/blob" "$M" -Z
usage "unknown long option" 'frobnicate' --frobnicate "$T/blob" "$M"
usage "-o without a value" 'o' "$T/blob" "$M" -o
usage "unknown option" 'bogus' "$T/blob" "$M" -o bogus
usage "unknown option with a value" 'bogus' "$T/blob" "$M" -o ro,bogus=1
for o in layer=x layer=-1 layer= layer=sha256:12 digest=abc toc_digest= \
	toc_digest=sha256:zz toc_digest=md5:00 opaque=other read_timeout=0 \
	read_timeout=x read_timeout=-1 log_level=loud root=; do
	usage "$o" "${o%%=*}" "$T/blob" "$M" -o "$o"
done
usage "an empty source" . "" "$M"
usage "a source that is not there" "$T/none.*(No such|not found)" \
	"$T/none" "$M" -o "$(mount_opts "toc_digest=$D")"
usage "a source that is a directory" "$T" "$T" "$M" \
	-o "$(mount_opts "toc_digest=$D")"
usage "a target that is not there" "$T/nodir" "$T/blob" "$T/nodir" \
	-o "$(mount_opts "toc_digest=$D")"
usage "a target that is a file" "$T/blob" "$T/blob" "$T/blob.json" \
	-o "$(mount_opts "toc_digest=$D")"
usage "a reference that is none" 'UPPER' "127.0.0.1:1/UPPER/../x" "$M" \
	-o "$(mount_opts)"
usage "nobody listens" '127.0.0.1:1' "127.0.0.1:1/a/b:c" "$M" \
	-o "$(mount_opts plain_http)"
echo plain >"$T/file"
usage "a root below what is not there" "root=$T/nix/state: No such file" "$T/blob" "$M" \
	-o "root=$T/nix/state,toc_digest=$D,fetcher=$T/run/none.sock"
not_ok "which is not made" test -e "$T/nix"
usage "a root that cannot be" "$T/file" "$T/blob" "$M" \
	-o "root=$T/file,toc_digest=$D,fetcher=$T/run/none.sock"
usage "a layer of a blob" 'layer' "$T/blob" "$M" \
	-o "$(mount_opts "layer=1,toc_digest=$D")"
no_leaks "mistakes leave nothing"

# mounts DESC OPTIONS [more]: and what findmnt says.
mounts() {
	ok "$1: mounts" mount_esgz "$T/blob" "$M" "toc_digest=$D,$2"
	FOUND=$(findmnt -no FSTYPE,SOURCE,OPTIONS --mountpoint "$M")
	ok "$1: is right" treecmp "$M" "$T/blob"
}
mounts "plain" ro
like "$FOUND" '^fuse\.estargz' "its type is fuse.estargz"
like "$FOUND" "$T/blob" "its source is told"
like "$FOUND" '\bro\b' "it is read-only"
ok "unmounts" umount_esgz "$M"
mounts "mount words" ro,nodev,nosuid,noexec,noatime
for o in nodev nosuid noexec noatime; do
	like "$FOUND" "\\b$o\\b" "$o is passed on"
done
not_ok "noexec holds" "$M/bin/tool"
ok "unmounts" umount_esgz "$M"
mounts "rw" rw
like "$FOUND" '\bro\b' "rw is read-only all the same"
ok "unmounts" umount_esgz "$M"
mounts "words of fstab" defaults,_netdev,nofail,x-systemd.automount,noauto
ok "unmounts" umount_esgz "$M"
for o in noprefetch nobackground read_timeout=5 log_level=debug log_level=err \
	opaque=user opaque=trusted; do
	STATE=$T/state-$o
	mounts "$o" "$o"
	ok "unmounts" umount_esgz "$M"
done
STATE=$T/state
mkesgz make whiteouts "$T/wh" >"$T/wh.json"
STATE=$T/state-user
ok "opaque=user mounts" mount_esgz "$T/wh" "$M" \
	"opaque=user,toc_digest=$(jget "$T/wh.json" .toc_digest)"
ok "opaque=user is user.overlay.opaque" treecmp --opaque user.overlay.opaque \
	"$M" "$T/wh"
ok "unmounts" umount_esgz "$M"
STATE=$T/state

# More than one at a time, of one layer and of others.
mkdir -p "$T/m2" "$T/m3"
mounts "first" ro
ok "the same layer elsewhere" mount_esgz "$T/blob" "$T/m2" "toc_digest=$D"
ok "another layer" mount_esgz "$T/wh" "$T/m3" \
	"toc_digest=$(jget "$T/wh.json" .toc_digest)"
ok "all are right" treecmp "$T/m2" "$T/blob"
ok "first goes" umount_esgz "$M"
ok "the other stays" treecmp "$T/m2" "$T/blob"
ok "and goes" umount_esgz "$T/m2"
ok "the third goes" umount_esgz "$T/m3"
mounts "below" ro
ok "one above the other" mount_esgz "$T/blob" "$M" "toc_digest=$D"
ok "upper goes" umount "$M"
ok "lower is there" treecmp "$M" "$T/blob"
ok "unmounts" umount_esgz "$M"
no_leaks "several mounts leave nothing"

# A target by a relative path, and with odd names.
mkdir -p "$T/odd name,x" "$T/blob dir"
cp "$T/blob" "$T/blob dir/a b"
(
	cd "$T" && mount_esgz "blob dir/a b" "odd name,x" "toc_digest=$D"
) >"$T/odd.log" || diag_file "$T/odd.log"
ok "relative paths and spaces" treecmp "$T/odd name,x" "$T/blob"
ok "unmounts" umount_esgz "$T/odd name,x"

# umount -l with a file open: it reads on, and the processes end afterwards.
mounts "lazy umount" nobackground
exec 7<"$M/bin/tool"
ok "umount -l" umount -l "$M"
is "$(sha256sum <&7 | cut -c 1-64)" "$(jget "$T/blob.json" '.files["bin/tool"]')" \
	"an open file is read after umount -l"
exec 7<&-
no_leaks "lazy umount leaves nothing"
mounts "busy" nobackground
exec 7<"$M/bin/tool"
not_ok "a busy mount does not unmount" umount "$M"
exec 7<&-
ok "unmounts" umount_esgz "$M"

# In the foreground.
background fg "$MOUNT_ESTARGZ" "$T/blob" "$M" -f -o "$(mount_opts "toc_digest=$D")"
fg=$BG_PID
ok "-f mounts" wait_for 20 is_mounted "$M"
not_ok "-f stays" pid_gone $fg
ok "-f is right" treecmp "$M" "$T/blob"
ok "umount" umount_esgz "$M"
ok "and -f ends" wait_for 10 pid_gone $fg
wait $fg
is $? 0 "with exit 0"
for sig in TERM INT; do
	# (A shell starts background commands with SIGINT ignored.)
	background fg env --default-signal=INT "$MOUNT_ESTARGZ" "$T/blob" "$M" \
		-f -o "$(mount_opts "toc_digest=$D")"
	fg=$BG_PID
	wait_for 20 is_mounted "$M"
	kill -$sig $fg
	ok "SIG$sig ends -f" wait_for 10 pid_gone $fg
	not_ok "SIG$sig unmounts" is_mounted "$M"
	umount -l "$M" 2>/dev/null
done
no_leaks "foreground leaves nothing"

# A private fetcher ends with its mount; a shared one stays.
has_fetcher() { [ -n "$(test_procs estargzd)" ]; }
requires_curl=$(command -v curl)
if [ -n "$requires_curl" ]; then
	start_srv srv --files "$T"
	STATE=$T/state-url
	# Too large to be complete with the tail: the fetcher stays.
	mkesgz make one-file "$T/one" >"$T/one.json"
	ok "a URL mounts" mount_esgz "$SRV_URL/f/one" "$M" \
		"nobackground,noprefetch,toc_digest=$(jget "$T/one.json" .toc_digest)"
	ok "with a private fetcher" has_fetcher
	ok "reads" treecmp "$M" "$T/one"
	ok "unmounts" umount_esgz "$M"
	no_leaks "the private fetcher ends with the mount"
	STATE=$T/state-url2
	start_estargzd
	ok "mounts with the shared one" mount_esgz "$SRV_URL/f/blob" "$M" \
		"nobackground,toc_digest=$D"
	is "$(test_procs estargzd)" "$ESTARGZD_PID" "no private one is started"
	ok "reads" treecmp "$M" "$T/blob"
	ok "unmounts" umount_esgz "$M"
	not_ok "the shared one stays" pid_gone "$ESTARGZD_PID"
	stop_estargzd
fi

# mount(8) finds the helper in /sbin.
helper=/sbin/mount.estargz
if [ ! -e $helper ] && ln -s "$MOUNT_ESTARGZ" $helper 2>/dev/null; then
	STATE=$T/state-mount8
	ok "mount -t estargz" mount -t estargz "$T/blob" "$M" \
		-o "$(mount_opts "nosuid,toc_digest=$D")"
	ok "is right" treecmp "$M" "$T/blob"
	like "$(findmnt -no OPTIONS --mountpoint "$M")" nosuid "nosuid arrived"
	ok "umount" umount_esgz "$M"
	echo "$T/blob $M estargz $(mount_opts "noauto,toc_digest=$D") 0 0" \
		>"$T/fstab"
	ok "mount by fstab" mount -T "$T/fstab" "$M"
	ok "is right" treecmp "$M" "$T/blob"
	ok "umount" umount_esgz "$M"
	not_ok "mount -t estargz of nothing fails" mount -t estargz "$T/none" \
		"$M" -o "$(mount_opts "toc_digest=$D")"
	[ "$(readlink $helper)" != "$MOUNT_ESTARGZ" ] || rm $helper
else
	skip "mount -t estargz" "$helper is there, or /sbin is not writable"
fi
no_leaks
done_testing
