#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What was read first when a layer was last mounted is prefetched by the next mount
# that has nothing of it, where its image has no trace.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_mount
requires_cmd jq curl

# A file of 8 MiB in chunks of 4 KiB.
mkdir -p "$T/f" "$T/m"
mkesgz make many-chunks "$T/f/blob" >"$T/blob.json"
D=$(jget "$T/blob.json" .toc_digest)
KEPT=$STATE/traces/sha256/${D#sha256:}
start_srv srv --files "$T/f"

mounted() { # OPTIONS: with an empty cache
	"$ESTARGZ" prune --root "$STATE" --max-bytes 1 >/dev/null
	[ ! -e "$STATE/layers/sha256/${D#sha256:}/chunks" ] || return 1
	srv_reset
	mount_esgz "$SRV_URL/f/blob" "$T/m" "nobackground,toc_digest=$D${1:-}"
}
ended() { umount_esgz "$T/m" && wait_for 20 no_mount_procs; }
stat_of() {
	"$ESTARGZ" status --json |
		jq -c --arg t "$T/m" "map(select(.target == \$t))[0] | $1"
}
stat_is() { [ "$(stat_of "$1")" = "$2" ]; }
# Past the page cache, so that nothing is read beside it.
part() { dd if="$T/m/f" bs=4096 skip="$1" count="$2" iflag=direct status=none; }
numbers() { od -An -v -tu4 -w4 -j128 "$KEPT" | xargs; }

mkdir -p "$STATE"
ok "the first mount" mounted
is "$(stat_of .trace_ranges)" 0 "has nothing to go by"
part 900 1 >"$T/a"
part 20 3 >"$T/b"
part 900 1 >/dev/null
part 23 1 >"$T/c"
ok "it ends" ended
is "$(numbers)" "900 20 21 22 23" "what it has read is kept, in that order"
is "$(stat -c %a "$KEPT")" 600 "... for root"

ok "a mount without the cache" mounted
ok "prefetches that" wait_for 20 stat_is '.trace_ranges == 2 and
	.chunks_present >= 5' true
n=$(srv_count)
ok "it is right" cmp "$T/a" <(part 900 1)
ok "... all of it" cmp <(cat "$T/b" "$T/c") <(part 20 4)
is "$(stat_of .demand.misses)" 0 "nobody has waited"
is "$(srv_count)" "$n" "and nothing was asked for"
is "$(stat_of .refused)" 0 "read-ahead is as always"
part 40 1 >/dev/null
ok "it ends" ended
is "$(numbers)" "900 20 21 22 23 40" "and is what is known now"

ok "a mount that nobody reads" mounted
ok "ends" ended
is "$(numbers)" "900 20 21 22 23 40" "... and changes nothing"

for o in notrace noprefetch; do
	ok "$o" mounted ,$o
	is "$(stat_of .trace_ranges)" 0 "... does without"
	part 77 1 >/dev/null
	ok "... and ends" ended
	is "$(numbers)" "900 20 21 22 23 40" "... without a word"
done

printf '\377' | dd of="$KEPT" bs=1 seek=130 conv=notrunc status=none
ok "a mount with a damaged one" mounted
is "$(stat_of .trace_ranges)" 0 "does without"
ok "and is right" cmp "$T/a" <(part 900 1)
ok "it ends" ended
is "$(numbers | cut -d' ' -f1)" 900 "and makes it anew"
truncate -s 50 "$KEPT"
ok "a mount with a short one" mounted
ok "is right, too" cmp "$T/a" <(part 900 1)
ok "it ends" ended

### When all is here, who goes on with it needs no fetcher ###

no_fetcher() { [ -z "$(test_procs estargzd)" ]; }
ok "a mount that is read as a whole" mounted
cat "$T/m/f" >/dev/null
ok "is complete" wait_for 20 stat_is .state '"complete"'
ok "its fetcher ends" wait_for 20 no_fetcher
ok "it ends" ended

ok "estargz prune" "$ESTARGZ" prune --root "$STATE"
not_ok "removes it" test -e "$KEPT"
rm -rf "$STATE/traces"
: >"$STATE/traces"
ok "a mount that cannot keep it" mounted
ok "is one" cmp "$T/a" <(part 900 1)
ok "and ends" ended

not_ok "nothing was reported by a sanitizer" \
	grep -l -e 'ERROR: .*Sanitizer' -e 'runtime error' "$T"/*.log
done_testing
