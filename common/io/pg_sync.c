/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocking PostgreSQL for threads. libpq's own blocking calls wait for ever when a server falls silent, so everything is sent without
 * blocking and waited for with poll and an end: the server's statement_timeout plus a little.
 */
#include "io/pg_sync.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/timefmt.h"
#include "io/pg_error.h"
#include "io/pg_pool.h"
#include "io_sql.h"

#define CONNECT_MS 3000
#define LATE_MS 2000
#define STATEMENTS_MAX 512
#define COPIES_MAX 64
#define COPY_CHUNK (64u << 10)

struct prepared {
	const struct pg_stmt *stmt;
	int n;
	Oid *types;
};

/* The column types of a COPY's table, in pg_row_params order. Asked again on each new connection: its temporary tables are new too. */
struct copy_types {
	const struct pg_stmt *copy;
	const struct schema *schema;
	Oid *types;
};

struct pg_sync {
	char **keys, **values;
	struct pg_names names;
	int64_t statement_ms;
	PGconn *link; /* NULL: not connected */
	uint64_t generation;
	bool in_tx;
	enum err failed; /* of the transaction */
	struct pg_fail fail;
	struct prepared prepared[STATEMENTS_MAX];
	size_t n_prepared;
	struct copy_types copies[COPIES_MAX];
	size_t n_copies;
};

/* ---- connection ---------------------------------------------------------------------------------------------------------- */

static void notice_ignore(void *arg, const PGresult *res)
{
	(void)arg;
	(void)res;
}

static void disconnect(struct pg_sync *pg)
{
	for (size_t i = 0; i < pg->n_prepared; i++)
		free(pg->prepared[i].types);
	for (size_t i = 0; i < pg->n_copies; i++)
		free(pg->copies[i].types);
	pg->n_prepared = pg->n_copies = 0;
	PQfinish(pg->link);
	pg->link = NULL;
}

/* Waits for the socket. False: the end has passed, or poll failed. */
static bool socket_wait(PGconn *link, short events, int64_t end_us)
{
	for (;;) {
		struct pollfd p = {.fd = PQsocket(link), .events = events};
		int64_t left = end_us - clock_mono_us();
		int n;

		if (left <= 0 || p.fd < 0)
			return false;
		n = poll(&p, 1, (int)((left + 999) / 1000));
		if (n > 0)
			return true;
	}
}

static bool connect_wait(PGconn *link)
{
	int64_t end = clock_mono_us() + CONNECT_MS * US_PER_MS;
	PostgresPollingStatusType want = PGRES_POLLING_WRITING;

	while (want != PGRES_POLLING_OK) {
		if (want == PGRES_POLLING_FAILED || !socket_wait(link, want == PGRES_POLLING_READING ? POLLIN : POLLOUT, end))
			return false;
		want = PQconnectPoll(link);
	}
	return true;
}

static enum err connect_now(struct pg_sync *pg)
{
	PGconn *link;

	pg_names_refresh(&pg->names, &pg->keys, &pg->values);
	link = PQconnectStartParams((const char *const *)pg->keys, (const char *const *)pg->values, 0);

	pg_error_set(&pg->fail, "");
	if (!link || PQstatus(link) == CONNECTION_BAD || !connect_wait(link) || PQsetnonblocking(link, 1) != 0) {
		PQfinish(link);
		return ERR_DB;
	}
	PQsetNoticeReceiver(link, notice_ignore, NULL);
	pg->link = link;
	pg->generation++;
	return OK;
}

/* A connection that the server has ended meanwhile shows it by being readable. */
static bool still_there(PGconn *link)
{
	struct pollfd p = {.fd = PQsocket(link), .events = POLLIN};

	if (poll(&p, 1, 0) <= 0)
		return true;
	return PQconsumeInput(link) == 1 && PQisBusy(link) == 0 && PQstatus(link) == CONNECTION_OK && poll(&p, 1, 0) <= 0;
}

/* Connected, and fit for a statement outside or inside the transaction. */
static enum err ready(struct pg_sync *pg)
{
	if (pg->in_tx)
		return pg->failed != OK ? ERR_BUG : pg->link ? OK : ERR_DB;
	if (pg->link && !still_there(pg->link))
		disconnect(pg);
	return pg->link ? OK : connect_now(pg);
}

enum err pg_sync_open(const char *url, int64_t statement_ms, int64_t lock_ms, struct pg_sync **ret)
{
	struct pg_conf conf = {.url = url, .statement_ms = statement_ms, .lock_ms = lock_ms};
	char **keys, **values;
	struct pg_sync *pg;
	enum err e;

