/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/options.h"

#include <getopt.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "common/io.h"
#include "common/layerdir.h"
#include "common/oci.h"

#define OPTION_SUPERVISOR 256 /* no letter */
#define OPTION_META 257

const char options_help[] =
	"Usage: mount.estargz SOURCE TARGET [-f] [-v] [-o OPTION[,OPTION...]]\n"
	"Mount an eStargz layer, or a whole image of them, lazily.\n"
	"\n"
	"SOURCE is one of\n"
	"  HOST[:PORT]/REPO[:TAG][@DIGEST]  an image in a registry\n"
	"  oci:DIR[:TAG]                    an image in an OCI layout on disk\n"
	"  http://... or https://...        one blob on a server\n"
	"  PATH                             one blob in a local file\n"
	"\n"
	"  -f, --foreground   stay in the foreground\n"
	"  -v, --verbose      the same as -o log_level=debug\n"
	"  -o, --options      mount options, separated by commas:\n"
	"     layer=N|DIGEST       one layer of the image, 0 is the lowest\n"
	"     digest=DIGEST        expected digest of the blob\n"
	"     toc_digest=DIGEST    expected digest of the TOC\n"
	"     trace=DIGEST         of the trace of the image, beside layer=\n"
	"     manifest=DIGEST      of the image, whose trace is looked for\n"
	"     tail=BYTES           of the table of contents and footer of the layer\n"
	"     root=DIR             state directory [/var/lib/estargz]\n"
	"     fetcher=SOCKET       of estargzd [/run/estargz/fetcher.sock];\n"
	"                          a private one is started if none listens\n"
	"     plain_http           talk HTTP, not HTTPS, to the registry\n"
	"     noprefetch           no prefetch of the prioritised files\n"
	"     notrace              prefetch by these, not by the image's trace\n"
	"     nobackground         fetch only what is read\n"
	"     open_mode=auto|noopen|passthrough\n"
	"                          how files are opened [auto]\n"
	"     noreadahead          the kernel asks for the pages that are used\n"
	"     events=FILE          append what happens to FILE, for estargz trace\n"
	"     events_max=SIZE      but not above that size [1GiB]\n"
	"     nonative             FUSE also where everything is here\n"
	"     opaque=trusted|user  xattr of opaque directories [trusted]\n"
	"     insecure_no_verify   accept a blob with no digest to check\n"
	"     read_timeout=SECONDS a read gives up after that long [300]\n"
	"     log_level=err|warn|info|debug  [info]\n"
	"     ro, nodev, nosuid, noexec, ... as mount(8) has them\n"
	"      --supervisor=FD  serve in this process, for a supervisor\n"
	"      --meta=FD      mount nothing, merge or check metadata\n"
	"  -h, --help         print this\n"
	"  -V, --version      print the version\n";

/* The mount words that mount(8) passes on, and what they set or clear. */
static const struct {
	const char *word;
	unsigned long set, clear;
} mount_words[] = {
	{"ro", MS_RDONLY, 0},
	{"rw", 0, 0}, /* what "defaults" comes to; the mount is ro anyway */
	{"defaults", 0, 0},
	{"nodev", MS_NODEV, 0},
	{"dev", 0, MS_NODEV},
	{"nosuid", MS_NOSUID, 0},
	{"suid", 0, MS_NOSUID},
	{"noexec", MS_NOEXEC, 0},
	{"exec", 0, MS_NOEXEC},
	{"noatime", MS_NOATIME, 0},
	{"atime", 0, MS_NOATIME},
	{"nodiratime", MS_NODIRATIME, 0},
	{"diratime", 0, MS_NODIRATIME},
	{"relatime", MS_RELATIME, 0},
	{"norelatime", 0, MS_RELATIME},
	{"strictatime", MS_STRICTATIME, 0},
	{"lazytime", MS_LAZYTIME, 0},
	{"nolazytime", 0, MS_LAZYTIME},
	{"sync", MS_SYNCHRONOUS, 0},
	{"async", 0, MS_SYNCHRONOUS},
	{"silent", MS_SILENT, 0},
	{"loud", 0, MS_SILENT},
	/* For mount(8), fstab and systemd; nothing to do here. */
	{"auto", 0, 0},
	{"noauto", 0, 0},
	{"nofail", 0, 0},
	{"_netdev", 0, 0},
	{"user", 0, 0},
	{"nouser", 0, 0},
	{"users", 0, 0},
	{"owner", 0, 0},
	{"group", 0, 0},
};

static int set_string(char **to, const char *value)
{
	char *s = strdup(value);

	if (s == NULL)
		return -ENOMEM;
	free(*to);
	*to = s;
	return 0;
}

static int set_path(char **to, const char *key, const char *value,
		    struct err *e)
{
	if (value[0] != '/')
		return err_set(e, -EINVAL, "option %s=%s: not an absolute path",
			       key, value);
	return set_string(to, value);
}

