/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cmocka.h>
#include <libdeflate.h>
#include <zstd.h>

#include "cli/build/build.h"
#include "common/codec.h"
#include "common/index.h"
#include "common/io.h"
#include "common/limits.h"
#include "tests/unit/memsource.h"
#include "tests/unit/mktar.h"

#define BLOB_BYTES_MAX MIB(64)

/* A conversion and what came out: the blob, its table, the tar in it. */
struct made {
	struct build_result res;
	struct buf blob;
	struct buf json;
	struct buf text; /* the JSON as it was; parsing changes it */
	struct buf tar;
	struct toc *toc;
};

static void made_done(struct made *m)
{
	toc_free(m->toc);
	buf_done(&m->blob);
	buf_done(&m->json);
	buf_done(&m->text);
	buf_done(&m->tar);
}
#define CLEANUP_MADE CLEANUP(made_done)

static int build(const void *p, size_t len, const struct build_opts *o,
		 struct made *m, struct err *e)
{
	CLEANUP_CLOSE int fd = memfd_create("blob", MFD_CLOEXEC);
	struct memsource s = {p, len, 0, 5000};
	int r;

	assert_true(fd >= 0);
	r = build_layer(&(struct build_in){memsource_read, &s}, o, fd, &m->res,
			e);
	if (r < 0)
		return r;
	/* Who reads it may want a digest of all of it. */
	assert_int_equal(s.pos, len);
	m->blob = BUF_INIT(BLOB_BYTES_MAX);
	assert_int_equal(buf_reserve(&m->blob, m->res.blob_bytes), 0);
	assert_int_equal(io_pread_all(fd, m->blob.p, m->res.blob_bytes, 0), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), m->res.blob_bytes);
	m->blob.len = m->res.blob_bytes;
	return 0;
}

static void digest_is(const void *p, size_t n, const struct digest *want)
{
	struct sha256 *h = sha256_new();
	struct digest d;

	assert_non_null(h);
	sha256_all(h, p, n, &d);
	sha256_free(h);
	assert_true(digest_equal(&d, want));
}

/* Every chunk is where the table says, and the tar as a whole is right. */
static void check_data(struct made *m)
{
	struct codec *c = codec_new();
	const struct toc_entry *reg = NULL;

	assert_non_null(c);
	m->tar = BUF_INIT(BLOB_BYTES_MAX);
	assert_int_equal(buf_reserve(&m->tar, m->res.uncompressed_bytes), 0);
	assert_int_equal(codec_decode(c, CODEC_GZIP, m->blob.p, m->blob.len,
				      m->tar.p, m->res.uncompressed_bytes,
				      m->res.uncompressed_bytes, true),
			 0);
	m->tar.len = m->res.uncompressed_bytes;
	digest_is(m->tar.p, m->tar.len, &m->res.diff_id);
	for (uint32_t i = 0; i < m->toc->n_entries; i++) {
		const struct toc_entry *t = &m->toc->entries[i];
		uint64_t len = t->chunk_size;
		CLEANUP_FREE uint8_t *p = NULL;

		reg = t->type == TOC_REG ? t : reg;
		if (t->type != TOC_CHUNK &&
		    (t->type != TOC_REG || t->size == 0))
			continue;
		if (len == 0)
			len = reg->size - t->chunk_offset;
		p = malloc(t->inner_offset + len);
		assert_non_null(p);
		assert_int_equal(codec_decode(c, CODEC_GZIP,
					      m->blob.p + t->offset,
					      m->blob.len - t->offset, p,
					      t->inner_offset + len,
					      t->inner_offset + len, false),
				 0);
		assert_true(t->has_chunk_digest);
		digest_is(p + t->inner_offset, len, &t->chunk_digest);
	}
	codec_free(c);
}

