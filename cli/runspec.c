/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/runspec.h"

#include <fcntl.h>
#include <json.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/io.h"

#define ENV_FILE_BYTES_MAX MIB(1)
#define DEFAULT_PATH \
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* What containerd's default spec has.
 * Source: containerd oci/spec.go, populateDefaultUnixSpec(); oci/mounts.go */
static const char template[] =
	"{\"ociVersion\":\"1.0.2\",\"process\":{\"user\":{},\"args\":[],"
	"\"env\":[],\"cwd\":\"/\",\"noNewPrivileges\":true},"
	"\"root\":{},\"mounts\":["
	"{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\","
	"\"options\":[\"nosuid\",\"noexec\",\"nodev\"]},"
	"{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\","
	"\"options\":[\"nosuid\",\"strictatime\",\"mode=755\",\"size=65536k\"]}"
	",{\"destination\":\"/dev/pts\",\"type\":\"devpts\",\"source\":"
	"\"devpts\",\"options\":[\"nosuid\",\"noexec\",\"newinstance\","
	"\"ptmxmode=0666\",\"mode=0620\",\"gid=5\"]},"
	"{\"destination\":\"/dev/shm\",\"type\":\"tmpfs\",\"source\":\"shm\","
	"\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"mode=1777\","
	"\"size=65536k\"]},"
	"{\"destination\":\"/dev/mqueue\",\"type\":\"mqueue\",\"source\":"
	"\"mqueue\",\"options\":[\"nosuid\",\"noexec\",\"nodev\"]},"
	"{\"destination\":\"/sys\",\"type\":\"sysfs\",\"source\":\"sysfs\","
	"\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"ro\"]},"
	"{\"destination\":\"/sys/fs/cgroup\",\"type\":\"cgroup\",\"source\":"
	"\"cgroup\",\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"relatime\","
	"\"ro\"]},"
	"{\"destination\":\"/run\",\"type\":\"tmpfs\",\"source\":\"tmpfs\","
	"\"options\":[\"nosuid\",\"strictatime\",\"mode=755\",\"size=65536k\"]}"
	"],\"linux\":{\"resources\":{\"devices\":[{\"allow\":false,\"access\":"
	"\"rwm\"}]},\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"ipc\"},"
	"{\"type\":\"uts\"},{\"type\":\"mount\"}],"
	"\"maskedPaths\":[\"/proc/acpi\",\"/proc/asound\",\"/proc/kcore\","
	"\"/proc/keys\",\"/proc/latency_stats\",\"/proc/timer_list\","
	"\"/proc/timer_stats\",\"/proc/sched_debug\",\"/sys/firmware\","
	"\"/proc/scsi\"],"
	"\"readonlyPaths\":[\"/proc/bus\",\"/proc/fs\",\"/proc/irq\","
	"\"/proc/sys\",\"/proc/sysrq-trigger\"]}}";

static const char *const capabilities[] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_FSETID",
	"CAP_FOWNER",
	"CAP_MKNOD",
	"CAP_NET_RAW",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETFCAP",
	"CAP_SETPCAP",
	"CAP_NET_BIND_SERVICE",
	"CAP_SYS_CHROOT",
	"CAP_KILL",
	"CAP_AUDIT_WRITE",
};

void runspec_done(struct runspec *s)
{
	(void)json_object_put(s->entrypoint);
	(void)json_object_put(s->args);
	(void)json_object_put(s->command);
	(void)json_object_put(s->env);
	(void)json_object_put(s->mounts);
	*s = (struct runspec){0};
}

/* Takes @v. */
static int append(struct json_object *list, struct json_object *v)
{
	if (v != NULL && json_object_array_add(list, v) == 0)
		return 0;
	(void)json_object_put(v);
	return -ENOMEM;
}

static int set(struct json_object *o, const char *key, struct json_object *v)
{
	if (v != NULL && json_object_object_add(o, key, v) == 0)
		return 0;
	(void)json_object_put(v);
	return -ENOMEM;
}

static int append_str(struct json_object *list, const char *s)
{
	return append(list, json_object_new_string(s));
}

int runspec_add(struct json_object **list, const char *s)
{
	if (*list == NULL)
		*list = json_object_new_array();
	return *list != NULL ? append_str(*list, s) : -ENOMEM;
}

static struct json_object *get(const struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) ? v : NULL;
}