static int set_digest(struct digest *to, bool *has, const char *key,
		      const char *value, struct err *e)
{
	int r = digest_parse(value, strlen(value), to);

	if (r < 0)
		return err_set(e, -EINVAL, "option %s=%s: %s", key, value,
			       r == -EOPNOTSUPP ? "only sha256 is supported"
						: "not a sha256 digest");
	*has = true;
	return 0;
}

static int set_seconds(uint32_t *to, const char *key, const char *value,
		       struct err *e)
{
	unsigned long v;
	char *end;

	errno = 0;
	v = strtoul(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || value[0] == '-' ||
	    v == 0 || v > 86400)
		return err_set(e, -EINVAL,
			       "option %s=%s: not a number of seconds from 1 "
			       "to 86400",
			       key, value);
	*to = (uint32_t)v;
	return 0;
}

static int set_size(uint64_t *to, const char *key, const char *value,
		    struct err *e)
{
	if (io_parse_bytes(value, to) == 0)
		return 0;
	return err_set(e, -EINVAL, "option %s=%s: not a size, as 64MiB is", key,
		       value);
}

static int set_tail(uint32_t *to, const char *key, const char *value,
		    struct err *e)
{
	uint64_t v;
	int r = set_size(&v, key, value, e);

	if (r == 0 && v > OCI_TAIL_BYTES_MAX)
		return err_set(e, -EINVAL, "option %s=%s: more than 8MiB", key,
			       value);
	*to = r == 0 ? (uint32_t)v : 0;
	return r;
}

static int set_layer(struct options *o, const char *value, struct err *e)
{
	struct digest d;
	size_t digits = strspn(value, "0123456789");

	if ((digits == 0 || digits > 4 || value[digits] != '\0') &&
	    digest_parse(value, strlen(value), &d) < 0)
		return err_set(e, -EINVAL,
			       "option layer=%s: neither a number nor a digest",
			       value);
	return set_string(&o->layer, value);
}

static int set_open_mode(enum options_open *to, const char *value,
			 struct err *e)
{
	static const char *const names[] = {
		[OPTIONS_OPEN_AUTO] = "auto",
		[OPTIONS_OPEN_NOOPEN] = "noopen",
		[OPTIONS_OPEN_PASSTHROUGH] = "passthrough",
	};

	static_assert(ARRAY_SIZE(names) == OPTIONS_OPEN_N_, "a name for each");
	for (unsigned i = 0; i < OPTIONS_OPEN_N_; i++) {
		if (strcmp(value, names[i]) == 0) {
			*to = i;
			return 0;
		}
	}
	return err_set(e, -EINVAL,
		       "option open_mode=%s: not one of auto, noopen, "
		       "passthrough",
		       value);
}

static int set_valued(struct options *o, const char *key, const char *value,
		      struct err *e)
{
	if (strcmp(key, "layer") == 0)
		return set_layer(o, value, e);
	if (strcmp(key, "digest") == 0)
		return set_digest(&o->digest, &o->has_digest, key, value, e);
	if (strcmp(key, "toc_digest") == 0)
		return set_digest(&o->toc_digest, &o->has_toc_digest, key,
				  value, e);
	if (strcmp(key, "trace") == 0)
		return set_digest(&o->trace, &o->has_trace, key, value, e);
	if (strcmp(key, "manifest") == 0)
		return set_digest(&o->manifest, &o->has_manifest, key, value,
				  e);
	if (strcmp(key, "tail") == 0)
		return set_tail(&o->tail, key, value, e);
	if (strcmp(key, "root") == 0)
		return set_path(&o->root, key, value, e);
	if (strcmp(key, "fetcher") == 0)
		return set_path(&o->fetcher, key, value, e);
	if (strcmp(key, "events") == 0)
		return set_path(&o->events, key, value, e);
	if (strcmp(key, "events_max") == 0)
		return set_size(&o->events_max, key, value, e);
	if (strcmp(key, "read_timeout") == 0)
		return set_seconds(&o->read_timeout_s, key, value, e);
	if (strcmp(key, "open_mode") == 0)
		return set_open_mode(&o->open_mode, value, e);
	if (strcmp(key, "log_level") == 0) {
		if (log_parse_level(value, &o->log_level) < 0)
			return err_set(e, -EINVAL,
				       "option log_level=%s: not one of err, "
				       "warn, info, debug",
				       value);
		return 0;
	}
	if (strcmp(key, "opaque") == 0) {
		o->opaque_user = strcmp(value, "user") == 0;
		if (!o->opaque_user && strcmp(value, "trusted") != 0)
			return err_set(e, -EINVAL,
				       "option opaque=%s: not one of trusted, "
				       "user",
				       value);
		return 0;
	}
	if (strncmp(key, "x-", 2) == 0 || strncmp(key, "X-", 2) == 0 ||
	    strcmp(key, "comment") == 0 || strcmp(key, "user") == 0)
		return 0;
	return err_set(e, -EINVAL, "option %s=%s: unknown option", key, value);
}

