/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, tags and lifetimes of cached routes, the bytes of a kept answer, and what is said about it in headers. */
#include "svc/cache_http.h"

#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/fiber.h"
#include "svc/buffer.h"
#include "svc/daemon.h"
#include "svc/directory.h"
#include "svc/rules.h"

#define BROWSER_MOST_S 60 /* of public answers */
#define LAYOUT 1          /* of what cache_answer.c makes: another number with each change of it */
#define REFRESHES_MAX 64  /* at once: more are left to the next reader */

struct http_cache {
	struct cache_note note;
	bool bypassed;       /* the client or the daemon wanted it so */
	const char *forward; /* why the handler was asked: RFC 9211 */
	bool filled;         /* this request's handler has run, and its answer stands in the request */
	bool stored;         /* … and may be kept */
};

static bool is_policy(const struct route *r, const char *name)
{
	return r && r->cache.policy && strcmp(r->cache.policy, name) == 0;
}

bool http_cache_applies(const struct req *req)
{
	return req->daemon->caches && (is_policy(req->route, "redis") || is_policy(req->route, "full")) && !req_is_write(req) &&
	       (req->route->flags & ROUTE_STREAM) == 0;
}

static bool is_personal(const struct route *r)
{
	return !r->cache.vary || strstr(r->cache.vary, "school") == NULL;
}

static bool says(const struct route *r, const char *word)
{
	return r->cache.vary && strstr(r->cache.vary, word) != NULL;
}

/* ---- key, tags, life ---- */

static struct str uuid_part(struct arena *arena, struct uuid id)
{
	char *text = arena_alloc(arena, UUID_TEXT + 1);

	uuid_text(id, text);
	return (struct str){text, UUID_TEXT};
}

/* The query as it was understood: order, spelling and unknown names make no difference. */
static struct str query_part(struct req *req)
{
	struct buf b = buf_in(req->arena);

	if (req->route->query && req->query)
		json_encode(req->route->query, req->query, 0, &b);
	return buf_str(&b);
}

SUSPENDS static enum err make_key(struct req *req, struct str *ret)
{
	struct str parts[ROUTE_PARAMS_MAX + 6];
	size_t n = 0;
	int32_t day;

	parts[n++] = str_of(req->entry->path);
	for (size_t i = 0; i < req->n_params; i++)
		parts[n++] = route_param_is_id(req->entry->params[i]) ? uuid_part(req->arena, req->params[i])
								      : req->param_text[i];
	parts[n++] = query_part(req);
	parts[n++] = str_of(role_name(req->who.role));
	if (says(req->route, "student") && !uuid_is_nil(req->student_id))
		parts[n++] = uuid_part(req->arena, req->student_id);
	else if (is_personal(req->route) && req->who.role != ROLE_ANYONE)
		parts[n++] = uuid_part(req->arena, req->who.user_id);
	if (says(req->route, "today")) {
		enum err e = directory_today(req, &day);

		if (e != OK)
			return e;
		parts[n++] = str_of(arena_printf(req->arena, "%d", (int)day));
	}
	/* A daemon of the next version does not give out the answers of this one, when they have other fields. */
	parts[n++] = str_of(arena_printf(req->arena, "%d.%zu", LAYOUT, req->route->out ? req->route->out->n : 0));
	*ret = cache_key(req->daemon->caches, req->arena, req->who.school_id, "http", parts, n);
	return OK;
}

static struct uuid caller_id(const struct req *req, struct str name)
{
	const struct caller *w = &req->who;

	if (str_is(name, "me.user_id"))
		return w->user_id;
	if (str_is(name, "me.teacher_id"))
		return w->teacher_id;
	if (str_is(name, "me.student_id"))
		return w->student_id;
	if (str_is(name, "me.staff_id"))
		return w->staff_id;
	if (str_is(name, "me.school_id"))
		return w->school_id;
	return req->student_id;
}

/* The class of the student whom it is about, as the directory has it. */
SUSPENDS static enum err class_of_student(struct req *req, struct buf *out)
{
	struct dir_student student;
	enum err e = directory_student(req, req->student_id, &student);

	if (e == OK)
		buf_put_uuid(out, student.class_id);
	return e;
}

