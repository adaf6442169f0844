/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command-line client of estargzd, for tests:
 *
 *   fetchctl [-s SOCKET] [-p] [-z SIZE] [-d DEADLINE_MS] [-n TIMES] [-o] [-l]
 *            [-t TAIL_BYTES] [-k HOLD_MS] [-T DIGEST] COMMAND
 *     hello
 *     resolve REFERENCE
 *     read BLOB OFF LEN [CLASS]
 *     suffix BLOB LEN [CLASS]
 *     status
 *     hints BLOB
 *     warm BLOB...
 *
 * BLOB is HOST/REPO@DIGEST, a URL, or a path. -p: plain HTTP; -z: size that
 * OPEN tells; -n: that many of the same READ at the same time, or OPENs, of which
 * hints awaits what the last is told; -o: another
 * source; -l: wait for a line on stdin between OPEN and READ; -t, -k: of WARM,
 * which is sent without an arena; -T: the trace that OPEN names, of which hints
 * prints what is said, a range a line. The bytes go to stdout, the answers to
 * stderr. A FAILED is exit status 1.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/err.h"
#include "common/io.h"
#include "common/proto.h"
#include "common/proto_hint.h"
#include "common/rd.h"

struct ctl {
	int sock;
	uint8_t *arena;
	uint64_t arena_bytes;
	bool plain_http;
	bool other_source;
	bool wait_line;
	const char *trace;
	uint64_t size;
	uint32_t tail_bytes;
	uint32_t hold_ms;
	uint32_t deadline_ms;
	unsigned times;
	uint8_t buf[PROTO_PACKET_MAX];
	size_t n;
};

static void die(const char *what)
{
	(void)fprintf(stderr, "fetchctl: %s\n", what);
	exit(2);
}

static uint64_t number(const char *s)
{
	char *end;
	unsigned long long v = strtoull(s, &end, 0);

	if (end == s || *end != '\0')
		die("bad number");
	return v;
}

static void begin(struct ctl *c, unsigned type, unsigned flags, uint64_t id)
{
	le16_store(c->buf, (uint16_t)type);
	le16_store(c->buf + 2, (uint16_t)flags);
	le64_store(c->buf + 8, id);
	c->n = 16;
}

static void u32(struct ctl *c, uint64_t v)
{
	le32_store(c->buf + c->n, (uint32_t)v);
	c->n += 4;
}

static void u64(struct ctl *c, uint64_t v)
{
	le64_store(c->buf + c->n, v);
	c->n += 8;
}

static void text(struct ctl *c, const char *s)
{
	size_t n = strlen(s);

	if (n > PROTO_TEXT_MAX)
		die("text is too long");
	memcpy(c->buf + c->n, s, n);
	c->n += n;
}

static void send_packet(struct ctl *c, int fd)
{
	int r;

	le32_store(c->buf + 4, (uint32_t)c->n);
	r = io_send_fds(c->sock, c->buf, c->n, &fd, fd >= 0 ? 1 : 0, 0);
	if (r < 0)
		die(err_name(r));
}

/* Type of the next packet; its bytes are in c->buf. */
static unsigned receive(struct ctl *c)
{
	int fds[1];
	ssize_t n = io_recv_fds(c->sock, c->buf, sizeof(c->buf) - 1, fds, 1, 0);

	if (n == 0)
		die("connection closed");
	if (n < 0)
		die(err_name((int)n));
	c->n = (size_t)n;
	c->buf[n] = '\0';
	if (n < 16 || le32_load(c->buf + 4) != (uint32_t)n)
		die("bad packet");
	return le16_load(c->buf);
}

static void failed(struct ctl *c)
{
	(void)fprintf(stderr, "failed %s: %s\n",
		      err_symbol((int)le32_load(c->buf + 16)),
		      (char *)c->buf + sizeof(struct proto_failed));
}

