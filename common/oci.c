/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/oci.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "common/limits.h"

void oci_ref_done(struct oci_ref *r)
{
	free(r->host);
	free(r->repo);
	free(r->tag);
	*r = (struct oci_ref){0};
}

static bool lower_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool word_char(char c)
{
	return lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool host_ok(const char *s, size_t n)
{
	const char *bracket = memchr(s, ']', n), *colon;
	size_t name = n;

	if (n == 0 || n > 255)
		return false;
	colon = bracket != NULL
			? memchr(bracket, ':', n - (size_t)(bracket - s))
			: memchr(s, ':', n);
	if (colon != NULL) {
		size_t digits = n - (size_t)(colon + 1 - s);

		name = (size_t)(colon - s);
		if (digits == 0 || digits > 5)
			return false;
		for (size_t i = 1; i <= digits; i++) {
			if (colon[i] < '0' || colon[i] > '9')
				return false;
		}
	}
	if (name == 0)
		return false;
	if (s[0] == '[') {
		if (bracket == NULL || (size_t)(bracket + 1 - s) != name ||
		    name < 4)
			return false;
		for (size_t i = 1; i + 1 < name; i++) {
			if (strchr("0123456789abcdefABCDEF:.", s[i]) == NULL)
				return false;
		}
		return true;
	}
	for (size_t i = 0; i < name; i++) {
		if (!word_char(s[i]) && s[i] != '.' && s[i] != '-')
			return false;
	}
	return s[0] != '-' && s[0] != '.';
}

/* Path components: [a-z0-9]+ joined by ".", "_", "__" or "-"s. */
static bool repo_ok(const char *s, size_t n)
{
	bool in_word = false;

	if (n == 0 || n > 255)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (lower_or_digit(s[i])) {
			in_word = true;
			continue;
		}
		if (strchr("./_-", s[i]) == NULL || s[i] == '\0')
			return false;
		/* Only '_' twice and '-' any number of times in a row. */
		if (!in_word && s[i] == '-' && i > 0 && s[i - 1] == '-')
			continue;
		if (!in_word && s[i] == '_' && i > 1 && s[i - 1] == '_' &&
		    s[i - 2] != '_')
			continue;
		if (!in_word)
			return false;
		in_word = false;
	}
	return in_word;
}

static bool tag_ok(const char *s, size_t n)
{
	if (n == 0 || n > 128 || !word_char(s[0]))
		return false;
	for (size_t i = 1; i < n; i++) {
		if (!word_char(s[i]) && s[i] != '.' && s[i] != '-')
			return false;
	}
	return true;
}

static bool looks_like_host(const char *s, size_t n)
{
	return memchr(s, '.', n) != NULL || memchr(s, ':', n) != NULL ||
	       (n == 9 && memcmp(s, "localhost", 9) == 0);
}

static int ref_parts(const char *s, struct oci_ref *r, struct err *e)
{
	const char *slash = strchr(s, '/'), *at = strchr(s, '@'), *end, *tag;
	size_t host, repo;
	int ret;

	if (slash == NULL || (at != NULL && at < slash) ||
	    !looks_like_host(s, (size_t)(slash - s)))
		return err_set(e, -EBADMSG, "reference %s: no host", s);
	host = (size_t)(slash - s);
	if (!host_ok(s, host))
		return err_set(e, -EBADMSG, "reference %s: bad host", s);
	end = at != NULL ? at : s + strlen(s);
	tag = memchr(slash, ':', (size_t)(end - slash));
	repo = (size_t)((tag != NULL ? tag : end) - slash - 1);
	if (!repo_ok(slash + 1, repo))
		return err_set(e, -EBADMSG, "reference %s: bad repository", s);
	if (tag != NULL && !tag_ok(tag + 1, (size_t)(end - tag - 1)))
		return err_set(e, -EBADMSG, "reference %s: bad tag", s);
	if (at != NULL) {
		ret = digest_parse(at + 1, strlen(at + 1), &r->digest);
		if (ret < 0)
			return err_set(e, ret, "reference %s: bad digest", s);
		r->has_digest = true;
	}
	r->host = strndup(s, host);
	if (strcmp(r->host != NULL ? r->host : "", "docker.io") == 0 &&
	    memchr(slash + 1, '/', repo) == NULL) {
		if (asprintf(&r->repo, "library/%.*s", (int)repo, slash + 1) <
		    0)
			r->repo = NULL;
	} else {
		r->repo = strndup(slash + 1, repo);
	}
	if (tag != NULL)
		r->tag = strndup(tag + 1, (size_t)(end - tag - 1));
	else if (at == NULL)
		r->tag = strdup("latest");
	if (r->host == NULL || r->repo == NULL ||
	    (r->tag == NULL && (tag != NULL || at == NULL)))
		return err_no_memory(e);
	return 0;
}

