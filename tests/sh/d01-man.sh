#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The manual pages and --help name the same options, and keys, as the code.
. "${top_srcdir:-.}/tests/lib.sh"
requires_programs
man=$top_srcdir/docs/man

# Options of a page: -x and --long of .It Fl lines; words of .It Cm lines.
page_flags() {
	sed -n 's/^\.It Fl \(.*\)/\1/p' "$1" | sed 's/^Fl /-/' |
		tr ' ,' '\n\n' |
		sed -n 's/^-\([a-z-]\{2,\}\)$/--\1/p' | sort -u
}
help_flags() {
	sed -n 's/^  *\(-.*\)$/\1/p' | grep -oE -- '--[a-z-]+' | sort -u
}

. "$top_srcdir/contrib/completion/estargz"
# completed COMMAND [WORD]: what the shell proposes for an option of it
completed() {
	local COMP_WORDS=("$@" --) COMP_CWORD=$# COMPREPLY=()
	"$(complete -p "$1" | sed 's/.*-F \([a-z_]*\).*/\1/')" "$1"
	printf '%s\n' "${COMPREPLY[@]}" | sort
}

for p in mount.estargz.8:"$MOUNT_ESTARGZ" estargzd.8:"$ESTARGZD" \
	estargz-snapshotter.8:"$ESTARGZ_SNAPSHOTTER"; do
	page=$man/${p%%:*}
	[ -f "$page" ] || { fail "${p%%:*} is there"; continue; }
	"${p#*:}" --help >"$T/help"
	is "$(page_flags "$page")" "$(help_flags <"$T/help")" \
		"${p%%:*} has the options of --help"
	is "$(completed "$(basename "${p#*:}")")" "$(help_flags <"$T/help")" \
		"... and so has the shell"
done
for c in status prune; do
	"$ESTARGZ" $c --help >"$T/help"
	sed -n "/^\\.Ss estargz $c/,/^\\.S[sh] [^J]/p" "$man/estargz.1" >"$T/page"
	is "$(page_flags "$T/page")" "$(help_flags <"$T/help")" \
		"estargz.1 has the options of $c --help"
done

# The commands that have a page of their own.
for page in "$man"/estargz-*.1; do
	c=$(basename "$page" .1)
	c=${c#estargz-}
	"$ESTARGZ" "$c" --help >"$T/help"
	is "$(page_flags "$page")" "$(help_flags <"$T/help")" \
		"estargz-$c.1 has the options of --help"
	is "$(completed estargz "$c")" "$(help_flags <"$T/help")" \
		"... and so has the shell"
	ok "... and estargz.1 names it" \
		grep -qE "^\.(Xr|It Xr) estargz-$c 1" "$man/estargz.1"
done

is "$("$ESTARGZ" help convert)" "$("$ESTARGZ" convert --help)" "help of a command"
for c in --help "convert --help" "prune -jn --root $T" "status --json"; do
	# shellcheck disable=SC2086
	like "$("$ESTARGZ" $c 2>&1 >/dev/full; echo "$?")" \
		'^estargz: cannot write: No space left on device
1$' "$c, to a full disk"
done

"$MOUNT_ESTARGZ" --help >"$T/help"
is "$(sed -n 's/^\.It Cm \([a-z_]*\).*/\1/p' "$man/mount.estargz.8" |
	grep -vxE 'oci|http|ro' | sort)" \
	"$(sed -n 's/^     \([a-z_]*\)[ =].*/\1/p' "$T/help" |
	grep -xvE '|ro' | sort)" "mount.estargz.8 has the mount options of --help"

is "$(sed -n '/Sh FILES/q; s/^\.It Cm \([a-z_]*\).*/\1/p' "$man/estargzd.8" |
	sort)" "$(sed -n 's/^[[:space:]]*[A-Z]*(\([a-z_]*\),.*/\1/p' \
	"$top_srcdir/daemon/fetcher/conf.c" | sort)" \
	"estargzd.8 has the keys of the configuration"

# Of the snapshotter's, with the table in front: KEY("table", "key", … in the
# code, .Ss [table] and .It Cm key in the page.
awk '/^\.Sh EXAMPLES/ { exit } /^\.Ss/ { t = $2 == "Top" ? "" : $2 }
	/^\.It Cm/ { gsub(/[][]/, "", t); print t "." $3 }' \
	"$man/estargz.toml.5" | sort >"$T/keys.page"
sed -n 's/^[[:space:]]*[A-Z]*("\([a-z]*\)", "\([a-z_]*\)",.*/\1.\2/p' \
	"$top_srcdir/daemon/snapshotter/conf.c" | sort >"$T/keys.code"
is "$(cat "$T/keys.page")" "$(cat "$T/keys.code")" \
	"estargz.toml.5 has the keys of the configuration"
at_least=$(wc -l <"$T/keys.code")
ok "... of which there are some" test "$at_least" -gt 10

# Fields of status: what the code writes, and what the page says.
grep -oE '(add_str|add_u64|add_process)\(b, "[a-z0-9_]+"|\\"[a-z0-9_]+\\":' \
	"$top_srcdir/fs/control.c" | grep -oE '"[a-z0-9_]+\\?"' | tr -d '\\"' |
	sort -u >"$T/fields"
for f in $(cat "$T/fields"); do
	grep -qwF "$f" "$man/estargz.1" || echo "$f"
done >"$T/missing"
is "$(cat "$T/missing")" "" "estargz.1 has every field of status --json"
at_least=$(wc -l <"$T/fields")
ok "... of which there are some" test "$at_least" -gt 20
done_testing
