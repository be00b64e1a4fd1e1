/* SPDX-License-Identifier: Apache-2.0 */
/* The administration's rows, its records, and what it shows: figures, tags, single entries. */
#include "svc/cache_admin.h"

#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "cache/cache_internal.h"
#include "io/crypto.h"
#include "io/redis.h"
#include "svc/audit.h"
#include "svc/cache_health.h"
#include "svc/cache_query.h"
#include "svc/cache_warm.h"
#include "svc/daemon.h"
#include "svc/tx.h"

#define TOP_QUERIES 20
#define TAGS_SHOWN 200
#define VALUE_MAX (256u << 10) /* of an entry that is shown; its size is told all the same */
#define COUNT_MS 2000          /* for the indexes; else as the last sweep found them */

SCHEMA_TABLE(cache_invalidate_in, CACHE_INVALIDATE_FIELDS);
SCHEMA_TABLE(cache_clear_in, CACHE_CLEAR_FIELDS);
SCHEMA_TABLE(cache_key_in, CACHE_KEY_FIELDS);
SCHEMA_TABLE(cache_tags_in, CACHE_TAGS_FIELDS);

/* ---- who, and the record of it ---- */

/* The role is the whole rule: what is in the caches belongs to no school alone. */
SUSPENDS static enum err platform(struct req *req)
{
	return req->who.role == ROLE_SUPER_ADMIN ? OK : ERR_FORBIDDEN;
}

struct cache *admin_cache(struct req *req, enum err *ret)
{
	struct cache *c = daemon_caches(req->daemon);

	*ret = OK;
	if (c == NULL)
		*ret = req_fail(req, ERR_CACHE, "this daemon keeps nothing: it has no cache, or CACHE_ENABLED is off");
	else if (req->who.role == ROLE_SERVICE && (uuid_is_nil(req->who.user_id) || uuid_is_nil(req->who.school_id)))
		*ret = req_fail(req, ERR_FORBIDDEN, "the call does not say on whose behalf it is made");
	return *ret == OK ? c : NULL;
}

SUSPENDS static enum err audit_in_buffer(struct req *req, const struct entity *entity, struct audit_row *a)
{
	struct change *c = change_new(req);
	enum err e;

	change_put(c, entity, a);
	e = change_commit(c);
	/* The answer is about the caches, not about the record. */
	req->version = -1;
	req->sync = SYNC_NONE;
	req->due_us = 0;
	return e;
}

SUSPENDS static enum err audit_in_table(struct req *req, const struct audit_row *a)
{
	struct tx *tx;
	enum err e = tx_begin(req, &tx);

	return e != OK ? e : tx_end(tx, tx_audit_row(tx, a));
}

enum err admin_audit(struct req *req, const char *action, struct str reason, struct str values_json)
{
	struct audit_row *a = audit_new(req, action, "cache", (struct uuid){{0}}, (struct str){NULL, 0}, values_json);
	const struct entity *entity = audit_entity(req);

	if (reason.n != 0)
		FIELD_PUT(a, audit_row, reason, reason);
	if (entity == NULL && daemon_pg(req->daemon) == NULL)
		return ERR_DB; /* it has nowhere to write, so it changes nothing for anybody */
	return entity != NULL ? audit_in_buffer(req, entity, a) : audit_in_table(req, a);
}

/* Of a look at figures: when it cannot be written the operator needs them all the more. */
SUSPENDS static void audit_look(struct req *req, const char *action)
{
	struct pg *pg = daemon_pg(req->daemon);
	bool away = audit_entity(req) == NULL && (pg == NULL || !pg_is_up(pg)); /* nobody waits for it */
	size_t errors = req->problems.n;
	enum err e = away ? ERR_DB : admin_audit(req, action, (struct str){NULL, 0}, (struct str){NULL, 0});

	if (e == OK)
		return;
	req->problems.n = errors;
	log_warn("a look at the caches is not in the audit table", LOG_S("action", action), LOG_S("request_id", req->id),
		 LOG_E(e));
}

void admin_begin(struct req *req)
{
	req->version = -1;
	req_header(req, "Cache-Control", "no-store");
	req_json_begin(req);
	req_json_bool(req, "success", true);
	req_json_key(req, "data");
	buf_putc(&req->body, '{');
}

void admin_end(struct req *req)
{
	buf_putc(&req->body, '}');
	req_json_end(req);
}