/* The blob is one that readers take. */
static void check(struct made *m)
{
	CLEANUP_BUF struct buf meta = BUF_INIT(EROFS_META_BYTES_MAX);
	CLEANUP_BUF struct buf chunks = BUF_INIT(EROFS_META_BYTES_MAX);
	struct toc_footer f;
	struct err e = {0};

	assert_true(m->blob.len > TOC_FOOTER_BYTES_MAX);
	digest_is(m->blob.p, m->blob.len, &m->res.blob);
	assert_int_equal(
		toc_footer_parse((const uint8_t *)m->blob.p + m->blob.len - 64,
				 64, m->blob.len, &f, &e),
		0);
	assert_int_equal(f.format, TOC_ESTARGZ);
	assert_int_equal(toc_decode(&f, (const uint8_t *)m->blob.p + f.toc_off,
				    f.toc_len, &m->json, &e),
			 0);
	digest_is(m->json.p, m->json.len, &m->res.toc);
	m->text = BUF_INIT(TOC_JSON_BYTES_MAX);
	mktar_add(&m->text, m->json.p, m->json.len);
	if (toc_parse(m->json.p, m->json.len, &m->toc, &e) < 0)
		fail_msg("%s", e.text);
	if (index_build(&(struct index_in){.toc = m->toc,
					   .toc_digest = &m->res.toc,
					   .blob_size = m->blob.len,
					   .toc_off = f.toc_off,
					   .codec = CODEC_GZIP},
			&meta, &chunks, &e) < 0)
		fail_msg("%s", e.text);
	check_data(m);
}

static void make(const struct buf *in, const struct build_opts *o,
		 struct made *m)
{
	struct err e = {0};

	if (build(in->p, in->len, o, m, &e) < 0)
		fail_msg("%s", e.text);
	check(m);
}

static void bad(const void *p, size_t len, const struct build_opts *o, int code,
		const char *text)
{
	CLEANUP_MADE struct made m = {0};
	struct err e = {0};
	int r = build(p, len, o, &m, &e);

	if (r != code || strstr(e.text, text) == NULL)
		fail_msg("%d, '%s' instead of %d, '%s'", r, e.text, code, text);
}

/* Names of the entries, chunks left out, one a line. */
static void names_are(const struct made *m, const char *want)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));

	for (uint32_t i = 0; i < m->toc->n_entries; i++) {
		const struct toc_entry *t = &m->toc->entries[i];

		if (t->type != TOC_CHUNK)
			assert_int_equal(buf_addf(&b, "%s\n", t->name), 0);
	}
	assert_string_equal(b.p, want);
}

static const struct toc_entry *entry(const struct made *m, const char *name)
{
	for (uint32_t i = 0; i < m->toc->n_entries; i++) {
		if (strcmp(m->toc->entries[i].name, name) == 0)
			return &m->toc->entries[i];
	}
	fail_msg("no entry %s", name);
	return NULL;
}

/* Text that compresses like text; the same always. */
static char *some_text(size_t n, uint32_t seed)
{
	char *p = malloc(n + 1);

	assert_non_null(p);
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = "etaoin shrdlu\ncmf"[seed >> 28];
	}
	p[n] = '\0';
	return p;
}

/* A little of everything, names with a prefix. */
static void sample(struct buf *b, const char *prefix, enum mktar_format f)
{
	CLEANUP_FREE char *text = some_text(200000, 1);
	char name[64], link[64];

#define NAME(s) (snprintf(name, sizeof(name), "%s%s", prefix, s), name)
	MKTAR(b, .name = NAME("etc/"), .type = '5', .mode = 0755, .format = f);
	MKTAR(b, .name = NAME("etc/hostname"), .data = "host", .format = f);
	MKTAR(b, .name = NAME("usr/"), .type = '5', .mode = 01777, .format = f);
	MKTAR(b, .name = NAME("usr/big"), .data = text, .format = f);
	(void)snprintf(link, sizeof(link), "%susr/big", prefix);
	MKTAR(b, .name = NAME("usr/hard"), .type = '1', .link = link,
	      .format = f);
	MKTAR(b, .name = NAME("usr/sym"), .type = '2', .link = "../etc",
	      .format = f);
	MKTAR(b, .name = NAME("dev/null"), .type = '3', .major = 1, .minor = 3,
	      .format = f == MKTAR_V7 ? MKTAR_USTAR : f);
	MKTAR(b, .name = NAME("fifo"), .type = '6', .format = f);
	MKTAR(b, .name = NAME("suid"), .data = "#!", .mode = 06755,
	      .format = f);
	MKTAR(b, .name = NAME("etc/.wh.gone"), .format = f);
	MKTAR(b, .name = NAME("empty"), .format = f);
#undef NAME
	mktar_end(b);
}

#define SAMPLE_NAMES                                                     \
	"etc\netc/hostname\nusr\nusr/big\nusr/hard\nusr/sym\ndev/null\n" \
	"fifo\nsuid\netc/.wh.gone\nempty\n"