static int set_flag(struct options *o, const char *word, struct err *e)
{
	bool *flag = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(mount_words); i++) {
		if (strcmp(word, mount_words[i].word) == 0) {
			o->mount_flags |= mount_words[i].set;
			o->mount_flags &= ~mount_words[i].clear;
			return 0;
		}
	}
	if (strcmp(word, "plain_http") == 0)
		flag = &o->plain_http;
	else if (strcmp(word, "noprefetch") == 0)
		flag = &o->noprefetch;
	else if (strcmp(word, "notrace") == 0)
		flag = &o->notrace;
	else if (strcmp(word, "nobackground") == 0)
		flag = &o->nobackground;
	else if (strcmp(word, "noreadahead") == 0)
		flag = &o->noreadahead;
	else if (strcmp(word, "nonative") == 0)
		flag = &o->nonative;
	else if (strcmp(word, "insecure_no_verify") == 0)
		flag = &o->no_verify;
	if (flag != NULL) {
		*flag = true;
		return 0;
	}
	if (strncmp(word, "x-", 2) == 0 || strncmp(word, "X-", 2) == 0)
		return 0;
	return err_set(e, -EINVAL,
		       "option %s: unknown option, or one that wants "
		       "a value",
		       word);
}

static int set_fd(int *to, const char *key, const char *value, struct err *e)
{
	char *end;
	long fd = strtol(value, &end, 10);

	/* The first three have other uses. */
	if (end == value || *end != '\0' || fd <= STDERR_FILENO || fd > INT_MAX)
		return err_set(e, -EINVAL, "--%s=%s: not a descriptor", key,
			       value);
	*to = (int)fd;
	return 0;
}

static int parse_list(struct options *o, const char *list, struct err *e)
{
	CLEANUP_FREE char *copy = strdup(list);
	char *next = copy;
	int r = 0;

	if (copy == NULL)
		return -ENOMEM;
	while (r == 0 && next != NULL) {
		char *word = strsep(&next, ",");
		char *eq = strchr(word, '=');

		if (*word == '\0')
			continue;
		if (eq == NULL) {
			r = set_flag(o, word, e);
		} else {
			*eq = '\0';
			r = set_valued(o, word, eq + 1, e);
		}
	}
	return r;
}

static int parse_args(struct options *o, int argc, char **argv, struct err *e)
{
	static const struct option longs[] = {
		{"foreground", no_argument, NULL, 'f'},
		{"verbose", no_argument, NULL, 'v'},
		{"options", required_argument, NULL, 'o'},
		{"supervisor", required_argument, NULL, OPTION_SUPERVISOR},
		{"meta", required_argument, NULL, OPTION_META},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int c, r;

	opterr = 0;
	optind = 1;
	/* mount(8) gives a helper -s, -n, -N and -t too. */
	while ((c = getopt_long(argc, argv, ":fo:hVvsnt:N:", longs, NULL)) !=
	       -1) {
		switch (c) {
		case 'f':
			o->foreground = true;
			break;
		case 'v':
			o->log_level = LOG_DEBUG_;
			break;
		case 'o':
			r = parse_list(o, optarg, e);
			if (r < 0)
				return r;
			break;
		case OPTION_SUPERVISOR:
			r = set_fd(&o->supervisor_fd, "supervisor", optarg, e);
			if (r < 0)
				return r;
			break;
		case OPTION_META:
			o->action = OPTIONS_META;
			return set_fd(&o->meta_fd, "meta", optarg, e);
		case 'h':
			o->action = OPTIONS_HELP;
			return 0;
		case 'V':
			o->action = OPTIONS_VERSION;
			return 0;
		case 's':
		case 'n':
		case 't':
		case 'N':
			break;
		case ':':
			return err_set(e, -EINVAL, "%s needs a value",
				       argv[optind - 1]);
		default:
			return err_set(e, -EINVAL, "unknown option %s",
				       argv[optind - 1]);
		}
	}
	if (argc - optind != 2)
		return err_set(e, -EINVAL,
			       argc - optind < 2
				       ? "SOURCE and TARGET are needed"
				       : "too many arguments");
	r = set_string(&o->source, argv[optind]);
	if (r == 0)
		r = set_string(&o->target, argv[optind + 1]);
	return r;
}

int options_parse(struct options *o, int argc, char **argv, struct err *e)
{
	int r;

	*o = (struct options){
		.supervisor_fd = -1,
		.meta_fd = -1,
		.mount_flags = MS_RDONLY,
		.read_timeout_s = OPTIONS_READ_TIMEOUT_S,
		.events_max = OPTIONS_EVENTS_MAX,
		.log_level = LOG_INFO_,
	};
	r = set_string(&o->root, LAYERDIR_ROOT_DEFAULT);
	if (r == 0)
		r = set_string(&o->fetcher, OPTIONS_FETCHER_DEFAULT);
	if (r == 0)
		r = parse_args(o, argc, argv, e);
	o->mount_flags |= MS_RDONLY;
	if (r == 0 && o->action == OPTIONS_MOUNT && o->source[0] == '\0')
		r = err_set(e, -EINVAL, "SOURCE is empty");
	return r;
}

void options_done(struct options *o)
{
	free(o->source);
	free(o->target);
	free(o->layer);
	free(o->root);
	free(o->fetcher);
	free(o->events);
	*o = (struct options){0};
}
