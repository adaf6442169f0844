/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the TOC's JSON to entries, in one pass: the fields of an entry are
 * collected as they come, and checked together when the object ends.
 */
#include "config.h"

#include <inttypes.h>
#include <string.h>

#include "common/checked.h"
#include "common/json.h"
#include "common/limits.h"
#include "common/toc.h"
#include "common/toc_text.h"

/* Bytes of JSON an entry takes at least, for the first guess at their number;
 * pretty-printed ones with digests take some 368. */
#define ENTRY_JSON_BYTES 256u
#define POOL_XATTRS 2048u

/* In the order they are written in, because that is looked up fastest. */
enum field {
	F_NAME,
	F_TYPE,
	F_SIZE,
	F_MODTIME,
	F_LINKNAME,
	F_MODE,
	F_UID,
	F_GID,
	F_OFFSET,
	F_INNER_OFFSET,
	F_DEVMAJOR,
	F_DEVMINOR,
	F_XATTRS,
	F_DIGEST,
	F_CHUNK_OFFSET,
	F_CHUNK_SIZE,
	F_CHUNK_DIGEST,
	F_CHUNK_TYPE,
	F_N_
};

enum field_kind {
	KIND_STRING,
	KIND_NUMBER,
	KIND_XATTRS
};

static const struct field_def {
	const char *key;
	uint8_t key_len;
	uint8_t kind;
	uint64_t max;
} fields[F_N_] = {
#define FIELD(k, kind, max)                 \
	{                                   \
		k, sizeof(k) - 1, kind, max \
	}
	[F_NAME] = FIELD("name", KIND_STRING, 0),
	[F_TYPE] = FIELD("type", KIND_STRING, 0),
	[F_SIZE] = FIELD("size", KIND_NUMBER, INT64_MAX),
	[F_MODTIME] = FIELD("modtime", KIND_STRING, 0),
	[F_LINKNAME] = FIELD("linkName", KIND_STRING, 0),
	[F_MODE] = FIELD("mode", KIND_NUMBER, INT64_MAX),
	[F_UID] = FIELD("uid", KIND_NUMBER, UINT32_MAX),
	[F_GID] = FIELD("gid", KIND_NUMBER, UINT32_MAX),
	[F_OFFSET] = FIELD("offset", KIND_NUMBER, INT64_MAX),
	[F_INNER_OFFSET] = FIELD("innerOffset", KIND_NUMBER, INT64_MAX),
	/* What a device number of Linux has room for. */
	[F_DEVMAJOR] = FIELD("devMajor", KIND_NUMBER, 0xfff),
	[F_DEVMINOR] = FIELD("devMinor", KIND_NUMBER, 0xfffff),
	[F_XATTRS] = FIELD("xattrs", KIND_XATTRS, 0),
	[F_DIGEST] = FIELD("digest", KIND_STRING, 0),
	[F_CHUNK_OFFSET] = FIELD("chunkOffset", KIND_NUMBER, INT64_MAX),
	[F_CHUNK_SIZE] = FIELD("chunkSize", KIND_NUMBER, INT64_MAX),
	[F_CHUNK_DIGEST] = FIELD("chunkDigest", KIND_STRING, 0),
	[F_CHUNK_TYPE] = FIELD("chunkType", KIND_STRING, 0),
#undef FIELD
};

static const struct {
	const char *name;
	uint8_t len;
	uint8_t type;
} types[] = {
	{"reg", 3, TOC_REG},           {"dir", 3, TOC_DIR},
	{"symlink", 7, TOC_SYMLINK},   {"chunk", 5, TOC_CHUNK},
	{"hardlink", 8, TOC_HARDLINK}, {"char", 4, TOC_CHAR},
	{"block", 5, TOC_BLOCK},       {"fifo", 4, TOC_FIFO},
};

/* Xattrs live in blocks that do not move. */
struct pool {
	struct pool *next;
	size_t n;
	size_t cap;
	struct toc_xattr x[];
};

struct str {
	char *p; /* NULL: the field is not there */
	size_t len;
};