/* ---- small pieces of JSON ---- */

static void open_object(struct req *req, const char *name)
{
	req_json_key(req, name);
	buf_putc(&req->body, '{');
}

static void close_object(struct req *req)
{
	buf_putc(&req->body, '}');
}

static void put_count(struct req *req, const char *name, uint64_t n)
{
	req_json_int(req, name, (int64_t)n);
}

/* 0 to 100, two decimals; null without any. */
static void put_ratio(struct req *req, const char *name, uint64_t part, uint64_t whole)
{
	req_json_key(req, name);
	if (whole == 0)
		buf_puts(&req->body, STR("null"));
	else
		buf_printf(&req->body, "%.2f", 100.0 * (double)part / (double)whole);
}

static void put_instant(struct req *req, const char *name, int64_t us)
{
	char text[TIME_TEXT + 1];

	if (us == 0) {
		req_json_null(req, name);
		return;
	}
	time_text(us, text);
	req_json_text(req, name, str_of(text));
}

/* ---- GET /cache/stats ---- */

static int64_t info_number(struct str info, const char *name)
{
	int64_t value = 0;

	while (info.n != 0) {
		struct str line = str_trim(str_split(&info, '\n')), key = str_split(&line, ':');

		if (str_is(key, name) && str_to_i64(line, &value))
			return value;
	}
	return 0;
}

/* Redis' own figures. *ret_hits, *ret_reads: for the summary. */
SUSPENDS static void put_redis(struct req *req, struct cache *c, uint64_t *ret_hits, uint64_t *ret_reads)
{
	static const char *const names[] = {"connected_clients",        "used_memory",      "keyspace_hits", "keyspace_misses",
					    "total_commands_processed", "uptime_in_seconds"};
	struct redis_reply reply;
	enum err e = index_call(c, req->arena, req->deadline, REDIS_ARGS(STR("INFO")), &reply);
	bool connected = e == OK && reply.type == REDIS_STRING;

	*ret_hits = *ret_reads = 0;
	open_object(req, "redis");
	req_json_bool(req, "connected", connected);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (connected)
			req_json_int(req, names[i], info_number(reply.s, names[i]));
		else
			req_json_null(req, names[i]);
	}
	if (connected) {
		*ret_hits = (uint64_t)info_number(reply.s, "keyspace_hits");
		*ret_reads = *ret_hits + (uint64_t)info_number(reply.s, "keyspace_misses");
	}
	put_ratio(req, "hit_ratio", *ret_hits, *ret_reads);
	close_object(req);
}

static void put_engine(struct req *req, const struct cache *c)
{
	struct cache_stats s = cache_stats(c);
	uint64_t hits = s.hits_memory + s.hits_redis + s.stale;

	open_object(req, "engine");
	req_json_text(req, "service", str_of(daemon_service(req->daemon)->name));
	req_json_bool(req, "up", s.up);
	put_count(req, "hits_memory", s.hits_memory);
	put_count(req, "hits_redis", s.hits_redis);
	put_count(req, "stale", s.stale);
	put_count(req, "misses", s.misses);
	put_count(req, "bypassed", s.bypassed);
	put_ratio(req, "hit_ratio", hits, hits + s.misses);
	put_count(req, "negative", s.negative);
	put_count(req, "coalesced", s.coalesced);
	put_count(req, "refreshes", s.refreshes);
	put_count(req, "fills", s.fills);
	put_count(req, "raised_tags", s.raised_tags);
	put_count(req, "errors", s.errors);
	put_count(req, "journal", s.journal);
	put_count(req, "memory_entries", s.memory_entries);
	put_count(req, "memory_bytes", s.memory_bytes);
	put_count(req, "memory_evictions", s.memory_evictions);
	close_object(req);
}

