# SPDX-License-Identifier: Apache-2.0
# Laboratory of the end-to-end tests: TAP, temporary places, registries,
# mounts. Sourced by tests/sh/*.sh (bash). Loopback only; every port is chosen
# by the kernel; all that a test makes is under $T and goes when it ends.
#
# Programs under test: MOUNT_ESTARGZ, ESTARGZD, ESTARGZ (environment), else
# those of $top_builddir.
# shellcheck shell=bash

set -u
export LC_ALL=C TZ=UTC
umask 022

top_srcdir=${top_srcdir:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
top_builddir=${top_builddir:-$PWD}
MOUNT_ESTARGZ=${MOUNT_ESTARGZ:-$top_builddir/fs/mount.estargz}
ESTARGZD=${ESTARGZD:-$top_builddir/daemon/fetcher/estargzd}
ESTARGZ=${ESTARGZ:-$top_builddir/cli/estargz}
ESTARGZ_SNAPSHOTTER=${ESTARGZ_SNAPSHOTTER:-$top_builddir/daemon/snapshotter/estargz-snapshotter}
PYTHON=${PYTHON:-/usr/bin/python3}
TOOLS=$top_srcdir/tests/tools
SRV=$top_srcdir/tests/srv
export ESTARGZD top_srcdir top_builddir PYTHONDONTWRITEBYTECODE=1
# mount(8) since 2.39 would otherwise use fsconfig(2), which takes 256 bytes of
# an option at most: not the lower layers of an overlay.
export LIBMOUNT_FORCE_MOUNT2=always
# Nothing of the caller's network set-up may reach the programs under test.
unset http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY \
	ALL_PROXY NO_PROXY DOCKER_CONFIG REGISTRY_AUTH_FILE

### TAP ###

TAP_N=0
TAP_BAD=0
TAP_PLAN=

plan() { TAP_PLAN=$1; echo "1..$1"; }
diag() { printf '# %s\n' "$*"; }
diag_file() { [ ! -s "$1" ] || tail -n "${2:-20}" "$1" | sed 's/^/# | /'; }
bail() { echo "Bail out! $*"; exit 99; }

# The whole script cannot run here.
plan_skip() {
	TAP_PLAN=0
	echo "1..0 # SKIP $*"
	exit 0
}

pass() { TAP_N=$((TAP_N + 1)); echo "ok $TAP_N - $*"; }
fail() {
	TAP_N=$((TAP_N + 1))
	if [ -n "$KNOWN" ]; then
		echo "not ok $TAP_N - $* # TODO $KNOWN"
	else
		TAP_BAD=$((TAP_BAD + 1))
		echo "not ok $TAP_N - $*"
	fi
	return 1
}
# known WHY COMMAND...: checks of which a failure is a known fault of the
# product. They count as expected failures; one that passes simply passes.
KNOWN=
known() {
	local KNOWN=$1
	shift
	"$@"
}
skip() { TAP_N=$((TAP_N + 1)); echo "ok $TAP_N - $1 # SKIP $2"; }

# ok DESC COMMAND...: passes where the command does; shows its output if not.
ok() {
	local d=$1 rc
	shift
	"$@" >"$T/.ok" 2>&1
	rc=$?
	if [ $rc = 0 ]; then
		pass "$d"
	else
		fail "$d"
		diag "exit $rc: $*"
		diag_file "$T/.ok" 40
		return 1
	fi
}
not_ok() {
	local d=$1
	shift
	if "$@" >"$T/.ok" 2>&1; then
		fail "$d"
		diag "succeeded: $*"
		return 1
	fi
	pass "$d"
}
# one_line DESC REGEX COMMAND...: exit 1, and one line in $T/err, where COMMAND
# puts its standard error, which matches.
one_line() {
	local d=$1 re=$2 rc
	shift 2
	"$@"
	rc=$?
	if [ $rc = 1 ] && [ "$(wc -l <"$T/err")" = 1 ] &&
		grep -qE -- "$re" "$T/err"; then
		pass "$d"
		return
	fi
	fail "$d"
	diag "exit $rc, want 1 and one line that matches: $re"
	diag_file "$T/err"
}
# is GOT WANT DESC
is() {
	if [ "$1" = "$2" ]; then
		pass "$3"
	else
		fail "$3"
		diag "got:  $1"
		diag "want: $2"
		return 1
	fi
}
# like GOT REGEX DESC (extended regular expression)
like() {
	if grep -qE -- "$2" <<<"$1"; then
		pass "$3"
	else
		fail "$3"
		diag "got:  $1"
		diag "want a match of: $2"
		return 1
	fi
}
# at_most GOT LIMIT DESC
at_most() {
	if [ "$1" -le "$2" ] 2>/dev/null; then
		pass "$3"
	else
		fail "$3"
		diag "got $1, at most $2 allowed"
		return 1
	fi
}
done_testing() {
	[ -n "$TAP_PLAN" ] || echo "1..$TAP_N"
	TAP_PLAN=printed
	[ $TAP_BAD = 0 ]
	exit
}

# in_lanes N SETUP COMMAND WORD...: COMMAND with each word, N of them at a time
# where most of their time is waiting. Each lane is a shell of its own, with
# directories below another $T; what they say is told one after the other.
in_lanes() {
	local n=$1 setup=$2 command=$3 lane i p line pids=()
	shift 3
	for ((lane = 0; lane < n; lane++)); do
		(
			T=$T/lane$lane
			mkdir -p "$T/run"
			TAP_N=0
			"$setup"
			for ((i = lane + 1; i <= $#; i += n)); do
				"$command" "${!i}"
			done
			echo "lane ends"
		) >"$T/lane$lane.tap" 2>&1 &
		pids+=($!)
	done
	for p in "${pids[@]}"; do
		wait "$p"
	done
	for ((lane = 0; lane < n; lane++)); do
		while IFS= read -r line; do
			case $line in
			"ok "*) pass "${line#* - }" ;;
			"not ok "*) fail "${line#* - }" ;;
			"#"*) echo "$line" ;;
			"lane ends") line= && break ;;
			*) diag "$line" ;;
			esac
		done <"$T/lane$lane.tap"
		[ -z "$line" ] || fail "lane $lane came to its end"
	done
}