/* The bytes are what they were when this was written, on any machine. */
static void test_golden(void **state)
{
	static const struct {
		int level;
		const char *blob;
	} cases[] = {
		{1,
		 "sha256:fdb1f1b8ab2ba142a4cf4af944e3fd7721ec89e116e721b1590c43bc02ad136c"},
		{6,
		 "sha256:8fcaa67f6f1bd47fdfed6b6e929c2b277dca88ade3e1bd2e3f1b1d4c007f3261"},
		{9,
		 "sha256:d3066de062ee61852effac6b1aeaf82182db4b6b45dea1f063355f8dd26461ac"},
	};
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));

	(void)state;
	sample(&b, "", MKTAR_USTAR);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_MADE struct made m = {0};
		char s[DIGEST_STR_BYTES];

		make(&b,
		     &(struct build_opts){.jobs = 1, .level = cases[i].level},
		     &m);
		/* Each release of the library deflates in its own way. */
		if (strcmp(LIBDEFLATE_VERSION_STRING, "1.14") == 0)
			assert_string_equal(digest_str(&m.res.blob, s),
					    cases[i].blob);
	}
}

static void test_toc_text(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1)), x = BUF_INIT(4096);
	CLEANUP_MADE struct made m = {0};

	(void)state;
	mktar_record(&x, "SCHILY.xattr.user.a", "\0\xff\x80", 3);
	mktar_record(&x, "SCHILY.xattr.user.e", "", 0);
	mktar_ext(&b, 'x', x.p, x.len);
	MKTAR(&b, .name = "a\"\xff\n", .format = MKTAR_USTAR);
	make(&b, &(struct build_opts){.jobs = 1}, &m);
	assert_string_equal(
		strstr(m.text.p, "},\n") + 3,
		"\t\t{\n\t\t\t\"name\": \"a\\\"\xff\\u000a\",\n"
		"\t\t\t\"type\": \"reg\",\n"
		"\t\t\t\"modtime\": \"2020-09-13T12:26:40Z\",\n"
		"\t\t\t\"mode\": 420,\n\t\t\t\"uid\": 1000,\n"
		"\t\t\t\"gid\": 100,\n\t\t\t\"userName\": \"user\",\n"
		"\t\t\t\"groupName\": \"group\",\n"
		"\t\t\t\"digest\": \"sha256:e3b0c44298fc1c149afbf4c8996fb924"
		"27ae41e4649b934ca495991b7852b855\",\n"
		"\t\t\t\"xattrs\": {\n\t\t\t\t\"user.a\": \"AP+A\",\n"
		"\t\t\t\t\"user.e\": \"\"\n\t\t\t}\n\t\t}\n\t]\n}");
	assert_string_equal(m.toc->entries[1].name, "a\"\xff\n");
	assert_memory_equal(m.toc->entries[1].xattrs[0].value, "\0\xff\x80", 3);
}

/* Whatever the prefix, the format and the number of threads. */
static void test_conformance(void **state)
{
	static const char *const prefixes[] = {"", "./", "/", "../"};
	const enum mktar_format formats[] = {MKTAR_V7, MKTAR_USTAR, MKTAR_GNU};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(prefixes) * ARRAY_SIZE(formats);
	     i++) {
		CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
		CLEANUP_MADE struct made one = {0}, many = {0};

		sample(&b, prefixes[i / 3], formats[i % 3]);
		make(&b, &(struct build_opts){.jobs = 1, .level = 2}, &one);
		names_are(&one, ".no.prefetch.landmark\n" SAMPLE_NAMES);
		assert_false(one.res.landmark);
		assert_int_equal(one.res.n_entries, 12);
		assert_int_equal(one.res.n_chunks, 7);
		digest_is(b.p, b.len, &one.res.in_diff_id);
		/* The tar is the input, with the landmark before it and the
		 * table behind it. */
		assert_memory_equal(one.tar.p + 1024, b.p, b.len - 1024);
		make(&b, &(struct build_opts){.jobs = 7, .level = 2}, &many);
		assert_true(digest_equal(&one.res.blob, &many.res.blob));
	}
}

static void add_gzip(struct buf *b, const char *p, size_t n)
{
	struct libdeflate_compressor *c = libdeflate_alloc_compressor(1);
	size_t cap = libdeflate_gzip_compress_bound(c, n);

	assert_int_equal(buf_reserve(b, cap), 0);
	b->len += libdeflate_gzip_compress(c, p, n, b->p + b->len, cap);
	libdeflate_free_compressor(c);
}

