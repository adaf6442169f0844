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

echo 1..6
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
	skip "… mounted from the file, without a loop device" "needs root"
	exit 0
fi
if ! grep -qw erofs /proc/filesystems && ! modprobe erofs 2>/dev/null; then
	skip "the kernel shows what was asked for" "kernel without EROFS"
	skip "… mounted from the file, without a loop device" "kernel without EROFS"
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

name="… mounted from the file, without a loop device"
if "$sample" mount "$tmp/image" "$mnt"; then
	mounted=1
	"$sample" list "$mnt" >"$tmp/list"
	umount "$mnt" && mounted=
	same "$name" "$tmp/list"
else
	skip "$name" "the kernel cannot"
fi
