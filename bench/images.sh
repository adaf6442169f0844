# SPDX-License-Identifier: Apache-2.0
# The images of bench/cold-start and contrib/quickstart: Debian 12 with a
# program that says hello. Sourced after tests/containerd.sh (bash). Made once, a few
# minutes each, and kept in $CACHE/cold.
#
# have_image NAME: fails where it cannot be had; COLD is the OCI layout with
#   NAME       as umoci makes it: three layers of gzip
#   NAME-esgz  optimised for its program by ctr-remote
# have_opt NAME: the same of
#   NAME-opt   optimised for its program by estargz, with its trace
# The program is the image's entry point, and prints "hello".
# shellcheck shell=bash

COLD_VERSION=1
COLD_NAMES="python node openjdk gcc nginx"
COLD_MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
CACHE=${ESTARGZ_BENCH_CACHE:-/var/cache/estargz-bench}
COLD=$CACHE/cold-$COLD_VERSION

cold_packages() {
	case $1 in
	python) echo python3 python3-numpy ;;
	node) echo nodejs npm ;;
	openjdk) echo openjdk-17-jdk-headless ;;
	gcc) echo gcc libc6-dev ;;
	nginx) echo nginx ;;
	esac
}

# cold_program NAME ROOT: puts the program into /srv; prints how to start it, a
# word a line.
cold_program() {
	local d=$2/srv
	case $1 in
	python)
		echo 'import numpy; print("hello", numpy.arange(9).sum())' \
			>"$d/hello.py"
		printf '%s\n' /usr/bin/python3 /srv/hello.py
		;;
	node)
		echo 'require("http"); console.log("hello")' >"$d/hello.js"
		printf '%s\n' /usr/bin/node /srv/hello.js
		;;
	openjdk)
		cat >"$d/Hello.java" <<-END
		public class Hello {
			public static void main(String[] a) {
				System.out.println("hello");
			}
		}
		END
		cold_chroot "$2" "javac -d /srv /srv/Hello.java" || return 1
		printf '%s\n' /usr/bin/java -cp /srv Hello
		;;
	gcc)
		cat >"$d/hello.c" <<-END
		#include <stdio.h>
		int main(void) { return puts("hello") < 0; }
		END
		printf '%s\n' /bin/sh -c \
			'gcc -O2 -o /tmp/hello /srv/hello.c && /tmp/hello'
		;;
	nginx)
		# It listens when the command returns.
		cat >"$d/hello" <<-'END'
		nginx && exec 3<>/dev/tcp/127.0.0.1/80 &&
			printf 'GET / HTTP/1.0\r\n\r\n' >&3 &&
			read -r _ status _ <&3 && [ "$status" = 200 ] && echo hello
		END
		printf '%s\n' /bin/bash /srv/hello
		;;
	esac
}

# cold_chroot ROOT COMMANDS: in namespaces of their own, which end with them,
# and which keep no other mount of the machine from going away meanwhile.
cold_chroot() {
	# shellcheck disable=SC2016
	unshare --mount --pid --fork --kill-child bash -ec '
		mount --bind "$0" "$0"
		mount -t proc proc "$0/proc"
		mount --rbind /dev "$0/dev"
		mount --bind /etc/resolv.conf "$0/etc/resolv.conf"
		cd "$0"
		pivot_root . mnt
		umount -l /mnt
		exec env -i PATH="$PATH" DEBIAN_FRONTEND=noninteractive LC_ALL=C \
			sh -ec "$1"' "$1" "$2"
}

cold_base() {
	local r=$COLD/base
	rm -rf "$r" "$COLD/tmp"
	debootstrap --variant=minbase bookworm "$r" "$COLD_MIRROR" || return 1
	printf '#!/bin/sh\nexit 101\n' >"$r/usr/sbin/policy-rc.d"
	chmod 755 "$r/usr/sbin/policy-rc.d"
	rm -rf "$r"/var/cache/apt/* "$r"/var/lib/apt/lists/*
	: >"$r/etc/resolv.conf"
	umoci init --layout "$COLD/tmp" &&
		umoci new --image "$COLD/tmp:base" &&
		cold_layer base "$r"
}

# cold_layer TAG DIR: one more layer, of an overlayfs' upper directory; with the
# parents of what changed, which ctr-remote wants to see.
cold_layer() {
	local f
	find "$2" -type c -printf '%P\n' | while read -r f; do
		[ "$(stat -c %t:%T "$2/$f")" = 0:0 ] || continue
		rm "$2/$f" && touch "$2/$(dirname "$f")/.wh.${f##*/}"
	done
	getfattr -Rhm '^trusted.overlay.opaque$' --absolute-names "$2" |
		sed -n 's/^# file: //p' | while read -r f; do
			touch "$f/.wh..wh..opq"
		done
	tar -C "$2" --numeric-owner --sort=name --exclude='./dev/*' \
		-cf "$T/layer.tar" . &&
		umoci raw add-layer --image "$COLD/tmp:$1" "$T/layer.tar" &&
		rm "$T/layer.tar"
}