	e = pg_target(&conf, &keys, &values);
	if (e != OK)
		return e;
	pg = mem_zalloc(sizeof(*pg));
	pg->keys = keys;
	pg->values = values;
	pg_names_init(&pg->names, &conf);
	pg->statement_ms = statement_ms;
	*ret = pg;
	return OK;
}

struct pg_sync *pg_sync_close(struct pg_sync *pg)
{
	if (!pg)
		return NULL;
	disconnect(pg);
	pg_names_done(&pg->names);
	pg_target_free(pg->keys, pg->values);
	free(pg);
	return NULL;
}

const struct pg_fail *pg_sync_fail(const struct pg_sync *pg)
{
	return &pg->fail;
}

uint64_t pg_sync_generation(const struct pg_sync *pg)
{
	return pg->generation;
}

/* ---- one round trip ------------------------------------------------------------------------------------------------------ */

static enum err failed(struct pg_sync *pg, enum err e)
{
	if (pg->in_tx && pg->failed == OK)
		pg->failed = e;
	return e;
}

/* The connection is of no use any more. */
static enum err lost(struct pg_sync *pg)
{
	if (!pg_error_is_away(pg->fail.sqlstate))
		pg_error_set(&pg->fail, "");
	disconnect(pg);
	return failed(pg, ERR_DB);
}

static bool flushed(struct pg_sync *pg, int64_t end)
{
	for (;;) {
		int left = PQflush(pg->link);

		if (left <= 0)
			return left == 0;
		/* Reading meanwhile: a server that cannot send would not read either. */
		if (!socket_wait(pg->link, POLLIN | POLLOUT, end) || PQconsumeInput(pg->link) != 1)
			return false;
	}
}

static bool arrived(struct pg_sync *pg, int64_t end)
{
	while (PQisBusy(pg->link))
		if (!socket_wait(pg->link, POLLIN, end) || (PQconsumeInput(pg->link) != 1 && PQisBusy(pg->link)))
			return false;
	return true;
}

/* The answer to what was sent: the last result, or its error. COPY IN ends the wait too, for the data is to follow. */
static enum err answer(struct pg_sync *pg, PGresult **ret_res)
{
	int64_t end = clock_mono_us() + (pg->statement_ms + LATE_MS) * US_PER_MS;
	PGresult *res, *last = NULL;
	enum err e = OK;

	if (!flushed(pg, end))
		return lost(pg);
	for (;;) {
		ExecStatusType status;

		if (!arrived(pg, end)) {
			PQclear(last);
			return lost(pg);
		}
		res = PQgetResult(pg->link);
		if (!res)
			break;
		PQclear(last);
		last = res;
		status = PQresultStatus(res);
		if (status == PGRES_FATAL_ERROR && e == OK)
			e = pg_error_of_result(res, &pg->fail);
		if (status == PGRES_COPY_IN)
			break;
	}
	if (!last || PQstatus(pg->link) == CONNECTION_BAD) {
		PQclear(last);
		return lost(pg);
	}
	if (e != OK) {
		PQclear(last);
		return failed(pg, e);
	}
	*ret_res = last;
	return OK;
}

static enum err run_text(struct pg_sync *pg, const struct pg_stmt *stmt, PGresult **ret_res)
{
	pg_error_set(&pg->fail, "");
	if (PQsendQueryParams(pg->link, stmt->sql, 0, NULL, NULL, NULL, NULL, 1) != 1)
		return lost(pg);
	return answer(pg, ret_res);
}

enum err pg_sync_run(struct pg_sync *pg, const struct pg_stmt *stmt)
{
	PGresult *res;
	enum err e;

	e = ready(pg);
	if (e != OK)
		return e;
	e = run_text(pg, stmt, &res);
	if (e == OK)
		PQclear(res);
	return e;
}

/* ---- transactions -------------------------------------------------------------------------------------------------------- */

enum err pg_sync_begin(struct pg_sync *pg)
{
	PGresult *res;
	enum err e;

	if (pg->in_tx)
		return ERR_BUG;
	e = ready(pg);
	if (e != OK)
		return e;
	e = run_text(pg, &SQL_PG_BEGIN, &res);
	if (e != OK)
		return e;
	PQclear(res);
	pg->in_tx = true;
	pg->failed = OK;
	return OK;
}

enum err pg_sync_commit(struct pg_sync *pg)
{
	PGresult *res;
	bool done;
	enum err e = pg->failed;

	if (!pg->in_tx)
		return ERR_BUG;
	if (e == OK && !pg->link)
		e = ERR_DB;
	if (e != OK) {
		pg_sync_rollback(pg);
		return e;
	}
	pg->in_tx = false; /* whatever comes, it is over */
	e = run_text(pg, &SQL_PG_COMMIT, &res);
	if (e != OK) /* an error with a connection behind it is a refusal, such as a rule checked at commit */
		return pg->link && !pg_error_is_away(pg->fail.sqlstate) ? e : ERR_UNCERTAIN;
	done = strcmp(PQcmdStatus(res), "COMMIT") == 0;
	PQclear(res);
	return done ? OK : ERR_DB;
}