SUSPENDS static enum err stats_answer(struct req *req)
{
	enum err e;
	struct cache *c = admin_cache(req, &e);
	const struct query_cache *q;
	struct cache_index_size size;
	uint64_t hits, reads;
	bool counted;

	if (c == NULL)
		return e;
	audit_look(req, "cache_stats_viewed");
	size = cache_index_size(c);
	counted = cache_index_count(c, req->arena, deadline_sooner(req->deadline, deadline_in(c->loop, COUNT_MS)), &size) == OK;
	q = cache_query_shape(req->daemon, req->arena, TOP_QUERIES);
	admin_begin(req);
	put_redis(req, c, &hits, &reads);
	req_json_object(req, "query_cache", &query_cache_schema, q);
	open_object(req, "invalidation");
	put_count(req, "registered_tags", size.tags);
	put_count(req, "tracked_keys", size.members); /* a key counts once for each of its tags */
	req_json_bool(req, "counted_now", counted);
	put_instant(req, "counted_at", size.at_us);
	close_object(req);
	open_object(req, "warming");
	put_count(req, "scheduled_jobs", cache_warm_jobs(req->daemon));
	close_object(req);
	put_engine(req, c);
	close_object(req);
	open_object(req, "summary");
	put_ratio(req, "redis_hit_ratio", hits, reads);
	req_json_int(req, "cached_queries", q->total_cached_queries);
	req_json_int(req, "query_cache_hits", q->total_cache_hits);
	put_count(req, "tracked_tags", size.tags);
	admin_end(req);
	return OK;
}

SUSPENDS static enum err query_stats_answer(struct req *req)
{
	const struct query_cache *q;
	enum err e;

	if (admin_cache(req, &e) == NULL)
		return e;
	audit_look(req, "cache_query_stats_viewed");
	q = cache_query_shape(req->daemon, req->arena, QUERY_STATS_MAX);
	req->version = -1;
	req_header(req, "Cache-Control", "no-store");
	req_json_begin(req);
	req_json_bool(req, "success", true);
	req_json_object(req, "data", &query_cache_schema, q);
	req_json_end(req);
	return OK;
}

/* ---- GET /cache/tags ---- */

static void put_school(struct buf *out, struct uuid school)
{
	if (uuid_is_nil(school))
		buf_puts(out, STR("all"));
	else
		buf_put_uuid(out, school);
}

/* Ids are unique everywhere; every other tag stands behind its school. */
static void put_tag_name(struct req *req, const struct cache_indexed *tag)
{
	struct str rest = tag->tag;
	struct buf name = buf_in(req->arena);
	struct uuid id;

	while (rest.n != 0)
		if (uuid_parse(str_split(&rest, ':'), &id)) {
			req_json_key(req, arena_cstr(req->arena, tag->tag));
			return;
		}
	put_school(&name, tag->school);
	buf_putc(&name, ':');
	buf_puts(&name, tag->tag);
	req_json_key(req, arena_cstr(req->arena, buf_str(&name)));
}

static void put_tag(struct req *req, const struct cache_indexed *tag)
{
	put_tag_name(req, tag);
	buf_putc(&req->body, '{');
	req_json_text(req, "tag", tag->tag);
	if (uuid_is_nil(tag->school))
		req_json_null(req, "school_id");
	else
		req_json_id(req, "school_id", tag->school);
	put_count(req, "dependent_keys_count", tag->entries);
	req_json_key(req, "dependent_keys");
	buf_putc(&req->body, '[');
	for (size_t i = 0; i < tag->n_keys; i++) {
		if (i != 0)
			buf_putc(&req->body, ',');
		buf_put_json(&req->body, tag->keys[i]);
	}
	buf_putc(&req->body, ']');
	close_object(req);
}

SUSPENDS static enum err tags_answer(struct req *req)
{
	const struct cache_tags_in *in = req->query;
	enum err e;
	struct cache *c = admin_cache(req, &e);
	size_t most = FIELD_HAS(in, cache_tags_in, limit) ? (size_t)in->limit : TAGS_SHOWN, n = 0;
	struct cache_indexed *v;
	uint64_t total = 0;

	if (c == NULL)
		return e;
	audit_look(req, "cache_tags_viewed");
	v = arena_array(req->arena, most, sizeof(*v));
	e = cache_index_list(c, req->arena, req->deadline, in->school_id, most, v, &n, &total);
	if (e != OK)
		return e;
	admin_begin(req);
	put_count(req, "total_tags", total);
	open_object(req, "tags");
	for (size_t i = 0; i < n; i++)
		put_tag(req, &v[i]);
	close_object(req);
	admin_end(req);
	return OK;
}

/* ---- GET, DELETE /cache/key/{key} ---- */

static struct str key_values(struct req *req, struct str key)
{
	struct buf out = buf_in(req->arena);

