#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Files by their numbers, as merged metadata names them: the same file, the
# same bytes, hidden, and nothing but regular files of the tree.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_mount
requires_cmd jq
images small

M=$T/m
toc=$(layer_toc "$IMAGES" small 0)
blob=$(layer_blob "$IMAGES" small 0)
hex=${toc#sha256:}
D=$M/${hex:0:16}
ok "mounts" mount_esgz "$blob" "$M" "toc_digest=$toc,events=$T/ev" || bail "no mount"

like "$(stat -c '%F %a %u:%g' "$D")" '^directory 500 0:0$' "the directory is there"
is "$(find "$M" -name "${hex:0:16}" | wc -l)" 0 "no directory lists it"
is "$(find "$D" -mindepth 1 | wc -l)" 0 "it lists nothing"
is "$(stat -c %i "$D" | grep -cxF -f <(find "$M" -printf '%i\n'))" 0 "its number is no file's"

# each FILE...: what it is by its number
each() {
	local f n rc=0
	for f; do
		n=$(stat -c %i "$f")
		[ "$(stat -c '%D %i %A %h %u %g %s %Y %t %T' "$f")" = \
			"$(stat -c '%D %i %A %h %u %g %s %Y %t %T' "$D/$n")" ] &&
			cmp "$f" "$D/$n" || { echo "$f is not $D/$n"; rc=1; }
	done
	return $rc
}
mapfile -t files < <(find "$M" -type f | head -n 300)
like "${#files[@]}" '^[0-9]{2,}$' "there are files"
ok "every file is the same by its number" each "${files[@]}"

others() {
	local n
	while read -r n; do
		[ ! -e "$D/$n" ] || { echo "$n is there"; return 1; }
	done < <(find "$M" ! -type f -printf '%i\n'; for ((n = 0; n < 4000; n++)); do
		echo $n; done | grep -vxF -f <(find "$M" -type f -printf '%i\n'))
}
ok "no other number is there" others
for n in 036 0x24 999999999999999999 99999999999999999999 -1 a; do
	not_ok "nor is $n" test -e "$D/$n"
done
not_ok "nor another layer's directory" test -e "$M/0123456789abcdef"
not_ok "nor one below a directory" test -e "$M/usr/${hex:0:16}"
not_ok "it cannot be read by others" setpriv --reuid 65534 --clear-groups \
	cat "$D/$(stat -c %i "${files[0]}")"

# Read by one name, it is in the page cache of the other.
reads() {
	"$ESTARGZ" status --json | jq --arg t "$M" '.[] | select(.target == $t).reads'
}
big=$(find "$M" -type f -size +8k | head -n 1)
cat "$D/$(stat -c %i "$big")" >/dev/null
a=$(reads)
cat "$big" >/dev/null
is "$(reads)" "$a" "what was read by number is not asked for by name"
like "$a" '^[0-9]+$' "reads are counted"
ok "unmounts" umount_esgz "$M"
ok "events have the names of the tree" grep -q "\"${big#"$M"/}\"" "$T/ev"
is "$(grep -c "\"${hex:0:16}" "$T/ev")" 0 "and no others"
no_leaks
done_testing
