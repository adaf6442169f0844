/* SPDX-License-Identifier: Apache-2.0 */
/* The small languages inside a TOC's strings: for the toc module, and for who
 * makes a TOC. */
#ifndef COMMON_TOC_TEXT_H
#define COMMON_TOC_TEXT_H

#include "common/base.h"

/**
 * toc_path_clean() - a path as relative to the root, in place
 * @p:		[*@len], and one more byte for the NUL that is put there
 * @len:	in: bytes; out: bytes of the clean path
 *
 * Drops what path.Clean("/" + p) of Go drops: a leading and a trailing slash,
 * double slashes, ".", and ".." with the component before it. The root is "".
 * Return: 0, -EBADMSG (a NUL in it), -EOVERFLOW (past TOC_NAME_BYTES_MAX,
 * TOC_COMPONENT_BYTES_MAX or TOC_DEPTH_MAX)
 */
int toc_path_clean(char *p, size_t *len);

/**
 * toc_time() - RFC 3339 to seconds since the epoch
 * @s:		[@len]
 *
 * Fractions of a second are dropped. Return: 0 where @s is not a time.
 */
int64_t toc_time(const char *s, size_t len);

/**
 * toc_base64() - decode standard base64, padded, in place
 * @p:		[*@len]
 * @len:	in: characters; out: bytes
 *
 * Return: 0, -EBADMSG
 */
int toc_base64(char *p, size_t *len);

#endif
