# SPDX-License-Identifier: Apache-2.0
noinst_PROGRAMS += %D%/fetchctl
%C%_fetchctl_SOURCES = %D%/fetchctl.c
noinst_PROGRAMS += %D%/grpclab
%C%_grpclab_SOURCES = %D%/grpclab.c
%C%_grpclab_LDADD = daemon/snapshotter/libsnapshotter.a common/libcommon.a \
	$(NGHTTP2_LIBS) $(COMMON_LIBS) -lpthread
noinst_PROGRAMS += %D%/imgctl
%C%_imgctl_CPPFLAGS = $(AM_CPPFLAGS) $(JSON_CFLAGS)
%C%_imgctl_SOURCES = %D%/imgctl.c
nodist_EXTRA_%C%_imgctl_SOURCES = %D%/cxx.cc
%C%_imgctl_LDADD = $(IMAGE_LIBS)
noinst_PROGRAMS += %D%/fakefs
%C%_fakefs_SOURCES = %D%/fakefs.c
noinst_PROGRAMS += %D%/snaplab
%C%_snaplab_SOURCES = %D%/snaplab.c
nodist_EXTRA_%C%_snaplab_SOURCES = %D%/cxx.cc
%C%_snaplab_LDADD = $(SNAPSHOTTER_LIBS) -lpthread
noinst_PROGRAMS += %D%/metactl
%C%_metactl_SOURCES = %D%/metactl.c
