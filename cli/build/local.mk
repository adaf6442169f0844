# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libbuild.a
BUILD_LIBS = %D%/libbuild.a common/libcommon.a $(ISAL_LIBS) $(COMMON_LIBS) -lpthread
%C%_libbuild_a_SOURCES = %D%/build.h \
	%D%/tar.c %D%/tar_make.c %D%/tar_pax.c %D%/tar_sparse.c \
	%D%/tar.h %D%/tar_int.h