/* By name: of the caller, the path, the query. ERR_NOT_FOUND: a filter that was not given. */
SUSPENDS static enum err named_value(struct req *req, struct str name, struct buf *out)
{
	const struct field *f;

	if (str_is(name, "student.class_id"))
		return class_of_student(req, out);
	if (str_has_prefix(name, STR("me.")) || (str_is(name, "student_id") && !uuid_is_nil(req->student_id))) {
		buf_put_uuid(out, caller_id(req, name));
		return OK;
	}
	for (size_t i = 0; i < req->n_params; i++) {
		if (str_eq(req->entry->params[i], name)) {
			if (route_param_is_id(name))
				buf_put_uuid(out, req->params[i]); /* however it was spelt */
			else
				buf_puts(out, req->param_text[i]);
			return OK;
		}
	}
	f = req->route->query && req->query ? schema_find(req->route->query, name) : NULL;
	return f && (((const struct fields *)req->query)->set >> (f - req->route->query->fields) & 1) != 0 &&
			       buffer_field_text(f, req->query, out)
		       ? OK
		       : ERR_NOT_FOUND;
}

static bool is_among(const struct cache_tags *tags, size_t n, const char *tag)
{
	struct str rest = str_of(tag), kind = str_split(&rest, '{');

	for (size_t i = 0; rest.n != 0 && i < n; i++) {
		if (str_has_prefix(tags->v[i], kind))
			return true;
	}
	return false;
}

/* Does a tag of this kind among the answer's tell of the entity's rows? Then its table need not. */
static bool stands_for(const struct cache_tags *tags, size_t n_scopes, const struct entity *e)
{
	for (size_t k = 0; k < TAGS_MAX && e->tags[k]; k++) {
		if (is_among(tags, n_scopes, e->tags[k]))
			return true;
	}
	for (size_t k = 0; k < TAG_WHENS_MAX && e->when[k].tag; k++) {
		if (!e->when[k].becomes && is_among(tags, n_scopes, e->when[k].tag))
			return true;
	}
	return false;
}

static void tag_reads(struct req *req, struct cache_tags *tags)
{
	const struct cache_policy *p = &req->route->cache;
	size_t n_scopes = tags->n;

	for (size_t i = 0; i < ARRAY_LEN(p->reads) && p->reads[i]; i++) {
		cache_tag(tags, req->arena, "bulk:", str_of(p->reads[i]->table));
		if (!stands_for(tags, n_scopes, p->reads[i]))
			cache_tag(tags, req->arena, "table:", str_of(p->reads[i]->table));
	}
}

/* Whose answer it is, so that everything of a person can be dropped by his user:{id}. Of a student's it is the student's own, whoever asks; while nobody
 * knows him it stands without. */
SUSPENDS static void tag_person(struct req *req, struct cache_tags *tags)
{
	struct uuid user_id = req->who.user_id;
	struct dir_student student;

	if (req->who.role == ROLE_ANYONE)
		return;
	if (says(req->route, "student") && !uuid_is_nil(req->student_id))
		user_id = directory_student(req, req->student_id, &student) == OK ? student.user_id : (struct uuid){{0}};
	else if (!is_personal(req->route))
		return;
	if (!uuid_is_nil(user_id))
		cache_tag_id(tags, req->arena, "user:", user_id);
}

/* ERR_NOT_FOUND: the request has not what a tag is named by, and no table stands in for it, so nobody could drop the answer. */
SUSPENDS static enum err make_tags(struct req *req, struct cache_tags *tags)
{
	const struct cache_policy *p = &req->route->cache;
	struct str names = str_of(p->names ? p->names : "");
	bool lacks_one = false;

	tags->school = req->who.school_id;
	for (size_t i = 0; i < TAGS_MAX && p->tags[i]; i++) {
		struct str rest = str_of(p->tags[i]), kind = str_split(&rest, '{');
		struct buf value = buf_in(req->arena);
		enum err e = OK;

		while (e == OK && rest.p) {
			e = named_value(req, str_split(&rest, '}'), &value);
			buf_puts(&value, str_split(&rest, '{'));
		}
		lacks_one |= e == ERR_NOT_FOUND;
		if (e == ERR_NOT_FOUND)
			continue;
		if (e != OK)
			return e;
		cache_tag(tags, req->arena, arena_cstr(req->arena, kind), buf_str(&value));
	}
	if (lacks_one && !p->reads[0])
		return ERR_NOT_FOUND;
	tag_reads(req, tags);
	if (names.n != 0)
		cache_tag(tags, req->arena, DIRECTORY_BULK, STR(""));
	while (names.n != 0)
		cache_tag(tags, req->arena, DIRECTORY_KIND, str_split(&names, ' '));
	tag_person(req, tags);
	return OK;
}

