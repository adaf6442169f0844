#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The merged metadata of a chain: the kernel's overlayfs over the unpacked
# layers says what must be seen in it, with the layers' data below it.
. "${top_srcdir:-.}/tests/lib.sh"
requires_root
requires_cmd "$PYTHON" findmnt fsck.erofs
requires_fs overlay
requires_fs erofs

METACTL=$top_builddir/tests/tools/metactl
export ESTARGZFS=$MOUNT_ESTARGZ
cd "$T" || exit 99

# layers NAME LAYERS [-u], of blobs NAME/N.esgz: the index of each in NAME/N.d,
# its files in NAME/N.t, and as data in NAME/N.x.
layers() {
	local i todo=()
	for ((i = 0; i < $2; i++)); do
		todo+=("$1/$i.esgz" "$1/$i.t")
	done
	"$PYTHON" "$TOOLS/unpack.py" ${3:+--user} "${todo[@]}" || return
	for ((i = 0; i < $2; i++)); do
		mkdir "$1/$i.x" &&
			"$METACTL" index ${3-} "$1/$i.esgz" "$1/$i.d" &&
			"$METACTL" fill "$1/$i.d" "$1/$i.t" &&
			"$METACTL" data "$1/$i.d" "$1/$i.t" "$1/$i.x" || return
	done
}
# stack NAME SEED LAYERS ENTRIES [-u]: made at random.
stack() {
	mkdir "$1" && "$PYTHON" "$TOOLS/mkstack.py" "$2" "$3" "$1" "$4" &&
		mkesgz from-tars "$1" >/dev/null && layers "$1" "$3" ${5-}
}
# lower NAME LAYERS SUFFIX SEPARATOR: the layers' directories, topmost first.
lower() {
	local i s=
	for ((i = $2 - 1; i >= 0; i--)); do
		s=$s$4$1/$i$3
	done
	echo "$s"
}
# merged NAME LAYERS [-u]: its image, looked at by fsck.erofs and mounted.
merged() {
	# shellcheck disable=SC2046
	"$METACTL" merge ${3-} "$1/meta" $(lower "$1" "$2" .d " ") &&
		fsck.erofs "$1/meta" && mkdir "$1/m" &&
		"$METACTL" mount "$1/meta" "$1/m"
}
# over NAME LAYERS WHERE OPTIONS: both, at NAME/want-WHERE and NAME/got-WHERE.
over() {
	local k o want got
	want=$(lower "$1" "$2" .t :)
	got=$1/m$(lower "$1" "$2" .x ::)
	for k in want got; do
		mkdir -p "$1/$k-$3" "$1/$k-up" "$1/$k-work"
		touch -d @0 "$1/$k-up"
		o=$4
		[ "$3" != rw ] || o=$o,upperdir=$1/$k-up,workdir=$1/$k-work
		mount -t overlay overlay "$1/$k-$3" -o "$o,lowerdir=$(
			[ $k = want ] && echo "${want#:}" || echo "$got")" ||
			return
	done
}
same() {
	treecmp --dirs --merged --no-ino "$1/got-$2" "$1/want-$2" "${@:3}"
}

### What the kernel can ###
ok "a stack is made" stack probe 1 2 20
ok "and merged" merged probe 2
mkdir probe/got-ro
mount -t overlay overlay probe/got-ro -o \
	"lowerdir=probe/m$(lower probe 2 .x ::)" 2>"$T/err" ||
	plan_skip "overlayfs here has no data-only layers without metacopy:" \
		"$(cat "$T/err")"
umount probe/got-ro

### Made at random ###
seed=${SEED:-$(od -An -N2 -tu2 </dev/urandom | tr -d ' ')}
diag "SEED=$seed"
# both WHAT NAME SEED LAYERS ENTRIES
both() {
	ok "$1: is made" stack "${@:2}" &&
		ok "$1: is merged, and right for fsck.erofs" \
			merged "$2" "$4" &&
		ok "$1: can be mounted" over "$2" "$4" ro ro &&
		ok "$1: overlayfs shows the same" same "$2" ro
}
both "six layers" six "$seed" 6 150
both "twenty layers" twenty $((seed + 1)) 20 60
both "a hundred layers" hundred $((seed + 2)) 100 12
for i in 0 5; do
	ok "layer $i may be mounted by the kernel" "$METACTL" check six/$i.d