### What the machine must have ###

requires_root() { [ "$(id -u)" = 0 ] || plan_skip "needs root"; }
requires_fuse() { [ -c /dev/fuse ] || plan_skip "needs /dev/fuse"; }
requires_fs() {
	grep -qw "$1" /proc/filesystems || modprobe "$1" 2>/dev/null ||
		plan_skip "needs $1 in the kernel"
}
requires_cmd() {
	local c
	for c; do
		command -v "$c" >/dev/null || plan_skip "needs $c"
	done
}
requires_programs() {
	local p
	for p in "$MOUNT_ESTARGZ" "$ESTARGZD"; do
		[ -x "$p" ] || plan_skip "$(basename "$p") is not built"
	done
}
requires_mount() {
	requires_root
	requires_fuse
	requires_cmd "$PYTHON" findmnt
	requires_programs
}

### Places and processes ###

T=$(mktemp -d "${TMPDIR:-/tmp}/estargz-t.XXXXXX") || exit 99
# For contrib/clean-leftovers: this process, by its number and start.
echo "$$ $(sed 's/.*) //' /proc/$$/stat | cut -d' ' -f20)" >"$T/owner"
# Marks every process of this test, in its environment.
export ESTARGZ_TEST_ID=$T
export HOME=$T/home
mkdir -p "$HOME" "$T/run"
PIDS=()

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# wait_for SECONDS COMMAND...: polls until it succeeds. SECONDS are those of a
# machine that has nothing else to do; a slow one gets $PATIENCE times as many.
PATIENCE=${PATIENCE:-6}
wait_for() {
	local end=$(($(now_ms) + $1 * PATIENCE * 1000))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(now_ms)" -lt $end ] || return 1
		sleep 0.02
	done
}

# Starts a command in the background; its pid is in $BG_PID. Output: $T/NAME.log
background() {
	local name=$1
	shift
	: >"$T/$name.log"
	"$@" >>"$T/$name.log" 2>&1 </dev/null &
	BG_PID=$!
	PIDS+=("$BG_PID")
}

# Of a process that is not there its number is sometimes 0, which is everybody who was
# started with us: all of make check.
kill() {
	[[ " $* " != *" 0 "* ]] || {
		diag "refused: kill $*"
		return 1
	}
	builtin kill "$@"
}