static unsigned ttl_of(const struct req *req)
{
	const struct cache_policy *p = &req->route->cache;

	return p->ttl_s != 0 ? p->ttl_s : (unsigned)req->daemon->settings.cache_ttl.v[p->kind];
}

static struct cache_life life_of(const struct req *req)
{
	const struct cache_policy *p = &req->route->cache;
	unsigned ttl = ttl_of(req);

	return (struct cache_life){.ttl_s = ttl,
				   .soft_s = ttl - ttl / 5, /* the last fifth refreshes ahead */
				   .swr_s = p->swr_s,
				   .sie_s = p->sie_s,
				   .negative_s = p->negative_s,
				   .memory = is_policy(req->route, "full")};
}

/* ---- asking the handler ---- */

struct filling {
	struct req *req;
	SUSPENDS enum err (*handler)(struct req *req);
	struct cache_life *life; /* cache_call.shorter */
};

/*
 * Where a row is by now is told by its flush. Should that word be lost with the worker, an answer says "pending" until the row was due in its table at the
 * latest (its version is the time of its writing); past that, for a moment only.
 */
#define OVERDUE_US (5 * US_PER_S)

static int64_t pending_until_us(const struct req *req)
{
	int64_t due_us = req->version + req->daemon->settings.batch_interval_s * US_PER_S;

	return req->version > 0 && due_us > req->now_us + OVERDUE_US ? due_us : req->now_us + OVERDUE_US;
}

static void shorten(const struct req *req, struct cache_life *life)
{
	int64_t until = req->good_until_us, left;
	unsigned most = 100 + (unsigned)req->daemon->settings.cache_jitter_percent; /* lifetimes may be stretched by it */

	if (req->sync == SYNC_PENDING && (until == 0 || until > pending_until_us(req)))
		until = pending_until_us(req);
	left = until != 0 ? (until - loop_real_us(req->daemon->loop)) / US_PER_S * 100 / most : INT64_MAX;
	if (left < 0)
		left = 0;
	if (left < (int64_t)life->negative_s)
		life->negative_s = (unsigned)left;
	if (left < (int64_t)life->ttl_s)
		*life = (struct cache_life){.ttl_s = (unsigned)left, .negative_s = life->negative_s, .memory = life->memory};
}

/* The epochs are known by now, so whatever the rule has read before them is read again. */
SUSPENDS static enum err load_again(struct req *req)
{
	const struct rule *rule = &req->route->rule;

	req->filling = true;
	return rule->entity || rule->check ? rule_check(req) : OK;
}

SUSPENDS static enum err fill(void *ctx, struct buf *out)
{
	struct filling *f = ctx;
	struct req *req = f->req;
	enum err e = load_again(req);

	if (e == OK)
		e = f->handler(req);
	req->filling = false;
	req->cached->filled = true;
	shorten(req, f->life);
	if (e == ERR_NOT_FOUND) {
		if (!cache_answer_is_lasting(req))
			f->life->negative_s = 0;
		req->cached->stored = f->life->negative_s != 0;
	}
	if (e != OK)
		return e;
	/* Whoever waits for this one's answer, and finds it empty, asks for himself. */
	if (!cache_answer_is_lasting(req))
		return ERR_GONE;
	cache_answer_put(req, out);
	req->cached->stored = f->life->ttl_s != 0;
	return OK;
}

/* RFC 9111 5.2.1, as far as a server's own cache obeys it. */
static bool asks(const struct req *req, const char *directive)
{
	struct str rest = http_header(req->x, "Cache-Control");

	while (rest.n != 0) {
		if (str_ieq(str_trim(str_split(&rest, ',')), str_of(directive)))
			return true;
	}
	return false;
}

SUSPENDS static enum err make_call(struct req *req, struct cache_tags *tags, struct cache_call *call)
{
	enum err e = make_tags(req, tags);

	call->tags = tags;
	call->life = life_of(req);
	return e != OK ? e : make_key(req, &call->key);
}

SUSPENDS static enum err go_past(struct req *req, SUSPENDS enum err (*handler)(struct req *req))
{
	req->cached->bypassed = true;
	req->cached->forward = "bypass";
	return handler(req);
}

/* What a handler that failed has left behind. */
static void clean(struct req *req)
{
	req->headers.n = req->kept_headers;
	req->body = buf_in(req->arena);
	req->detail = NULL;
	req->code = NULL;
	req->problems.n = 0;
	req->retry_after_s = 0;
	req->database_only = false; /* of the rule's or the handler's reading; what was kept is whole */
	req->durability = NULL;
	req->cached->filled = false;
}

