# SPDX-License-Identifier: Apache-2.0
# What the benchmarks share: where things are, samples, times, a slow network.
# Sourced (bash) by a script in bench/, which is $here.
# shellcheck shell=bash

# HERE: the directory of the benchmarks.
top_srcdir=$(cd "$here/.." && pwd)
top_builddir=$(cd "${top_builddir:-.}" && pwd)
CACHE=${ESTARGZ_BENCH_CACHE:-/var/cache/estargz-bench}
mkdir -p "$CACHE" || exit 1
# On a real file system, not in memory.
export TMPDIR=$CACHE
. "$top_srcdir/tests/lib.sh"
. "$here/procs.sh"

SHAPE=$top_builddir/bench/shape
TIMED=$top_builddir/bench/timed
OPS=$top_builddir/bench/ops
INFLATE=$top_builddir/bench/inflate
HASH=$top_builddir/bench/hash
export INFLATE
RTT=20

die() { echo "bench: $*" >&2; exit 1; }
say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }
needs() {
	local p
	[ "$(id -u)" = 0 ] || die "needs root"
	for p in "$MOUNT_ESTARGZ" "$ESTARGZD" "$ESTARGZ_SNAPSHOTTER" "$SHAPE" \
		"$TIMED" "$OPS" "$INFLATE"; do
		[ -x "$p" ] || die "$p is not built (run this in the build directory)"
	done
	for p; do
		command -v "$p" >/dev/null || die "needs $p"
	done
}

# As in tests/lib.sh, without a look at every process of the machine: that would be
# felt by what is being measured.
eval "all_$(declare -f test_procs)"
test_procs() {
	local p exe
	[ $# -gt 0 ] || { all_test_procs; return; }
	for p in $(pgrep estargz); do
		exe=$(readlink "/proc/$p/exe") || continue
		[ "${exe##*/}" = "$1" ] || continue
		! grep -qzxF "ESTARGZ_TEST_ID=$T" "/proc/$p/environ" \
			2>/dev/null || pid_gone "$p" || echo "$p"
	done
}

### Samples ###

# A line a measurement, "KEY VALUE", and "# KEY WORDS" for what is no number;
# what bench/table.py and bench/plot.py read. ESTARGZ_BENCH_SAMPLES: of a caller.
SAMPLES=${ESTARGZ_BENCH_SAMPLES:-$T/samples}
[ -e "$SAMPLES" ] || : >"$SAMPLES"
sample() { echo "$1 $2" >>"$SAMPLES"; }
note() { echo "# $*" >>"$SAMPLES"; }
calc() { awk "BEGIN { printf \"%.6f\", $1 }"; }
load() { cut -d' ' -f1-3 /proc/loadavg; }

# timed COMMAND...: WALL and CPU, in seconds; its output to $T/timed.log
timed() {
	"$TIMED" "$T/timed" "$@" >"$T/timed.log" 2>&1 </dev/null ||
		die "failed: $* : $(tail -n 3 "$T/timed.log")"
	read -r WALL CPU <"$T/timed"
}
# timed_ms KEY COMMAND...
timed_ms() {
	local k=$1
	shift
	timed "$@"
	sample "$k" "$(calc "$WALL * 1000")"
}
# in_turn ROUND FUNCTION...: each once; every other round from the last.
in_turn() {
	local round=$1 i
	shift
	if [ $((round % 2)) = 1 ]; then
		for ((i = 1; i <= $#; i++)); do ${!i}; done
	else
		for ((i = $#; i >= 1; i--)); do ${!i}; done
	fi
}
# A hypervisor may take free memory back. Then the first touch of a page waits for
# the host, which is no work of what is measured: what will be needed is fetched.
touch_memory() { "$PYTHON" -c 'b"x" * (3 << 30)' || die "no 3 GiB of memory"; }
drop_caches() { sync; echo 3 >/proc/sys/vm/drop_caches; }

### Network ###

# far HOST:PORT [MBIT]: sets FAR, the same server RTT ms away, and FAR_PID.
far() {
	local name=shape-${1##*:}-${2:-0}
	background "$name" "$SHAPE" --to "$1" --rtt-ms $RTT ${2:+--mbit "$2"}
	FAR_PID=$BG_PID
	wait_for 5 test -s "$T/$name.log" || die "shape did not start"
	FAR=127.0.0.1:$(head -n 1 "$T/$name.log")
}