stop_pid() {
	kill "$1" 2>/dev/null || return 0
	wait_for 10 pid_gone "$1" || kill -9 "$1" 2>/dev/null
	wait "$1" 2>/dev/null
	return 0
}
pid_gone() {
	local s
	s=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null)
	[ -z "$s" ] || [ "$s" = Z ] || [ "$s" = X ]
}

# Pids of this test's processes, optionally only of the program $1 (its name).
test_procs() {
	local pid exe
	for pid in $({
		grep -lszxF "ESTARGZ_TEST_ID=$T" /proc/[0-9]*/environ
		grep -lsF "$T" /proc/[0-9]*/cmdline
	} | cut -d / -f 3 | sort -un); do
		[ "$pid" != $$ ] && [ "$pid" != "$BASHPID" ] || continue
		if [ -n "${1:-}" ]; then
			exe=$(readlink "/proc/$pid/exe" 2>/dev/null) || continue
			exe=$(basename "${exe% (deleted)}")
			[ "$exe" = "$1" ] || continue
		fi
		pid_gone "$pid" || echo "$pid"
	done
}
# Of the product; estargzd that the test itself started are in $KEEP_PIDS.
KEEP_PIDS=
product_procs() {
	local p
	for p in $(test_procs 'mount.estargz') $(test_procs 'estargzd'); do
		[[ " $KEEP_PIDS " == *" $p "* ]] || echo "$p"
	done
}
# Those of them that could write to a file, as they have it open.
writers() {
	local p fd
	for p in $(product_procs); do
		for fd in /proc/"$p"/fd/*; do
			[ "$(readlink "$fd" 2>/dev/null)" = "$1" ] &&
				(($(sed -n 's/^flags:[[:space:]]*//p' \
					"/proc/$p/fdinfo/${fd##*/}") & 3)) &&
				echo "$p"
		done
	done
}
no_writers() { [ -z "$(writers "$1")" ]; }
no_mount_procs() { [ -z "$(test_procs 'mount.estargz')" ]; }
no_product_procs() { [ -z "$(product_procs)" ]; }
mounts_below() {
	awk -v t="$1" 'index($5, t) == 1 {print $5}' /proc/self/mountinfo
}
no_mounts() { [ -z "$(mounts_below "$T")" ]; }
umount_all() {
	local m
	# Spaces in names are \040 there.
	mounts_below "$T" | tac | while read -r m; do
		umount -l "$(printf %b "$m")" 2>/dev/null
	done
}

# Nothing of the product is left, neither mount nor process.
no_leaks() {
	local d=${1:-"no process and no mount is left"} p
	if wait_for 10 no_product_procs && wait_for 2 no_mounts; then
		pass "$d"
		return
	fi
	fail "$d"
	for p in $(product_procs); do
		diag "left: $p $(tr '\0' ' ' <"/proc/$p/cmdline")"
	done
	diag "mounts left:" "$(mounts_below "$T")"
	# A mount namespace that was made meanwhile keeps its copies.
	for p in $(grep -lsF " $T/" /proc/[0-9]*/mountinfo | cut -d / -f 3); do
		[ "/proc/$p/ns/mnt" -ef /proc/self/ns/mnt ] ||
			diag "mounts held by: $p $(tr '\0' ' ' <"/proc/$p/cmdline")"
	done
	drop_leaks
	return 1
}
drop_leaks() {
	local p
	umount_all
	for p in $(product_procs); do
		kill -9 "$p" 2>/dev/null
	done
}

cleanup() {
	local rc=$? p
	trap '' EXIT INT TERM HUP
	! declare -F at_cleanup >/dev/null || at_cleanup
	umount_all
	for p in ${PIDS[@]+"${PIDS[@]}"}; do
		kill "$p" 2>/dev/null
	done
	for p in ${PIDS[@]+"${PIDS[@]}"}; do
		wait_for 5 pid_gone "$p"
	done
	for p in $(test_procs); do
		kill -9 "$p" 2>/dev/null
	done
	# A FUSE mount whose server died may have been hidden by another.
	umount_all
	if [ -n "${KEEP_TMP:-}" ]; then
		echo "# kept: $T"
	else
		rm -rf --one-file-system "$T"
	fi
	exit $rc
}
trap cleanup EXIT
trap 'exit 98' INT TERM HUP