/* A list of strings without NUL, or null. */
static bool is_strings(const struct json_object *v)
{
	if (v == NULL)
		return true;
	if (!json_object_is_type(v, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(v); i++) {
		struct json_object *s = json_object_array_get_idx(v, i);

		if (!json_object_is_type(s, json_type_string) ||
		    strlen(json_object_get_string(s)) !=
			    (size_t)json_object_get_string_len(s))
			return false;
	}
	return true;
}

int runspec_parse_list(const char *text, struct json_object **ret,
		       struct err *e)
{
	struct json_object *v = json_tokener_parse(text);

	if (v == NULL || !is_strings(v)) {
		(void)json_object_put(v);
		return err_set(e, -EINVAL,
			       "%s: not a list of strings, as "
			       "[\"sh\",\"-c\",\"true\"] is",
			       text);
	}
	(void)json_object_put(*ret);
	*ret = v;
	return 0;
}

/* ---- mounts ------------------------------------------------------------ */

static int mount_options(struct json_object *m, char *list)
{
	struct json_object *v = json_object_new_array();
	int r = set(m, "options", v);

	while (r == 0 && list != NULL)
		r = append_str(v, strsep(&list, ":"));
	return r;
}

/* One "key=value" of a mount. Return: 0, -EINVAL, -ENOMEM */
static int mount_word(struct json_object *m, const char *key, char *value)
{
	static const struct {
		const char *word;
		const char *key;
	} names[] = {
		{"type", "type"},
		{"src", "source"},
		{"source", "source"},
		{"dst", "destination"},
		{"destination", "destination"},
		{"target", "destination"},
	};

	if (strcmp(key, "options") == 0)
		return mount_options(m, value);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(key, names[i].word) == 0)
			return set(m, names[i].key,
				   json_object_new_string(value));
	}
	return -EINVAL;
}

static int parse_mount(struct json_object *m, char *text)
{
	struct json_object *dst;
	char rbind[] = "rbind";
	int r = 0;

	while (r == 0 && text != NULL) {
		char *value = strsep(&text, ",");
		char *key = strsep(&value, "=");

		r = value == NULL ? -EINVAL : mount_word(m, key, value);
	}
	if (r < 0)
		return r;
	dst = get(m, "destination");
	if (dst == NULL || json_object_get_string(dst)[0] != '/')
		return -EINVAL;
	if (get(m, "source") == NULL && get(m, "type") == NULL)
		return -EINVAL;
	if (get(m, "type") == NULL)
		r = set(m, "type", json_object_new_string("bind"));
	/* runtimes want to be told that a bind mount is one. */
	if (r == 0 && get(m, "options") == NULL &&
	    strcmp(json_object_get_string(get(m, "type")), "bind") == 0)
		r = mount_options(m, rbind);
	return r;
}

int runspec_add_mount(struct runspec *s, const char *text, struct err *e)
{
	CLEANUP_FREE char *copy = strdup(text);
	struct json_object *m = json_object_new_object();
	int r = -ENOMEM;

	if (s->mounts == NULL)
		s->mounts = json_object_new_array();
	if (copy != NULL && m != NULL && s->mounts != NULL)
		r = parse_mount(m, copy);
	if (r < 0) {
		(void)json_object_put(m);
		return err_set(e, r,
			       "--mount %s: not as "
			       "type=bind,src=/A,dst=/B,options=rbind:ro is",
			       text);
	}
	return append(s->mounts, m);
}

/* ---- environment ------------------------------------------------------- */

static size_t name_len(const char *var)
{
	return strcspn(var, "=");
}

static bool same_name(const char *a, const char *b)
{
	size_t n = name_len(a);

	return n == name_len(b) && strncmp(a, b, n) == 0;
}

/* Puts a variable in the place of that of its name, or at the end; one without
 * a value takes it away. */
static int put_env(struct json_object *env, const char *var)
{
	size_t n = json_object_array_length(env);

	for (size_t i = 0; i < n; i++) {
		struct json_object *v = json_object_array_get_idx(env, i);

		if (!same_name(json_object_get_string(v), var))
			continue;
		if (strchr(var, '=') == NULL)
			return json_object_array_del_idx(env, i, 1);
		v = json_object_new_string(var);
		return v == NULL ? -ENOMEM
				 : json_object_array_put_idx(env, i, v);
	}
	return strchr(var, '=') == NULL ? 0 : append_str(env, var);
}

static int put_all_env(struct json_object *env, const struct json_object *from)
{
	size_t n = from != NULL ? json_object_array_length(from) : 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = put_env(env, json_object_get_string(
					 json_object_array_get_idx(from, i)));
	return r;
}

