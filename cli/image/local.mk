# SPDX-License-Identifier: Apache-2.0
# libimage.a: images, wherever they are. toml.cc is among what it needs.
noinst_LIBRARIES += %D%/libimage.a
IMAGE_LIBS = %D%/libimage.a $(ARCHIVE_LIBS) $(REGISTRY_LDADD) -lpthread
%C%_libimage_a_CPPFLAGS = $(AM_CPPFLAGS) $(JSON_CFLAGS) $(ARCHIVE_CFLAGS)
%C%_libimage_a_SOURCES = \
	%D%/archive.c %D%/docker_archive.c %D%/archive.h \
	%D%/client.c %D%/client.h \
	%D%/doc.c %D%/doc.h \
	%D%/image.c %D%/image.h %D%/transport.h \
	%D%/index.c %D%/manifest.c %D%/manifest.h \
	%D%/layout.c %D%/layout_dst.c %D%/layout_index.c %D%/layout.h \
	%D%/push.c \
	%D%/refer.c \
	%D%/registry.c %D%/registry.h \
	%D%/span.c %D%/span.h \
	%D%/tarfile.c %D%/tarfile.h \
	%D%/tarout.c %D%/tarout.h