void pg_sync_rollback(struct pg_sync *pg)
{
	struct pg_fail fail = pg->fail; /* the caller wants to know why it rolls back */
	PGresult *res;

	if (!pg->in_tx)
		return;
	pg->in_tx = false;
	if (pg->link && run_text(pg, &SQL_PG_ROLLBACK, &res) == OK)
		PQclear(res);
	else
		disconnect(pg);
	pg->fail = fail;
}

/* ---- statements ---------------------------------------------------------------------------------------------------------- */

static bool types_match(const struct prepared *p, const struct pg_wire *wire)
{
	if (p->n != wire->n)
		return false;
	for (int i = 0; i < p->n; i++)
		if (p->types[i] != wire->types[i] && wire->values[i])
			return false;
	return true;
}

static void prepared_name(char to[24], size_t i)
{
	snprintf(to, 24, "s%zu", i);
}

static enum err prepare(struct pg_sync *pg, const struct pg_stmt *stmt, const struct pg_wire *wire, size_t *ret_i)
{
	struct prepared *p;
	PGresult *res;
	char name[24];
	enum err e;

	for (size_t i = 0; i < pg->n_prepared; i++)
		if (pg->prepared[i].stmt == stmt && types_match(&pg->prepared[i], wire)) {
			*ret_i = i;
			return OK;
		}
	if (pg->n_prepared == STATEMENTS_MAX)
		return failed(pg, ERR_BUG);
	prepared_name(name, pg->n_prepared);
	if (PQsendPrepare(pg->link, name, stmt->sql, wire->n, wire->types) != 1)
		return lost(pg);
	e = answer(pg, &res);
	if (e != OK)
		return e;
	PQclear(res);
	*ret_i = pg->n_prepared;
	p = &pg->prepared[pg->n_prepared++];
	p->stmt = stmt;
	p->n = wire->n;
	p->types = mem_alloc(((size_t)wire->n + 1) * sizeof(Oid));
	if (wire->n != 0)
		memcpy(p->types, wire->types, (size_t)wire->n * sizeof(Oid));
	return OK;
}

static enum err execute(struct pg_sync *pg, const struct pg_stmt *stmt, const struct pg_wire *wire, PGresult **ret_res)
{
	char name[24];
	size_t i = 0;
	enum err e;

	pg_error_set(&pg->fail, "");
	e = prepare(pg, stmt, wire, &i);
	if (e != OK)
		return e;
	prepared_name(name, i);
	if (PQsendQueryPrepared(pg->link, name, wire->n, wire->values, wire->lengths, wire->formats, 1) != 1)
		return lost(pg);
	return answer(pg, ret_res);
}

enum err pg_sync_query(struct pg_sync *pg, struct arena *arena, const struct pg_stmt *stmt, struct pg_params params,
		       const struct schema *out, struct list *ret)
{
	struct pg_wire wire;
	PGresult *res = NULL;
	enum err e;

	e = pg_wire_encode(params, arena, &wire);
	if (e != OK)
		return failed(pg, e);
	e = ready(pg);
	if (e != OK)
		return e;
	e = execute(pg, stmt, &wire, &res);
	if (e != OK && !pg->in_tx) {
		if (pg_error_is_stale(pg->fail.sqlstate))
			disconnect(pg); /* the tables have changed: the next use prepares anew */
		else if (!pg->link && pg_error_is_away(pg->fail.sqlstate) && !pg_stmt_reads(stmt))
			return ERR_UNCERTAIN;
	}
	return e == OK ? failed(pg, pg_rows_decode(res, out, arena, ret)) : e;
}

/* ---- COPY ---------------------------------------------------------------------------------------------------------------- */

/* The table's name: the word after COPY, up to white space or a parenthesis. */
static bool copy_table(const struct pg_stmt *copy, struct str *ret)
{
	struct str rest = str_of(copy->sql);

	while (rest.n != 0) {
		struct str line = str_trim(str_split(&rest, '\n'));
		size_t n = 0;

		if (line.n == 0 || str_has_prefix(line, STR("--")))
			continue;
		if (line.n < 6 || !str_ieq((struct str){line.p, 4}, STR("COPY")))
			return false;
		line = str_trim((struct str){line.p + 4, line.n - 4});
		while (n < line.n && line.p[n] != ' ' && line.p[n] != '\t' && line.p[n] != '(')
			n++;
		*ret = (struct str){line.p, n};
		return n != 0;
	}
	return false;
}

#define COLUMN_FIELDS(F, T) \
	F(T, TEXT, name)    \
	F(T, INT, type)
