#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who reads small files one after the other is read ahead of, in the order of the
# directory, whatever that of the blob is; and who reads few of them is not.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"
requires_mount
requires_cmd jq curl

mkdir -p "$T/f" "$T/m"
mkesgz make shuffled "$T/f/blob" >"$T/blob.json"
D=$(jget "$T/blob.json" .toc_digest)
start_srv srv --files "$T/f"
N=0
mounted() { # with an empty cache, and nothing that is fetched unasked
	N=$((N + 1))
	srv_reset
	STATE=$T/state$N mount_esgz "$SRV_URL/f/blob" "$T/m" \
		"nobackground,noprefetch,toc_digest=$D,tail=200000"
}
ended() { umount_esgz "$T/m" && wait_for 20 no_mount_procs; }
sent() { srv_ctl "$SRV_URL/_ctl/sent"; }

ok "a mount" mounted
ok "all files are right" treecmp "$T/m" "$T/f/blob"
at_most "$(srv_count)" 1001 "no file took two requests ($(srv_count))"
ended

ok "a mount" mounted
ok "two files are read" cat "$T/m/d/f500" "$T/m/d/f501"
at_most "$(sent)" 500000 "and little else came ($(sent))"
before=$(sent)
ok "a third one" cat "$T/m/d/f502"
came() { [ "$(sent)" -gt $((before + 300000)) ]; }
ok "and what follows it comes unasked" wait_for 10 came
srv_fault '{"kind":"drop"}'
ok "the next one is there" cat "$T/m/d/f503"
srv_clear
ended

not_ok "nothing was reported by a sanitizer" \
	grep -l -e 'ERROR: .*Sanitizer' -e 'runtime error' "$T"/*.log
done_testing