static int add_env_line(struct runspec *s, char *line)
{
	CLEANUP_FREE char *both = NULL;
	const char *ours;

	line += strspn(line, " \t");
	line[strcspn(line, "\r")] = '\0';
	if (*line == '\0' || *line == '#')
		return 0;
	if (strchr(line, '=') != NULL)
		return runspec_add(&s->env, line);
	ours = getenv(line);
	if (ours == NULL)
		return 0;
	if (asprintf(&both, "%s=%s", line, ours) < 0) {
		both = NULL;
		return -ENOMEM;
	}
	return runspec_add(&s->env, both);
}

int runspec_add_env_file(struct runspec *s, const char *path, struct err *e)
{
	CLEANUP_BUF struct buf b = BUF_INIT(ENV_FILE_BYTES_MAX);
	int r = io_read_file(AT_FDCWD, path, &b);
	char *next = b.p;

	if (r == 0 && b.len > 0 && strlen(b.p) != b.len)
		r = -EINVAL;
	while (r == 0 && next != NULL)
		r = add_env_line(s, strsep(&next, "\n"));
	return r < 0 ? err_set(e, r, "%s: %s", path, err_name(r)) : 0;
}

/* ---- the process ------------------------------------------------------- */

/* "config" of the image's config, and a member of that. */
static struct json_object *conf(const struct json_object *config,
				const char *key)
{
	return get(get(config, "config"), key);
}

static const char *conf_str(const struct json_object *config, const char *key)
{
	struct json_object *v = conf(config, key);

	return json_object_is_type(v, json_type_string)
		       ? json_object_get_string(v)
		       : "";
}

const char *runspec_user(const struct json_object *config,
			 const struct runspec *s)
{
	return s->user != NULL ? s->user : conf_str(config, "User");
}

static const char *start_dir(const struct json_object *config,
			     const struct runspec *s)
{
	const char *dir =
		s->cwd != NULL ? s->cwd : conf_str(config, "WorkingDir");

	return *dir != '\0' ? dir : "/";
}

int runspec_make_dirs(const struct json_object *config, const struct runspec *s,
		      int root_fd, struct err *e)
{
	struct json_object *volumes = conf(config, "Volumes");
	const char *dir = start_dir(config, s);
	int r;

	if (dir[0] != '/')
		return err_set(e, -EINVAL,
			       "working directory %s: not an absolute path",
			       dir);
	r = runroot_mkdir_p(root_fd, dir);
	if (r < 0)
		return err_set(e, r, "working directory %s: %s", dir,
			       err_name(r));
	if (!json_object_is_type(volumes, json_type_object))
		return 0;
	json_object_object_foreach(volumes, path, unused)
	{
		(void)unused;
		r = runroot_mkdir_p(root_fd, path);
		if (r < 0)
			return err_set(e, r, "volume %s: %s", path,
				       err_name(r));
	}
	return 0;
}

static int add_all(struct json_object *to, const struct json_object *from)
{
	size_t n = from != NULL ? json_object_array_length(from) : 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = append(to,
			   json_object_get(json_object_array_get_idx(from, i)));
	return r;
}

static int set_args(struct json_object *process,
		    const struct json_object *config, const struct runspec *s)
{
	struct json_object *args = get(process, "args");
	int r;

	if (s->command != NULL)
		return add_all(args, s->command);
	r = add_all(args, s->entrypoint != NULL ? s->entrypoint
						: conf(config, "Entrypoint"));
	if (r == 0)
		r = add_all(args,
			    s->args != NULL ? s->args : conf(config, "Cmd"));
	return r;
}

static int set_env(struct json_object *process,
		   const struct json_object *config, const struct runspec *s)
{
	struct json_object *env = get(process, "env");
	int r = put_env(env, DEFAULT_PATH);

	if (r == 0 && s->terminal)
		r = put_env(env, "TERM=xterm");
	if (r == 0)
		r = put_all_env(env, conf(config, "Env"));
	if (r == 0)
		r = put_all_env(env, s->env);
	return r;
}

static int set_user(struct json_object *process, const struct runuser *u)
{
	struct json_object *user = get(process, "user"), *groups;
	int r = set(user, "uid", json_object_new_int64(u->uid));

	if (r == 0)
		r = set(user, "gid", json_object_new_int64(u->gid));
	if (r < 0 || u->n_groups == 0)
		return r;
	groups = json_object_new_array();
	r = set(user, "additionalGids", groups);
	for (size_t i = 0; r == 0 && i < u->n_groups; i++)
		r = append(groups, json_object_new_int64(u->groups[i]));
	return r;
}

