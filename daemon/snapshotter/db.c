/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"

#define OPEN_TIMEOUT_MS 2000
#define PATH_BYTES_MAX 4096u
/* The log is written into the file when it has 1000 pages of 4 KiB; so this is
 * enough for both. */
#define RESERVE_BYTES (4 << 20)

static int db_errno(struct db *db, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	case SQLITE_BUSY:
		return -EBUSY;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CONSTRAINT:
		return rc == SQLITE_CONSTRAINT_UNIQUE ? -EEXIST : -EINVAL;
	case SQLITE_CANTOPEN: {
		int r = sqlite3_system_errno(db->h);

		return r > 0 ? -r : -EIO;
	}
	default:
		return -EIO;
	}
}

static int db_failed(struct db *db, int rc, struct err *e)
{
	return err_set(e, db_errno(db, rc), "database: %s",
		       sqlite3_errmsg(db->h));
}

sqlite3_stmt *db_stmt(struct db *db, size_t at)
{
	sqlite3_stmt *st = db->stmts[at];

	assert(at < db->schema->n_sql);
	assert(sqlite3_stmt_busy(st) == 0);
	(void)sqlite3_clear_bindings(st);
	return st;
}

void db_stmt_done(sqlite3_stmt *const *st)
{
	/* Says again what the step has said. */
	(void)sqlite3_reset(*st);
}

void db_bind_str(sqlite3_stmt *st, int at, const char *s)
{
	(void)sqlite3_bind_text(st, at, s, -1, SQLITE_STATIC);
}

void db_bind_blob(sqlite3_stmt *st, int at, const void *p, size_t n)
{
	(void)sqlite3_bind_blob64(st, at, n > 0 ? p : "", n, SQLITE_STATIC);
}

void db_bind_int(sqlite3_stmt *st, int at, int64_t v)
{
	(void)sqlite3_bind_int64(st, at, v);
}

int db_step(struct db *db, sqlite3_stmt *st, struct err *e)
{
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW)
		return 1;
	return rc == SQLITE_DONE ? 0 : db_failed(db, rc, e);
}

static int run(struct db *db, size_t at, struct err *e)
{
	DB_STMT *st = db_stmt(db, at);

	return db_step(db, st, e);
}

int db_begin(struct db *db, struct err *e)
{
	return run(db, DB_BEGIN, e);
}

int db_end(struct db *db, int r, struct err *e)
{
	if (r >= 0) {
		int rr = run(db, DB_COMMIT, e);

		if (rr == 0)
			return r;
		r = rr;
	}
	/* A full disk has ended it already. */
	if (sqlite3_get_autocommit(db->h) == 0)
		(void)run(db, DB_ROLLBACK, NULL);
	return r;
}

int db_sync(const struct db *db, struct err *e)
{
	if (fdatasync(db->log_fd) == 0)
		return 0;
	return err_set(e, -errno, "database: sync: %s", err_name(errno));
}

int db_column_str(sqlite3_stmt *st, int at, char **ret)
{
	const unsigned char *s = sqlite3_column_text(st, at);

	*ret = strdup(s != NULL ? (const char *)s : "");
	return *ret != NULL ? 0 : -ENOMEM;
}

int db_column_digest(sqlite3_stmt *st, int at, struct digest *ret)
{
	const void *p = sqlite3_column_blob(st, at);

	if (p == NULL || sqlite3_column_bytes(st, at) != DIGEST_BYTES)
		return -EBADMSG;
	memcpy(ret->b, p, DIGEST_BYTES);
	return 0;
}

/*** Opening ***/

static int exec(struct db *db, const char *text, struct err *e)
{
	int rc = sqlite3_exec(db->h, text, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : db_failed(db, rc, e);
}

static int ask_int(struct db *db, const char *text, int *ret, struct err *e)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db->h, text, -1, &st, NULL);
	int r;

	if (rc != SQLITE_OK)
		return db_failed(db, rc, e);
	r = db_step(db, st, e);
	if (r > 0)
		*ret = sqlite3_column_int(st, 0);
	(void)sqlite3_finalize(st);
	return r < 0 ? r : 0;
}

/* Before anything is changed: is it ours? Return: its version, 0: it is empty */
static int identify(struct db *db, struct err *e)
{
	int tables = 0, id = 0, version = 0;
	int r;

	r = ask_int(db, "SELECT count(*) FROM sqlite_master", &tables, e);
	if (r == 0)
		r = ask_int(db, "PRAGMA application_id", &id, e);
	if (r == 0)
		r = ask_int(db, "PRAGMA user_version", &version, e);
	if (r < 0)
		return r;
	if (tables == 0 && id == 0 && version == 0)
		return 0;
	if (id != db->schema->application_id)
		return err_set(e, -EBADMSG, "database: it is not ours");
	if (version < 1 || version > db->schema->version)
		return err_set(e, -EBADMSG,
			       "database: version %d, this program knows %d",
			       version, db->schema->version);
	return version;
}

