/* SPDX-License-Identifier: Apache-2.0 */
/* An error a person will read: a code and a line of text, no allocation. */
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

#include <errno.h>

#include "common/base.h"

/*
 * The codes, used the same way everywhere:
 *   EBADMSG     malformed, or failed verification
 *   EIO         transport          ETIMEDOUT  deadline passed
 *   ENODATA     not cached and offline
 *   ESTALE      blob changed upstream
 *   EACCES      registry refuses   ENOENT     registry does not have it
 *   EOVERFLOW   a limit of ours    EPROTO     peer broke the protocol
 *   EOPNOTSUPP  unknown feature or version
 */

#define ERR_TEXT_BYTES 256

/**
 * struct err - what went wrong
 * @code:	negative errno, 0 when nothing is set
 * @text:	one line, NUL-terminated, printable
 */
struct err {
	int code;
	char text[ERR_TEXT_BYTES];
};

/**
 * err_set() - record an error and return its code
 * @e:		may be NULL
 * @code:	negative errno
 *
 * Return: @code, so that a caller writes `return err_set(e, -EBADMSG, …)`
 */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The one text of it. Return: -ENOMEM, which compilers are to see */
static inline int err_no_memory(struct err *e)
{
	(void)err_set(e, -ENOMEM, "out of memory");
	return -ENOMEM;
}

/**
 * err_wrap() - put a clause in front of a recorded error: "clause: text"
 * @e:		may be NULL
 *
 * Return: @e->code, or -EIO when @e is NULL or empty
 */
int err_wrap(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Text for a (negative or positive) errno; thread-safe, static storage. */
const char *err_name(int code);

/* "ENOENT" and the like, "E?" where unknown; static storage. */
const char *err_symbol(int code);

/* Replaces what is not printable ASCII or UTF-8 lead by '?', in place. */
void err_sanitize(char *text);

#endif