SUSPENDS static enum err answer_with(struct req *req, struct cache_call *call, SUSPENDS enum err (*handler)(struct req *req))
{
	struct http_cache *h = req->cached;
	struct str bytes;
	enum err e = cache_read(req->daemon->caches, req->arena, req->deadline, call, &bytes, &h->note);

	if (e == ERR_CACHE && call->only_cached)
		return req_fail(req, ERR_NOT_CACHED, "there is no kept answer");
	if (h->filled && h->note.state != CACHE_STALE)
		return e;
	if (e == ERR_NOT_FOUND && h->note.negative)
		return e;
	/* Somebody else's refusal has his details, and what he may not share is empty. */
	if (e > 0 || (e == OK && bytes.n == 0))
		return handler(req);
	if (e != OK)
		return e;
	if (h->filled)
		log_warn("an aged answer stands in for a failure", LOG_S("path", req->entry->path), LOG_S("request_id", req->id));
	clean(req);
	return cache_answer_take(req, bytes);
}

enum err http_cache_run(struct req *req, enum err (*handler)(struct req *req))
{
	struct cache_tags tags = {0};
	struct cache_call call = {.fill = fill, .only_cached = asks(req, "only-if-cached")};
	struct filling f = {req, handler, &call.life};
	struct http_cache *h = req->cached = arena_zalloc(req->arena, sizeof(*h));

	call.ctx = &f;
	call.shorter = &call.life;
	/* Strangers may not make the daemon work by a header. */
	call.ask_source = req->who.role != ROLE_ANYONE && (asks(req, "no-cache") || asks(req, "max-age=0"));
	h->forward = call.ask_source ? "request" : "uri-miss";
	/* Without its names there is no key and no tag; the handler will meet the same difficulty, or get around it. */
	if (asks(req, "no-store") || make_call(req, &tags, &call) != OK)
		return go_past(req, handler);
	return answer_with(req, &call, handler);
}

SUSPENDS static enum err run_handler(struct req *req)
{
	return req->route->handler(req);
}

enum err http_cache_tags(struct req *req, struct cache_tags *ret)
{
	return http_cache_applies(req) ? make_tags(req, ret) : ERR_NOT_FOUND;
}

enum err http_cache_fill(struct req *req, bool force, struct cache_note *ret_note)
{
	struct cache_tags tags = {0};
	struct cache_call call = {.fill = fill};
	struct filling f = {req, run_handler, &call.life};
	struct str bytes;
	enum err e;

	call.ctx = &f;
	call.shorter = &call.life;
	req->cached = arena_zalloc(req->arena, sizeof(*req->cached));
	*ret_note = (struct cache_note){.state = CACHE_BYPASS};
	if (!http_cache_applies(req))
		return ERR_NOT_FOUND;
	e = make_call(req, &tags, &call);
	if (e != OK)
		return e;
	call.warming = !force;
	if (!force) {
		e = cache_read(req->daemon->caches, req->arena, req->deadline, &call, &bytes, ret_note);
		return e == OK && req->cached->filled && !req->cached->stored ? ERR_GONE : e;
	}
	cache_refresh(req->daemon->caches, req->arena, req->deadline, &call);
	return OK;
}

/* ---- behind the answer ---- */

struct refresh {
	struct daemon *daemon;
	struct arena *arena;
	struct str target;
	struct caller who;
};

static size_t refreshing; /* fibers of this process, which has one loop */

SUSPENDS static void refresh_fiber(void *arg)
{
	struct refresh *r = arg;
	struct arena *arena = r->arena;
	struct cache_note note;
	struct req *req;
	enum err e = inner_request(r->daemon, arena, r->target, &r->who, &req);

	if (e == OK)
		e = http_cache_fill(req, true, &note);
	if (e != OK)
		log_debug("an aged answer was not refreshed", LOG_STR("target", r->target), LOG_E(e));
	refreshing--;
	arena_free(arena);
}