int oci_ref_parse(const char *s, struct oci_ref *ret, struct err *e)
{
	CLEANUP_OCI_REF struct oci_ref r = {0};
	int rc;

	if (strlen(s) > REFERENCE_BYTES_MAX)
		return err_set(e, -EBADMSG, "reference is too long");
	rc = ref_parts(s, &r, e);
	if (rc < 0)
		return rc;
	*ret = r;
	r = (struct oci_ref){0};
	return 0;
}

void oci_manifest_done(struct oci_manifest *m)
{
	for (size_t i = 0; i < m->n_layers; i++)
		free(m->layers[i].media_type);
	free(m->layers);
	*m = (struct oci_manifest){0};
}

static const char *str_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_is_type(o, json_type_object) ||
	    !json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, json_type_string))
		return NULL;
	return json_object_get_string(v);
}

static int digest_of(struct json_object *o, const char *key, struct digest *ret)
{
	const char *s = str_of(o, key);

	return s != NULL ? digest_parse(s, strlen(s), ret) : -EBADMSG;
}

static int layer_parse(struct json_object *o, struct oci_layer *l,
		       struct err *e)
{
	struct json_object *size, *notes;
	const char *type = str_of(o, "mediaType");
	int r = digest_of(o, "digest", &l->digest);

	if (r < 0)
		return err_set(e, r, "manifest: bad layer digest");
	if (!json_object_object_get_ex(o, "size", &size) ||
	    !json_object_is_type(size, json_type_int) ||
	    json_object_get_int64(size) < 0)
		return err_set(e, -EBADMSG, "manifest: bad layer size");
	l->size = (uint64_t)json_object_get_int64(size);
	if (json_object_object_get_ex(o, "annotations", &notes) &&
	    str_of(notes, OCI_TOC_DIGEST_ANNOTATION) != NULL) {
		r = digest_of(notes, OCI_TOC_DIGEST_ANNOTATION, &l->toc_digest);
		if (r < 0)
			return err_set(e, r, "manifest: bad TOC digest");
		l->has_toc_digest = true;
	}
	l->has_trace =
		json_object_object_get_ex(o, "annotations", &notes) &&
		digest_of(notes, OCI_TRACE_DIGEST_ANNOTATION, &l->trace) == 0;
	if (json_object_object_get_ex(o, "annotations", &notes) &&
	    str_of(notes, OCI_TAILS_ANNOTATION) != NULL)
		oci_tails_parse(str_of(notes, OCI_TAILS_ANNOTATION), &l->tail,
				1);
	l->media_type = strdup(type != NULL ? type : "");
	return l->media_type != NULL ? 0 : err_no_memory(e);
}

void oci_tails_parse(const char *s, uint32_t *ret, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t digits = strspn(s, "0123456789");
		uint64_t v = 0;

		for (size_t k = 0; k < digits && v <= OCI_TAIL_BYTES_MAX; k++)
			v = v * 10 + (uint64_t)(s[k] - '0');
		s += digits;
		if (v > OCI_TAIL_BYTES_MAX || (*s != ',' && *s != '\0'))
			v = 0;
		ret[i] = (uint32_t)v;
		s += strcspn(s, ",");
		s += *s == ',';
	}
}

static int layers_parse(struct json_object *a, struct oci_manifest *m,
			struct err *e)
{
	size_t n = json_object_array_length(a);

	if (n > MANIFEST_LAYERS_MAX)
		return err_set(e, -EOVERFLOW, "manifest: %zu layers", n);
	m->layers = calloc(n + 1, sizeof(*m->layers));
	if (m->layers == NULL)
		return err_no_memory(e);
	for (size_t i = 0; i < n; i++) {
		int r = layer_parse(json_object_array_get_idx(a, i),
				    &m->layers[i], e);

		m->n_layers = i + 1;
		if (r < 0)
			return r;
	}
	return 0;
}