done
rm -f six/3.d/present
cp six/0.d/present six/3.d/present
one_line "not with the presence file of another layer" \
	'present: (of another index|[0-9]+ bytes for)' \
	eval "$METACTL check six/3.d 2>$T/err"

### Native: one image a layer, complete ###
low=
for i in 0 1 2 3 4 5; do
	mkdir six/$i.n
	"$METACTL" mount six/$i.d/layer.erofs six/$i.n || break
	low=:six/$i.n$low
done
mkdir six/native
ok "the layers' own images can be stacked" mount -t overlay overlay \
	six/native -o "ro,lowerdir=${low#:}"
# It lists whiteouts, as any overlayfs does: so it is the one to be like.
ok "and show the same" treecmp --dirs --merged --no-ino six/got-ro six/native

### With a layer to write to ###
# Changes that copy up, in both; the same ones, by the names.
change() (
	cd "$1" || exit
	find . -type f -size -9 | sort >"$T/files"
	awk 'NR % 7 == 0' "$T/files" | while read -r f; do echo x >>"$f"; done
	awk 'NR % 7 == 1' "$T/files" | while read -r f; do chmod 4711 "$f"; done
	awk 'NR % 7 == 2' "$T/files" | while read -r f; do rm "$f"; done
	awk 'NR % 7 == 3' "$T/files" | while read -r f; do mv "$f" "$f.m"; done
	awk 'NR % 7 == 4' "$T/files" | while read -r f; do
		setfattr -n trusted.new -v 1 "$f"
	done
	awk 'NR % 7 == 5' "$T/files" | while read -r f; do : >"$f"; done
	find . -mindepth 2 -type d | sort | awk 'NR % 5 == 0' |
		while read -r d; do [ ! -d "$d" ] || rm -rf "$d"; done
	find . -mindepth 2 -type d | sort | awk 'NR % 5 == 1' |
		while read -r d; do chown 7:8 "$d"; done
	find . -mindepth 2 -maxdepth 2 -type d | sort | awk 'NR % 5 == 2' |
		while read -r d; do rm -rf "$d" && mkdir "$d"; done
)
now=$(date +%s)
ok "an upper layer lies over both" over six 6 rw rw
ok "they are the same" same six rw
ok "files are changed" change six/want-rw
ok "and in the merged one" change six/got-rw
ok "they are the same again" same six rw --since "$now"
(cd six/want-up && find . -printf '%P %y %m %s\n' | sort) >want
(cd six/got-up && find . -printf '%P %y %m %s\n' | sort) >got
sed -i 's/ d \([0-7]*\) .*/ d \1/' want got
ok "what was copied up is the same" cmp want got
is "$(getfattr -R -h -d -m 'trusted.overlay.(metacopy|redirect)' six/got-up \
	2>/dev/null)" "" "and whole: nothing in it refers to a layer"

### With the attributes of unprivileged mounts ###
ok "a stack for userxattr is made" stack user $((seed + 3)) 5 150 -u
ok "and merged" merged user 5 -u
ok "it can be mounted" over user 5 ro ro,userxattr
ok "overlayfs shows the same" same user ro
one_line "layers of the other kind are refused" 'of another kind' \
	eval "$METACTL merge $T/x user/0.d >$T/out 2>$T/err"

### Images as they are ###
real() {
	local i n
	n=$(n_layers "$IMAGES" "$1")
	mkdir "$1"
	for ((i = 0; i < n; i++)); do
		ln -s "$(layer_blob "$IMAGES" "$1" $i)" "$1/$i.esgz"
	done
	ok "$1: $n layers are unpacked" layers "$1" "$n"
	ok "$1: is merged" merged "$1" "$n"
	ok "$1: can be mounted" over "$1" "$n" ro ro
	ok "$1: overlayfs shows the same" same "$1" ro
}
for t in awkward web1; do
	if have_images $t; then
		real $t
	else
		skip "$t" "the image could not be built"
	fi
done
done_testing
