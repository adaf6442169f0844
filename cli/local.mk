# SPDX-License-Identifier: Apache-2.0
bin_PROGRAMS += %D%/estargz
%C%_estargz_CPPFLAGS = $(AM_CPPFLAGS) $(JSON_CFLAGS)
%C%_estargz_SOURCES = %D%/main.c %D%/cli.h %D%/prune.c %D%/status.c
%C%_estargz_LDADD = common/libcommon.a $(COMMON_LIBS)