# cold_over COMMAND...: over the layers so far, with $R the merged tree.
cold_over() {
	mkdir -p "$R.up" "$R.work" "$R" &&
		mount -t overlay overlay -o "lowerdir=$LOWER" \
			-o "upperdir=$R.up,workdir=$R.work" "$R" || return 1
	"$@" || return 1
	umount "$R" && rm -rf "$R.work"
}
cold_install() {
	cold_chroot "$R" "apt-get update
		apt-get install -y --no-install-recommends $*
		rm -rf /var/cache/apt/* /var/lib/apt/lists/*"
}

# Layers of packages and of the program, over the base.
cold_plain() {
	local name=$1 tag=$COLD/tmp:$1 words R LOWER=$COLD/base
	[ -e "$COLD/tmp/index.json" ] || cold_base || return 1
	umoci tag --image "$COLD/tmp:base" "$name" || return 1
	R=$T/$name.1
	# shellcheck disable=SC2046
	cold_over cold_install $(cold_packages "$name") || return 1
	LOWER=$R.up:$LOWER
	R=$T/$name.2
	cold_over cold_program "$name" "$R" >"$T/words" &&
		cold_layer "$name" "$T/$name.1.up" &&
		cold_layer "$name" "$R.up" || return 1
	mapfile -t words <"$T/words"
	umoci config --image "$tag" --os linux \
		--architecture "$(dpkg --print-architecture)" --clear=config.cmd \
		"${words[@]/#/--config.entrypoint=}" &&
		cold_keep "oci:$tag" "$name" &&
		rm -rf "$T/$name".[12]*
}

# What the program reads, to the front of each layer.
cold_optimised() {
	local name=$1 ref=cold.local/$1 rc
	SNAPSHOTTER=overlayfs ctd_start 1.6 || return 1
	skopeo copy -q "oci:$COLD/oci:$name" "oci-archive:$T/in.tar:$name" &&
		"${CTR_REMOTE[@]:2}" images import --base-name "$ref" "$T/in.tar" &&
		"${CTR_REMOTE[@]:2}" images optimize --oci "$ref:$name" "$ref:esgz" &&
		"${CTR_REMOTE[@]:2}" images export \
			--platform "linux/$(dpkg --print-architecture)" \
			"$T/out.tar" "$ref:esgz" &&
		cold_keep "oci-archive:$T/out.tar" "$name-esgz"
	rc=$?
	ctd_stop
	rm -rf --one-file-system "$CTD" "$T/in.tar" "$T/out.tar"
	return $rc
}
cold_keep() { skopeo copy -q --preserve-digests "$1" "oci:$COLD/oci:$2"; }

have_image() {
	local log=$T/image-$1.log c
	[ ! -e "$COLD/$1.ok" ] || return 0
	for c in debootstrap umoci skopeo ctr-remote containerd unshare; do
		command -v "$c" >/dev/null || { echo "needs $c" >&2; return 1; }
	done
	mkdir -p "$COLD" || return 1
	(
		flock 9
		[ ! -e "$COLD/$1.ok" ] || exit 0
		echo "making the image $1 (once; some minutes)" >&2
		{ cold_plain "$1" && cold_optimised "$1"; } >"$log" 2>&1 9>&- &&
			touch "$COLD/$1.ok"
	) 9>"$COLD/lock" || {
		tail -n 5 "$log" >&2
		return 1
	}
}

have_opt() {
	local log=$T/image-$1-opt.log
	[ ! -e "$COLD/$1-opt5.ok" ] || return 0
	have_image "$1" || return 1
	(
		flock 9
		[ ! -e "$COLD/$1-opt5.ok" ] || exit 0
		echo "making the image $1-opt" >&2
		"$ESTARGZ" optimize "oci:$COLD/oci:$1" "oci:$COLD/oci:$1-opt" \
			>"$log" 2>&1 9>&- && touch "$COLD/$1-opt5.ok"
	) 9>"$COLD/lock" || {
		tail -n 5 "$log" >&2
		return 1
	}
}

# have_peer: PEER is stargz-snapshotter, built in a tree of its own of what Debian
# has of it, with its defaults.
have_peer() {
	local log=$T/peer.log
	PEER=$COLD/peer
	[ ! -x "$PEER" ] || return 0
	have_image python || return 1
	echo "building stargz-snapshotter (once; some minutes)" >&2
	(
		flock 9
		[ ! -x "$PEER" ] || exit 0
		cold_peer >"$log" 2>&1 9>&-
	) 9>"$COLD/lock" || {
		tail -n 5 "$log" >&2
		return 1
	}
}
cold_peer() {
	local R=$T/peer LOWER=$COLD/base
	cold_over cold_install golang-go \
		golang-github-containerd-stargz-snapshotter-dev &&
		mkdir -p "$R.up/srv" && cp "$top_srcdir/bench/peer.go" "$R.up/srv/" &&
		cold_over cold_chroot "$R" 'cd /srv
			export HOME=/tmp GOPATH=/usr/share/gocode GO111MODULE=off
			go build -o peer peer.go' &&
		cp "$R.up/srv/peer" "$PEER.tmp" && mv "$PEER.tmp" "$PEER" &&
		rm -rf "$R.up"
}
