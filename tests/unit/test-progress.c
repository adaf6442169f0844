/* SPDX-License-Identifier: Apache-2.0 */
/* Progress: on terminals of several sizes, as lines and as JSON. */
#include "config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <cmocka.h>

#include "cli/progress.h"
#include "common/io.h"

#define SCREEN_ROWS 100u
#define SCREEN_COLS 200u

/* A terminal, as far as bars need one. */
struct screen {
	unsigned cols;
	unsigned rows;
	unsigned y;
	unsigned x;
	char text[SCREEN_ROWS][SCREEN_COLS + 1];
	bool wrapped;
};

static void erase(struct screen *s, unsigned y, unsigned x)
{
	memset(s->text[y] + x, ' ', SCREEN_COLS - x);
}

static void put(struct screen *s, char c)
{
	if (c == '\r') {
		s->x = 0;
	} else if (c == '\n') {
		assert_true(++s->y < SCREEN_ROWS);
	} else {
		if (s->x == s->cols) {
			s->wrapped = true;
			s->x = 0;
			s->y++;
		}
		s->text[s->y][s->x++] = c;
	}
}

/* After "\033[": what we write of these. Return: bytes. */
static size_t escape(struct screen *s, const char *p)
{
	unsigned n = 0;
	int len = 0;

	if (*p == 'K') {
		erase(s, s->y, s->x);
		return 1;
	}
	if (*p == 'J') {
		erase(s, s->y, s->x);
		for (unsigned y = s->y + 1; y < SCREEN_ROWS; y++)
			erase(s, y, 0);
		return 1;
	}
	assert_int_equal(sscanf(p, "%uA%n", &n, &len), 1);
	/* Not above what can be seen. */
	assert_true(n > 0 && n <= s->y && n < s->rows);
	s->y -= n;
	return (size_t)len;
}

/* Takes what was written to a terminal. */
static void take(struct screen *s, int master)
{
	char block[4096];
	ssize_t n;

	while ((n = read(master, block, sizeof(block) - 1)) > 0) {
		block[n] = '\0';
		for (char *p = block; *p != '\0';) {
			if (p[0] == '\033' && p[1] == '[')
				p += 2 + escape(s, p + 2);
			else
				put(s, *p++);
		}
	}
}

static void see(const struct screen *s, unsigned y, const char *want)
{
	char line[SCREEN_COLS + 1];
	size_t n = SCREEN_COLS;

	memcpy(line, s->text[y], sizeof(line));
	while (n > 0 && line[n - 1] == ' ')
		n--;
	line[n] = '\0';
	assert_string_equal(line, want);
}

/* A pseudo terminal, whose ends are *master and what is returned. */
static int terminal(struct screen *s, unsigned cols, unsigned rows, int *master)
{
	struct winsize w = {.ws_col = (unsigned short)cols,
			    .ws_row = (unsigned short)rows};
	char name[64];
	int slave;

	*s = (struct screen){.cols = cols, .rows = rows};
	for (unsigned y = 0; y < SCREEN_ROWS; y++)
		erase(s, y, 0);
	*master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
	assert_true(*master >= 0);
	assert_int_equal(grantpt(*master), 0);
	assert_int_equal(unlockpt(*master), 0);
	assert_int_equal(ptsname_r(*master, name, sizeof(name)), 0);
	slave = open(name, O_RDWR | O_NOCTTY);
	assert_true(slave >= 0);
	assert_int_equal(ioctl(slave, TIOCSWINSZ, &w), 0);
	return slave;
}

static void test_bars(void **state)
{
	struct screen s;
	struct progress *p;
	int master, fd = terminal(&s, 80, 24, &master);
	size_t a, b;

	(void)state;
	assert_int_equal(progress_new(PROGRESS_AUTO, fd, &p), 0);
	a = progress_add(p, "aaaaaaaaaaaa", 100);
	b = progress_add(p, "bbbbbbbbbbbb", 0);
	progress_phase(p, a, "reading", 4096);
	progress_phase(p, b, "reading", 0);
	progress_at(p, a, 2048);
	progress_phase(p, b, "converting", 10240);
	take(&s, master);
	see(&s, 0,
	    "aaaaaaaaaaaa  reading    [==========          ] 2.0 KiB / 4.0 KiB");
	see(&s, 1,
	    "bbbbbbbbbbbb  converting [                    ] 0 B / 10.0 KiB");
	see(&s, 2, "");

	/* What ends becomes a line above the others; so does what is said. */
	progress_end(p, b, "is done");
	progress_say(p, "hear\033 this");
	take(&s, master);
	see(&s, 0, "bbbbbbbbbbbb  is done");
	see(&s, 1, "hear? this");
	see(&s, 2,
	    "aaaaaaaaaaaa  reading    [==========          ] 2.0 KiB / 4.0 KiB");
	see(&s, 3, "");
	progress_end(p, a, NULL);
	take(&s, master);
	see(&s, 1, "hear? this");
	see(&s, 2, "");
	progress_free(p);
	(void)close(fd);
	(void)close(master);
}