static void add_zstd(struct buf *b, const char *p, size_t n)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t cap = ZSTD_compressBound(n);

	(void)ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	assert_int_equal(buf_reserve(b, cap), 0);
	b->len += ZSTD_compress2(c, b->p + b->len, cap, p, n);
	(void)ZSTD_freeCCtx(c);
}

static void same(const struct buf *in, const struct made *want)
{
	CLEANUP_MADE struct made m = {0};

	make(in, &(struct build_opts){.jobs = 2, .level = 2}, &m);
	assert_true(digest_equal(&m.res.blob, &want->res.blob));
	assert_true(digest_equal(&m.res.in_diff_id, &want->res.in_diff_id));
}

static void test_compressions(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1)), z = BUF_INIT(MIB(1));
	CLEANUP_MADE struct made m = {0};
	size_t gzip_len;

	(void)state;
	sample(&b, "./", MKTAR_GNU);
	make(&b, &(struct build_opts){.jobs = 2, .level = 2}, &m);
	/* Many members, empty ones, of a byte, and zeros behind them. */
	add_gzip(&z, b.p, 1);
	add_gzip(&z, b.p, 0);
	for (size_t i = 1; i < b.len; i += 3001)
		add_gzip(&z, b.p + i, MIN((size_t)3001, b.len - i));
	same(&z, &m);
	gzip_len = z.len;
	mktar_add(&z, "\0\0\0\0\0", 5);
	same(&z, &m);
	/* Whatever else is there is not looked at, if the tar is over. */
	mktar_add(&z, "garbage", 7);
	same(&z, &m);
	z.len = gzip_len;
	mktar_add(&z, "\x1f", 1);
	same(&z, &m);
	buf_clear(&z);
	mktar_add(&z, "\x5a\x2a\x4d\x18\x03\0\0\0abc", 11);
	add_zstd(&z, b.p, 1000);
	mktar_add(&z, "\x50\x2a\x4d\x18\0\0\0\0", 8);
	add_zstd(&z, b.p + 1000, b.len - 1000);
	same(&z, &m);
	/* An eStargz blob is what it was made from. */
	{
		CLEANUP_MADE struct made again = {0};

		make(&m.blob, &(struct build_opts){.jobs = 2, .level = 2},
		     &again);
		assert_true(digest_equal(&m.res.blob, &again.res.blob));
	}
}

static void test_trailing(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1)), z = BUF_INIT(MIB(1));
	const struct build_opts o = {.jobs = 1};
	CLEANUP_MADE struct made m = {0};

	(void)state;
	MKTAR(&b, .name = "a", .data = "x");
	add_gzip(&z, b.p, b.len);
	mktar_add(&z, "garbage", 7);
	/* There may have been more entries. */
	bad(z.p, z.len, &o, -EBADMSG, "ends before the tar does");
	mktar_end(&b);
	MKTAR(&b, .name = "behind", .data = "y");
	mktar_add(&b, "garbage", 7);
	make(&b, &o, &m);
	names_are(&m, ".no.prefetch.landmark\na\n");
	digest_is(b.p, b.len, &m.res.in_diff_id);
}

static void test_empty(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	CLEANUP_MADE struct made m = {0};

	(void)state;
	mktar_end(&b);
	make(&b, &(struct build_opts){.jobs = 1}, &m);
	names_are(&m, ".no.prefetch.landmark\n");
}

/* What an earlier conversion has put there does not stay. */
static void test_landmarks(void **state)
{
	static const char *const ours[] = {".prefetch.landmark",
					   "./.no.prefetch.landmark",
					   "/stargz.index.json"};
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	CLEANUP_MADE struct made m = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		MKTAR(&b, .name = ours[i], .data = "\xf");
	MKTAR(&b, .name = "sub/.prefetch.landmark", .data = "\xf");
	mktar_end(&b);
	make(&b, &(struct build_opts){.jobs = 1}, &m);
	names_are(&m, ".no.prefetch.landmark\nsub/.prefetch.landmark\n");
}

