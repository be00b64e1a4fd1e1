/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kept answers of statements: db_query whose rows come out of the cache when they are there.
 *
 *	static const struct query_life life = {.kind = KIND_ROSTER};
 *	e = db_query_kept(req, &SQL_DIR_ROSTER, PG_PARAMS(PG_UUID(class_id)), &dir_student_schema, &life, NULL, &rows);
 *
 * A statement can be kept when the head of its file says what it reads: "-- tables: auth.students, auth.users" (cmake/embed.py; tests/integration/
 * check_sql.py compares that with what PostgreSQL says it reads, and refuses one that asks the clock: the time is a parameter). One that does not is asked
 * each time. So is everything in a request that writes: what is kept is no base of a write.
 *
 * Over a list source (E_live) an overlay is a parameter: after a flush it is again what it was before the write, while the table is not. So it is no part
 * of the key, and it is taken behind the epochs, as the table is: db_rows_kept calls back for both. db_query_kept asks such a statement each time.
 *
 * The rows' tags are `bulk:` of each table, and `table:` too unless the caller names tags that stand for them (they cannot where the worker's flush brings
 * rows into a table that is read without its overlay: a flush knows no lists). What changes a table raises them: entities by themselves, other
 * statements by "-- writes: auth.users" in their head, when they have run or their transaction is committed; check_sql.py misses none of those.
 * A kept answer may be made of kept rows: whatever tags one change has, they are raised in one step (or twice: cache_raise.c), so no answer stays that is
 * newer by its tags than its rows are.
 * The key is the statement (its name, its text without comments and needless white space), the parameters with their types, the fields that the rows have,
 * the school, and the caller's role.
 */
#ifndef S24_SVC_CACHE_QUERY_H
#define S24_SVC_CACHE_QUERY_H

#include "cache/cache.h"
#include "svc/req.h"

struct query_life {
	enum cache_kind kind; /* its CACHE_TTL_… */
	unsigned ttl_s;       /* instead of it */
	bool memory;          /* struct cache_life's: for what a school shares */
};

#define QUERY_ROWS_MAX 5000u         /* more are told, and not kept */
#define QUERY_BYTES_MAX (1u << 20)
#define QUERY_TABLES_MAX 6           /* of a statement that can be kept: embed.py */
#define QUERY_STATS_MAX 256u         /* statements that are counted; past it the least asked makes room */

/* db_query and db_query_one, kept. `scope`: tags (of the request's school) that stand for all rows it may give; NULL: none do. */
SUSPENDS MUST_CHECK enum err db_query_kept(struct req *req, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out,
					   const struct query_life *life, const struct cache_tags *scope, struct list *ret);
SUSPENDS MUST_CHECK enum err db_query_one_kept(struct req *req, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out,
					       const struct query_life *life, const struct cache_tags *scope, void *to);

/* Rows that `read` gets by several calls, list sources' overlays among them. `params` is what they depend on beside the overlays, the time too if they do.
 * `stmt` says which tables, and is what they are counted under. */
SUSPENDS MUST_CHECK enum err db_rows_kept(struct req *req, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out,
					  const struct query_life *life, const struct cache_tags *scope,
					  SUSPENDS enum err (*read)(struct req *req, void *arg, struct list *ret), void *arg, struct list *ret);

/* ---- what changes tables (tx.c) ---- */
/* The tables that a statement writes, by its head. */
void query_writes(const struct pg_stmt *stmt, struct arena *arena, struct cache_tags *to);
/* Raised before the request's answer: `table:` of each, and `bulk:` too when the request has named nothing else, for then nobody has said whose rows. */
void query_wrote(struct req *req, const struct cache_tags *tables);

/* ---- for the administration: what has been asked since the start, by statement ---- */
struct query_stat {
	const char *query;     /* its name */
	char fingerprint[33];  /* of its text */
	uint64_t calls, hits, misses, bypassed, errors;
	uint64_t source_us;    /* of the misses, all together */
	uint64_t saved_us;     /* hits times the mean of a miss */
	uint64_t bytes, rows;  /* of what was kept last … */
	char key[CACHE_KEY_MAX + 1];
	int64_t cached_at_us;  /* … its real time; 0: nothing yet */
	unsigned ttl_s;
	char tags[512];        /* with spaces between */
};
struct query_totals {
	uint64_t statements, cached, calls, hits, misses, saved_us; /* cached: of those statements, which have had rows kept */
};
/* The most hit first, at most n of them, in the arena. */
struct query_totals cache_query_stats(const struct daemon *d, struct arena *arena, size_t n, struct query_stat **ret, size_t *ret_n);

/* GET /cache/query-stats, and the same object within /cache/stats and the report: `query_cache_schema` prints it. */
#define QUERY_TOP_FIELDS(F, T)                                                                                                                       \
	F(T, TEXT, query) F(T, TEXT, fingerprint) F(T, TEXT, cache_key) F(T, TIME, cached_at) F(T, INT, ttl) F(T, TEXTS, tags)                       \
	F(T, INT, hit_count) F(T, INT, miss_count) F(T, INT, bypass_count) F(T, INT, error_count) F(T, FLOAT, mean_source_ms) F(T, FLOAT, saved_ms)   \
	F(T, INT, bytes) F(T, INT, rows)
#define QUERY_CACHE_FIELDS(F, T)                                                                                                                     \
	F(T, INT, total_cached_queries) F(T, INT, total_cache_hits) F(T, INT, total_cache_misses) F(T, FLOAT, total_saved_ms)                        \
	F(T, FLOAT, avg_hits_per_query) F(T, LIST, top_cached_queries, .sub = &query_top_schema)
SCHEMA_STRUCT(query_top, QUERY_TOP_FIELDS);
SCHEMA_STRUCT(query_cache, QUERY_CACHE_FIELDS);
const struct query_cache *cache_query_shape(const struct daemon *d, struct arena *arena, size_t n);

/* ---- inside, for tests ---- */
/* The text that counts: without comments, white space outside of literals as little as it can be. Literals and quoted names stay as they are. */
void query_text(struct str sql, struct buf *out);
/* Rows as bytes and back. ERR_CORRUPT. */
void query_pack(const struct schema *s, const struct list *rows, struct buf *out);
MUST_CHECK enum err query_unpack(const struct schema *s, struct str bytes, struct arena *arena, struct list *ret);
/* cache_query_stats.c; looked up again after each wait, since another statement may have taken its place */
struct query_stat *query_stat_of(struct daemon *d, const struct pg_stmt *stmt);

#endif
