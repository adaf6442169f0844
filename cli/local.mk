# SPDX-License-Identifier: Apache-2.0
# libcli.a: everything but main(), so that tests can reach it.
noinst_LIBRARIES += %D%/libcli.a
%C%_libcli_a_CPPFLAGS = $(AM_CPPFLAGS) $(JSON_CFLAGS)
%C%_libcli_a_SOURCES = \
	%D%/cli.c %D%/cli.h \
	%D%/args.c %D%/args.h \
	%D%/blobcheck.c %D%/blobcheck.h \
	%D%/convert.c \
	%D%/evlog.c %D%/evlog.h \
	%D%/glob.c %D%/glob.h \
	%D%/hints.c %D%/hints.h \
	%D%/layers.c %D%/layers.h \
	%D%/natives.c %D%/natives.h \
	%D%/observe.c %D%/observe.h \
	%D%/optimize.c \
	%D%/inspect.c \
	%D%/layerinfo.c %D%/layerinfo.h \
	%D%/members.c %D%/members.h \
	%D%/progress.c %D%/progress.h \
	%D%/prune.c \
	%D%/record.c %D%/record.h \
	%D%/reuse.c %D%/reuse.h \
	%D%/run.c %D%/run.h \
	%D%/rundir.c %D%/rundir.h \
	%D%/runimage.c %D%/runimage.h \
	%D%/runline.c %D%/runline.h \
	%D%/runmount.c %D%/runmount.h \
	%D%/runproc.c %D%/runproc.h \
	%D%/runroot.c %D%/runroot.h \
	%D%/runspec.c %D%/runspec.h \
	%D%/runstat.c %D%/runstat.h \
	%D%/runtty.c %D%/runtty.h \
	%D%/regopts.c %D%/regopts.h %D%/source.c %D%/source.h \
	%D%/status.c \
	%D%/text.c %D%/text.h \
	%D%/trace.c \
	%D%/transform.c %D%/transform.h \
	%D%/verify.c \
	%D%/wanted.c %D%/wanted.h \
	%D%/waterfall.c %D%/waterfall.h \
	%D%/wfplan.c %D%/wfplan.h

bin_PROGRAMS += %D%/estargz
%C%_estargz_SOURCES = %D%/main.c
# toml.cc needs the C++ linker; this file is never made.
nodist_EXTRA_%C%_estargz_SOURCES = %D%/cxx.cc
%C%_estargz_LDADD = %D%/libcli.a $(BUILD_LIBS) $(IMAGE_LIBS)