/* More than is there, and more layers than lines, on a small terminal. */
static void test_narrow(void **state)
{
	struct screen s;
	struct progress *p;
	int master, fd = terminal(&s, 24, 4, &master);

	(void)state;
	assert_int_equal(progress_new(PROGRESS_AUTO, fd, &p), 0);
	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(progress_add(p, "0123456789ab", 10), i);
		progress_phase(p, i, "converting", 10);
		progress_at(p, i, 1000);
	}
	take(&s, master);
	see(&s, 0, "0123456789ab  convertin");
	see(&s, 2, "0123456789ab  convertin");
	see(&s, 3, "");
	assert_false(s.wrapped);
	progress_free(p);
	(void)close(fd);
	(void)close(master);
}

/* Everything that a mode writes to what is no terminal. @ret_ns: at most so much
 * time has passed while it was reading. */
static char *lines(enum progress_mode mode, uint64_t *ret_ns)
{
	static char got[8192];
	struct progress *p;
	uint64_t start_ns;
	int fds[2];
	ssize_t n;
	size_t a;

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(progress_new(mode, fds[1], &p), 0);
	a = progress_add(p, "aa", 100);
	start_ns = io_now_ns();
	progress_phase(p, a, "reading", 100);
	for (unsigned i = 0; i < 20; i++)
		progress_at(p, a, 50);
	*ret_ns = io_now_ns() - start_ns;
	progress_say(p, "say \"%d\"", 1);
	progress_end(p, a, "over");
	progress_phase(p, a, "writing", 7);
	progress_end(p, a, NULL);
	progress_free(p);
	(void)close(fds[1]);
	n = read(fds[0], got, sizeof(got) - 1);
	assert_true(n >= 0);
	got[n] = '\0';
	(void)close(fds[0]);
	return got;
}

/* Return: how often @line was in @text, where it is not any more */
static size_t take_out(char *text, const char *line)
{
	const size_t len = strlen(line);
	size_t n = 0;

	for (; (text = strstr(text, line)) != NULL; n++)
		memmove(text, text + len, strlen(text + len) + 1);
	return n;
}

static void test_lines(void **state)
{
	static const char halfway[] =
		"{\"layer\":\"aa\",\"phase\":\"reading\",\"bytes\":50,"
		"\"total\":100}\n";
	uint64_t ns;
	char *got;

	(void)state;
	assert_string_equal(lines(PROGRESS_AUTO, &ns), "say \"1\"\naa  over\n");
	assert_string_equal(lines(PROGRESS_PLAIN, &ns),
			    "say \"1\"\naa  over\n");
	assert_string_equal(lines(PROGRESS_QUIET, &ns), "");
	got = lines(PROGRESS_JSON, &ns);
	/* Once a second at most. */
	assert_true(take_out(got, halfway) <= ns / NSEC_PER_SEC);
	assert_string_equal(
		got, "{\"layer\":\"aa\",\"phase\":\"reading\",\"bytes\":0,"
		     "\"total\":100}\n"
		     "{\"message\":\"say \\\"1\\\"\"}\n"
		     "{\"layer\":\"aa\",\"phase\":\"done\",\"text\":\"over\"}\n"
		     "{\"layer\":\"aa\",\"phase\":\"writing\",\"bytes\":0,"
		     "\"total\":7}\n"
		     "{\"layer\":\"aa\",\"phase\":\"done\",\"text\":\"\"}\n");
}

static void test_words(void **state)
{
	enum progress_mode m;
	char size[PROGRESS_SIZE_BYTES];

	(void)state;
	assert_int_equal(progress_mode_parse("json", &m), 0);
	assert_int_equal(m, PROGRESS_JSON);
	assert_int_equal(progress_mode_parse("auto", &m), 0);
	assert_int_equal(m, PROGRESS_AUTO);
	assert_int_equal(progress_mode_parse("", &m), -EINVAL);
	assert_string_equal(progress_size(0, size), "0 B");
	assert_string_equal(progress_size(1023, size), "1023 B");
	assert_string_equal(progress_size(1024, size), "1.0 KiB");
	assert_string_equal(progress_size(MIB(1) - 1, size), "1.0 MiB");
	assert_string_equal(progress_size(UINT64_MAX, size), "16777216.0 TiB");
	/* Nobody listens. */
	assert_int_equal(progress_add(NULL, "a", 1), SIZE_MAX);
	progress_at(NULL, SIZE_MAX, 1);
	progress_say(NULL, "x");
	progress_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bars),
		cmocka_unit_test(test_narrow),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_words),
	};

	/* Not what the caller's is. */
	(void)setenv("TERM", "xterm", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
