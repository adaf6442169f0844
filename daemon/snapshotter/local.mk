# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libsnapshotter.a
%C%_libsnapshotter_a_SOURCES = \
	%D%/adopt.c \
	%D%/chainfile.c %D%/chainfile.h \
	%D%/chainmake.c %D%/chainmake.h \
	%D%/chains.c %D%/chains.h \
	%D%/conf.c %D%/conf.h \
	%D%/db.c %D%/db.h \
	%D%/dirs.c %D%/dirs.h \
	%D%/disk.c %D%/disk.h \
	%D%/evfiles.c %D%/evfiles.h \
	%D%/evict.c %D%/evict.h \
	%D%/fetcher.c %D%/fetcher.h \
	%D%/filter.c %D%/filter.h \
	%D%/grpc.c %D%/grpc.h \
	%D%/grpcmsg.c %D%/grpcmsg.h \
	%D%/h2.c %D%/h2.h \
	%D%/idmap.c %D%/idmap.h \
	%D%/labels.c %D%/labels.h \
	%D%/layer.c %D%/layer.h \
	%D%/expect.c %D%/expect.h \
	%D%/layers.c %D%/layers.h \
	%D%/lazy.c \
	%D%/metaproc.c %D%/metaproc.h \
	%D%/native.c %D%/native.h \
	%D%/pb.c %D%/pb.h \
	%D%/pool.c %D%/pool.h \
	%D%/probe.c %D%/probe.h \
	%D%/scope.c %D%/scope.h \
	%D%/service.c %D%/service.h \
	%D%/snapshots.c %D%/snapshots.h \
	%D%/place.c %D%/place.h \
	%D%/spawn.c %D%/spawn.h \
	%D%/stack.c %D%/stack.h \
	%D%/supmsg.c %D%/supmsg.h \
	%D%/tree.c %D%/tree_layers.c %D%/tree_named.c %D%/tree.h %D%/tree_impl.h
# protoc-c's, which does not know our warnings.
noinst_LIBRARIES += %D%/libsnapshotspb.a
nodist_%C%_libsnapshotspb_a_SOURCES = %D%/snapshots.pb-c.c %D%/snapshots.pb-c.h
%C%_libsnapshotspb_a_CFLAGS = -std=gnu11 $(HARDEN_CFLAGS) $(SAN_CFLAGS)
EXTRA_DIST += %D%/snapshots.proto
BUILT_SOURCES += %D%/snapshots.pb-c.h
# For who makes one target only.
%D%/service.$(OBJEXT) bench/rpc.$(OBJEXT): %D%/snapshots.pb-c.h
CLEANFILES += %D%/snapshots.pb-c.c %D%/snapshots.pb-c.h
%D%/snapshots.pb-c.c: %D%/snapshots.pb-c.h
%D%/snapshots.pb-c.h: %D%/snapshots.proto
	$(AM_V_GEN)$(MKDIR_P) %D% && $(PROTOC_C) -I$(srcdir)/%D% \
		--c_out=%D% $(srcdir)/%D%/snapshots.proto

SNAPSHOTTER_LIBS = daemon/snapshotter/libsnapshotter.a \
	daemon/snapshotter/libsnapshotspb.a common/libtoml.a \
	common/libcommon.a $(NGHTTP2_LIBS) $(PROTOBUFC_LIBS) $(SQLITE_LIBS) \
	$(PCRE_LIBS) $(TOML_LIBS) $(COMMON_LIBS)

sbin_PROGRAMS += %D%/estargz-snapshotter
%C%_estargz_snapshotter_SOURCES = %D%/main.c
# toml.cc needs the C++ linker; this file is never made.
nodist_EXTRA_%C%_estargz_snapshotter_SOURCES = %D%/cxx.cc
%C%_estargz_snapshotter_LDADD = $(SNAPSHOTTER_LIBS) -lpthread
