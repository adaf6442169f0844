/* SPDX-License-Identifier: Apache-2.0 */
/* Names from anywhere, made fit for people's eyes, and for XML. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include "common/base.h"
#include "common/buf.h"

/**
 * text_clean() - appends @s as one line of UTF-8
 *
 * What is not UTF-8, control characters, and those that turn the direction of
 * what follows become U+FFFD.
 * Return: 0, -EOVERFLOW, -ENOMEM
 */
int text_clean(struct buf *b, const char *s);

/* The last @max characters of clean text, of which the first is an ellipsis where
 * there are more. Return: where they begin in @s; *ret_cut: an ellipsis goes in
 * front */
const char *text_tail(const char *s, size_t max, bool *ret_cut);

/* Appends clean text, escaped for elements and attributes. */
int text_xml(struct buf *b, const char *s);

/* "5.7 ms", "1.24 s"; @buf has TEXT_TIME_BYTES. Return: @buf */
#define TEXT_TIME_BYTES 32u
char *text_time(uint64_t us, char *buf);

/* "2026-11-22 02:14:08 UTC"; @buf has TEXT_DATE_BYTES. Return: @buf */
#define TEXT_DATE_BYTES 40u
char *text_date(uint64_t wall_us, char *buf);

#endif
