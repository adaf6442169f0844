#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every fuzz target over its seeds: no crash, no failed assertion.
here=$top_srcdir/tests/fuzz
set -- $fuzz_programs
echo "1..$#"
n=0
for t in "$@"; do
	n=$((n + 1))
	name=${t##*/}
	out=$(find "$here/corpus/$name" "$top_srcdir/tests/data" -type f \
		-exec "$top_builddir/$t" {} + 2>&1)
	if [ $? -eq 0 ]; then
		echo "ok $n - $name"
	else
		printf '%s\n' "$out" | sed 's/^/# /'
		echo "not ok $n - $name"
	fi
done
