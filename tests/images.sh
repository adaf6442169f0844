#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes the real input of the end-to-end tests and keeps it: Debian bookworm
# and a small image, both of several awkward layers, converted to eStargz by
# Debian's ctr-remote. Usage: images.sh [TAG…]; prints the directory that has
#   oci/          OCI layout with the TAGs
#   layers/*.tar  what went into the layers
# Tags: debian-src small-src (before conversion), debian, small (gzip -9, the
# default), small-gz1, small-chunk64k, small-nolandmark, small-landmark,
# small-zstd, and by tests/tools/mkesgz.py: debian-minchunk, small-minchunk.
# small-ctr-minchunk is by a ctr-remote that has --estargz-min-chunk-size: the
# one in PATH, or else the package of a later Debian, downloaded and not
# installed. plain-src, small-zstd: without the repeated layer, which ctr-remote
# 0.12 cannot convert (it waits for itself).
# For containers: jdk (the base and a Java runtime), awkward (busybox and what
# is hard for a snapshotter; layers that repeat), pause (busybox, sleeping),
# web1 web2 (awkward's lower layers and a small one of their own).
# `images.sh containerd` says where other Debians' containerds are: DIR has
# containerd-1.7 and containerd-2, as unpacked packages.
# The cache is $ESTARGZ_TEST_CACHE; a new VERSION makes everything anew.
set -eu
VERSION=1
export LC_ALL=C TZ=UTC PYTHONDONTWRITEBYTECODE=1
umask 022
here=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-/usr/bin/python3}
MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
cache=${ESTARGZ_TEST_CACHE:-/var/cache/estargz-tests}/v$VERSION
arch=$(dpkg --print-architecture)
ctrd=

