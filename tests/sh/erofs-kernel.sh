#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The kernel and erofs-utils are the other implementations of our image
# format: what they find in a sample image must be what was put into it.
set -u

sample=${top_builddir:-.}/tests/tools/erofs-sample
tmp=$(mktemp -d "${TMPDIR:-/tmp}/erofs-kernel.XXXXXX") || exit 1
mnt=$tmp/mnt
mounted=
n=0
export LC_ALL=C
# The helper ends without giving its memory back.
export ASAN_OPTIONS=detect_leaks=0

cleanup()
{
	[ -z "$mounted" ] || umount "$mnt"
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

ok()
{
	n=$((n + 1))
	echo "ok $n - $1"
}

not_ok()
{
	n=$((n + 1))
	echo "not ok $n - $1"
}

skip()
{
	n=$((n + 1))
	echo "ok $n - $1 # SKIP $2"
}

# same NAME FILE: FILE is the listing that was asked for.
same()
{
	if cmp -s "$tmp/want" "$2"; then
		ok "$1"
	else
		diff "$tmp/want" "$2" | cut -c 1-300 | head -n 20 | sed 's/^/# /'
		not_ok "$1"
	fi
}

# tool NAME COMMAND…: must exit 0.
tool()
{
	name=$1
	shift
	if ! command -v "$1" >/dev/null; then
		skip "$name" "no $1"
	elif "$@" >"$tmp/out" 2>&1; then
		ok "$name"
	else
		tail -n 20 "$tmp/out" | sed 's/^/# /'
		not_ok "$name"
	fi
}

mkdir "$mnt"
if "$sample" build "$tmp/image" >"$tmp/want"; then
	ok "an image is built"
else
	not_ok "an image is built"
	exit 1
fi

"$sample" read "$tmp/image" >"$tmp/read"
same "our reader finds what was asked for" "$tmp/read"

tool "fsck.erofs accepts it" fsck.erofs "$tmp/image"
tool "dump.erofs reads its superblock" dump.erofs -s "$tmp/image"

if [ "$(id -u)" != 0 ]; then
	skip "the kernel shows what was asked for" "needs root"
	echo 1..$n
	exit 0
fi
if ! grep -qw erofs /proc/filesystems && ! modprobe erofs 2>/dev/null; then
	skip "the kernel shows what was asked for" "kernel without EROFS"
	echo 1..$n
	exit 0
fi

name="the kernel shows what was asked for"
if mount -t erofs -o ro,loop "$tmp/image" "$mnt" 2>"$tmp/out"; then
	mounted=1
	"$sample" list "$mnt" >"$tmp/list"
	umount "$mnt" && mounted=
	same "$name" "$tmp/list"
elif losetup -f >/dev/null 2>&1; then
	sed 's/^/# /' "$tmp/out"
	not_ok "$name"
else
	skip "$name" "no loop device"
fi

# What the kernel may not know is no failure; any other is.
for kind in direct file loop; do
	name="… as kmount_as() mounts it: $kind"
	"$sample" mount $kind "$tmp/image" "$mnt" 2>"$tmp/out"
	case $? in
	0)
		mounted=1
		"$sample" list "$mnt" >"$tmp/list"
		[ $kind != loop ] || dev=$(findmnt -no SOURCE "$mnt")
		umount "$mnt" && mounted=
		same "$name" "$tmp/list"
		;;
	3) skip "$name" "$(cat "$tmp/out")" ;;
	*)
		sed 's/^/# /' "$tmp/out"
		not_ok "$name"
		;;
	esac
done

# has_image DEVICE
has_image()
{
	[ "$(cat "/sys/block/${1##*/}/loop/backing_file" 2>/dev/null)" = "$tmp/image" ]
}
name="its loop device went with it"
if [ -n "${dev:-}" ]; then
	tries=0
	while has_image "$dev" && [ $tries -lt 500 ]; do
		sleep 0.02
		tries=$((tries + 1))
	done
	if has_image "$dev"; then not_ok "$name"; else ok "$name"; fi
else
	skip "$name" "no loop device"
fi

name="what it chooses shows the same, without suid and devices"
if how=$("$sample" mount "$tmp/image" "$mnt" 2>"$tmp/out"); then
	mounted=1
	"$sample" list "$mnt" >"$tmp/list"
	options=,$(findmnt -no OPTIONS "$mnt"),
	umount "$mnt" && mounted=
	case $options in
	*,ro,*nosuid,*nodev,*) ;;
	*) echo "options: $options" >>"$tmp/list" ;;
	esac
	echo "# $how"
	same "$name" "$tmp/list"
else
	sed 's/^/# /' "$tmp/out"
	not_ok "$name"
fi

# refused NAME PATTERN IMAGE DIR: one line that says why, no mount
refused()
{
	"$sample" mount "$3" "$4" >"$tmp/list" 2>"$tmp/out"
	if [ $? = 1 ] && [ "$(wc -l <"$tmp/out")" = 1 ] && grep -q "$2" "$tmp/out" &&
		! mountpoint -q "$mnt"; then
		ok "$1"
	else
		sed 's/^/# /' "$tmp/out"
		not_ok "$1"
	fi
}
head -c 65536 /dev/zero >"$tmp/zeros"
refused "no EROFS in it" "$tmp/zeros: .*Invalid argument" "$tmp/zeros" "$mnt"
refused "not there" "$tmp/none: .*No such file" "$tmp/none" "$mnt"
refused "no place" "$tmp/none: No such file" "$tmp/image" "$tmp/none"
echo 1..$n
