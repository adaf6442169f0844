#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# estargz convert that is interrupted at many moments: where the image was to
# go there is what was there before, or all of it; what is left over goes with
# the next one.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/convert.sh"
requires_convert
requires_cmd docker-registry

mkdir -p "$T/t"
for i in 1 2 3 4 5 6; do
	head -c 3000000 /dev/urandom >"$T/t/$i"
	tar -C "$T/t" -cf "$T/$i.tar" $i
done
mkimage "$T/src:x" "gzip:$T/1.tar,gzip:$T/2.tar,gzip:$T/3.tar,gzip:$T/4.tar"
mkimage "$T/src:old" "gzip:$T/5.tar,gzip:$T/6.tar"
start_registry

# started COMMAND...: in the background, $P; to be ended after $1 milliseconds
# of its life, by signal $2: $RC is how.
ended_after() {
	local ms=$1 sig=$2
	shift 2
	"$ESTARGZ" convert --compression-level 1 --plain-http "$@" \
		>"$T/out" 2>"$T/convert.err" &
	P=$!
	sleep "0.$(printf %03d "$ms")"
	# timeout(1) sends it twice.
	kill -"$sig" $P 2>/dev/null
	kill -"$sig" $P 2>/dev/null
	{ wait $P; } 2>/dev/null
	RC=$?
}
tags() { curl -s "http://$REG/v2/lab/img/tags/list" | jq -r '.tags[]?'; }
tag_digest() {
	curl -sI -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
		"http://$REG/v2/lab/img/manifests/$1" |
		sed -n 's/\r$//; s/^[Dd]ocker-[Cc]ontent-[Dd]igest: //p'
}

convert "oci:$T/src:x" "oci:$T/want:x"
new=$CONVERTED
convert "oci:$T/src:old" "oci:$T/want:old"
old=$CONVERTED
t0=$(now_ms)
convert "oci:$T/src:x" "oci:$T/want:again"
life=$(($(now_ms) - t0))
[ $life -lt 900 ] || life=900
diag "a whole one takes $life ms"

# check PLACE: is the old image or the new one, whole
bad=
settled() {
	local got=
	case $1 in
	oci:*)
		got=$(root "$T/dst" x)
		is_esgz "$T/dst" "$got" >"$T/why" 2>&1 || bad="$(cat "$T/why")"
		;;
	docker:*)
		got=$(tag_digest x)
		skopeo copy -q --preserve-digests --src-tls-verify=false \
			"docker://$REG/lab/img:x" "oci:$T/check:x" \
			2>"$T/why" || bad="$(cat "$T/why")"
		;;
	oci-archive:*)
		rm -rf "$T/check"
		skopeo copy -q --preserve-digests "$1" "oci:$T/check:x" \
			2>"$T/why" || bad="$(cat "$T/why")"
		got=$(root "$T/check" x)
		;;
	esac
	case $got in
	"$old") N_OLD=$((N_OLD + 1)) ;;
	"$new") N_NEW=$((N_NEW + 1)) ;;
	*) bad="$bad; it is $got" ;;
	esac
}

for to in "oci:$T/dst:x" "oci-archive:$T/dst.tar:x" "docker://$REG/lab/img:x"; do
	k=${to%%:*}
	N_OLD=0 N_NEW=0 bad=
	for ((i = 0; i < 12; i++)); do
		convert --quiet --plain-http "oci:$T/src:old" \
			"$to" || bad="the old image: $(cat "$T/convert.err")"
		case $((i % 3)) in
		0) sig=KILL want='137|0' ;;
		1) sig=TERM want='143|0' ;;
		2) sig=INT want='130|0' ;;
		esac
		ended_after $((life * i / 12)) $sig "oci:$T/src:x" "$to"
		grep -qxE "$want" <<<"$RC" || bad="$bad; $sig: exit $RC"
		[ "$RC" != 0 ] || [ "$(cat "$T/out")" = "$new" ] ||
			bad="$bad; exit 0, said $(cat "$T/out")"
		settled "$to"
		[ -z "$(ls -A "$TMPDIR")" ] || bad="$bad; left in TMPDIR"
		[ -z "$bad" ] || break
	done
	is "$bad" "" "$k: interrupted $i times: $N_OLD times old, $N_NEW times new"
	converts "$k: then all of it" --plain-http "oci:$T/src:x" "$to"
	is "$CONVERTED" "$new" "$k: is the new image"
done
is "$(find "$T/dst" -type f -newermt @0 ! -path '*/blobs/*' | sort | xargs -n 1 basename |
	xargs)" "index.json oci-layout" "nothing is left in the layout"
is "$(cd "$T" && echo dst.tar*)" dst.tar "nor beside the archive"

# A destination that was not there is not there.
for sig in TERM KILL; do
	rm -rf "$T/fresh"
	ended_after $((life / 3)) $sig "oci:$T/src:x" "oci:$T/fresh:x"
	[ "$RC" != 0 ] || continue
	ok "$sig: no image is there" [ ! -e "$T/fresh/index.json" ]
	[ $sig = KILL ] || ok "$sig: nothing is there" [ ! -e "$T/fresh" ]
done

### A push that fails half-way ###
start_srv lab --push "$T/lab"
REG=$SRV_ADDR
has_tag() {
	srv_ctl -o "$T/pushed" -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
		"$SRV_URL/v2/lab/img/manifests/x"
}
srv_fault '{"kind":"status","status":413,"method":"PUT","path":"uploads","skip":2,"count":-1}'
refuses "the registry takes some layers only" 'convert: docker://.*status 413' --plain-http \
	"oci:$T/src:x" "docker://$REG/lab/img:x"
not_ok "there is no image" has_tag
srv_reset
converts "then it takes all" --plain-http "oci:$T/src:x" \
	"docker://$REG/lab/img:x"
is "$CONVERTED" "$new" "it is the new image"
is "$(srv_count 'method=PUT&path=uploads')" 3 \
	"of which two layers were there: two more, and a config"
srv_fault '{"kind":"cut","after":1000000,"method":"PUT","path":"uploads","count":1}'
converts "a connection that breaks" --plain-http "oci:$T/src:old" \
	"docker://$REG/lab/img2:x"
is "$CONVERTED" "$old" "... goes on"
ok "and is there" srv_ctl -o "$T/pushed" "$SRV_URL/v2/lab/img2/manifests/x"
is "sha256:$(sha256sum <"$T/pushed" | cut -d ' ' -f 1)" "$old" "as it should be"
done_testing
