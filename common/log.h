/* SPDX-License-Identifier: Apache-2.0 */
/* One line a fact, logfmt, on stderr. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include "common/base.h"

/*
 * err:   an operator must act      warn:  degraded, heals itself
 * info:  life cycle only           debug: one line a request
 */
enum log_level {
	LOG_ERR_,
	LOG_WARN_,
	LOG_INFO_,
	LOG_DEBUG_,
	LOG_N_
};

/* Sets the highest level that is printed; default LOG_INFO_. */
void log_set_level(enum log_level level);

/* Parses "err", "warn", "info" or "debug"; -EINVAL otherwise. */
int log_parse_level(const char *name, enum log_level *ret_level);

/* Redirects from stderr to @fd (borrowed); -1 goes back. */
void log_set_fd(int fd);

/* Hands each line, without the newline, to @fn instead; NULL goes back. */
void log_set_sink(void (*fn)(const char *line));

/**
 * log_never_wait() - a line that its reader has no room for is dropped
 *
 * For a process that must not depend on whoever reads its standard error: a pipe
 * or a socket that others write to as well.
 */
void log_never_wait(void);

/* Adds ` key=value` to every line of the process, e.g. "layer=ab12"; copied. */
void log_set_context(const char *context);

bool log_enabled(enum log_level level);

/**
 * log_line() - write `level=… mod=… …` and a newline in one write(2)
 * @fmt:	logfmt pairs: `msg="range read timed out" tries=%d`
 *
 * Context: any thread, no lock of ours held (style: never under a lock)
 */
void log_line(enum log_level level, const char *mod, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

/* Each .c that logs defines LOG_MOD before it includes this header. */
#define log_err(...) log_line(LOG_ERR_, LOG_MOD, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN_, LOG_MOD, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO_, LOG_MOD, __VA_ARGS__)
#define log_debug(...)                                              \
	do {                                                        \
		if (log_enabled(LOG_DEBUG_))                        \
			log_line(LOG_DEBUG_, LOG_MOD, __VA_ARGS__); \
	} while (0)

/**
 * struct log_limit - lets a call site speak once an interval
 *
 * static struct log_limit lim; if (log_allow(&lim, now_ns, &n)) log_warn("… suppressed=%u", n);
 */
struct log_limit {
	_Atomic uint64_t next_ns;
	_Atomic unsigned suppressed;
};

/* True at most once in 5 s; *ret_suppressed: calls refused since the last. */
bool log_allow(struct log_limit *lim, uint64_t now_ns,
	       unsigned *ret_suppressed);

/**
 * log_url() - a URL fit for a log: no user info, no query
 * @buf:	[@n] receives the text, always NUL-terminated
 *
 * Return: @buf
 */
const char *log_url(const char *url, char *buf, size_t n);

#endif