SCHEMA_STRUCT(pg_sync_column, COLUMN_FIELDS);
SCHEMA_TABLE(pg_sync_column, COLUMN_FIELDS);

static Oid column_type(const struct list *columns, const char *name)
{
	const struct pg_sync_column *c = columns->v;

	for (size_t i = 0; i < columns->n; i++)
		if (str_is(c[i].name, name))
			return (Oid)c[i].type;
	return 0;
}

static enum err copy_types(struct pg_sync *pg, const struct pg_stmt *copy, const struct schema *s, const Oid **ret)
{
	struct copy_types *c;
	struct arena *arena;
	struct list columns;
	struct str table;
	enum err e;

	for (size_t i = 0; i < pg->n_copies; i++)
		if (pg->copies[i].copy == copy && pg->copies[i].schema == s) {
			*ret = pg->copies[i].types;
			return OK;
		}
	if (pg->n_copies == COPIES_MAX || !copy_table(copy, &table))
		return failed(pg, ERR_BUG);
	arena = arena_new();
	e = pg_sync_query(pg, arena, &SQL_PG_COLUMNS, PG_PARAMS(PG_TEXT(table)), &pg_sync_column_schema, &columns);
	if (e == OK) {
		c = &pg->copies[pg->n_copies++];
		c->copy = copy;
		c->schema = s;
		c->types = mem_zalloc(pg_row_width(s) * sizeof(Oid));
		for (size_t i = 0; i < pg_row_width(s); i++)
			c->types[i] = column_type(&columns, field_column(pg_row_column(s, i)));
		*ret = c->types;
	}
	arena_free(arena);
	return e;
}

static bool copy_put(struct pg_sync *pg, struct buf *b, int64_t end)
{
	int sent;

	while ((sent = PQputCopyData(pg->link, b->p, (int)b->n)) == 0)
		if (!flushed(pg, end)) /* libpq's buffer is full */
			return false;
	b->n = 0;
	return sent == 1;
}

static enum err copy_rows(struct pg_sync *pg, const struct schema *s, const Oid *types, const void *const *rows, size_t n)
{
	static const char head[] =
		"PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0"; /* flags and extension are zero; C's own NUL is the last byte */
	int64_t end = clock_mono_us() + (pg->statement_ms + LATE_MS) * US_PER_MS;
	uint16_t width = __builtin_bswap16((uint16_t)pg_row_width(s));
	struct buf b = {0};
	enum err e = OK;

	buf_put(&b, head, sizeof(head));
	for (size_t r = 0; r < n && e == OK; r++) {
		buf_put(&b, &width, sizeof(width));
		for (size_t i = 0; i < pg_row_width(s) && e == OK; i++)
			e = pg_cell_encode(s, i, types[i], rows[r], &b);
		if (e == OK && b.n > COPY_CHUNK && !copy_put(pg, &b, end))
			e = ERR_DB;
	}
	if (e == OK) {
		buf_put(&b, "\377\377", 2); /* no more rows */
		if (!copy_put(pg, &b, end))
			e = ERR_DB;
	}
	buf_done(&b);
	return e;
}

/* Ends the COPY: for good, or refused by us, which the server answers with an error of no interest. */
static enum err copy_end(struct pg_sync *pg, enum err sent)
{
	int64_t end = clock_mono_us() + (pg->statement_ms + LATE_MS) * US_PER_MS;
	int ended = sent == ERR_DB ? -1 : 0;
	PGresult *res;
	enum err e;

	while (ended == 0) {
		ended = PQputCopyEnd(pg->link, sent == OK ? NULL : "bad value");
		if (ended == 0 && !flushed(pg, end))
			ended = -1;
	}
	if (ended != 1)
		return lost(pg);
	e = answer(pg, &res);
	if (e == OK)
		PQclear(res);
	if (sent != OK && pg->link) {
		pg_error_set(&pg->fail, sent == ERR_INVALID ? "22003" : "42804");
		if (pg->in_tx)
			pg->failed = sent;
		return sent;
	}
	return e;
}

enum err pg_sync_copy(struct pg_sync *pg, const struct pg_stmt *copy, const struct schema *s, const void *const *rows, size_t n)
{
	const Oid *types;
	PGresult *res;
	enum err e;

	e = ready(pg);
	if (e == OK)
		e = copy_types(pg, copy, s, &types);
	if (e == OK)
		e = run_text(pg, copy, &res);
	if (e != OK)
		return e;
	e = PQresultStatus(res) == PGRES_COPY_IN && PQbinaryTuples(res) == 1 ? OK : ERR_BUG;
	PQclear(res);
	if (e != OK) {
		disconnect(pg);
		return failed(pg, e);
	}
	return copy_end(pg, copy_rows(pg, s, types, rows, n));
}