/* How well a platform fits: 0 not at all, 2 best. */
static int fits(struct json_object *o, const char *arch)
{
	struct json_object *p;
	const char *os, *a;

	if (!json_object_is_type(o, json_type_object) ||
	    !json_object_object_get_ex(o, "platform", &p))
		return 0;
	os = str_of(p, "os");
	a = str_of(p, "architecture");
	if (os == NULL || a == NULL || strcmp(os, "linux") != 0 ||
	    strcmp(a, arch) != 0)
		return 0;
	/* The plain variant first; arm64 is v8 by its other name. */
	return str_of(p, "variant") == NULL ||
			       (strcmp(arch, "arm64") == 0 &&
				strcmp(str_of(p, "variant"), "v8") == 0)
		       ? 2
		       : 1;
}

static int index_parse(struct json_object *a, const char *arch,
		       struct oci_manifest *m, struct err *e)
{
	struct json_object *best = NULL;
	int best_fit = 0, r;

	for (size_t i = 0; i < json_object_array_length(a); i++) {
		struct json_object *o = json_object_array_get_idx(a, i);
		int fit = fits(o, arch);

		if (fit > best_fit) {
			best = o;
			best_fit = fit;
		}
	}
	/* An index of one manifest that names no platform means that one. */
	if (best == NULL && json_object_array_length(a) == 1 &&
	    json_object_is_type(json_object_array_get_idx(a, 0),
				json_type_object) &&
	    !json_object_object_get_ex(json_object_array_get_idx(a, 0),
				       "platform", NULL))
		best = json_object_array_get_idx(a, 0);
	if (best == NULL)
		return err_set(e, -ENOENT, "index has no image for linux/%s",
			       arch);
	r = digest_of(best, "digest", &m->next);
	if (r < 0)
		return err_set(e, r, "index: bad digest");
	m->is_index = true;
	return 0;
}

static int document_parse(struct json_object *o, const char *arch,
			  struct oci_manifest *m, struct err *e)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, "schemaVersion", &v) ||
	    !json_object_is_type(v, json_type_int))
		return err_set(e, -EBADMSG, "manifest has no schemaVersion");
	if (json_object_get_int64(v) != 2)
		return err_set(e, -EOPNOTSUPP, "manifest schema %lld",
			       (long long)json_object_get_int64(v));
	if (json_object_object_get_ex(o, "layers", &v) &&
	    json_object_is_type(v, json_type_array))
		return layers_parse(v, m, e);
	if (json_object_object_get_ex(o, "manifests", &v) &&
	    json_object_is_type(v, json_type_array))
		return index_parse(v, arch, m, e);
	return err_set(e, -EBADMSG,
		       "manifest has neither layers nor manifests");
}

/* At least as many as there are values. */
static size_t count_values(const char *json, size_t len)
{
	size_t n = 1;

	for (size_t i = 0; i < len; i++)
		n += json[i] == '{' || json[i] == '[' || json[i] == ',';
	return n;
}

/* @what: for messages. Return: 0 and an object to be put, -EBADMSG, … */
static int read_json(const char *json, size_t len, const char *what,
		     struct json_object **ret, struct err *e)
{
	struct json_tokener *t;
	struct json_object *o;
	int r = 0;

	if (len > MANIFEST_BYTES_MAX)
		return err_set(e, -EOVERFLOW, "%s is too large", what);
	if (count_values(json, len) > MANIFEST_VALUES_MAX)
		return err_set(e, -EOVERFLOW, "%s has too many values", what);
	t = json_tokener_new_ex(JSON_DEPTH_MAX);
	if (t == NULL)
		return err_no_memory(e);
	o = json_tokener_parse_ex(t, json, (int)len);
	/* A number at the very end only shows complete with what follows. */
	if (o == NULL || json_tokener_get_error(t) != json_tokener_success)
		r = err_set(e, -EBADMSG, "%s is not JSON: %s", what,
			    json_tokener_error_desc(json_tokener_get_error(t)));
	else if (!json_object_is_type(o, json_type_object))
		r = err_set(e, -EBADMSG, "%s is not a JSON object", what);
	json_tokener_free(t);
	if (r < 0)
		json_object_put(o);
	else
		*ret = o;
	return r;
}

