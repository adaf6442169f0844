/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/runroot.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common/io.h"

#define ACCOUNTS_BYTES_MAX MIB(4)
#define GROUPS_MAX 1024u

int runroot_open(int root_fd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)flags | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

int runroot_mkdir_p(int root_fd, const char *path)
{
	CLEANUP_FREE char *part = strdup(path);
	CLEANUP_CLOSE int at = runroot_open(root_fd, ".", O_PATH | O_DIRECTORY);
	char *end, *name;

	if (part == NULL)
		return -ENOMEM;
	if (at < 0)
		return at;
	for (name = part; name != NULL; name = end) {
		char kept;
		int fd;

		end = strchr(name, '/');
		kept = '\0';
		if (end != NULL) {
			kept = *end;
			*end = '\0';
		}
		/* The parent is where the links of the path so far lead to. */
		if (*name != '\0' && strcmp(name, "..") != 0 &&
		    mkdirat(at, name, 0755) < 0 && errno != EEXIST)
			return -errno;
		fd = runroot_open(root_fd, *part != '\0' ? part : ".",
				  O_PATH | O_DIRECTORY);
		if (fd < 0)
			return fd;
		(void)close(at);
		at = fd;
		if (end != NULL)
			*end++ = kept;
	}
	return 0;
}

int runroot_read(int root_fd, const char *path, struct buf *b)
{
	CLEANUP_CLOSE int fd =
		runroot_open(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	char proc[32];
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return io_read_file(AT_FDCWD, proc, b);
}

/* ---- accounts ---------------------------------------------------------- */

void runuser_done(struct runuser *u)
{
	free(u->groups);
	*u = (struct runuser){0};
}

/* Cuts a line of fields between colons. Return: how many there are, @cap at
 * most. */
static size_t fields(char *line, char **v, size_t cap)
{
	size_t n = 0;

	while (n < cap && line != NULL)
		v[n++] = strsep(&line, ":");
	return n;
}

static bool is_number(const char *s, uint32_t *ret)
{
	uint64_t v = 0;

	if (*s == '\0' || strlen(s) > 10)
		return false;
	for (; *s != '\0'; s++) {
		if (*s < '0' || *s > '9')
			return false;
		v = v * 10 + (uint64_t)(*s - '0');
	}
	/* The last one means "nobody at all" to the kernel. */
	if (v >= UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

/**
 * struct account - what the files say of a name
 * @name:	heap, NULL where only the number is known
 */
struct account {
	char *name;
	uint32_t id;
	uint32_t gid;
};

/* A line of passwd or group whose name is @want, or whose number is. Return: 0,
 * -ENOENT, -ENOMEM */
static int find_account(const char *text, const char *want, bool has_gid,
			struct account *ret)
{
	CLEANUP_FREE char *copy = strdup(text != NULL ? text : "");
	char *next = copy;
	uint32_t number = 0;
	bool numeric = is_number(want, &number);

	if (copy == NULL)
		return -ENOMEM;
	while (next != NULL) {
		char *v[4] = {NULL};
		size_t n = fields(strsep(&next, "\n"), v, ARRAY_SIZE(v));
		uint32_t id, gid = 0;

		if (n < 3 || *v[0] == '\0' || !is_number(v[2], &id) ||
		    (has_gid && (n < 4 || !is_number(v[3], &gid))))
			continue;
		if (numeric ? id != number : strcmp(v[0], want) != 0)
			continue;
		*ret = (struct account){
			.name = strdup(v[0]),
			.id = id,
			.gid = gid,
		};
		return ret->name != NULL ? 0 : -ENOMEM;
	}
	if (!numeric)
		return -ENOENT;
	*ret = (struct account){.id = number};
	return 0;
}

static bool lists(char *members, const char *name)
{
	while (members != NULL) {
		if (strcmp(strsep(&members, ","), name) == 0)
			return true;
	}
	return false;
}

/* Groups whose lists have the name. */
static int add_groups(const char *text, const char *name, struct runuser *u)
{
	CLEANUP_FREE char *copy = strdup(text != NULL ? text : "");
	char *next = copy;

	if (copy == NULL)
		return -ENOMEM;
	while (next != NULL && u->n_groups < GROUPS_MAX) {
		char *v[4] = {NULL};
		size_t n = fields(strsep(&next, "\n"), v, ARRAY_SIZE(v));
		uint32_t *groups, id;

		if (n < 4 || !is_number(v[2], &id) || !lists(v[3], name))
			continue;
		groups = reallocarray(u->groups, u->n_groups + 1,
				      sizeof(*groups));
		if (groups == NULL)
			return -ENOMEM;
		u->groups = groups;
		u->groups[u->n_groups++] = id;
	}
	return 0;
}

int runuser_find(const char *passwd, const char *group, const char *user,
		 struct runuser *ret, struct err *e)
{
	CLEANUP_FREE char *copy = strdup(*user != '\0' ? user : "0");
	CLEANUP_RUNUSER struct runuser u = {0};
	struct account a = {0}, g = {0};
	char *colon;
	int r;

	if (copy == NULL)
		return err_no_memory(e);
	colon = strchr(copy, ':');
	if (colon != NULL)
		*colon++ = '\0';
	r = find_account(passwd, *copy != '\0' ? copy : "0", true, &a);
	if (r == -ENOENT)
		return err_set(e, r, "the image has no user \"%s\"", copy);
	u.uid = a.id;
	u.gid = a.gid;
	if (r == 0 && colon != NULL) {
		r = find_account(group, colon, false, &g);
		u.gid = g.id;
		if (r == -ENOENT)
			(void)err_set(e, r, "the image has no group \"%s\"",
				      colon);
	} else if (r == 0 && a.name != NULL) {
		r = add_groups(group, a.name, &u);
	}
	free(a.name);
	free(g.name);
	if (r < 0)
		return r == -ENOENT ? r : err_no_memory(e);
	*ret = u;
	u = (struct runuser){0};
	return 0;
}

/* One that is not there, or is no file, has no accounts. */
static int read_accounts(int root_fd, const char *path, struct buf *b,
			 struct err *e)
{
	int r = runroot_read(root_fd, path, b);

	if (r == -ENOENT || r == -ENOTDIR || r == -EINVAL || r == -ELOOP)
		return 0;
	return r < 0 ? err_set(e, r, "the image's %s: %s", path, err_name(r))
		     : 0;
}

int runuser_in(int root_fd, const char *user, struct runuser *ret,
	       struct err *e)
{
	CLEANUP_BUF struct buf passwd = BUF_INIT(ACCOUNTS_BYTES_MAX);
	CLEANUP_BUF struct buf group = BUF_INIT(ACCOUNTS_BYTES_MAX);
	int r = read_accounts(root_fd, "/etc/passwd", &passwd, e);

	if (r == 0)
		r = read_accounts(root_fd, "/etc/group", &group, e);
	if (r < 0)
		return r;
	return runuser_find(passwd.p, group.p, user, ret, e);
}