### Mounting ###

# mount_esgz SOURCE TARGET [OPTIONS] [more arguments]: state under $T/state,
# no shared fetcher unless $FETCHER is set. Output in $T/mount.err; the exit
# code is mount.estargz's, 124 after a minute.
STATE=$T/state
FETCHER=
MOUNT_DEADLINE=60
mount_opts() {
	local o="root=$STATE,fetcher=${FETCHER:-$T/run/none.sock}"
	[ -z "${1:-}" ] || o=$o,$1
	echo "$o"
}
mount_esgz() {
	local src=$1 dir=$2 opts=${3:-} rc
	shift 2
	[ $# = 0 ] || shift
	mkdir -p "$dir"
	# Fresh files: a fetcher of an earlier mount may still write to the old.
	rm -f "$T/mount.out" "$T/mount.err"
	timeout -k 5 "$MOUNT_DEADLINE" "$MOUNT_ESTARGZ" "$src" "$dir" \
		-o "$(mount_opts "$opts")" "$@" >"$T/mount.out" 2>"$T/mount.err" \
		</dev/null
	rc=$?
	[ $rc = 0 ] || sed 's/^/mount.estargz: exit '$rc': /' "$T/mount.err"
	return $rc
}
# Lines that mount_esgz left on stderr, but for the log.
err_lines() { grep -cv '^level=' "$T/mount.err"; }
umount_esgz() {
	timeout 120 umount "$1" || return 1
	! is_mounted "$1"
}
is_mounted() { findmnt -n --mountpoint "$1" >/dev/null; }

# The pids that serve a mount (private: all but the test's own estargzd).
monitor_pids() {
	local p
	for p in $(test_procs 'mount.estargz'); do
		grep -qsE '^Uid:[[:space:]]+0' "/proc/$p/status" && echo "$p"
	done
}
worker_pids() {
	local p
	for p in $(test_procs 'mount.estargz'); do
		grep -qsE '^Uid:[[:space:]]+[1-9]' "/proc/$p/status" && echo "$p"
	done
}

# A refused mount: exit 1, one line that names the source and matches $3,
# no mount, no process. refused DESC SOURCE REGEX [OPTIONS]. Log lines of a
# private fetcher do not count here; m08-options looks for them.
refused() {
	local d=$1 src=$2 re=$3 opts=${4:-} dir=$T/refused rc n why=
	mount_esgz "$src" "$dir" "$opts" >/dev/null
	rc=$?
	n=$(err_lines)
	[ $rc = 1 ] || why="exit $rc, want 1"
	[ "$n" = 1 ] || why="$why; $n lines on stderr, want 1"
	grep -qF -- "$src" "$T/mount.err" || why="$why; source not named"
	grep -qiE -- "$re" "$T/mount.err" || why="$why; no match of: $re"
	! is_mounted "$dir" || why="$why; mounted"
	# A private fetcher may stay a second longer; no_leaks looks for it.
	wait_for 5 no_mount_procs || why="$why; processes left"
	if [ -z "$why" ]; then
		pass "$d"
		return
	fi
	fail "$d"
	diag "${why#; }"
	diag_file "$T/mount.err"
	drop_leaks
	return 1
}

treecmp() { timeout 600 "$PYTHON" "$TOOLS/treecmp.py" "$@"; }
mkesgz() { timeout 600 "$PYTHON" "$TOOLS/mkesgz.py" "$@"; }
jget() { jq -r "$2" <"$1"; }

### estargzd ###

# Whether somebody listens at a path. A socket there may be a dead one's; ours are bound beside it, and moved there once they listen.
listens() {
	[ -S "$1" ] && [ ! -e "$1.new" ] &&
		awk -v p="$1" '$4 == "00010000" && ($8 == p || $8 == p ".new") \
			{ n++ } END { exit !n }' /proc/net/unix
}

# start_estargzd [NAME] [arguments]: sets FETCHER and ESTARGZD_PID. What its
# configuration would take from /etc comes from $T.
start_estargzd() {
	local name=${1:-estargzd}
	[ $# = 0 ] || shift
	FETCHER=$T/run/$name.sock
	background "$name" "$ESTARGZD" --socket "$FETCHER" "$@"
	ESTARGZD_PID=$BG_PID
	KEEP_PIDS="$KEEP_PIDS $ESTARGZD_PID"
	wait_for 10 listens "$FETCHER" || {
		diag "estargzd did not start"
		diag_file "$T/$name.log"
		return 1
	}
}
stop_estargzd() {
	[ -z "${ESTARGZD_PID:-}" ] || stop_pid "$ESTARGZD_PID"
	ESTARGZD_PID=
	FETCHER=
}
# with_estargzd COMMAND...: with a shared fetcher for its duration.
with_estargzd() {
	local rc
	start_estargzd with || return 1
	"$@"
	rc=$?
	stop_estargzd
	return $rc
}

# estargzd_config DIR: $T/estargzd.toml, which looks for hosts.toml there.
estargzd_config() {
	printf 'hosts_dir = "%s"\n' "$1" >"$T/estargzd.toml"
}

### Registries ###

# A private CA and a certificate for localhost: $T/tls/{ca,srv}.{crt,key}
make_tls() {
	local d=$T/tls
	[ ! -f "$d/srv.crt" ] || return 0
	mkdir -p "$d"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
		-keyout "$d/ca.key" -out "$d/ca.crt" -days 7 \
		-subj "/CN=estargz test CA" \
		-addext basicConstraints=critical,CA:TRUE \
		-addext keyUsage=critical,keyCertSign 2>"$d/log" &&
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
		-keyout "$d/srv.key" -out "$d/srv.csr" \
		-subj "/CN=localhost" 2>>"$d/log" &&
	openssl x509 -req -in "$d/srv.csr" -CA "$d/ca.crt" -CAkey "$d/ca.key" \
		-CAcreateserial -days 7 -out "$d/srv.crt" \
		-extfile <(printf '%s\n' 'subjectAltName=DNS:localhost,IP:127.0.0.1' \
			'basicConstraints=CA:FALSE') 2>>"$d/log" ||
		bail "openssl: $(tail -n 2 "$d/log")"
}

# start_registry [auth=htpasswd|token] [tls] : Debian's docker-registry.
# Sets REG (HOST:PORT), REG_LOG, REG_PID. User and password: alice, s3cret.
REG_N=0
start_registry() {
	local a auth="" tls="" d name
	for a; do
		case $a in
		auth=*) auth=${a#auth=} ;;
		tls) tls=1 ;;
		esac
	done
	REG_N=$((REG_N + 1))
	name=registry$REG_N
	d=$T/$name
	mkdir -p "$d/data"
	{
		echo "version: 0.1"
		echo "log: {level: info, accesslog: {disabled: false}}"
		echo "storage: {filesystem: {rootdirectory: $d/data}}"
		echo "http:"
		echo "  addr: 127.0.0.1:0"
		if [ -n "$tls" ]; then
			make_tls
			echo "  tls: {certificate: $T/tls/srv.crt, key: $T/tls/srv.key}"
		fi
		case $auth in
		htpasswd)
			htpasswd -Bbn -C 4 alice s3cret >"$d/htpasswd"
			echo "auth: {htpasswd: {realm: lab, path: $d/htpasswd}}"
			;;
		token)
			start_tokens
			echo "auth:"
			echo "  token:"
			echo "    realm: $TOKENS/token"
			echo "    service: lab"
			echo "    issuer: lab"
			echo "    rootcertbundle: $T/tokens.crt"
			;;
		esac
	} >"$d/config.yml"
	background "$name" docker-registry serve "$d/config.yml"
	REG_PID=$BG_PID
	REG_LOG=$T/$name.log
	wait_for 20 grep -q 'listening on' "$REG_LOG" || {
		diag_file "$REG_LOG"
		bail "docker-registry did not start"
	}
	REG=$(sed -n 's/.*listening on \(127.0.0.1:[0-9]*\).*/\1/p' "$REG_LOG" |
		head -n 1)
}