[ $# -gt 0 ] || set -- debian small small-gz1 small-chunk64k \
	small-nolandmark small-landmark small-zstd debian-minchunk small-minchunk \
	jdk awkward pause web1 web2 containerd

die() { echo "$*" >&2; exit 1; }
say() { echo "images: $*" >&2; }
need() {
	local c
	for c; do
		command -v "$c" >/dev/null || die "needs $c"
	done
}

[ "$(id -u)" = 0 ] || die "needs root"
mkdir -p "$cache/layers" "$cache/oci"
exec 9>"$cache/lock"
flock 9
tmp=$(mktemp -d "$cache/tmp.XXXXXX")
cleanup() {
	local rc=$?
	[ -z "$ctrd" ] || { kill "$ctrd" 2>/dev/null || :; wait "$ctrd" || :; }
	! mountpoint -q "$tmp/jdk/m" || umount -R "$tmp/jdk/m"
	rm -rf --one-file-system "$tmp"
	exit $rc
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# PAX, so that all xattrs are in; whole seconds, so that nothing rounds.
pack() {
	local out=$1 dir=$2
	shift 2
	tar -C "$dir" --format=posix --numeric-owner --sort=name --xattrs \
		--xattrs-include='*' --sparse-version=1.0 \
		--pax-option='delete=atime,delete=ctime,delete=mtime' \
		-cf "$out.tmp" "$@" .
	mv "$out.tmp" "$out"
}

### Layers ###

make_base() {
	local r=$tmp/base
	need debootstrap
	say "debootstrap bookworm"
	debootstrap --variant=minbase --include=python3,perl,man-db \
		bookworm "$r" "$MIRROR" >"$tmp/debootstrap.log" 2>&1 ||
		die "debootstrap: $(tail -n 1 "$tmp/debootstrap.log")"
	rm -rf "$r"/var/cache/apt/* "$r"/var/lib/apt/lists/* \
		"$r"/usr/share/locale/*
	[ "$(find "$r" | wc -l)" -ge 8000 ] || die "too few files"
	pack "$cache/layers/base.tar" "$r" --exclude=./dev/*
	# The small base: some of the same, about 20 MB.
	pack "$cache/layers/small.tar" "$r" --exclude=./dev/* \
		--exclude=./usr/lib --exclude=./usr/share/perl \
		--exclude=./usr/share/doc --exclude=./usr/share/man \
		--exclude=./usr/bin/python3* --exclude=./usr/share/zoneinfo \
		--exclude=./var/lib/dpkg/info
	rm -rf "$r"
}

# Whiteouts, opaque directories, and a file that replaces one below.
make_wh() {
	local r=$tmp/wh
	mkdir -p "$r"/{etc,usr/share/man,opt/opaque/sub,opt/both,bin.d}
	touch "$r"/etc/.wh.motd "$r"/etc/.wh.debian_version
	touch "$r"/usr/share/.wh.bug
	touch "$r"/usr/share/man/.wh..wh..opq
	echo new >"$r"/usr/share/man/only-this
	touch "$r"/opt/opaque/.wh..wh..opq "$r"/opt/opaque/sub/.wh..wh..opq
	echo x >"$r"/opt/opaque/sub/file
	# A whiteout beside the name that it hides: the name wins.
	touch "$r"/opt/both/.wh.name
	echo here >"$r"/opt/both/name
	echo 'replaced by the second layer' >"$r"/etc/hostname
	touch -d @1000000000 "$r"/etc/hostname
	pack "$cache/layers/wh.tar" "$r"
	rm -rf "$r"
}

# What a tar can hold and few images have.
make_special() {
	local r=$tmp/special i long
	long=$(printf 'n%.0s' {1..250})
	mkdir -p "$r"/{a/b,c/d,dev,sticky,xattr,modes,time,names,many}
	echo one >"$r"/a/b/target
	ln "$r"/a/b/target "$r"/c/d/link1
	ln "$r"/a/b/target "$r"/link0
	ln -s /a/b/target "$r"/c/sym
	ln "$r"/c/sym "$r"/c/d/sym-link
	ln -s dangling/$long "$r"/c/dangling
	mknod "$r"/dev/null c 1 3
	mknod "$r"/dev/sda1 b 8 1
	mknod "$r"/dev/big c 300 70000
	mkfifo "$r"/dev/fifo
	ln "$r"/dev/null "$r"/dev/null2
	chmod 666 "$r"/dev/null
	chmod 1777 "$r"/sticky
	for i in 4755 2755 6755 1644 0000 0200 0777; do
		echo $i >"$r"/modes/$i
		chmod $i "$r"/modes/$i
	done
	chown 1000:50 "$r"/modes/0777
	echo id >"$r"/modes/bigid
	chown 4294967294:2147483648 "$r"/modes/bigid
	cp /bin/true "$r"/xattr/capable
	setcap cap_net_raw,cap_net_admin=ep "$r"/xattr/capable
	echo b >"$r"/xattr/binary
	setfattr -n user.bin -v 0x00fffe0001808182c3 "$r"/xattr/binary
	setfattr -n user.empty "$r"/xattr/binary
	setfattr -n user.text -v 'caf\303\251 = "quoted"' "$r"/xattr/binary
	setfattr -n trusted.lab -v 0x0102ff "$r"/xattr/binary
	setfattr -n user.on.dir -v dir "$r"/xattr
	setfattr -n user.big -v "0x$(head -c 2000 /dev/urandom | od -An -v -tx1 | tr -d ' \n')" \
		"$r"/xattr/binary
	# Orders to overlayfs: never to be shown.
	mkdir "$r"/xattr/evil
	echo e >"$r"/xattr/evil/file
	setfattr -n trusted.overlay.opaque -v y "$r"/xattr/evil
	setfattr -n user.overlay.opaque -v y "$r"/xattr/evil
	setfattr -n trusted.overlay.redirect -v /etc "$r"/xattr/evil
	setfattr -n trusted.overlay.metacopy "$r"/xattr/evil/file
	for i in -86400 0 1 2147483648 4294967296 8000000000; do
		touch "$r/time/t$i"
		touch -d "@$i" "$r/time/t$i"
	done
	echo l >"$r/names/$long"
	mkdir -p "$r/names/$long.d/$long/$long"
	echo deep >"$r/names/$long.d/$long/$long/$long"
	printf x >"$r/names/space and	tab"
	printf x >"$r/names/"$'new\nline'
	printf x >"$r/names/back\\slash\"quote"
	printf x >"$r/names/"$'caf\303\251'
	printf x >"$r/names/.hidden"
	printf x >"$r/names/.whatever"
	printf x >"$r/names/.prefetch.landmark"
	: >"$r"/empty
	for i in {1..300}; do
		echo "$i" >"$r/many/f$i"
	done
	# More than one chunk of 4 MiB, and one that repeats its bytes.
	head -c 9000001 /dev/urandom >"$r"/random9M
	head -c 12582912 /dev/zero >"$r"/zero12M
	head -c 4096 /dev/urandom >"$r"/page
	touch -d @1234567890 "$r"/a/b "$r"/random9M "$r"
	pack "$cache/layers/special.tar" "$r"
	rm -rf "$r"
}

make_empty() {
	mkdir "$tmp/none"
	tar -C "$tmp/none" --format=posix -cf "$cache/layers/empty.tar" \
		--files-from=/dev/null
}

# A Java runtime, installed over the base.
make_jdk() {
	local r=$tmp/jdk
	layer base base
	say "openjdk-17-jre-headless"
	mkdir -p "$r"/{low,up,work,m}
	tar -C "$r/low" -xpf "$cache/layers/base.tar" --xattrs \
		--xattrs-include='*'
	mount -t overlay overlay "$r/m" \
		-o "lowerdir=$r/low,upperdir=$r/up,workdir=$r/work"
	mount -t proc proc "$r/m/proc"
	mknod -m 666 "$r/m/dev/null" c 1 3
	mount --bind /etc/resolv.conf "$r/m/etc/resolv.conf"
	{
		chroot "$r/m" apt-get -q update
		DEBIAN_FRONTEND=noninteractive chroot "$r/m" apt-get -qy \
			-o Dpkg::Options::=--force-unsafe-io install \
			--no-install-recommends openjdk-17-jre-headless
	} >&2
	umount -R "$r/m"
	rm -rf "$r"/up/var/{cache/apt,lib/apt/lists,log}/* "$r"/up/{dev,tmp,proc}
	[ -z "$(find "$r/up" -type c)" ] || die "jdk: whiteouts"
	pack "$cache/layers/jdk.tar" "$r/up"
	rm -rf "$r"
}

# A static program that says who it runs as. Copies of it are setuid or have
# capabilities.
inside() {
	cat <<-'END'
	#include <stdio.h>
	#include <string.h>
	#include <unistd.h>
	int main(void)
	{
		char line[256];
		FILE *f = fopen("/proc/self/status", "re");

		printf("uid %u euid %u egid %u", getuid(), geteuid(), getegid());
		while (f && fgets(line, sizeof(line), f))
			if (strncmp(line, "CapEff:", 7) == 0)
				printf(" eff %.16s", line + 8);
		putchar('\n');
		return f ? 0 : 1;
	}
	END
}

# A base without libraries.
make_bb() {
	local r=$tmp/bb a
	need busybox gcc
	mkdir -p "$r"/{bin,dev,etc,opt,proc,run,sys,tmp,var}
	chmod 1777 "$r/tmp"
	cp "$(command -v busybox)" "$r/bin/busybox"
	for a in $("$r/bin/busybox" --list); do
		[ "$a" = busybox ] || ln -s busybox "$r/bin/$a"
	done
	echo root:x:0:0::/root:/bin/sh >"$r/etc/passwd"
	echo root:x:0: >"$r/etc/group"
	inside | gcc -O2 -static -s -x c -o "$r/bin/inside" -
	pack "$cache/layers/bb.tar" "$r"
	rm -rf "$r"
}

# Under awkwh: what it hides, replaces and makes opaque.
make_awk() {
	local r=$tmp/awk i
	layer bb bb
	mkdir -p "$r"/{bin,nodes,opt/{opaque/deep/down,gone,merged,file,links/{a,b}}}
	tar -C "$tmp" -xf "$cache/layers/bb.tar" ./bin/inside
	for i in suid sgid cap capuser; do
		cp "$tmp/bin/inside" "$r/bin/inside-$i"
	done
	rm -r "$tmp/bin"
	chmod 4755 "$r/bin/inside-suid"
	chgrp 50 "$r/bin/inside-sgid"
	chmod 2755 "$r/bin/inside-sgid"
	setcap cap_net_raw=ep "$r/bin/inside-cap"
	chown 1000:1000 "$r/bin/inside-capuser"
	setcap cap_chown=ep "$r/bin/inside-capuser"
	mknod -m 666 "$r/nodes/null" c 1 3
	mknod -m 660 "$r/nodes/sda" b 8 0
	mknod -m 600 "$r/nodes/tty63" c 4 63
	mkfifo -m 622 "$r/nodes/fifo"
	ln "$r/nodes/null" "$r/nodes/zilch"
	echo linked >"$r/opt/links/a/one"
	ln "$r/opt/links/a/one" "$r/opt/links/b/two"
	ln "$r/opt/links/a/one" "$r/opt/three"
	for i in opaque/x opaque/deep/y opaque/deep/down/z gone/file merged/low \
		merged/both merged/hidden; do
		echo "lower $i" >"$r/opt/$i"
	done
	mkdir "$r/opt/tofile"
	echo in >"$r/opt/tofile/in"
	echo file >"$r/opt/todir"
	ln -s merged "$r/opt/tolink"
	mkdir "$r/opt/writable"
	chown 1000:1000 "$r/opt/writable"
	pack "$cache/layers/awk.tar" "$r"
	rm -rf "$r"
}

make_awkwh() {
	local r=$tmp/awkwh
	mkdir -p "$r"/opt/{opaque,merged,links/b,todir}
	touch "$r"/opt/opaque/.wh..wh..opq
	echo upper >"$r/opt/opaque/only"
	touch "$r"/opt/.wh.gone "$r"/opt/merged/.wh.hidden
	touch "$r"/opt/links/b/.wh.two
	echo upper >"$r/opt/merged/both"
	echo upper >"$r/opt/merged/up"
	echo "was a directory" >"$r/opt/tofile"
	echo in >"$r/opt/todir/in"
	mkdir "$r/opt/tolink"
	echo in >"$r/opt/tolink/in"
	pack "$cache/layers/awkwh.tar" "$r"
	rm -rf "$r"
}

# web1, web2: small layers that differ
make_web() {
	local r=$tmp/web i
	mkdir -p "$r/srv"
	for i in {1..50}; do
		head -c $((i * 1000)) /dev/urandom >"$r/srv/f$i"
	done
	pack "$cache/layers/$1.tar" "$r"
	rm -rf "$r"
}
make_web1() { make_web web1; }
make_web2() { make_web web2; }

layer() { [ -s "$cache/layers/$1.tar" ] || "make_$2"; }

# The layers of a source image.
layers_of() {
	case $1 in
	debian) echo base wh special empty wh ;;
	small) echo small wh special empty wh ;;
	plain) echo small wh special empty ;;
	jdk) echo base jdk ;;
	awkward) echo bb awk empty awkwh empty special awkwh ;;
	pause) echo bb ;;
	web1 | web2) echo bb awk "$1" ;;
	esac
}

# Source images: raw layers, gzip'ed by umoci.
make_src() {
	local name=$1 l
	need umoci jq
	say "image $name-src"
	rm -rf "$tmp/src"
	umoci init --layout "$tmp/src" >&2
	umoci new --image "$tmp/src:$name-src" >&2
	for l in $(layers_of "$name"); do
		case $l in
		small) layer small base ;;
		*) layer "$l" "$l" ;;
		esac
		umoci raw add-layer --image "$tmp/src:$name-src" \
			"$cache/layers/$l.tar" >&2
	done
	set -- --config.cmd /bin/sh
	[ "$name" != pause ] || set -- --config.cmd /bin/sleep --config.cmd inf
	umoci config --image "$tmp/src:$name-src" --architecture "$arch" \
		--os linux "$@" >&2
	add_oci "$tmp/src" "$name-src"
}

# Adds one tag of a layout to the cache's.
add_oci() {
	[ -f "$cache/oci/oci-layout" ] ||
		echo '{"imageLayoutVersion":"1.0.0"}' >"$cache/oci/oci-layout"
	[ -f "$cache/oci/index.json" ] ||
		echo '{"schemaVersion":2,"manifests":[]}' >"$cache/oci/index.json"
	mkdir -p "$cache/oci/blobs/sha256"
	cp -n "$1"/blobs/sha256/* "$cache/oci/blobs/sha256/"
	jq --arg t "$2" --slurpfile n "$1/index.json" '
		.manifests |= [.[] | select(
			.annotations["org.opencontainers.image.ref.name"] != $t)] +
		[$n[0].manifests[0] |
			.annotations = {"org.opencontainers.image.ref.name": $t}]' \
		<"$cache/oci/index.json" >"$cache/oci/index.json.tmp"
	mv "$cache/oci/index.json.tmp" "$cache/oci/index.json"
}

### Conversion ###

ctr_start() {
	[ -z "$ctrd" ] || return 0
	need containerd ctr-remote skopeo
	cat >"$tmp/c.toml" <<-END
	version = 2
	root = "$tmp/c/root"
	state = "$tmp/c/state"
	disabled_plugins = ["io.containerd.grpc.v1.cri",
	  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing"]
	[grpc]
	address = "$tmp/c.sock"
	[ttrpc]
	address = "$tmp/c.sock.ttrpc"
	[debug]
	address = "$tmp/c.debug"
	END
	containerd --config "$tmp/c.toml" >"$tmp/c.log" 2>&1 9>&- &
	ctrd=$!
	for _ in {1..500}; do
		! ctr_ version >/dev/null 2>&1 || return 0
		sleep 0.02
	done
	die "containerd did not start: $(tail -n 1 "$tmp/c.log")"
}
ctr_() { "${CTR_REMOTE:-ctr-remote}" --address "$tmp/c.sock" -n lab "$@"; }

# other_deb SUITE PACKAGE DIR: a package of another Debian, unpacked there, not
# installed. Its release may be older than it wants to be.
other_deb() {
	local a=$tmp/apt-$1 suite=$1 pkg=$2 to=$3
	mkdir -p "$a/lists/partial" "$a/archives/partial"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
		"$MIRROR $suite main" >"$a/sources.list"
	set -- -qq -o "Dir::Etc::SourceList=$a/sources.list" \
		-o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$a/lists" \
		-o "Dir::Cache=$a" -o APT::Sandbox::User=root \
		-o Acquire::Check-Valid-Until=false
	say "$pkg of $suite"
	apt-get "$@" update >&2
	(cd "$a" && apt-get "$@" download "$pkg" >&2)
	dpkg-deb -x "$a/$pkg"_*.deb "$to"
}

# A ctr-remote with --estargz-min-chunk-size (0.14): needs Debian 13's package.
newer_ctr() {
	! ctr-remote images convert --help | grep -q min-chunk-size || return 0
	[ ! -x "$cache/ctr-remote" ] || { CTR_REMOTE=$cache/ctr-remote; return 0; }
	other_deb trixie stargz-snapshotter "$tmp/ctr"
	mv "$tmp/ctr/usr/bin/ctr-remote" "$cache/ctr-remote"
	CTR_REMOTE=$cache/ctr-remote
}

# Their binaries ask for no more than Debian 12's libc.
other_containerds() {
	other_deb trixie containerd "$tmp/containerd-1.7"
	other_deb forky containerd "$tmp/containerd-2"
	rm -rf "$cache"/containerd-{1.7,2}
	mv "$tmp"/containerd-{1.7,2} "$cache"
}

imported=
import() {
	[[ " $imported " != *" $1 "* ]] || return 0
	if [ ! -e "$cache/oci/.$1-src" ]; then
		make_src "$1"
		touch "$cache/oci/.$1-src"
	fi
	ctr_start
	skopeo copy -q "oci:$cache/oci:$1-src" "oci-archive:$tmp/$1.tar:$1-src" >&2
	ctr_ images import --no-unpack --base-name "lab.local/$1" \
		"$tmp/$1.tar" >&2
	rm "$tmp/$1.tar"
	imported="$imported $1"
}

# convert TAG SOURCE VERB [arguments of ctr-remote]
convert() {
	local tag=$1 src=$2 verb=$3
	shift 3
	say "$tag: ctr-remote images $verb $*"
	ctr_ images "$verb" --oci "$@" "lab.local/$src:$src-src" \
		"lab.local/$src:$tag" >&2
	ctr_ images export --platform "linux/$arch" "$tmp/out.tar" \
		"lab.local/$src:$tag" >&2
	mkdir "$tmp/out"
	tar -C "$tmp/out" -xf "$tmp/out.tar"
	add_oci "$tmp/out" "$tag"
	rm -rf "$tmp/out" "$tmp/out.tar"
}

# By the other writer, of tests/tools.
convert_py() {
	local tag=$1 base=$2 l blobs=
	shift 2
	say "$tag: mkesgz.py $*"
	layer "$base" base
	layer wh wh
	layer special special
	for l in "$base" wh special; do
		"$PYTHON" "$here/tools/mkesgz.py" from-tar "$@" \
			"$cache/layers/$l.tar" "$tmp/$l.esgz" >/dev/null
		blobs="$blobs $tmp/$l.esgz"
	done
	# shellcheck disable=SC2086
	"$PYTHON" "$here/tools/mkesgz.py" oci "$cache/oci" "$tag" $blobs
}

record() {
	local m
	# ctr-remote looks a path up in the layer of this index.
	m=$(jq -r --arg t small-src '.manifests[] | select(
		.annotations["org.opencontainers.image.ref.name"] == $t).digest' \
		<"$cache/oci/index.json")
	for l in 2:random9M 2:a/b/target 1:etc/hostname 0:usr/bin/bash \
		0:bin/cat 0:etc/passwd; do
		printf '{"path":"%s","manifestDigest":"%s","layerIndex":%d}\n' \
			"${l#*:}" "$m" "${l%%:*}"
	done
}

build() {
	case $1 in
	*-src) make_src "${1%-src}" ;;
	debian | small | jdk | awkward | pause | web1 | web2)
		import "$1"
		convert "$1" "$1" convert --estargz
		;;
	containerd) other_containerds ;;
	small-gz1)
		import small
		convert "$1" small convert --estargz --estargz-compression-level 1
		;;
	small-chunk64k)
		import small
		convert "$1" small convert --estargz --estargz-chunk-size 65536 \
			--estargz-compression-level 1
		;;
	small-nolandmark)
		import small
		convert "$1" small optimize --no-optimize \
			--estargz-compression-level 1
		;;
	small-landmark)
		import small
		record >"$tmp/record"
		convert "$1" small convert --estargz \
			--estargz-compression-level 1 \
			--estargz-record-in "$tmp/record"
		;;
	small-zstd)
		import plain
		convert "$1" plain convert --zstdchunked
		;;
	small-ctr-minchunk)
		newer_ctr
		import small
		convert "$1" small convert --estargz \
			--estargz-compression-level 1 \
			--estargz-min-chunk-size 50000
		;;
	debian-minchunk)
		convert_py "$1" base --level 6 --min-chunk-size 50000
		;;
	small-minchunk)
		convert_py "$1" small --level 1 --min-chunk-size 50000 \
			--chunk-size 1048576
		;;
	*) die "no such image: $1" ;;
	esac
}

for tag; do
	[ ! -e "$cache/oci/.$tag" ] || continue
	build "$tag"
	touch "$cache/oci/.$tag"
done
echo "$cache"
