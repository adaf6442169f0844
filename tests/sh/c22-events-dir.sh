#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# events_dir of the snapshotter: a file a layer, through the death of whoever
# serves it; a directory that cannot be had is no reason not to mount.
. "${top_srcdir:-.}/tests/lib.sh"
. "${top_srcdir:-.}/tests/containerd.sh"
. "${top_srcdir:-.}/tests/snap.sh"
requires_snapshotter
images small small-src
start_srv srv --oci "$IMAGES"
R=$SRV_ADDR/lab/img
snap_config
E=$T/events
sed -i "s|^\[layers\]|&\nevents_dir = \"$E\"\nevents_max_bytes = \"64MiB\"|" "$SNAP.toml"
snap_start
count() { cat "$E"/*.jsonl | jq -c "select(.e == \"$1\")" | wc -l; }

is "$(lazypull small)" "5 lazy" "layers are mounted"
is "$(find "$E" -name '*.jsonl' | wc -l) $(stat -c %a "$E")" "$(n_lazy) 700" "each has a file"
toc=$(layer_toc "$IMAGES" small 0)
toc=${toc#sha256:}
like "$(ls "$E")" "${toc:0:12}-[0-9]+.jsonl" "... named after its TOC"
ok "seen from its top it is the image" with_image small is_image "$T/ro" small
written() { [ "$(count read)" -gt 100 ]; }
ok "reads are recorded" wait_for 10 written
kill -9 $(monitor_pids)
again() { [ "$(count again)" = "$(n_lazy)" ]; }
ok "successors go on in the same file" wait_for 30 again
is "$(find "$E" -name '*.jsonl' | wc -l)" "$(n_lazy)" "... and no other"
ok "estargz trace has a look" "$ESTARGZ" trace --json "$E"
is "$(jget "$T/.ok" '.runs, (.layers | length)' | xargs)" "1 $(n_lazy)" "... of all layers"
remove_all
rm -r "$E"
ln -s /dev/null "$E"
is "$(lazypull small)" "5 lazy" "no directory, no events, but layers"
like "$(cat "$T/snapshotter.log")" 'no events: .*Not a directory' "... and a line in the log"
remove_all
snap_end
done_testing