void http_cache_after(struct req *req)
{
	struct arena *arena;
	struct refresh *r;

	if (!req->cached || !req->cached->note.refresh || refreshing == REFRESHES_MAX)
		return;
	arena = arena_new();
	r = arena_zalloc(arena, sizeof(*r));
	*r = (struct refresh){.daemon = req->daemon, .arena = arena, .target = arena_str(arena, req->x->target), .who = req->who};
	r->who.email = arena_str(arena, req->who.email);
	r->who.full_name = arena_str(arena, req->who.full_name);
	r->who.rights = arena_str(arena, req->who.rights);
	r->who.service = arena_str(arena, req->who.service);
	r->who.buffer_name = arena_str(arena, req->who.buffer_name);
	refreshing++;
	if (fiber_spawn(req->daemon->loop, "refresh", refresh_fiber, r) != OK) {
		refreshing--;
		arena_free(arena);
	}
}

/* ---- headers ---- */

static void put_control(struct buf *out, const char *name, unsigned max_age, const struct cache_policy *p)
{
	buf_printf(out, "%s: public, max-age=%u", name, max_age);
	if (p->swr_s != 0)
		buf_printf(out, ", stale-while-revalidate=%u", p->swr_s);
	if (p->sie_s != 0)
		buf_printf(out, ", stale-if-error=%u", p->sie_s);
	buf_puts(out, STR("\r\n"));
}

static bool has_own_control(const struct req *req)
{
	struct str rest = buf_str(&req->headers);

	while (rest.n != 0) {
		struct str line = str_split(&rest, '\n'), name = str_split(&line, ':');

		if (str_ieq(name, STR("cache-control")))
			return true;
	}
	return false;
}

static void put_status(const struct req *req, struct buf *out)
{
	static const char *const states[] = {
		[CACHE_MISS] = "MISS", [CACHE_HIT] = "HIT", [CACHE_STALE] = "STALE", [CACHE_BYPASS] = "BYPASS"};
	static const char *const levels[] = {
		[LEVEL_NONE] = "", [LEVEL_MEMORY] = "MEMORY", [LEVEL_REDIS] = "REDIS", [LEVEL_QUERY] = "QUERY"};
	const struct http_cache *h = req->cached;
	enum cache_state state = h->bypassed || req->database_only ? CACHE_BYPASS : h->note.state;
	bool hit = (state == CACHE_HIT || state == CACHE_STALE) && !h->filled;
	int64_t left = (h->note.fresh_until_us - req->now_us) / US_PER_S, age = (req->now_us - h->note.written_us) / US_PER_S;

	buf_printf(out, "X-Cache: %s\r\n", states[state]);
	if (!hit) {
		if (req->queries.hits != 0 && req->queries.misses == 0) /* it was made anew, of kept rows */
			buf_printf(out, "X-Cache-Level: %s\r\n", levels[LEVEL_QUERY]);
		buf_printf(out, "Cache-Status: schools24; fwd=%s%s\r\n", state == CACHE_BYPASS ? "bypass" : h->forward,
			   h->stored           ? "; stored"
			   : h->note.coalesced ? "; collapsed"
					       : "");
		return;
	}
	buf_printf(out, "X-Cache-Level: %s\r\nAge: %lld\r\nCache-Status: schools24; hit; ttl=%lld%s\r\n", levels[h->note.level],
		   (long long)(age > 0 ? age : 0), (long long)left, h->note.negative ? "; detail=absent" : "");
}

void http_cache_lines(const struct req *req, int status, struct buf *out)
{
	const struct route *r = req->route;
	const struct cache_policy *p = r ? &r->cache : NULL;
	bool shared = is_policy(r, "cdn") || (is_policy(r, "full") && r->roles == ROLE_ANYONE);

	if (has_own_control(req)) {
		; /* a handler's own word stands alone */
	} else if (status >= 400 || req_is_write(req) || is_policy(r, "no-store")) {
		buf_puts(out, STR("Cache-Control: no-store\r\n"));
	} else if (shared) {
		unsigned ttl = ttl_of(req);

		put_control(out, "Cache-Control", ttl < BROWSER_MOST_S ? ttl : BROWSER_MOST_S,
			    p); /* a browser cannot be told to forget */
		put_control(out, "CDN-Cache-Control", ttl, p);
		put_control(out, "Surrogate-Control", ttl, p);
		buf_printf(out, "X-Accel-Expires: %u\r\n",
			   ttl); /* nginx knows the two above by this name, and keeps it for itself */
	} else {
		buf_puts(out, STR("Cache-Control: private, no-cache\r\n"));
	}
	if (status < 400 && p && p->policy && r->roles != ROLE_ANYONE)
		buf_puts(out, STR("Vary: Authorization\r\n"));
	if (req->cached && (status < 400 || (status == 404 && (req->cached->stored || req->cached->note.negative))))
		put_status(req, out);
}