# The token server of auth=token: TOKENS (URL); its log counts token requests.
start_tokens() {
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$T/tokens.key" \
		-out "$T/tokens.crt" -days 7 -subj "/CN=lab tokens" \
		2>/dev/null || bail "openssl"
	background tokens "$PYTHON" "$SRV/tokens.py" --key "$T/tokens.key" \
		--cert "$T/tokens.crt" --user alice:s3cret --issuer lab \
		--port-file "$T/tokens.port" ${TOKEN_ARGS:-}
	wait_for 20 test -s "$T/tokens.port" || {
		diag_file "$T/tokens.log"
		bail "token server did not start"
	}
	TOKENS=http://127.0.0.1:$(cat "$T/tokens.port")
}

# push OCI-DIR:TAG REPO[:TAG] [skopeo options]: to $REG, bytes unchanged.
push() {
	local from=$1 to=$2
	shift 2
	skopeo copy --quiet --preserve-digests --dest-tls-verify=false "$@" \
		"oci:$from" "docker://$REG/$to" >"$T/push.log" 2>&1 || {
		diag_file "$T/push.log"
		return 1
	}
}

# The misbehaving server: SRV_URL, SRV_ADDR (HOST:PORT); see tests/srv/srv.py.
# start_srv NAME [arguments]
start_srv() {
	local name=$1
	shift
	background "$name" "$PYTHON" "$SRV/srv.py" --port-file "$T/$name.port" \
		--log "$T/$name.jsonl" "$@"
	SRV_PID=$BG_PID
	wait_for 20 test -s "$T/$name.port" || {
		diag_file "$T/$name.log"
		bail "tests/srv did not start"
	}
	SRV_ADDR=127.0.0.1:$(cat "$T/$name.port")
	SRV_URL=http://$SRV_ADDR
	SRV_LOG=$T/$name.jsonl
}
# srv_fault JSON...: adds faults; srv_reset: forgets faults and the log.
srv_ctl() {
	curl -sfk --max-time 10 "$@"
}
srv_fault() {
	local f
	for f; do
		srv_ctl -X POST --data-binary "$f" "$SRV_URL/_ctl/fault" >/dev/null ||
			bail "fault not accepted: $f"
	done
}
srv_clear() { srv_ctl -X POST "$SRV_URL/_ctl/clear" >/dev/null; }
srv_reset() { srv_ctl -X POST "$SRV_URL/_ctl/reset" >/dev/null; }
# srv_count [QUERY]: requests logged; query: method=, path= (regex), status=
srv_count() { srv_ctl "$SRV_URL/_ctl/count${1:+?$1}"; }