	buf_puts(&out, STR("{\"key\":"));
	buf_put_json(&out, key);
	buf_putc(&out, '}');
	return buf_str(&out);
}

/* What is another school's is looked at for a reason only, and that is in the record. */
static enum err may_look(struct req *req, const struct cache *c, struct str key, struct str reason)
{
	struct uuid school;
	int64_t generation;

	if (name_entry(c, key, &generation, &school) && !uuid_is_nil(school) && !uuid_eq(school, req->who.school_id) &&
	    reason.n == 0)
		return req_invalid(req, "/reason", "required", "says why an answer of another school is looked at");
	return OK;
}

static void put_value(struct req *req, struct str bytes)
{
	struct str shown = {bytes.p, bytes.n < VALUE_MAX ? bytes.n : VALUE_MAX};
	bool text = str_is_utf8(bytes) && bytes.n <= VALUE_MAX;

	req_json_key(req, "value");
	if (text) {
		buf_put_json(&req->body, bytes);
	} else {
		buf_putc(&req->body, '"');
		base64url_put(&req->body, shown);
		buf_putc(&req->body, '"');
	}
	req_json_text(req, "encoding", text ? STR("text") : STR("base64url"));
	put_count(req, "size", bytes.n);
	req_json_bool(req, "truncated", bytes.n > VALUE_MAX);
}

static void put_shown(struct req *req, const struct cache_shown *s)
{
	req_json_text(req, "key", req_param_text(req, "key"));
	put_value(req, s->bytes);
	req_json_key(req, "tags");
	buf_putc(&req->body, '[');
	for (size_t i = 0; i < s->n_tags; i++) {
		if (i != 0)
			buf_putc(&req->body, ',');
		buf_put_json(&req->body, s->tags[i]);
	}
	buf_putc(&req->body, ']');
	put_count(req, "unnamed_tags", s->unnamed);
	req_json_int(req, "ttl", (s->ttl_ms + 999) / 1000);
	req_json_text(req, "level", s->level == LEVEL_MEMORY ? STR("MEMORY") : STR("REDIS"));
	req_json_bool(req, "negative", s->negative);
	put_instant(req, "written_at", s->written_us);
	put_instant(req, "fresh_until", s->fresh_until_us);
}

SUSPENDS static enum err key_answer(struct req *req)
{
	const struct cache_key_in *in = req->query;
	struct str key = req_param_text(req, "key");
	enum err e;
	struct cache *c = admin_cache(req, &e);
	struct cache_shown shown;

	if (c == NULL)
		return e;
	e = may_look(req, c, key, in->reason);
	if (e == OK)
		e = admin_audit(req, "cache_key_viewed", in->reason, key_values(req, key));
	if (e == OK)
		e = cache_show(c, req->arena, req->deadline, key, &shown);
	if (e == ERR_NOT_FOUND)
		return req_fail(req, e, "there is no such entry, or nothing can read it any more");
	if (e == ERR_FORBIDDEN)
		return req_fail(req, e, "this daemon sees its own service's entries: ask that service, or auth");
	if (e != OK)
		return e;
	admin_begin(req);
	put_shown(req, &shown);
	admin_end(req);
	return OK;
}

SUSPENDS static enum err key_delete_answer(struct req *req)
{
	const struct cache_key_in *in = req->query;
	struct str key = req_param_text(req, "key");
	enum err e;
	struct cache *c = admin_cache(req, &e);
	bool existed = false;

	if (c == NULL)
		return e;
	if (!cache_is_entry(c, key)) {
		e = admin_audit(req, "cache_key_deleted", in->reason, key_values(req, key));
		return e != OK ? e : req_fail(req, ERR_NOT_FOUND, "this is no name of an entry");
	}
	e = cache_drop_key(c, req->arena, req->deadline, key, &existed);
	if (e != OK)
		return e;
	admin_begin(req);
	req_json_text(req, "key", key);
	req_json_bool(req, "deleted", existed);
	close_object(req);
	req_json_bool(req, "deleted", existed);
	req_json_end(req);
	return admin_audit(req, "cache_key_deleted", in->reason, key_values(req, key));
}

/* ---- what others answer, with their records ---- */

SUSPENDS static enum err health_answer(struct req *req)
{
	enum err e;

	if (admin_cache(req, &e) == NULL)
		return e;
	audit_look(req, "cache_health_viewed");
	return cache_health_answer(req);
}

