# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libregistry.a
%C%_libregistry_a_SOURCES = \
	%D%/registry.c %D%/registry.h \
	%D%/auth.c %D%/auth.h \
	%D%/byteranges.c %D%/byteranges.h \
	%D%/creds.c %D%/creds.h \
	%D%/exch.c %D%/exch.h \
	%D%/headers.c %D%/headers.h \
	%D%/hosts.c %D%/hosts.h \
	%D%/http.c %D%/http.h \
	%D%/reply.c %D%/reply.h
# toml.cc is in it: a program with that needs the C++ linker.
REGISTRY_LDADD = daemon/registry/libregistry.a common/libtoml.a \
	common/libcommon.a $(CURL_LIBS) $(TOML_LIBS) $(COMMON_LIBS)
