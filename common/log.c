/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/err.h"

static const char *const level_names[] = {
	[LOG_ERR_] = "err",
	[LOG_WARN_] = "warn",
	[LOG_INFO_] = "info",
	[LOG_DEBUG_] = "debug",
};
static_assert(ARRAY_SIZE(level_names) == LOG_N_, "a name for each level");

static _Atomic int log_level = LOG_INFO_;
static _Atomic int log_fd = STDERR_FILENO;
static _Atomic bool log_dontwait;
static void (*_Atomic log_sink)(const char *line);
static char log_context[128];

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

int log_parse_level(const char *name, enum log_level *ret_level)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_names); i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*ret_level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

void log_set_fd(int fd)
{
	atomic_store_explicit(&log_fd, fd < 0 ? STDERR_FILENO : fd,
			      memory_order_relaxed);
}

void log_set_sink(void (*fn)(const char *line))
{
	atomic_store_explicit(&log_sink, fn, memory_order_relaxed);
}

void log_never_wait(void)
{
	struct stat st;
	int fd;

	atomic_store_explicit(&log_dontwait, true, memory_order_relaxed);
	/* O_NONBLOCK belongs to the open file, which others have, too. */
	if (fstat(STDERR_FILENO, &st) < 0 || !S_ISFIFO(st.st_mode))
		return;
	fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) /* nobody reads it */
		fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		log_set_fd(fd);
}

/* A log that cannot be written must not stop the program. */
static void put(int fd, const char *line, size_t len)
{
	if (atomic_load_explicit(&log_dontwait, memory_order_relaxed) &&
	    (send(fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ||
	     errno != ENOTSOCK))
		return;
	if (write(fd, line, len) < 0)
		return;
}

void log_set_context(const char *context)
{
	(void)snprintf(log_context, sizeof(log_context), "%s", context);
}

bool log_enabled(enum log_level level)
{
	return (int)level <=
	       atomic_load_explicit(&log_level, memory_order_relaxed);
}

void log_line(enum log_level level, const char *mod, const char *fmt, ...)
{
	void (*sink)(const char *text) =
		atomic_load_explicit(&log_sink, memory_order_relaxed);
	char line[1024];
	va_list ap;
	size_t len;
	int n;

	if (!log_enabled(level))
		return;
	n = snprintf(line, sizeof(line), "level=%s mod=%s%s%s ",
		     level_names[level], mod, log_context[0] ? " " : "",
		     log_context);
	if (n < 0 || (size_t)n >= sizeof(line))
		return;
	len = (size_t)n;
	va_start(ap, fmt);
	n = vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	len = MIN(len + (size_t)n, sizeof(line) - 2);
	line[len] = '\0';
	err_sanitize(line);
	if (sink != NULL) {
		sink(line);
		return;
	}
	line[len++] = '\n';
	put(atomic_load_explicit(&log_fd, memory_order_relaxed), line, len);
}

bool log_allow(struct log_limit *lim, uint64_t now_ns, unsigned *ret_suppressed)
{
	uint64_t next =
		atomic_load_explicit(&lim->next_ns, memory_order_relaxed);

	if (now_ns < next ||
	    !atomic_compare_exchange_strong_explicit(
		    &lim->next_ns, &next, now_ns + 5 * NSEC_PER_SEC,
		    memory_order_relaxed, memory_order_relaxed)) {
		(void)atomic_fetch_add_explicit(&lim->suppressed, 1u,
						memory_order_relaxed);
		return false;
	}
	*ret_suppressed = atomic_exchange_explicit(&lim->suppressed, 0u,
						   memory_order_relaxed);
	return true;
}

const char *log_url(const char *url, char *buf, size_t n)
{
	const char *host = strstr(url, "://");
	const char *path, *at = NULL;
	size_t scheme;

	assert(n > 0);
	host = host != NULL ? host + 3 : url;
	scheme = (size_t)(host - url);
	path = host + strcspn(host, "/?#");
	for (const char *p = host; p < path; p++) {
		if (*p == '@')
			at = p + 1;
	}
	if (at != NULL)
		host = at;
	(void)snprintf(buf, n, "%.*s%.*s", (int)scheme, url,
		       (int)strcspn(host, "?#"), host);
	return buf;
}
