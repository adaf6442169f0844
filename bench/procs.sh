# SPDX-License-Identifier: Apache-2.0
# What processes cost. Sourced (bash) by bench/run and bench/idle.
# shellcheck shell=bash

# Ticks (10 ms) that processes have used.
ticks() {
	local p
	for p; do
		awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$p/stat"
	done | awk '{ s += $1 } END { print s + 0 }'
}
# MiB that are private and dirty, swapped ones too.
dirty() {
	local p
	for p; do
		cat "/proc/$p/smaps_rollup"
	done | awk '/^(Private_Dirty|Swap):/ { s += $2 }
		END { printf "%.4f", s / 1024 }'
}
# MiB in files that have no name (memfd), which smaps counts only where mapped.
memfds() {
	local f
	for f in /proc/"$1"/fd/*; do
		[[ $(readlink "$f") != /memfd:* ]] || stat -L -c '%i %b' "$f"
	done | sort -u | awk '{ s += $2 } END { printf "%.4f", s / 2048 }'
}
# Until the processes have used no CPU for 3 s (what is kept for the next read is
# given back about a second after the last): at most a minute.
wait_idle() {
	local was now same=0 end=$(($(now_ms) + 60000))
	was=$(ticks "$@")
	while [ $same -lt 30 ]; do
		[ "$(now_ms)" -lt $end ] || die "not idle after a minute: $*"
		sleep 0.1
		now=$(ticks "$@")
		if [ "$now" = "$was" ]; then same=$((same + 1)); else same=0; fi
		was=$now
	done
}
