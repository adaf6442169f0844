/* SPDX-License-Identifier: Apache-2.0 */
/* What protocl_warm() sends, seen by a fetcher made of wire_parse(). */
#include "config.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/protocl.h"
#include "daemon/fetcher/wire.h"

/**
 * struct peer - a fetcher of one connection
 * @code:	what it answers to WARM, 0: DATA
 * @silent:	it does not
 * @names:	all lines of all messages
 */
struct peer {
	char path[64];
	int listener;
	pthread_t thread;
	int code;
	bool silent;
	unsigned n_msgs;
	unsigned n_names;
	uint32_t hold_ms;
	char last[256];
};

static unsigned count_lines(struct peer *p, const char *s)
{
	unsigned n = 0;

	for (;;) {
		size_t k = strcspn(s, "\n");

		(void)snprintf(p->last, sizeof(p->last), "%.*s", (int)k, s);
		n++;
		if (s[k] == '\0')
			return n;
		s += k + 1;
	}
}

static void *serve(void *arg)
{
	static char text[PROTO_TEXT_MAX + 1];
	struct peer *p = arg;
	int fd = accept(p->listener, NULL, NULL);
	uint8_t in[PROTO_PACKET_MAX], out[PROTO_PACKET_MAX];
	struct wire_msg m;
	ssize_t n;

	while ((n = io_recv_fds(fd, in, sizeof(in), NULL, 0, 0)) > 0) {
		size_t k;

		if (wire_parse(in, (size_t)n, 0, 0, text, &m, NULL) < 0)
			break;
		if (m.type == PROTO_HELLO) {
			k = wire_put_hello(out, m.version);
		} else {
			p->n_msgs++;
			p->n_names += count_lines(p, m.text);
			p->hold_ms = m.hold_ms;
			k = p->code == 0
				    ? wire_put_data(out, m.id, PROTO_DATA_END,
						    0, 0, 0)
				    : wire_put_failed(out, m.id, p->code, "no");
			if (p->silent)
				continue;
		}
		(void)io_send_fds(fd, out, k, NULL, 0, 0);
	}
	(void)close(fd);
	return NULL;
}

static void peer_start(struct peer *p)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	(void)snprintf(p->path, sizeof(p->path), "test-protocl.%d.sock",
		       (int)getpid());
	(void)unlink(p->path);
	memcpy(sa.sun_path, p->path, strlen(p->path));
	p->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(p->listener, (struct sockaddr *)&sa, sizeof(sa)),
			 0);
	assert_int_equal(listen(p->listener, 1), 0);
	assert_int_equal(pthread_create(&p->thread, NULL, serve, p), 0);
}

static void peer_end(struct peer *p)
{
	(void)pthread_join(p->thread, NULL);
	(void)close(p->listener);
	(void)unlink(p->path);
}

static const char *const some[] = {"a/b@sha256:0", "a/b@sha256:1"};

static void test_names(void **state)
{
	const struct protocl_warm w = {.names = some, .n = 2, .hold_ms = 5};
	struct peer p = {0};
	struct err e = {0};

	(void)state;
	peer_start(&p);
	assert_int_equal(protocl_warm(p.path, &w, &e), 0);
	peer_end(&p);
	assert_int_equal(p.n_msgs, 1);
	assert_int_equal(p.n_names, 2);
	assert_int_equal(p.hold_ms, 5);
	assert_string_equal(p.last, some[1]);
}

/* As many messages as it takes, and no more than the fetcher keeps. */
static void test_many(void **state)
{
	const char *names[300];
	struct protocl_warm w = {.names = names, .n = 300, .tail_bytes = 65536};
	struct peer p = {0};
	char long_name[1000];

	(void)state;
	memset(long_name, 'x', sizeof(long_name));
	long_name[sizeof(long_name) - 1] = '\0';
	for (size_t i = 0; i < 300; i++)
		names[i] = i < 40 ? long_name : "short";
	peer_start(&p);
	assert_int_equal(protocl_warm(p.path, &w, NULL), 0);
	peer_end(&p);
	assert_int_equal(p.n_names, 300);
	assert_int_equal(p.n_msgs, 5);
	p = (struct peer){0};
	w.tail_bytes = 0;
	peer_start(&p);
	assert_int_equal(protocl_warm(p.path, &w, NULL), 0);
	peer_end(&p);
	assert_int_equal(p.n_names,
			 PROTO_WARM_BYTES_MAX / PROTO_WARM_TAIL_BYTES);
}

static void test_failures(void **state)
{
	const struct protocl_warm w = {.names = some, .n = 2};
	static char huge[PROTO_TEXT_MAX + 1];
	const char *name = huge;
	const struct protocl_warm too_long = {.names = &name, .n = 1};
	struct peer p = {.code = -EOPNOTSUPP};
	struct err e = {0};

	(void)state;
	peer_start(&p);
	assert_int_equal(protocl_warm(p.path, &w, &e), -EOPNOTSUPP);
	peer_end(&p);
	assert_string_equal(e.text, "fetcher: no");
	assert_int_equal(protocl_warm("no/such/socket", &w, &e), -ENOENT);
	memset(huge, 'x', PROTO_TEXT_MAX);
	p = (struct peer){0};
	peer_start(&p);
	assert_int_equal(protocl_warm(p.path, &too_long, &e), -EOVERFLOW);
	peer_end(&p);
	assert_int_equal(p.n_msgs, 0);
}

static void on_alarm(int sig UNUSED)
{
}

/* Who is interrupted again and again, as who is stopped and goes on, does not wait any
 * longer for that. */
static void test_interrupted(void **state)
{
	const struct protocl_warm w = {.names = some, .n = 2};
	const struct sigaction act = {.sa_handler = on_alarm};
	const struct itimerval often = {.it_interval = {.tv_usec = 100000},
					.it_value = {.tv_usec = 100000}};
	const struct itimerval never = {0};
	struct peer p = {.silent = true};
	struct err e = {0};
	sigset_t set;

	(void)state;
	assert_int_equal(sigaction(SIGALRM, &act, NULL), 0);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGALRM);
	/* Ours alone. */
	assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
	peer_start(&p);
	assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	assert_int_equal(protocl_warm(p.path, &w, &e), -ETIMEDOUT);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_string_equal(e.text, "fetcher does not answer");
	peer_end(&p);
	assert_int_equal(p.n_msgs, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_interrupted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