/* A process that is not root has none, as execve(2) leaves it, though they are
 * in its bounding set. */
static int set_capabilities(struct json_object *process)
{
	static const char *const sets[] = {"bounding", "effective",
					   "permitted"};
	struct json_object *all = json_object_new_object();
	int r = set(process, "capabilities", all);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(sets); i++) {
		struct json_object *v = json_object_new_array();

		r = set(all, sets[i], v);
		for (size_t k = 0; r == 0 && k < ARRAY_SIZE(capabilities); k++)
			r = append_str(v, capabilities[k]);
	}
	return r;
}

static int set_process(struct json_object *spec,
		       const struct json_object *config,
		       const struct runspec *s, const struct runspec_where *w)
{
	struct json_object *process = get(spec, "process");
	int r = set_args(process, config, s);

	if (r == 0)
		r = set_env(process, config, s);
	if (r == 0)
		r = set_user(process, w->user);
	if (r == 0)
		r = set_capabilities(process);
	if (r == 0)
		r = set(process, "cwd",
			json_object_new_string(start_dir(config, s)));
	if (r == 0 && s->terminal)
		r = set(process, "terminal", json_object_new_boolean(1));
	return r;
}

/* ---- what it lives in -------------------------------------------------- */

static int add_namespace(struct json_object *spec, const char *type)
{
	struct json_object *ns = json_object_new_object();

	if (ns == NULL || set(ns, "type", json_object_new_string(type)) < 0) {
		(void)json_object_put(ns);
		return -ENOMEM;
	}
	return append(get(get(spec, "linux"), "namespaces"), ns);
}

/* Files by which names are found, those of the host. */
static int add_host_files(struct runspec *s)
{
	static const struct {
		const char *file;
		const char *mount;
	} mounts[] = {
		{"/etc/resolv.conf", "src=/etc/resolv.conf,"
				     "dst=/etc/resolv.conf,options=rbind:ro"},
		{"/etc/hosts",
		 "src=/etc/hosts,dst=/etc/hosts,options=rbind:ro"},
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(mounts); i++) {
		if (access(mounts[i].file, F_OK) == 0)
			r = runspec_add_mount(s, mounts[i].mount, NULL);
	}
	return r;
}

static int set_mounts(struct json_object *spec, const struct runspec *s)
{
	struct json_object *mounts = get(spec, "mounts");
	struct runspec host = {0};
	int r = 0;

	if (s->net_host)
		r = add_host_files(&host);
	if (r == 0)
		r = add_all(mounts, host.mounts);
	if (r == 0)
		r = add_all(mounts, s->mounts);
	runspec_done(&host);
	return r;
}

static int set_linux(struct json_object *spec, const struct runspec *s,
		     const struct runspec_where *w)
{
	int r = set(get(spec, "linux"), "cgroupsPath",
		    json_object_new_string(w->cgroup));

	if (r == 0 && !s->net_host)
		r = add_namespace(spec, "network");
	if (r == 0 && w->unified)
		r = add_namespace(spec, "cgroup");
	return r;
}

static int check_config(const struct json_object *config, struct err *e)
{
	static const char *const lists[] = {"Entrypoint", "Cmd", "Env"};

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		if (!is_strings(conf(config, lists[i])))
			return err_set(e, -EBADMSG,
				       "config: %s is not a list of strings",
				       lists[i]);
	}
	return 0;
}

int runspec_make(const struct json_object *config, const struct runspec *s,
		 const struct runspec_where *w, struct json_object **ret,
		 struct err *e)
{
	struct json_object *spec = json_tokener_parse(template);
	int r = check_config(config, e);

	if (r < 0) {
		(void)json_object_put(spec);
		return r;
	}
	if (spec == NULL)
		return err_no_memory(e);
	r = set(get(spec, "root"), "path", json_object_new_string(w->rootfs));
	if (r == 0)
		r = set_process(spec, config, s, w);
	if (r == 0)
		r = set_mounts(spec, s);
	if (r == 0)
		r = set_linux(spec, s, w);
	if (r == 0 &&
	    json_object_array_length(get(get(spec, "process"), "args")) == 0)
		r = err_set(e, -EINVAL,
			    "the image has no command; one may be given "
			    "behind --");
	else if (r < 0)
		r = err_no_memory(e);
	if (r < 0) {
		(void)json_object_put(spec);
		return r;
	}
	*ret = spec;
	return 0;
}