SUSPENDS static enum err report_answer(struct req *req)
{
	enum err e;

	if (admin_cache(req, &e) == NULL)
		return e;
	audit_look(req, "cache_report_viewed");
	return cache_report_answer(req);
}

SUSPENDS static enum err warm_answer(struct req *req)
{
	enum err e;

	if (admin_cache(req, &e) == NULL)
		return e;
	if (req->daemon->warm != NULL) {
		e = cache_warm_answer(req);
	} else { /* without rows there is nothing to do */
		admin_begin(req);
		put_count(req, "warmed", 0);
		put_count(req, "skipped", 0);
		put_count(req, "failed", 0);
		admin_end(req);
	}
	return e != OK ? e : admin_audit(req, "cache_warmed", (struct str){NULL, 0}, buf_str(&req->body));
}

/* ---- the rows ---- */

/* clang-format off */
static const struct route rows[] = {
	{HTTP_GET, "/cache/stats", .handler = stats_answer, .summary = "Figures of Redis, kept statements, tags and warming"},
	{HTTP_GET, "/cache/query-stats", .handler = query_stats_answer, .out = &query_cache_schema, .summary = "Kept statements, the most hit first"},
	{HTTP_POST, "/cache/invalidate", .in = &cache_invalidate_in_schema, .handler = cache_invalidate_answer,
		.summary = "Drop what carries tags, shows tables, models or events, belongs to a user or a school, or has a name; each selector is reported"},
	{HTTP_POST, "/cache/clear-all", .in = &cache_clear_in_schema, .handler = cache_clear_answer, .summary = "Drop every kept answer, and nothing else"},
	{HTTP_POST, "/cache/warm", .in = &warm_in_schema, .flags = ROUTE_BODY_OPTIONAL, .handler = warm_answer, .summary = "Make answers before they are asked for"},
	{HTTP_GET, "/cache/key/{key}", .query = &cache_key_in_schema, .flags = ROUTE_BYTES, .handler = key_answer, .summary = "One entry, with its tags"},
	{HTTP_DELETE, "/cache/key/{key}", .query = &cache_key_in_schema, .flags = ROUTE_BYTES, .handler = key_delete_answer, .summary = "Drop one entry"},
	{HTTP_GET, "/cache/tags", .query = &cache_tags_in_schema, .handler = tags_answer, .summary = "Tags, with how many entries depend on each, and the first ten"},
	{HTTP_GET, "/cache/performance-report", .handler = report_answer, .summary = "Rates, times, memory, history, and what to do about them"},
	{HTTP_GET, "/cache/health", .handler = health_answer, .summary = "How well the caches do"},
};
static const char *const internal_paths[] = {
	"/internal/cache/stats", "/internal/cache/query-stats", "/internal/cache/invalidate", "/internal/cache/clear-all", "/internal/cache/warm",
	"/internal/cache/key/{key}", "/internal/cache/key/{key}", "/internal/cache/tags", "/internal/cache/performance-report", "/internal/cache/health",
};
/* clang-format on */
_Static_assert(ARRAY_LEN(rows) == ARRAY_LEN(internal_paths), "each row has its internal path");

static bool writes_audit_in_buffer(const struct service *s)
{
	for (size_t i = 0; s->entities != NULL && s->entities[i] != NULL; i++)
		if (s->entities[i]->schema == &audit_row_schema)
			return true;
	return false;
}

size_t cache_admin_rows(const struct service *s, struct route *to, size_t most)
{
	bool outside = (s->flags & SERVICE_CACHE_ADMIN) != 0, through = !writes_audit_in_buffer(s);
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(rows) && outside && n < most; i++, n++) {
		to[n] = rows[i];
		to[n].roles = ROLE_SUPER_ADMIN;
		to[n].rule = (struct rule)MAY_CHECK(platform);
		if (through && rows[i].method == HTTP_POST)
			to[n].flags |= ROUTE_THROUGH;
	}
	for (size_t i = 0; i < ARRAY_LEN(rows) && n < most; i++, n++) {
		to[n] = rows[i];
		to[n].path = internal_paths[i];
		to[n].roles = ROLE_SERVICE;
		to[n].rule = (struct rule)MAY_INTERNAL;
		to[n].flags |= ROUTE_BARE | ROUTE_NO_KEY | ROUTE_DASHBOARD;
	}
	return n;
}
