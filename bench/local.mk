# SPDX-License-Identifier: Apache-2.0
# shape: a slow, far network. What is what: README.md.
noinst_PROGRAMS += %D%/build %D%/ops %D%/shape %D%/timed %D%/inflate %D%/hash %D%/rpc
%C%_build_SOURCES = %D%/build.c
%C%_build_LDADD = $(BUILD_LIBS)
%C%_ops_SOURCES = %D%/ops.c
%C%_ops_LDADD =
%C%_shape_SOURCES = %D%/shape.c
%C%_shape_LDADD =
%C%_timed_SOURCES = %D%/timed.c
%C%_timed_LDADD =
%C%_inflate_SOURCES = %D%/inflate.c
%C%_inflate_LDADD = $(DEFLATE_LIBS)
%C%_hash_SOURCES = %D%/hash.c
%C%_hash_LDADD = common/libcommon.a $(COMMON_LIBS)
%C%_rpc_SOURCES = %D%/rpc.c
%C%_rpc_LDADD = daemon/snapshotter/libsnapshotter.a \
	daemon/snapshotter/libsnapshotspb.a common/libcommon.a \
	$(NGHTTP2_LIBS) $(PROTOBUFC_LIBS) $(COMMON_LIBS)
EXTRA_DIST += %D%/run %D%/lib.sh %D%/convert %D%/procs.sh %D%/input.py %D%/table.py \
	%D%/plot.py %D%/report %D%/stack %D%/stack.sh %D%/stack.py %D%/link %D%/ten %D%/openmodes \
	%D%/cold-start %D%/cold.py %D%/images.sh %D%/peer.go %D%/touched.py \
	%D%/prepare %D%/split.py %D%/idle %D%/README.md