/* The fields of one entry as they are in the JSON. */
struct raw {
	union {
		struct str s;
		uint64_t u;
	} v[F_N_];
	struct toc_xattr *xattrs;
	uint32_t n_xattrs;
};

struct parse {
	struct json j;
	struct toc *t;
	size_t cap;               /* of t->entries */
	struct toc_xattr *xattrs; /* of the entry in work */
	size_t xattrs_cap;
	uint64_t n_xattrs;     /* of all entries */
	const char *name;      /* of the entry in work, NULL if not known yet */
	struct toc_entry *reg; /* the file that chunks are of */
	bool reg_digest_of_file; /* its chunk digest is that of the file */
	struct err *e;
};

/* An error in the entry in work, named by number and, if known, by name. */
static int bad(const struct parse *p, int code, const char *what)
{
	return err_set(p->e, code, "TOC: entry %" PRIu32 " (%.80s): %s",
		       p->t->n_entries, p->name != NULL ? p->name : "?", what);
}

static int bad_json(const struct parse *p)
{
	const char *why = p->j.why != NULL ? p->j.why : "cut off";

	return err_set(p->e, -EBADMSG, "TOC: bad JSON at byte %zu: %s",
		       p->j.off, why);
}

static int no_memory(const struct parse *p)
{
	return err_set(p->e, -ENOMEM, "TOC: no memory for %" PRIu32 " entries",
		       p->t->n_entries);
}

/* A token of the wrong kind: bad JSON, or good JSON with another meaning. */
static int bad_token(const struct parse *p, enum json_tok tok, const char *key)
{
	if (tok == JSON_ERROR)
		return bad_json(p);
	return err_set(p->e, -EBADMSG,
		       "TOC: entry %" PRIu32 " (%.80s): %s is of another kind",
		       p->t->n_entries, p->name != NULL ? p->name : "?", key);
}

/* [n] xattrs that stay where they are until the TOC is freed. */
static struct toc_xattr *pool_take(struct toc *t, size_t n)
{
	struct pool *b = t->pool;
	struct toc_xattr *x;

	if (b == NULL || b->cap - b->n < n) {
		size_t cap = MAX(n, (size_t)POOL_XATTRS);

		b = malloc(sizeof(*b) + cap * sizeof(b->x[0]));
		if (b == NULL)
			return NULL;
		*b = (struct pool){.next = t->pool, .cap = cap};
		t->pool = b;
	}
	x = b->x + b->n;
	b->n += n;
	return x;
}