static void ordered(const struct buf *b, const struct build_wanted *wanted,
		    size_t n, const char *names)
{
	CLEANUP_MADE struct made m = {0};

	make(b,
	     &(struct build_opts){.jobs = 2, .wanted = wanted, .n_wanted = n},
	     &m);
	names_are(&m, names);
	assert_int_equal(m.res.landmark,
			 strstr(names, "\n.prefetch.landmark") != NULL);
}

static void test_order(void **state)
{
	static const struct build_wanted wanted[] = {
		{.path = "usr/hard"}, {.path = "nothing"}, {.path = "suid"},
		{.path = "etc"},      {.path = "suid"},    {.path = "usr/sym"}};
	static const struct build_wanted none[] = {{.path = "usr/other"}};
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));

	(void)state;
	sample(&b, "./", MKTAR_USTAR);
	ordered(&b, wanted, ARRAY_SIZE(wanted),
		"usr\nusr/big\nusr/hard\nsuid\netc\nusr/sym\n"
		".prefetch.landmark\netc/hostname\ndev/null\nfifo\n"
		"etc/.wh.gone\nempty\n");
	ordered(&b, none, 1, ".no.prefetch.landmark\n" SAMPLE_NAMES);
}

/* What would mean something else in front stays where it is. */
static void test_not_moved(void **state)
{
	static const struct build_wanted wanted[] = {
		{.path = "twice"},      {.path = "wh"},     {.path = "ln/file"},
		{.path = "hard"},       {.path = ".wh.wh"}, {.path = "loop"},
		{.path = "whdir/file"}, {.path = "ok"}};
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));

	(void)state;
	MKTAR(&b, .name = "twice", .data = "1");
	MKTAR(&b, .name = "wh", .data = "1");
	MKTAR(&b, .name = ".wh.wh");
	MKTAR(&b, .name = "dir", .type = '5');
	MKTAR(&b, .name = "twice", .data = "2");
	MKTAR(&b, .name = "hard", .type = '1', .link = "twice");
	MKTAR(&b, .name = "whdir/file", .data = "1");
	MKTAR(&b, .name = ".wh.whdir");
	MKTAR(&b, .name = "ok", .data = "1");
	mktar_end(&b);
	ordered(&b, wanted, ARRAY_SIZE(wanted),
		"ok\n.prefetch.landmark\ntwice\nwh\n.wh.wh\ndir\ntwice\nhard\n"
		"whdir/file\n.wh.whdir\n");
}

/* Says what is wanted once it knows what there is. */
static int choose(void *arg, const char *const *paths, size_t n,
		  const struct build_wanted **ret, size_t *ret_n, struct err *e)
{
	static struct build_wanted w;

	(void)e;
	*(size_t *)arg = n;
	w.path = paths[n - 1];
	*ret = &w;
	*ret_n = 1;
	return 0;
}

static int refuse(void *arg, const char *const *paths, size_t n,
		  const struct build_wanted **ret, size_t *ret_n, struct err *e)
{
	(void)arg;
	(void)paths;
	(void)n;
	(void)ret;
	(void)ret_n;
	return err_set(e, -EINVAL, "no");
}

static void test_choose(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	CLEANUP_MADE struct made m = {0};
	size_t n = 0;

	(void)state;
	MKTAR(&b, .name = "./", .type = '5');
	MKTAR(&b, .name = "d/", .type = '5');
	MKTAR(&b, .name = "d/", .type = '5');
	MKTAR(&b, .name = "d/z", .data = "z");
	mktar_end(&b);
	make(&b,
	     &(struct build_opts){
		     .jobs = 1, .choose = choose, .choose_arg = &n},
	     &m);
	assert_int_equal(n, 2);
	names_are(&m, "d\nd\nd/z\n.prefetch.landmark\n\n");
	bad(b.p, b.len, &(struct build_opts){.jobs = 1, .choose = refuse},
	    -EINVAL, "no");
}

/* Where the chunks of the file are, "offset+size ". */
static void chunks_are(const struct made *m, const char *name, const char *want)
{
	const struct toc_entry *t = entry(m, name);
	uint64_t size = t->size;
	char text[1024] = "";
	size_t len = 0;

	do {
		uint64_t n = t->chunk_size;

		if (n == 0)
			n = size - t->chunk_offset;
		len += (size_t)snprintf(text + len, sizeof(text) - len,
					"%" PRIu64 "+%" PRIu64 " ",
					t->chunk_offset, n);
		t++;
	} while (t < m->toc->entries + m->toc->n_entries &&
		 t->type == TOC_CHUNK);
	assert_string_equal(text, want);
}