static int set_up(struct db *db, struct err *e)
{
	int version, r;

	(void)sqlite3_extended_result_codes(db->h, 1);
	(void)sqlite3_busy_timeout(db->h, OPEN_TIMEOUT_MS);
	/* The default is 120 KB, for a hundred small things at once. */
	(void)sqlite3_db_config(db->h, SQLITE_DBCONFIG_LOOKASIDE, NULL, 256,
				40);
	/* Locked before the first look, so there is no shared memory either. */
	r = exec(db,
		 "PRAGMA locking_mode = EXCLUSIVE; PRAGMA mmap_size = 0;"
		 "PRAGMA cache_size = -256; PRAGMA foreign_keys = ON;"
		 "BEGIN EXCLUSIVE; COMMIT",
		 e);
	if (r == 0)
		r = identify(db, e);
	if (r < 0)
		return r;
	version = r;
	r = exec(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
		 e);
	for (; r == 0 && version < db->schema->version; version++)
		r = exec(db, db->schema->steps[version], e);
	/* The log is opened by the first who writes. */
	return r < 0 ? r : exec(db, "BEGIN IMMEDIATE; COMMIT", e);
}

static int prepare(struct db *db, struct err *e)
{
	const struct db_schema *s = db->schema;

	db->stmts = calloc(s->n_sql, sizeof(*db->stmts));
	if (db->stmts == NULL)
		return err_no_memory(e);
	for (size_t i = 0; i < s->n_sql; i++) {
		int rc = sqlite3_prepare_v3(db->h, s->sql[i], -1,
					    SQLITE_PREPARE_PERSISTENT,
					    &db->stmts[i], NULL);

		if (rc != SQLITE_OK)
			return db_failed(db, rc, e);
	}
	return 0;
}

static int sync_dir(const char *path, struct err *e)
{
	CLEANUP_FREE char *dir = strdup(path);
	CLEANUP_CLOSE int fd = -EBADF;
	char *slash;

	if (dir == NULL)
		return err_no_memory(e);
	slash = strrchr(dir, '/');
	if (slash != NULL)
		slash[slash == dir ? 1 : 0] = '\0';
	fd = open(slash != NULL ? dir : ".",
		  O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return err_set(e, -errno, "%s: %s", dir, err_name(errno));
	return 0;
}

/* The log stays the same file as long as the database is open. */
static int open_log(struct db *db, const char *path, struct err *e)
{
	CLEANUP_BUF struct buf log = BUF_INIT(PATH_BYTES_MAX);
	int r;

	r = buf_addf(&log, "%s-wal", path);
	if (r < 0)
		return err_set(e, r, "%s: %s", path, err_name(r));
	db->log_fd = open(log.p, O_RDONLY | O_CLOEXEC);
	if (db->log_fd < 0)
		return err_set(e, -errno, "%s: %s", log.p, err_name(errno));
	return sync_dir(path, e);
}

/* Where the disk is full already, there is none. */
static void make_reserve(struct db *db, const char *path)
{
	int fd;

	if (asprintf(&db->reserve, "%s-reserve", path) < 0) {
		db->reserve = NULL;
		return;
	}
	fd = open(db->reserve, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
		  0600);
	if (fd < 0)
		return;
	if (posix_fallocate(fd, 0, RESERVE_BYTES) != 0)
		(void)unlink(db->reserve);
	(void)close(fd);
}

int db_make_room(struct db *db)
{
	int rc;

	if (db->reserve == NULL || unlink(db->reserve) < 0)
		return -ENOSPC;
	rc = sqlite3_wal_checkpoint_v2(db->h, NULL, SQLITE_CHECKPOINT_RESTART,
				       NULL, NULL);
	return rc == SQLITE_OK ? 0 : db_errno(db, rc);
}

int db_open(struct db *db, const char *path, const struct db_schema *schema,
	    struct err *e)
{
	int rc, r;

	*db = (struct db){.schema = schema, .log_fd = -EBADF};
	rc = sqlite3_open_v2(path, &db->h,
			     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
				     SQLITE_OPEN_NOMUTEX,
			     NULL);
	if (db->h == NULL)
		return err_no_memory(e);
	r = rc == SQLITE_OK ? set_up(db, e) : db_failed(db, rc, e);
	if (r == 0)
		r = prepare(db, e);
	if (r == 0)
		r = open_log(db, path, e);
	if (r < 0) {
		db_close(db);
		return err_wrap(e, "%s", path);
	}
	make_reserve(db, path);
	return 0;
}

void db_close(struct db *db)
{
	for (size_t i = 0; db->stmts != NULL && i < db->schema->n_sql; i++)
		(void)sqlite3_finalize(db->stmts[i]);
	free(db->stmts);
	free(db->reserve);
	if (db->log_fd >= 0)
		(void)close(db->log_fd);
	(void)sqlite3_close(db->h);
	*db = (struct db){.log_fd = -EBADF};
}
