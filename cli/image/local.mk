# SPDX-License-Identifier: Apache-2.0
# libimage.a: images, wherever they are.
noinst_LIBRARIES += %D%/libimage.a
IMAGE_LIBS = %D%/libimage.a common/libcommon.a $(COMMON_LIBS)
%C%_libimage_a_CPPFLAGS = $(AM_CPPFLAGS) $(JSON_CFLAGS)
%C%_libimage_a_SOURCES = \
	%D%/doc.c %D%/doc.h \
	%D%/image.c %D%/image.h %D%/transport.h \
	%D%/index.c %D%/manifest.c %D%/manifest.h \
	%D%/layout.c %D%/layout_dst.c %D%/layout_index.c %D%/layout.h \
	%D%/refer.c \
	%D%/span.c %D%/span.h