static void test_chunks(void **state)
{
	static const struct build_range ranges[] = {
		{5000, 100},     {17000, 1},    {40000, 1}, {90000, 2},
		{100000, 50000}, {199990, 500}, {300000, 1}};
	static const struct build_wanted wanted = {
		.path = "usr/big", .ranges = ranges, .n_ranges = 7};
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	CLEANUP_MADE struct made plain = {0}, cut = {0};

	(void)state;
	sample(&b, "", MKTAR_USTAR);
	make(&b, &(struct build_opts){.jobs = 2}, &plain);
	chunks_are(&plain, "usr/big",
		   "0+65536 65536+65536 131072+65536 196608+3392 ");
	chunks_are(&plain, "suid", "0+2 ");
	/* Whole pages; a gap of two is not worth it; long ones are cut. */
	make(&b,
	     &(struct build_opts){.jobs = 2, .wanted = &wanted, .n_wanted = 1},
	     &cut);
	chunks_are(&cut, "usr/big",
		   "0+4096 4096+16384 20480+16384 36864+4096 40960+45056 "
		   "86016+65536 151552+45056 196608+3392 ");
	assert_int_equal(entry(&cut, ".prefetch.landmark")->inner_offset, 0);
}

/* Bytes of the member that a file begins with. */
static uint64_t member_bytes(const struct made *m, const char *name)
{
	uint64_t off = entry(m, name)->offset, end = m->res.blob_bytes;

	for (uint32_t i = 0; i < m->toc->n_entries; i++) {
		uint64_t at = m->toc->entries[i].offset;

		if (at > off)
			end = MIN(end, at);
	}
	return end - off;
}

/* What a run has read is as small as can be, whatever the level; the rest is as
 * the level says, and all of it the same for any number of threads. */
static void test_read_is_best(void **state)
{
	static const struct build_range range = {0, 60000};
	static const struct build_wanted wanted[] = {
		{.path = "read", .ranges = &range, .n_ranges = 1},
		{.path = "listed"},
	};
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	CLEANUP_MADE struct made fast = {0}, best = {0}, many = {0};
	char text[60001] = "";

	(void)state;
	for (size_t i = 0, x = 1; i < sizeof(text) - 1; i++) {
		x = x * 1103515245 + 12345;
		text[i] = "the words of a language  "[(x >> 16) % 25 /
						      (1 + i % 3)];
	}
	MKTAR(&b, .name = "read", .data = text);
	MKTAR(&b, .name = "listed", .data = text);
	mktar_end(&b);
	make(&b, &(struct build_opts){.jobs = 1, .level = 2}, &fast);
	make(&b,
	     &(struct build_opts){
		     .jobs = 1, .level = 2, .wanted = wanted, .n_wanted = 2},
	     &best);
	make(&b,
	     &(struct build_opts){
		     .jobs = 5, .level = 2, .wanted = wanted, .n_wanted = 2},
	     &many);
	assert_true(member_bytes(&best, "read") < member_bytes(&fast, "read"));
	assert_true(member_bytes(&best, "listed") >
		    member_bytes(&best, "read"));
	assert_true(digest_equal(&best.res.blob, &many.res.blob));
}

static void test_min_chunk(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	CLEANUP_MADE struct made m = {0};

	(void)state;
	sample(&b, "", MKTAR_USTAR);
	make(&b,
	     &(struct build_opts){.jobs = 2,
				  .chunk_bytes = KIB(64),
				  .min_chunk_bytes = KIB(100)},
	     &m);
	/* The landmark begins a member; the others share it. */
	assert_int_equal(entry(&m, ".no.prefetch.landmark")->inner_offset, 0);
	assert_int_equal(entry(&m, "etc/hostname")->offset,
			 entry(&m, ".no.prefetch.landmark")->offset);
	assert_int_equal(entry(&m, "etc/hostname")->inner_offset, 1536);
	chunks_are(&m, "usr/big",
		   "0+65536 65536+65536 131072+65536 196608+3392 ");
	assert_int_equal(entry(&m, "usr/big")[1].offset,
			 entry(&m, "usr/big")->offset);
	assert_int_not_equal(entry(&m, "usr/big")[2].offset,
			     entry(&m, "usr/big")->offset);
}