static int compare_xattrs(const void *a, const void *b)
{
	const struct toc_xattr *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* Sorts by name where that is still to do, and finds doubles. */
static int xattrs_unique(const struct parse *p, size_t n)
{
	bool sorted = true;

	for (size_t i = 1; i < n && sorted; i++)
		sorted = compare_xattrs(p->xattrs + i - 1, p->xattrs + i) < 0;
	if (sorted)
		return 0;
	qsort(p->xattrs, n, sizeof(p->xattrs[0]), compare_xattrs);
	for (size_t i = 1; i < n; i++) {
		if (compare_xattrs(p->xattrs + i - 1, p->xattrs + i) == 0)
			return bad(p, -EBADMSG, "xattr twice");
	}
	return 0;
}

static int xattr_name(struct parse *p, struct toc_xattr *x)
{
	const struct json *j = &p->j;

	if (j->str_len == 0 || memchr(j->str, '\0', j->str_len) != NULL)
		return bad(p, -EBADMSG, "bad xattr name");
	if (j->str_len > XATTR_NAME_BYTES_MAX)
		return bad(p, -EOVERFLOW, "xattr name is too long");
	x->name = j->str;
	return 0;
}

static int xattr_value(struct parse *p, struct toc_xattr *x)
{
	struct json *j = &p->j;
	enum json_tok tok = json_next(j);
	size_t len = 0;

	if (tok == JSON_STRING) {
		len = j->str_len;
		if (toc_base64(j->str, &len) < 0)
			return bad(p, -EBADMSG, "xattr value is not base64");
	} else if (tok != JSON_NULL) {
		return bad_token(p, tok, "xattr value");
	}
	if (len > XATTR_VALUE_BYTES_MAX)
		return bad(p, -EOVERFLOW, "xattr value is too long");
	x->value = (const uint8_t *)(len > 0 ? j->str : x->name);
	x->value_len = (uint32_t)len;
	return 0;
}

static int xattrs_grow(struct parse *p, size_t n)
{
	struct toc_xattr *x;
	size_t cap;

	if (n >= TOC_XATTRS_MAX || p->n_xattrs + n >= TOC_XATTRS_TOTAL_MAX)
		return bad(p, -EOVERFLOW, "too many xattrs");
	if (n < p->xattrs_cap)
		return 0;
	cap = MAX((size_t)32, p->xattrs_cap * 2);
	x = realloc(p->xattrs, cap * sizeof(*x));
	if (x == NULL)
		return no_memory(p);
	p->xattrs = x;
	p->xattrs_cap = cap;
	return 0;
}

static int xattrs_parse(struct parse *p, struct raw *raw)
{
	enum json_tok tok = json_next(&p->j);
	size_t n = 0;
	int r;

	if (tok == JSON_NULL)
		return 0;
	if (tok != JSON_OBJECT)
		return bad_token(p, tok, "xattrs");
	if (raw->n_xattrs > 0)
		return bad(p, -EBADMSG, "xattrs twice");
	while ((tok = json_next(&p->j)) == JSON_KEY) {
		r = xattrs_grow(p, n);
		if (r < 0)
			return r;
		r = xattr_name(p, &p->xattrs[n]);
		if (r < 0)
			return r;
		r = xattr_value(p, &p->xattrs[n]);
		if (r < 0)
			return r;
		n++;
	}
	if (tok != JSON_OBJECT_END)
		return bad_json(p);
	if (n == 0)
		return 0;
	r = xattrs_unique(p, n);
	if (r < 0)
		return r;
	raw->xattrs = pool_take(p->t, n);
	if (raw->xattrs == NULL)
		return no_memory(p);
	memcpy(raw->xattrs, p->xattrs, n * sizeof(p->xattrs[0]));
	raw->n_xattrs = (uint32_t)n;
	p->n_xattrs += n;
	return 0;
}

/*
 * The field of a key, F_N_ for one that does not matter. Keys mostly come in
 * the order of the table, so the search goes on behind the last one found.
 */
static enum field field_find(const struct json *j, enum field from)
{
	for (unsigned int i = 0; i < F_N_; i++) {
		enum field f = (from + i) % F_N_;

		if (fields[f].key_len == j->str_len &&
		    memcmp(fields[f].key, j->str, j->str_len) == 0)
			return f;
	}
	return F_N_;
}

static int field_parse(struct parse *p, struct raw *raw, enum field f)
{
	enum json_tok tok;
	int r;

	if (fields[f].kind == KIND_XATTRS)
		return xattrs_parse(p, raw);
	tok = json_next(&p->j);
	/* As if it were not there, which is what Go makes of it. */
	if (tok == JSON_NULL)
		return 0;
	if (fields[f].kind == KIND_STRING && tok == JSON_STRING) {
		raw->v[f].s = (struct str){p->j.str, p->j.str_len};
		if (f == F_NAME)
			p->name = p->j.str;
		return 0;
	}
	if (fields[f].kind != KIND_NUMBER || tok != JSON_NUMBER)
		return bad_token(p, tok, fields[f].key);
	r = json_u64(&p->j, fields[f].max, &raw->v[f].u);
	if (r == 0)
		return 0;
	return err_set(p->e, r, "TOC: entry %" PRIu32 " (%.80s): %s %s",
		       p->t->n_entries, p->name != NULL ? p->name : "?",
		       fields[f].key,
		       r == -EOVERFLOW ? "is out of range"
				       : "is not a whole number >= 0");
}

static int entry_type(const struct parse *p, const struct raw *raw,
		      uint8_t *ret)
{
	const struct str *s = &raw->v[F_TYPE].s;

	for (size_t i = 0; s->p != NULL && i < ARRAY_SIZE(types); i++) {
		if (types[i].len == s->len &&
		    memcmp(types[i].name, s->p, s->len) == 0) {
			*ret = types[i].type;
			return 0;
		}
	}
	return bad(p, -EBADMSG, "unknown type");
}

/* Cleans a path in place and gives it out. */
static int entry_path(const struct parse *p, struct str s, const char **ret,
		      uint32_t *ret_len)
{
	int r = toc_path_clean(s.p, &s.len);

	if (r < 0)
		return bad(p, r,
			   r == -EBADMSG ? "NUL in a path"
					 : "path is too long or too deep");
	*ret = s.p;
	*ret_len = (uint32_t)s.len;
	return 0;
}

static int entry_name(const struct parse *p, const struct raw *raw,
		      struct toc_entry *t)
{
	struct str s = raw->v[F_NAME].s;
	int r;

	if (s.p == NULL)
		return bad(p, -EBADMSG, "no name");
	r = entry_path(p, s, &t->name, &t->name_len);
	if (r < 0)
		return r;
	if (t->name_len == 0 && t->type != TOC_DIR)
		return bad(p, -EBADMSG, "the root is not a directory");
	return 0;
}

static int entry_link(const struct parse *p, const struct raw *raw,
		      struct toc_entry *t)
{
	struct str s = raw->v[F_LINKNAME].s;
	int r;

	if (t->type != TOC_SYMLINK && t->type != TOC_HARDLINK)
		return 0;
	if (s.p == NULL || s.len == 0)
		return bad(p, -EBADMSG, "link without a target");
	if (t->type == TOC_HARDLINK) {
		r = entry_path(p, s, &t->link, &t->link_len);
		if (r < 0)
			return r;
		if (t->link_len == 0)
			return bad(p, -EBADMSG, "hard link to the root");
		return 0;
	}
	if (memchr(s.p, '\0', s.len) != NULL)
		return bad(p, -EBADMSG, "NUL in a symbolic link");
	/* The kernel takes PATH_MAX with the NUL. */
	if (s.len >= TOC_NAME_BYTES_MAX)
		return bad(p, -EOVERFLOW, "symbolic link is too long");
	t->link = s.p;
	t->link_len = (uint32_t)s.len;
	return 0;
}

static int digest_field(const struct parse *p, const struct raw *raw,
			enum field f, struct digest *ret)
{
	const struct str *s = &raw->v[f].s;
	int r = digest_parse(s->p, s->len, ret);

	if (r < 0)
		return bad(p, r,
			   r == -EOPNOTSUPP ? "digest of another algorithm"
					    : "bad digest");
	return 0;
}

/* The digest of the chunk, and where there is but one that of the file. */
static int entry_digest(struct parse *p, const struct raw *raw,
			struct toc_entry *t)
{
	const struct str *file = &raw->v[F_DIGEST].s;
	const struct str *chunk = &raw->v[F_CHUNK_DIGEST].s;
	bool of_file = false;
	struct digest d;
	int r;

	/* Mostly both are the same; then one is enough to look at. */
	if (t->type == TOC_REG && file->p != NULL &&
	    (chunk->p == NULL || chunk->len != file->len ||
	     memcmp(chunk->p, file->p, file->len) != 0)) {
		r = digest_field(p, raw, F_DIGEST, &d);
		if (r < 0)
			return r;
		of_file = t->chunk_offset == 0 &&
			  (t->chunk_size == 0 || t->chunk_size == t->size);
	}
	if (chunk->p != NULL) {
		r = digest_field(p, raw, F_CHUNK_DIGEST, &d);
		if (r < 0)
			return r;
		of_file = false;
		t->has_chunk_digest = true;
	}
	if (of_file)
		t->has_chunk_digest = true;
	if (t->has_chunk_digest)
		t->chunk_digest = d;
	if (t->type == TOC_REG)
		p->reg_digest_of_file = of_file;
	return 0;
}

/* What a further chunk takes from its file. */
static int chunk_of_file(struct parse *p, const struct raw *raw,
			 struct toc_entry *t)
{
	struct str s = raw->v[F_NAME].s;

	if (p->reg == NULL)
		return bad(p, -EBADMSG, "chunk without a file");
	t->name = p->reg->name;
	t->name_len = p->reg->name_len;
	/* Older ones have no name. */
	if (s.p != NULL && s.len > 0) {
		if (toc_path_clean(s.p, &s.len) < 0 || s.len != t->name_len ||
		    memcmp(s.p, t->name, s.len) != 0)
			return bad(p, -EBADMSG, "chunk of another file");
	}
	/* So the file is more than one chunk, and its digest none of one. */
	if (p->reg_digest_of_file)
		p->reg->has_chunk_digest = false;
	p->reg_digest_of_file = false;
	return 0;
}

static int entry_data(struct parse *p, const struct raw *raw,
		      struct toc_entry *t)
{
	const struct str *kind = &raw->v[F_CHUNK_TYPE].s;
	uint64_t size;
	int r;

	t->offset = raw->v[F_OFFSET].u;
	t->inner_offset = raw->v[F_INNER_OFFSET].u;
	t->chunk_offset = raw->v[F_CHUNK_OFFSET].u;
	t->chunk_size = raw->v[F_CHUNK_SIZE].u;
	if (t->type == TOC_CHUNK) {
		r = chunk_of_file(p, raw, t);
		if (r < 0)
			return r;
		size = p->reg->size;
	} else {
		size = t->size = raw->v[F_SIZE].u;
	}
	if (!checked_range(t->chunk_offset, t->chunk_size, size))
		return bad(p, -EBADMSG, "chunk reaches past the file's end");
	/* zstd:chunked has chunks of zeros, which have no bytes. */
	if (kind->p != NULL && kind->len > 0)
		return bad(p, -EOPNOTSUPP, "unknown chunkType");
	return entry_digest(p, raw, t);
}

static int entry_finish(struct parse *p, const struct raw *raw,
			struct toc_entry *t)
{
	const struct str *mtime = &raw->v[F_MODTIME].s;
	int r;

	*t = (struct toc_entry){0};
	r = entry_type(p, raw, &t->type);
	if (r < 0)
		return r;
	if (t->type == TOC_CHUNK)
		return entry_data(p, raw, t);
	r = entry_name(p, raw, t);
	if (r < 0)
		return r;
	r = entry_link(p, raw, t);
	if (r < 0)
		return r;
	if (mtime->p != NULL)
		t->mtime = toc_time(mtime->p, mtime->len);
	t->mode = (uint32_t)raw->v[F_MODE].u & 07777;
	t->uid = (uint32_t)raw->v[F_UID].u;
	t->gid = (uint32_t)raw->v[F_GID].u;
	t->xattrs = raw->xattrs;
	t->n_xattrs = raw->n_xattrs;
	if (t->type == TOC_CHAR || t->type == TOC_BLOCK) {
		t->devmajor = (uint32_t)raw->v[F_DEVMAJOR].u;
		t->devminor = (uint32_t)raw->v[F_DEVMINOR].u;
	}
	p->reg = t->type == TOC_REG ? t : NULL;
	return t->type == TOC_REG ? entry_data(p, raw, t) : 0;
}

/* Room for one more entry; they may move. */
static int entries_grow(struct parse *p)
{
	struct toc *t = p->t;
	size_t cap, reg = 0;
	struct toc_entry *n;

	if (t->n_entries >= TOC_ENTRIES_MAX)
		return err_set(p->e, -EOVERFLOW, "TOC: more than %u entries",
			       TOC_ENTRIES_MAX);
	if (t->n_entries < p->cap)
		return 0;
	cap = p->cap > 0 ? p->cap * 2 : p->j.len / ENTRY_JSON_BYTES + 16;
	cap = MIN(cap, (size_t)TOC_ENTRIES_MAX);
	if (p->reg != NULL)
		reg = (size_t)(p->reg - t->entries);
	n = realloc(t->entries, cap * sizeof(*n));
	if (n == NULL)
		return no_memory(p);
	t->entries = n;
	p->cap = cap;
	if (p->reg != NULL)
		p->reg = n + reg;
	return 0;
}

static int entry_parse(struct parse *p)
{
	struct raw raw = {0};
	enum field from = F_NAME;
	enum json_tok tok;
	int r;

	p->name = NULL;
	r = entries_grow(p);
	if (r < 0)
		return r;
	while ((tok = json_next(&p->j)) == JSON_KEY) {
		enum field f = field_find(&p->j, from);

		if (f == F_N_) {
			if (json_skip(&p->j) < 0)
				return bad_json(p);
			continue;
		}
		r = field_parse(p, &raw, f);
		if (r < 0)
			return r;
		from = f + 1;
	}
	if (tok != JSON_OBJECT_END)
		return bad_json(p);
	r = entry_finish(p, &raw, &p->t->entries[p->t->n_entries]);
	if (r < 0)
		return r;
	p->t->n_entries++;
	return 0;
}

static int entries_parse(struct parse *p)
{
	enum json_tok tok = json_next(&p->j);
	int r;

	/* How Go writes an empty list that was never made. */
	if (tok == JSON_NULL)
		return 0;
	if (tok != JSON_ARRAY)
		return tok == JSON_ERROR ? bad_json(p)
					 : err_set(p->e, -EBADMSG,
						   "TOC: entries are no array");
	while ((tok = json_next(&p->j)) == JSON_OBJECT) {
		r = entry_parse(p);
		if (r < 0)
			return r;
	}
	if (tok == JSON_ERROR)
		return bad_json(p);
	if (tok != JSON_ARRAY_END)
		return err_set(p->e, -EBADMSG,
			       "TOC: entry %" PRIu32 " is no object",
			       p->t->n_entries);
	return 0;
}

static int version_parse(struct parse *p)
{
	enum json_tok tok = json_next(&p->j);
	uint64_t v;

	if (tok == JSON_ERROR)
		return bad_json(p);
	if (tok != JSON_NUMBER || json_u64(&p->j, UINT64_MAX, &v) < 0)
		return err_set(p->e, -EBADMSG, "TOC: version is no number");
	if (v != 1)
		return err_set(p->e, -EOPNOTSUPP,
			       "TOC: version %" PRIu64 ", known is 1", v);
	return 0;
}

static bool key_is(const struct json *j, const char *key)
{
	size_t n = strlen(key);

	return j->str_len == n && memcmp(j->str, key, n) == 0;
}

static int document_parse(struct parse *p)
{
	bool has_version = false, has_entries = false;
	enum json_tok tok = json_next(&p->j);
	int r = 0;

	if (tok == JSON_ERROR)
		return bad_json(p);
	if (tok != JSON_OBJECT)
		return err_set(p->e, -EBADMSG, "TOC: no object");
	while ((tok = json_next(&p->j)) == JSON_KEY) {
		if (key_is(&p->j, "version")) {
			has_version = true;
			r = version_parse(p);
		} else if (key_is(&p->j, "entries")) {
			if (has_entries)
				return err_set(p->e, -EBADMSG,
					       "TOC: entries twice");
			has_entries = true;
			r = entries_parse(p);
		} else if (json_skip(&p->j) < 0) {
			r = bad_json(p);
		}
		if (r < 0)
			return r;
	}
	if (tok != JSON_OBJECT_END || json_next(&p->j) != JSON_END)
		return bad_json(p);
	/* Go reads a TOC without entries as an empty one. */
	if (!has_version)
		return err_set(p->e, -EBADMSG, "TOC: no version");
	return 0;
}

int toc_parse(char *json, size_t len, struct toc **ret, struct err *e)
{
	CLEANUP(toc_free_cleanup) struct toc *t = calloc(1, sizeof(*t));
	struct parse p = {.t = t, .e = e};
	int r;

	if (t == NULL)
		return err_no_memory(e);
	json_start(&p.j, json, len);
	r = document_parse(&p);
	free(p.xattrs);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

void toc_free(struct toc *t)
{
	struct pool *b, *next;

	if (t == NULL)
		return;
	for (b = t->pool; b != NULL; b = next) {
		next = b->next;
		free(b);
	}
	free(t->entries);
	free(t);
}
