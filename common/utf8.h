/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include "common/base.h"

/* Length of the valid UTF-8 sequence at @s, 0 where there is none; of the
 * terminating NUL it is 1, and nothing behind that is looked at. */
size_t utf8_len(const char *s);

/* Whether [@n] bytes are UTF-8 without a NUL. */
bool utf8_valid(const void *p, size_t n);

#endif