/* A run of headers without payload is not one member. */
static void test_many_headers(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(16));
	CLEANUP_MADE struct made m = {0};
	char name[32];

	(void)state;
	MKTAR(&b, .name = "first", .data = "x");
	for (int i = 0; i < 3000; i++) {
		(void)snprintf(name, sizeof(name), "d%d", i);
		MKTAR(&b, .name = name, .type = '5');
	}
	mktar_end(&b);
	make(&b, &(struct build_opts){.jobs = 3}, &m);
	assert_int_equal(m.res.n_entries, 3002);
}

static void test_malformed(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1)), z = BUF_INIT(MIB(1));
	const struct build_opts o = {.jobs = 1, .level = 1};

	(void)state;
	bad("", 0, &o, -EBADMSG, "nothing in it");
	bad("BZh9xxxxxx", 10, &o, -EOPNOTSUPP, "bzip2");
	bad("\xfd"
	    "7zXZ\0xxxx",
	    10, &o, -EOPNOTSUPP, "xz");
	bad("hello", 5, &o, -EBADMSG, "the archive ends");
	sample(&b, "", MKTAR_USTAR);
	add_gzip(&z, b.p, b.len);
	for (size_t len = 1; len < z.len; len += len < 100 ? 1 : 997)
		bad(z.p, len, &o, -EBADMSG, "");
	z.p[z.len - 8] ^= 1;
	bad(z.p, z.len, &o, -EBADMSG, "bad gzip data");
	buf_clear(&z);
	add_zstd(&z, b.p, b.len);
	for (size_t len = 1; len < z.len; len += len < 100 ? 1 : 997)
		bad(z.p, len, &o, -EBADMSG, "");
	z.p[z.len / 2] ^= 1;
	bad(z.p, z.len, &o, -EBADMSG, "bad zstd data");
	b.p[700] ^= 1;
	bad(b.p, b.len, &o, -EBADMSG, "at byte 512: wrong checksum");
}

/* Not more than it may become, nor holes without end. */
static void test_bombs(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(4)), z = BUF_INIT(MIB(4));
	CLEANUP_BUF struct buf x = BUF_INIT(4096);
	const struct build_opts o = {.jobs = 1, .max_bytes = 100000};

	(void)state;
	assert_int_equal(buf_reserve(&b, MIB(2)), 0);
	(void)mktar_head(&b, &(struct mktar){.name = "z", .size = MIB(2)});
	memset(b.p + b.len, 0, MIB(2) - 512);
	b.len = MIB(2);
	add_gzip(&z, b.p, b.len);
	bad(z.p, z.len, &o, -EOVERFLOW, "more than 100000 bytes");
	buf_clear(&b);
	mktar_record(&x, "GNU.sparse.size", "1000000000000000", 16);
	mktar_record(&x, "GNU.sparse.map", "0,0", 3);
	mktar_ext(&b, 'x', x.p, x.len);
	MKTAR(&b, .name = "holes", .format = MKTAR_USTAR);
	bad(b.p, b.len, &o, -EOVERFLOW, "more than 100000 bytes");
	bad(b.p, b.len, &(struct build_opts){.jobs = 1}, -EOVERFLOW,
	    "more than 1099511627776 bytes");
}

static void test_options(void **state)
{
	(void)state;
	bad("", 0, &(struct build_opts){.jobs = 1, .level = 10}, -EINVAL,
	    "levels");
	bad("", 0, &(struct build_opts){.jobs = 1, .chunk_bytes = 100}, -EINVAL,
	    "4 KiB to 16 MiB");
	bad("", 0, &(struct build_opts){.jobs = 1, .min_chunk_bytes = MIB(17)},
	    -EINVAL, "16 MiB at most");
}

static int cancel(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	(void)done;
	(void)total;
	return -EINTR;
}

static void test_cancel(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));

	(void)state;
	sample(&b, "", MKTAR_USTAR);
	bad(b.p, b.len, &(struct build_opts){.jobs = 2, .progress = cancel},
	    -EINTR, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_toc_text),
		cmocka_unit_test(test_conformance),
		cmocka_unit_test(test_compressions),
		cmocka_unit_test(test_trailing),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_landmarks),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_not_moved),
		cmocka_unit_test(test_choose),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_read_is_best),
		cmocka_unit_test(test_min_chunk),
		cmocka_unit_test(test_many_headers),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_bombs),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
