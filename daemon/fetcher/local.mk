# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libfetcher.a
%C%_libfetcher_a_SOURCES = \
	%D%/fetchd.c %D%/fetchd.h \
	%D%/blob.c %D%/blob.h \
	%D%/conf.c %D%/conf.h \
	%D%/hints.c %D%/hints.h \
	%D%/job.c \
	%D%/answer.c %D%/answer.h \
	%D%/metrics.c %D%/metrics.h \
	%D%/pace.c %D%/pace.h \
	%D%/plan.c %D%/plan.h \
	%D%/parts.c %D%/parts.h \
	%D%/play.c %D%/play.h \
	%D%/refer.c %D%/refer.h \
	%D%/resolve.c %D%/resolve.h \
	%D%/sandbox.c %D%/sandbox.h \
	%D%/sched.c %D%/sched.h \
	%D%/server.c %D%/server.h \
	%D%/several.c %D%/several.h \
	%D%/status.c %D%/status.h \
	%D%/warm.c %D%/warm.h \
	%D%/wire.c %D%/wire.h
FETCHER_LDADD = daemon/fetcher/libfetcher.a $(REGISTRY_LDADD) $(MHD_LIBS) \
	$(SECCOMP_LIBS)

sbin_PROGRAMS += %D%/estargzd
%C%_estargzd_SOURCES = %D%/main.c
# toml.cc needs the C++ linker; this file is never made.
nodist_EXTRA_%C%_estargzd_SOURCES = %D%/cxx.cc
%C%_estargzd_LDADD = $(FETCHER_LDADD)