### Images ###

# images TAG...: builds them where the cache lacks them, else skips the
# script; IMAGES is the OCI layout that has them all, LAYERS the directory of
# the layers' tars. have_images TAG...: fails where they cannot be had.
have_images() {
	local c
	c=$("$top_srcdir/tests/images.sh" "$@" 2>"$T/images.log") || {
		diag_file "$T/images.log"
		return 1
	}
	IMAGES=$c/oci
	LAYERS=$c/layers
}
images() {
	have_images "$@" || plan_skip "test images could not be built:" \
		"$(tail -n 1 "$T/images.log")"
}
# Of an OCI layout: manifest_of DIR TAG → path; layer_of DIR TAG N → JSON.
manifest_of() {
	local d
	d=$(jq -r --arg t "$2" '[.manifests[] | select(
		.annotations["org.opencontainers.image.ref.name"] == $t)][-1]
		.digest' <"$1/index.json")
	# An index of one platform, as ctr writes it.
	while [ "$(jq -r 'has("manifests")' <"$1/blobs/sha256/${d#*:}")" = true ]
	do
		d=$(jq -r '.manifests[0].digest' <"$1/blobs/sha256/${d#*:}")
	done
	echo "$1/blobs/sha256/${d#*:}"
}
n_layers() { jq '.layers | length' <"$(manifest_of "$1" "$2")"; }
layer_digest() {
	jq -r ".layers[$3].digest" <"$(manifest_of "$1" "$2")"
}
layer_blob() {
	local d
	d=$(layer_digest "$@")
	echo "$1/blobs/sha256/${d#*:}"
}
layer_toc() {
	jq -r ".layers[$3].annotations[
		\"containerd.io/snapshot/stargz/toc.digest\"]" \
		<"$(manifest_of "$1" "$2")"
}