static int make_arena(struct ctl *c)
{
	int fd = memfd_create("arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *p;

	if (fd < 0 || ftruncate(fd, (off_t)c->arena_bytes) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		die("cannot make the arena");
	p = mmap(NULL, c->arena_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		 0);
	if (p == MAP_FAILED)
		die("cannot map the arena");
	c->arena = p;
	return fd;
}

static void connect_to(struct ctl *c, const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = c->arena_bytes > 0 ? make_arena(c) : -1;

	if (strlen(path) >= sizeof(sa.sun_path))
		die("path is too long");
	memcpy(sa.sun_path, path, strlen(path));
	c->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (c->sock < 0 ||
	    connect(c->sock, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		die(err_name(errno));
	begin(c, PROTO_HELLO, 0, 0);
	u32(c, PROTO_MAGIC);
	u32(c, PROTO_VERSION);
	u64(c, c->arena_bytes);
	send_packet(c, fd);
	if (fd >= 0)
		(void)close(fd);
	if (receive(c) != PROTO_HELLO)
		die("no HELLO");
}

/* Waits for the answers to n requests; the bytes of the first go out. */
static int answers(struct ctl *c, unsigned n)
{
	int rc = 0;

	while (n > 0) {
		unsigned type = receive(c), flags = le16_load(c->buf + 2);
		uint64_t id = le64_load(c->buf + 8);

		if (type == PROTO_FAILED) {
			failed(c);
			rc = 1;
			n--;
			continue;
		}
		if (type == PROTO_HINT && c->trace != NULL)
			continue;
		if (type != PROTO_DATA)
			die("unexpected packet");
		(void)fprintf(stderr,
			      "data id=%" PRIu64 " got=%" PRIu64 " off=%" PRIu64
			      " size=%" PRIu64 "%s\n",
			      id, le64_load(c->buf + 16),
			      le64_load(c->buf + 24), le64_load(c->buf + 32),
			      (flags & PROTO_DATA_END) != 0 ? " end" : "");
		if ((flags & PROTO_DATA_END) == 0)
			continue;
		n--;
		if (id == 100 &&
		    io_write_all(1, c->arena, le64_load(c->buf + 16)) < 0)
			die("write");
	}
	return rc;
}

/* Asks for a document that goes into the arena. */
static int document(struct ctl *c, unsigned type, const char *ref)
{
	begin(c, type,
	      ref != NULL && c->plain_http ? PROTO_RESOLVE_PLAIN_HTTP : 0, 100);
	u64(c, 0);
	u64(c, c->arena_bytes);
	if (ref != NULL) {
		u32(c, c->deadline_ms);
		u32(c, 0);
		text(c, ref);
	}
	send_packet(c, -1);
	return answers(c, 1);
}

static uint32_t open_blob(struct ctl *c, const char *blob)
{
	unsigned kind = PROTO_BLOB_REGISTRY;
	int fd = -1;

	if (strncmp(blob, "http://", 7) == 0 ||
	    strncmp(blob, "https://", 8) == 0) {
		kind = PROTO_BLOB_URL;
	} else if (blob[0] == '/' || blob[0] == '.') {
		kind = PROTO_BLOB_FD;
		fd = open(blob, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			die(err_name(errno));
	}
	begin(c, PROTO_OPEN, c->plain_http ? PROTO_OPEN_PLAIN_HTTP : 0, 99);
	u32(c, kind);
	u32(c, 0);
	u64(c, c->size);
	text(c, blob);
	if (c->trace != NULL) {
		text(c, "\n");
		text(c, c->trace);
	}
	send_packet(c, fd);
	if (fd >= 0)
		(void)close(fd);
	while ((kind = receive(c)) == PROTO_HINT)
		continue;
	if (kind == PROTO_OPENED)
		return le32_load(c->buf + 16);
	failed(c);
	exit(1);
}

static int read_blob(struct ctl *c, const char *blob, unsigned flags,
		     uint64_t off, uint64_t len, const char *class_)
{
	uint32_t handle = open_blob(c, blob);

	if (c->wait_line) {
		(void)fputs("opened\n", stderr);
		while (getchar() != '\n' && !feof(stdin))
			continue;
	}
	if (len * c->times > c->arena_bytes)
		die("more than fits the arena");
	if (c->other_source)
		flags |= PROTO_READ_OTHER_SOURCE;
	for (unsigned i = 0; i < c->times; i++) {
		begin(c, PROTO_READ, flags, 100 + i);
		u32(c, handle);
		u32(c, class_ != NULL ? number(class_) : 0);
		u64(c, off);
		u64(c, len);
		u64(c, len * i);
		u32(c, c->deadline_ms);
		u32(c, 0);
		send_packet(c, -1);
	}
	return answers(c, c->times);
}

static int hints(struct ctl *c, const char *blob)
{
	unsigned flags = 0;
	uint32_t handle = 0;

	for (unsigned i = 0; i < c->times; i++)
		handle = open_blob(c, blob);
	if (le16_load(c->buf + 2) != PROTO_OPENED_HINTS)
		die("no hints will come");
	while ((flags & PROTO_HINT_END) == 0) {
		if (receive(c) != PROTO_HINT)
			die("unexpected packet");
		if (le32_load(c->buf + 16) != handle)
			continue;
		flags = le16_load(c->buf + 2);
		for (size_t at = sizeof(struct proto_hint); at < c->n; at += 16)
			(void)printf("%" PRIu64 " %" PRIu64 "\n",
				     le64_load(c->buf + at),
				     le64_load(c->buf + at + 8));
	}
	if ((flags & PROTO_HINT_NONE) != 0)
		(void)fputs("none\n", stderr);
	return 0;
}

static int warm(struct ctl *c, int n, char **names)
{
	begin(c, PROTO_WARM, c->plain_http ? PROTO_WARM_PLAIN_HTTP : 0, 99);
	u32(c, c->tail_bytes);
	u32(c, c->hold_ms);
	for (int i = 0; i < n; i++) {
		if (i > 0)
			text(c, "\n");
		text(c, names[i]);
	}
	send_packet(c, -1);
	return answers(c, 1);
}

static int command(struct ctl *c, int argc, char **argv)
{
	const char *what = argc > 0 ? argv[0] : "";

	if (strcmp(what, "warm") == 0 && argc > 1)
		return warm(c, argc - 1, argv + 1);
	if (strcmp(what, "hints") == 0 && argc == 2)
		return hints(c, argv[1]);
	if (strcmp(what, "hello") == 0 && argc == 1)
		return 0;
	if (strcmp(what, "status") == 0 && argc == 1)
		return document(c, PROTO_STATUS, NULL);
	if (strcmp(what, "resolve") == 0 && argc == 2)
		return document(c, PROTO_RESOLVE, argv[1]);
	if (strcmp(what, "read") == 0 && (argc == 4 || argc == 5))
		return read_blob(c, argv[1], 0, number(argv[2]),
				 number(argv[3]), argc > 4 ? argv[4] : NULL);
	if (strcmp(what, "suffix") == 0 && (argc == 3 || argc == 4))
		return read_blob(c, argv[1], PROTO_READ_SUFFIX, 0,
				 number(argv[2]), argc > 3 ? argv[3] : NULL);
	die("bad command");
	return 2;
}

int main(int argc, char **argv)
{
	struct ctl c = {.arena_bytes = MIB(64), .times = 1};
	const char *path = "/run/estargz/fetcher.sock";
	int opt;

	while ((opt = getopt(argc, argv, "s:pz:d:n:olt:k:T:")) != -1) {
		if (opt == 's')
			path = optarg;
		else if (opt == 'p')
			c.plain_http = true;
		else if (opt == 'o')
			c.other_source = true;
		else if (opt == 'l')
			c.wait_line = true;
		else if (opt == 'z')
			c.size = number(optarg);
		else if (opt == 'd')
			c.deadline_ms = (uint32_t)number(optarg);
		else if (opt == 't')
			c.tail_bytes = (uint32_t)number(optarg);
		else if (opt == 'T')
			c.trace = optarg;
		else if (opt == 'k')
			c.hold_ms = (uint32_t)number(optarg);
		else if (opt == 'n')
			c.times = (unsigned)number(optarg);
		else
			die("bad option");
	}
	if (optind < argc && strcmp(argv[optind], "warm") == 0)
		c.arena_bytes = 0;
	connect_to(&c, path);
	return command(&c, argc - optind, argv + optind);
}
