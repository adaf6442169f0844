/* SPDX-License-Identifier: Apache-2.0 */
/* TOML, by way of the JSON objects everything else works on. */
#ifndef COMMON_TOML_H
#define COMMON_TOML_H

#include "common/base.h"
#include "common/err.h"

struct json_object;

#ifdef __cplusplus
extern "C" {
#endif

/**
 * toml_parse() - parse a TOML document
 * @text:	[@len]
 * @ret:	receives a reference to a json-c object; tables are objects in
 *		the order of the document, dates are strings
 *
 * Return: 0, -EBADMSG (@e has line and column), -ENOMEM
 */
int toml_parse(const char *text, size_t len, struct json_object **ret,
	       struct err *e);

/* The line on which a value of such an object begins, counted from 1; not of
 * the document itself. */
unsigned toml_line(const struct json_object *o);

#ifdef __cplusplus
}
#endif

#endif
