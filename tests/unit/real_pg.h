/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PostgreSQL of a test's own: a fresh cluster in a temporary directory, on a unix socket and a free port, gone with the test.
 *
 * initdb runs once and its result is kept in $XDG_CACHE_HOME (or ~/.cache, or /tmp); each start copies it. As root the server runs as
 * the user postgres. fsync is off. Whatever fails here ends the test with a message.
 *
 *	struct real_pg *server = real_pg_start();
 *	real_pg_sql(server, "CREATE TABLE t (…)");
 *	… pg_open with real_pg_url(server, NULL) …
 *	server = real_pg_free(server);
 */
#ifndef S24_TESTS_REAL_PG_H
#define S24_TESTS_REAL_PG_H

#include <sys/types.h>

struct real_pg;
struct real_pg *real_pg_start(void);
struct real_pg *real_pg_free(struct real_pg *pg);
void real_pg_stop(struct real_pg *pg);    /* at once, as a crash would */
void real_pg_restart(struct real_pg *pg); /* on the same port, stopping first if it runs */
/* postgres://…: user NULL is the superuser postgres. Valid until the next call for this server. */
const char *real_pg_url(struct real_pg *pg, const char *user);
const char *real_pg_tcp_url(struct real_pg *pg, int port); /* 127.0.0.1, superuser; port 0: the server's own */
int real_pg_port(const struct real_pg *pg);
pid_t real_pg_pid(const struct real_pg *pg);              /* the postmaster's */
void real_pg_sql(struct real_pg *pg, const char *sql);    /* as superuser; several statements are fine */
void real_pg_migrate(struct real_pg *pg, const char *name); /* a file of db/migrations, as superuser */
long real_pg_number(struct real_pg *pg, const char *sql); /* the first column of the first row */

#endif
