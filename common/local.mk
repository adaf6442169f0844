# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libcommon.a
COMMON_LIBS = $(DEFLATE_LIBS) $(ZSTD_LIBS) $(ZLIB_LIBS) $(CRYPTO_LIBS) $(JSON_LIBS)
%C%_libcommon_a_SOURCES = \
	%D%/base.h %D%/limits.h %D%/checked.h %D%/list.h \
	%D%/err.c %D%/err.h \
	%D%/log.c %D%/log.h \
	%D%/rd.c %D%/rd.h \
	%D%/utf8.c %D%/utf8.h \
	%D%/buf.c %D%/buf.h \
	%D%/io.c %D%/io.h \
	%D%/digest.c %D%/sha256.c %D%/sha256_lanes.c \
	%D%/sha256_lanes.h %D%/digest.h \
	%D%/oci.c %D%/oci.h \
	%D%/codec.c %D%/codec.h \
	%D%/json.c %D%/json.h \
	%D%/toc_footer.c %D%/toc_decode.c %D%/toc_parse.c %D%/toc.h \
	%D%/toc_text.c %D%/toc_text.h \
	%D%/erofs.c %D%/erofs.h %D%/erofs_format.h \
	%D%/erofs_write.c %D%/erofs_write.h \
	%D%/erofs_check.c %D%/erofs_check.h \
	%D%/chunks.c %D%/chunks.h \
	%D%/present.c %D%/present.h \
	%D%/tree.c %D%/tree.h \
	%D%/index.c %D%/index.h \
	%D%/datapath.h %D%/merge.c %D%/merge.h \
	%D%/meta.c %D%/meta.h \
	%D%/layerdir.c %D%/layerdir.h \
	%D%/lastrun.c %D%/lastrun.h \
	%D%/kmount.c %D%/kmount.h \
	%D%/mnttab.c %D%/mnttab.h \
	%D%/seal.c %D%/seal.h \
	%D%/trace.c %D%/trace.h \
	%D%/loop.c %D%/loop.h \
	%D%/listen.c %D%/listen.h \
	%D%/systemd.c %D%/systemd.h \
	%D%/protocl.c %D%/protocl.h \
	%D%/proto.h %D%/proto_hint.h %D%/sup.h

# Apart, because they need the C++ linker.
noinst_LIBRARIES += %D%/libtoml.a
%C%_libtoml_a_SOURCES = %D%/toml.cc %D%/toml.h %D%/conftab.c %D%/conftab.h
%C%_libtoml_a_CPPFLAGS = $(AM_CPPFLAGS) $(TOML_CFLAGS)
