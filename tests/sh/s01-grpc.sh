#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The gRPC server of the snapshotter, by independent clients: python3-grpcio
# (the C core of gRPC), and HTTP/2 frames made by hand for what that would not
# send. The methods are those of tests/tools/grpclab.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_cmd "$PYTHON" mkfifo
"$PYTHON" -c 'import grpc' 2>/dev/null || plan_skip "needs python3-grpcio"
GRPCLAB=${GRPCLAB:-$top_builddir/tests/tools/grpclab}
[ -x "$GRPCLAB" ] || plan_skip "grpclab is not built"

start_lab() {
	background "$1" "$GRPCLAB" "$T/lab.sock"
	LAB=$BG_PID
	wait_for 10 listens "$T/lab.sock" || bail "grpclab did not start"
}
check() { timeout 120 "$PYTHON" "$TOOLS/grpccheck.py" "$T/lab.sock" "$@"; }

start_lab lab1
mkfifo "$T/fifo"
ok "status codes and messages, in UTF-8" check statuses
ok "messages of 4 MiB, and not one byte more" check large
ok "streams of messages: none, many, large ones" check stream
ok "clients that read slowly: bounded memory, nothing lost" check slow "$LAB"
ok "1,500 calls at once on a connection" check parallel 1500
ok "100 connections at once" check connections 100
ok "keep-alive pings are answered" check pings
ok "header blocks, messages and frames cut at every byte" check split
ok "a window of one byte" check window
ok "a call that is cancelled" check cancel "$T/fifo"
ok "a deadline that passes" check deadline "$T/fifo"
ok "what is not HTTP/2, or breaks it, ends its own connection" check garbage
ok "floods of PING, SETTINGS, CONTINUATION and RST_STREAM" check floods
ok "headers that are small only when compressed" check header_bomb
ok "more clients than are allowed" check many_clients
ok "requests that are begun and not ended: bounded" check half_requests

### A shutdown ###

no_socket() { ! "$PYTHON" "$TOOLS/h2raw.py" "$T/lab.sock"; }

check wait "$T/fifo" >"$T/waited" 2>&1 &
WAITER=$!
# Returns when the call is under way.
exec 9>"$T/fifo"
kill -TERM "$LAB"
ok "SIGTERM: nobody is accepted any more" wait_for 20 no_socket
not_ok "and it does not end yet" pid_gone "$LAB"
echo still here >&9
exec 9>&-
wait $WAITER
is "$(cat "$T/waited")" "still here" "the call is answered"
ok "then it ends" wait_for 20 pid_gone "$LAB"
wait "$LAB"
is $? 0 "without an error"

start_lab lab2
check wait "$T/fifo" >"$T/waited" 2>&1 &
WAITER=$!
exec 9>"$T/fifo"
kill -TERM "$LAB"
ok "a call that never ends does not keep it" wait_for 30 pid_gone "$LAB"
wait $WAITER
like "$(cat "$T/waited")" UNAVAILABLE "its client is told"
exec 9>&-
not_ok "nothing was reported by a sanitizer" \
	grep -e 'ERROR: .*Sanitizer' -e 'WARNING: .*Sanitizer' \
	-e 'runtime error' "$T"/lab?.log
done_testing
