/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: SQLite, as the tree uses it: one connection, prepared statements,
 * write-ahead log, and our kind of errors.
 *
 * Commits do not sync (synchronous=NORMAL: the log is synced before a
 * checkpoint, so the file is never torn, but the last transactions may be lost in
 * a power cut). Whoever needs more calls db_sync() behind it, with no lock held,
 * so that readers and other writers go on meanwhile; the log is written in order,
 * so one sync covers everything before it.
 */
#ifndef SNAPSHOTTER_DB_H
#define SNAPSHOTTER_DB_H

#include <sqlite3.h>

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"

/**
 * struct db_schema - what is in the file
 * @application_id: of the file; others are left alone
 * @steps:	[@version] SQL that makes version i + 1 of version i, the first of
 *		nothing, application_id; each a transaction that sets user_version
 * @sql:	[@n_sql] the statements; the first three are BEGIN, COMMIT, ROLLBACK
 */
struct db_schema {
	int application_id;
	int version;
	const char *const *steps;
	const char *const *sql;
	size_t n_sql;
};

enum {
	DB_BEGIN,
	DB_COMMIT,
	DB_ROLLBACK,
	DB_N_
};

struct db {
	sqlite3 *h;
	sqlite3_stmt **stmts;
	const struct db_schema *schema;
	int log_fd;
	char *reserve;
};

/* Locks the file as long as it is open, and brings an earlier version to ours.
 * Return: 0, -EBADMSG not ours or of a later version, -EBUSY, -errno with @e */
int db_open(struct db *db, const char *path, const struct db_schema *schema,
	    struct err *e);
void db_close(struct db *db);

/* Everything committed so far is on the disk. Any thread, no lock. */
int db_sync(const struct db *db, struct err *e);

/* The rest under the caller's lock. */

#define DB_STMT CLEANUP(db_stmt_done) sqlite3_stmt
/* A statement, reset; done with at the end of the scope. */
sqlite3_stmt *db_stmt(struct db *db, size_t at);
void db_stmt_done(sqlite3_stmt *const *st);

/* Parameters from 1. Texts and blobs are borrowed until the statement is done. What
 * does not fit in memory is NULL then, which no column of ours takes. */
void db_bind_str(sqlite3_stmt *st, int at, const char *s);
void db_bind_blob(sqlite3_stmt *st, int at, const void *p, size_t n);
void db_bind_int(sqlite3_stmt *st, int at, int64_t v);

/* Return: 1 a row, 0 done, -errno; -EEXIST: a UNIQUE constraint says no */
int db_step(struct db *db, sqlite3_stmt *st, struct err *e);

int db_begin(struct db *db, struct err *e);
/* COMMIT where @r >= 0, else ROLLBACK. Return: @r, or why it could not */
int db_end(struct db *db, int r, struct err *e);

/* Behind -ENOSPC, for what must go on: gives up a file that db_open() has put aside, "-reserve",
 * and writes the log into the file, so that it begins anew. Once. Return: 0, -errno */
int db_make_room(struct db *db);

/* Columns from 0. Return: 0, -ENOMEM, -EBADMSG */
int db_column_str(sqlite3_stmt *st, int at, char **ret);
int db_column_digest(sqlite3_stmt *st, int at, struct digest *ret);

#endif