int oci_manifest_parse(const char *json, size_t len, const char *arch,
		       struct oci_manifest *ret, struct err *e)
{
	struct oci_manifest m = {0};
	struct json_object *o;
	int r = read_json(json, len, "manifest", &o, e);

	if (r < 0)
		return r;
	r = document_parse(o, arch, &m, e);
	json_object_put(o);
	if (r < 0) {
		oci_manifest_done(&m);
		return r;
	}
	*ret = m;
	return 0;
}

char *oci_referrers_tag(const struct digest *d,
			char buf[OCI_REFERRERS_TAG_BYTES])
{
	char hex[DIGEST_HEX_BYTES + 1];

	(void)snprintf(buf, OCI_REFERRERS_TAG_BYTES, "sha256-%s",
		       digest_hex(d, hex));
	return buf;
}

/* An artifact's type: as an entry of a list or a manifest says it. */
static bool is_of_type(struct json_object *o, const char *type)
{
	const char *t = str_of(o, "artifactType");
	struct json_object *config;

	if (t == NULL && json_object_is_type(o, json_type_object) &&
	    json_object_object_get_ex(o, "config", &config))
		t = str_of(config, "mediaType");
	return t != NULL && strcmp(t, type) == 0;
}

static const char *created(struct json_object *o)
{
	struct json_object *notes;
	const char *s = NULL;

	if (json_object_object_get_ex(o, "annotations", &notes))
		s = str_of(notes, OCI_CREATED_ANNOTATION);
	return s != NULL ? s : "";
}

int oci_referrers_parse(const char *json, size_t len, const char *type,
			struct digest *ret, struct err *e)
{
	struct json_object *doc, *list, *best = NULL;
	int r = read_json(json, len, "list of artifacts", &doc, e);

	if (r < 0)
		return r;
	if (!json_object_object_get_ex(doc, "manifests", &list) ||
	    !json_object_is_type(list, json_type_array)) {
		json_object_put(doc);
		return err_set(e, -EBADMSG,
			       "list of artifacts: no manifests in it");
	}
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		if (is_of_type(o, type) &&
		    (best == NULL || strcmp(created(o), created(best)) >= 0))
			best = o;
	}
	r = -ENOENT;
	if (best == NULL) {
		err_set(e, r, "list of artifacts: no %s in it", type);
	} else {
		r = digest_of(best, "digest", ret);
		if (r < 0)
			err_set(e, r, "list of artifacts: bad digest");
	}
	json_object_put(doc);
	return r;
}

static int artifact_parse(struct json_object *doc, const char *type,
			  const struct digest *subject, struct digest *ret,
			  struct err *e)
{
	struct json_object *of, *blobs;
	struct digest d;
	int r;

	if (!json_object_object_get_ex(doc, "subject", &of) ||
	    digest_of(of, "digest", &d) < 0 || !digest_equal(&d, subject))
		return err_set(e, -EBADMSG, "artifact: of another image");
	if (!is_of_type(doc, type) ||
	    !json_object_object_get_ex(doc, "layers", &blobs) ||
	    !json_object_is_type(blobs, json_type_array) ||
	    json_object_array_length(blobs) != 1)
		return err_set(e, -EBADMSG, "artifact: not a %s of one blob",
			       type);
	r = digest_of(json_object_array_get_idx(blobs, 0), "digest", ret);
	return r < 0 ? err_set(e, r, "artifact: bad digest") : 0;
}

int oci_artifact_parse(const char *json, size_t len, const char *type,
		       const struct digest *subject, struct digest *ret,
		       struct err *e)
{
	struct json_object *doc;
	int r = read_json(json, len, "artifact", &doc, e);

	if (r < 0)
		return r;
	r = artifact_parse(doc, type, subject, ret, e);
	json_object_put(doc);
	return r;
}

const char *oci_arch(void)
{
#if defined(__x86_64__)
	return "amd64";
#elif defined(__aarch64__)
	return "arm64";
#elif defined(__arm__)
	return "arm";
#elif defined(__riscv) && __riscv_xlen == 64
	return "riscv64";
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
	return "ppc64le";
#elif defined(__s390x__)
	return "s390x";
#elif defined(__i386__)
	return "386";
#else
	return "unknown";
#endif
}
