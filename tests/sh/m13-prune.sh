#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# estargz prune: what is mounted or pinned stays, the rest goes, the least
# recently used first; mounts that begin meanwhile do not notice.
. "${top_srcdir:-.}/tests/lib.sh"
requires_mount
requires_cmd jq

mkdir -p "$T/f"
for kind in small-files chunk-40m; do
	mkesgz make $kind "$T/f/$kind" >"$T/$kind.json"
done
A=$(jget "$T/small-files.json" .toc_digest)
B=$(jget "$T/chunk-40m.json" .toc_digest)
prune() { "$ESTARGZ" prune --root "$STATE" "$@"; }
cached() { [ -f "$STATE/layers/sha256/${1#sha256:}/chunks" ]; }
once() {
	mount_esgz "$T/f/$1" "$T/m" "toc_digest=$2,nobackground,noprefetch" &&
		treecmp "$T/m" "$T/f/$1" && umount_esgz "$T/m"
}
gone() { [ -z "$(monitor_pids)" ]; }

mkdir -p "$STATE"
is "$(prune --json | jq -c '[.layers_removed, .layers_left]')" '[0,0]' \
	"nothing there: nothing to do"
ok "the first layer is read" once small-files "$A"
ok "and the second" once chunk-40m "$B"
ok "their monitors have ended" wait_for 10 gone
is "$(prune -n --json | jq -r '.removed[].layer' | tr '\n' ' ')" \
	"${A#sha256:} ${B#sha256:} " "a dry run says what would go, oldest first"
ok "and removes nothing" cached "$A"
left=$(prune -n --json --max-bytes 1TiB | jq .bytes_left)
is "$left" "$(du -s --block-size=1 "$STATE"/layers/sha256/* |
	awk '{ n += $1 } END { print n }')" "the bytes are those of du"
ok "room for all but one byte" prune --max-bytes $((left - 1))
not_ok "the older is gone" cached "$A"
ok "the younger is there" cached "$B"
ok "the older is mounted again" mount_esgz "$T/f/small-files" "$T/m" \
	"toc_digest=$A,nobackground,noprefetch"
: >"$STATE/layers/sha256/${B#sha256:}/pin"
is "$(prune --json | jq -c '[.layers_removed, .layers_left, .layers_used]')" \
	'[0,2,2]' "one is mounted, one has a pin: both stay"
rm "$STATE/layers/sha256/${B#sha256:}/pin"
is "$(prune --json | jq -c '[.layers_removed, .layers_left, .layers_used]')" \
	'[1,1,1]' "without the pin it goes"
ok "the mounted one reads right" treecmp "$T/m" "$T/f/small-files"
umount_esgz "$T/m"
ok "the monitor has ended" wait_for 10 gone

### Beside mounts that come and go ###
pruning() { while :; do prune >/dev/null || exit 1; done; }
background prune pruning
p=$BG_PID
n=0
for _ in 1 2 3 4 5 6 7 8 9 10; do
	once small-files "$A" >"$T/once.log" 2>&1 || break
	n=$((n + 1))
done
is "$n" 10 "ten mounts while it prunes all the time"
[ $n = 10 ] || diag_file "$T/once.log"
ok "which never failed" kill -0 "$p"
kill "$p"

### Words ###
like "$(prune --max-bytes 10GB 2>&1)" '^estargz: prune: --max-bytes 10GB: not a size' \
	"a wrong size is said"
like "$(prune --max-bytes 99999999TiB 2>&1)" 'not a size' "and one that is too large"
not_ok "with exit status 1" prune --max-bytes -1
not_ok "an argument too many" prune x
like "$("$ESTARGZ" prune --root "$T/f/small-files" 2>&1)" 'Not a directory' \
	"a root that is none"

mkdir -p "$T/other/layers/mine" "$T/other/sha256/aa"
echo mine >"$T/other/layers/mine/file"
before=$(cd "$T/other" && find . -printf '%p %T@ %m\n' | sort)
is "$("$ESTARGZ" prune --root "$T/other" 2>&1; echo $?)" \
	"estargz: prune: $T/other: not a state directory: no layers in it
1" "a directory of something else is refused"
is "$(cd "$T/other" && find . -printf '%p %T@ %m\n' | sort)" "$before" \
	"and not touched"
mkdir -p "$T/volume/lost+found"
ok "a volume that was just made is not" "$ESTARGZ" prune --root "$T/volume"
is "$(ls "$T/volume")" lost+found "and keeps what it has"
like "$("$ESTARGZ" prune --root "$T/none" 2>&1)" 'none: No such file' \
	"a root that is not there is a slip of the pen, not an empty one"

no_leaks
done_testing
