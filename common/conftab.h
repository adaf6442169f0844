/* SPDX-License-Identifier: Apache-2.0 */
/* A table that says where the keys of a TOML document go in a structure. */
#ifndef COMMON_CONFTAB_H
#define COMMON_CONFTAB_H

#include "common/base.h"
#include "common/err.h"

enum conf_kind {
	CONF_STRING, /* char *: malloced, not empty */
	CONF_PATH,   /* char *: the same, absolute */
	CONF_BOOL,   /* bool */
	CONF_UINT,   /* unsigned */
	CONF_BYTES,  /* uint64_t: a number, or "16GiB" (KiB, MiB, GiB, TiB) */
	CONF_WORD,   /* what @parse makes of a string */
	CONF_LIST,   /* char **, [@n_at] of them; each malloced, not empty */
};

/**
 * struct conf_key - a key
 * @table:	"" at the top of the document
 * @at:		offset of its field in the structure
 * @n_at:	of a list: offset of its size_t
 * @min, @max:	of a number
 * @max:	of a string: bytes, of a list: elements; 0: no limit
 * @parse:	of a word: sets @at; 0, -EINVAL
 * @what:	what is expected, for the message; NULL: what @kind says
 */
struct conf_key {
	const char *table;
	const char *name;
	enum conf_kind kind;
	size_t at;
	size_t n_at;
	uint64_t min;
	uint64_t max;
	int (*parse)(const char *s, void *at);
	const char *what;
};

/**
 * conftab_parse() - apply a document to a structure
 * @keys:	[@n]
 * @conf:	has the defaults; strings and lists that are replaced are freed
 * @text:	[@len] TOML
 *
 * On failure some keys may have been applied; @conf can be freed as before.
 * Return: 0; -EINVAL unknown key or table, wrong type or value: @e names it
 * and its line; -EBADMSG not TOML; -ENOMEM
 */
int conftab_parse(const struct conf_key *keys, size_t n, void *conf,
		  const char *text, size_t len, struct err *e);

/* For CONF_WORD: an enum log_level. */
int conftab_log_level(const char *s, void *at);

/* Frees the strings of a list, and the list. */
void conftab_list_free(char **v, size_t n);

#endif
