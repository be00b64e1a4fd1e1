/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /cache/invalidate and /cache/clear-all.
 *
 * Tags, tables, models, events and users become groups of tags, dropped in one pass: an entry is counted under the first of them that has it. School_id beside
 * others says where; alone it is everything of that school. What is told of an event is what its row says that a change of it touches, for every id: a
 * daemon that does not know the event drops what reads any table of the event's domain, so no event is ever passed over.
 */
#include <string.h>

#include "base/str.h"
#include "base/uuid.h"
#include "cache/cache_internal.h"
#include "svc/cache_admin.h"
#include "svc/daemon.h"
#include "svc/directory.h"
#include "svc/req.h"

#define GROUPS_MAX 360 /* more than the body can name */
#define GROUP_TAGS_MAX 64
#define WALK_PATIENCE_MS 3000
#define WALK_LOOK_MS 20

struct selector {
	const char *kind; /* "tag", "table", … */
	struct str value;
	struct cache_dropped dropped;
};

struct job {
	struct req *req;
	struct cache *c;
	const struct cache_invalidate_in *in;
	const struct uuid *school; /* NULL: everywhere */
	bool dry_run;
	struct selector *selectors; /* those of groups first, in their order */
	struct cache_group *groups;
	size_t n, n_groups;
};

/* ---- groups ---- */

static struct selector *selector_add(struct job *j, const char *kind, struct str value)
{
	struct selector *s = &j->selectors[j->n++];

	*s = (struct selector){.kind = kind, .value = value};
	return s;
}

static struct str *group_add(struct job *j, const char *kind, struct str value)
{
	struct str *tags = arena_array(j->req->arena, GROUP_TAGS_MAX, sizeof(*tags));

	selector_add(j, kind, value);
	j->groups[j->n_groups++] = (struct cache_group){.tags = tags};
	return tags;
}

static void put(struct job *j, const char *prefix, struct str value, const char *suffix)
{
	struct cache_group *g = &j->groups[j->n_groups - 1];
	struct str tag = str_of(arena_printf(j->req->arena, "%s%.*s%s", prefix, STR_FMT(value), suffix));
	struct str *tags = (struct str *)(uintptr_t)g->tags; /* this file's own array */

	for (size_t i = 0; i < g->n; i++)
		if (str_eq(tags[i], tag))
			return;
	if (g->n < GROUP_TAGS_MAX)
		tags[g->n++] = tag;
}

/* "Auth".users, AUTH.USERS: as PostgreSQL reads a name. Tags escape what is no letter, digit, point, dash or low line, so nothing else can be meant. */
static struct str plain_name(struct arena *arena, struct str name)
{
	struct buf out = buf_in(arena);
	bool quoted = false;

	name = str_trim(name);
	for (size_t i = 0; i < name.n; i++) {
		char ch = name.p[i];

		if (ch == '"')
			quoted = !quoted;
		else
			buf_putc(&out, !quoted && ch >= 'A' && ch <= 'Z' ? (char)(ch | 0x20) : ch);
	}
	return buf_str(&out);
}

/* Of these the directory is made, whose entries and names are kept by the whole (directory.h). */
static bool is_directory(struct str table)
{
	static const char *const tables[] = {"schools", "users",    "teachers",  "students",
					     "classes", "subjects", "guardians", "teacher_assignments"};

	for (size_t i = 0; i < ARRAY_LEN(tables); i++)
		if (str_is(table, tables[i]))
			return true;
	return str_has_prefix(table, STR("auth."));
}

/* A table without its schema is one of any schema. */
static void put_table(struct job *j, struct str table)
{
	bool whole = memchr(table.p, '.', table.n) != NULL;

	put(j, whole ? "table:" : "table:*.", table, "");
	put(j, whole ? "bulk:" : "bulk:*.", table, "");
	if (is_directory(table))
		put(j, "", STR(DIRECTORY_BULK), "");
}

static enum err take_tables(struct job *j)
{
	const struct str *v = j->in->tables.v;

	for (size_t i = 0; i < j->in->tables.n + 1; i++) {
		struct str name = i < j->in->tables.n ? v[i] : j->in->table_name, table;

		if (name.n == 0)
			continue;
		table = plain_name(j->req->arena, name);
		if (table.n == 0)
			return req_invalid(j->req, i < j->in->tables.n ? "/tables" : "/table_name", "table", "names no table");
		group_add(j, "table", name);
		put_table(j, table);
	}
	return OK;
}

/* "homework:{homework_id}", for every id. */
static void put_template(struct job *j, const char *template)
{
	const char *brace = strchr(template, '{');

	put(j, "", (struct str){template, brace != NULL ? (size_t)(brace - template) : strlen(template)},
	    brace != NULL ? "*" : "");
}

static void put_entity(struct job *j, const struct entity *e)
{
	put(j, "", str_of(e->name), ":*");
	put_table(j, str_of(e->table));
	for (size_t i = 0; i < TAGS_MAX && e->tags[i] != NULL; i++)
		put_template(j, e->tags[i]);
	for (size_t i = 0; i < TAG_WHENS_MAX && e->when[i].tag != NULL; i++)
		put_template(j, e->when[i].tag);
}

static void take_models(struct job *j)
{
	const struct entity *const *all = daemon_service(j->req->daemon)->entities;
	const struct str *v = j->in->models.v;

	for (size_t i = 0; i < j->in->models.n; i++) {
		bool known = false;

		group_add(j, "model", v[i]);
		for (size_t k = 0; all != NULL && all[k] != NULL; k++)
			if (str_is(v[i], all[k]->name)) {
				put_entity(j, all[k]);
				known = true;
			}
		if (known)
			continue;
		/* Another service's: its rows are kept under its name, and its table has it in one number or the other. */
		put(j, "", v[i], ":*");
		put_table(j, v[i]);
		put_table(j, str_of(arena_printf(j->req->arena, "%.*ss", STR_FMT(v[i]))));
	}
}

/* "homework.assigned" and "homework:assigned" */
static bool same_event(const char *name, struct str asked)
{
	if (strlen(name) != asked.n)
		return false;
	for (size_t i = 0; i < asked.n; i++)
		if (name[i] != asked.p[i] && !((name[i] == '.' || name[i] == ':') && (asked.p[i] == '.' || asked.p[i] == ':')))
			return false;
	return true;
}

static void put_event(struct job *j, struct str name)
{
	const struct service *s = daemon_service(j->req->daemon);
	struct str rest = name, domain;
	bool known = false;

	for (const struct event_row *row = s->events; row != NULL && row->type != NULL; row++)
		if (same_event(row->type, name)) {
			put_entity(j, row->entity);
			known = true;
		}
	for (const struct listen_row *row = s->listens; row != NULL && row->channel != NULL; row++)
		if (same_event(row->channel, name)) {
			for (size_t i = 0; i < TAGS_MAX && row->tags[i] != NULL; i++)
				put_template(j, row->tags[i]);
			known |= row->tags[0] != NULL;
		}
	if (known)
		return;
	domain = str_split(&rest, memchr(name.p, '.', name.n) != NULL ? '.' : ':');
	put(j, "table:", domain, ".*");
	put(j, "bulk:", domain, ".*");
}

static enum err take_events(struct job *j)
{
	const struct str *v = j->in->events.v;

	for (size_t i = 0; i < j->in->events.n; i++) {
		if (memchr(v[i].p, '.', v[i].n) == NULL && memchr(v[i].p, ':', v[i].n) == NULL)
			return req_invalid_at(j->req, "event", "is not domain.event", "/events/%zu", i);
		group_add(j, "event", v[i]);
		put_event(j, v[i]);
	}
	return OK;
}

static void take_tags(struct job *j)
{
	const struct str *v = j->in->tags.v;

	for (size_t i = 0; i < j->in->tags.n; i++) {
		group_add(j, "tag", v[i]);
		put(j, "", v[i], "");
	}
}

/* ---- what is dropped otherwise ---- */

static void sum_up(struct cache_dropped *to, const struct cache_dropped *more)
{
	to->live += more->live;
	to->expired += more->expired;
	to->stale += more->stale;
	to->complete &= more->complete;
}

SUSPENDS static enum err drop_all_tags(struct job *j)
{
	struct cache_tags tags = {.school = j->school != NULL ? *j->school : (struct uuid){{0}}};
	const struct str *v = j->in->tags.v;
	struct buf text = buf_in(j->req->arena);
	struct selector *s;

	for (size_t i = 0; i < j->in->tags.n; i++) {
		if (memchr(v[i].p, '*', v[i].n) != NULL)
			return req_invalid_at(j->req, "pattern", "only whole tags can be asked for all together", "/tags/%zu", i);
		cache_tag_again(&tags, j->req->arena, v[i]);
		buf_printf(&text, "%s%.*s", i != 0 ? " " : "", STR_FMT(v[i]));
	}
	s = selector_add(j, "tags", buf_str(&text));
	if (j->school != NULL)
		return cache_drop_all_of(j->c, j->req->arena, j->req->deadline, &tags, j->dry_run, &s->dropped);
	return cache_drop_all_of_everywhere(j->c, j->req->arena, j->req->deadline, &tags, j->dry_run, &s->dropped);
}

/* Behind another one, such as that which frees what was cleared, it waits a while. */
SUSPENDS static enum err await_walk(const struct job *j)
{
	struct deadline d = deadline_sooner(j->req->deadline, deadline_in(j->c->loop, WALK_PATIENCE_MS));
	enum err e = OK;

	while (e == OK && j->c->walking)
		e = sleep_ms(j->c->loop, WALK_LOOK_MS, d);
	return e == ERR_TIMEOUT ? OK : e; /* then the walk itself says so */
}

/* His tag is on what shows him, his id is in the names of what was made for him alone. */
SUSPENDS static enum err drop_users(struct job *j, struct selector *s, const struct cache_dropped *by_tag)
{
	struct cache_dropped named;
	enum err e = await_walk(j);

	s->dropped = *by_tag;
	if (e == OK)
		e = cache_drop_named(j->c, j->req->arena, j->req->deadline, s->value, j->dry_run, &named);
	if (e != OK)
		return e;
	if (j->dry_run && named.live < by_tag->live) /* they overlap; the larger is the least that both together are */
		named.live = by_tag->live;
	if (j->dry_run)
		s->dropped.live = 0;
	sum_up(&s->dropped, &named);
	return OK;
}

SUSPENDS static enum err drop_pattern(struct job *j)
{
	struct str pattern = j->in->pattern;
	bool whole = str_has_prefix(pattern, STR("cache:")) || str_has_prefix(pattern, STR("{"));
	struct selector *s = selector_add(j, "pattern", pattern);
	struct buf full = buf_in(j->req->arena);
	enum err e;

	if (j->school != NULL && whole)
		return req_invalid(j->req, "/pattern", "school", "names schools itself: leave school_id out");
	if (j->school != NULL) {
		buf_putc(&full, '{');
		buf_put_uuid(&full, *j->school);
		buf_puts(&full, STR("}:"));
	}
	buf_puts(&full, pattern);
	e = await_walk(j);
	if (e == OK)
		e = cache_drop_pattern(j->c, j->req->arena, j->req->deadline, buf_str(&full), j->dry_run, &s->dropped);
	if (e == ERR_INVALID)
		return req_invalid(j->req, "/pattern", "namespace", "leads out of the names of this environment's cache");
	return e;
}

SUSPENDS static enum err drop_groups(struct job *j, size_t user)
{
	struct cache_dropped by_tag;
	enum err e = cache_drop_groups(j->c, j->req->arena, j->req->deadline, j->school, j->groups, j->n_groups, j->dry_run);

	for (size_t i = 0; i < j->n_groups; i++)
		j->selectors[i].dropped = j->groups[i].dropped;
	if (e != OK || user == SIZE_MAX)
		return e;
	by_tag = j->selectors[user].dropped;
	return drop_users(j, &j->selectors[user], &by_tag);
}

SUSPENDS static enum err drop(struct job *j)
{
	const struct cache_invalidate_in *in = j->in;
	bool all = FIELD_HAS(in, cache_invalidate_in, match) && in->match == 1;
	size_t user = SIZE_MAX;
	enum err e = OK;

	if (!all)
		take_tags(j);
	e = take_tables(j);
	take_models(j);
	if (e == OK)
		e = take_events(j);
	if (e == OK && FIELD_HAS(in, cache_invalidate_in, user_id)) {
		struct buf id = buf_in(j->req->arena);

		buf_put_uuid(&id, in->user_id);
		user = j->n;
		group_add(j, "user", buf_str(&id));
		put(j, "user:", buf_str(&id), "");
	}
	if (e == OK && j->n_groups != 0)
		e = drop_groups(j, user);
	if (e == OK && all && in->tags.n != 0)
		e = drop_all_tags(j);
	if (e == OK && in->pattern.n != 0)
		e = drop_pattern(j);
	if (e == OK && j->n == 0 && j->school != NULL) {
		struct buf id = buf_in(j->req->arena);

		buf_put_uuid(&id, *j->school);
		e = await_walk(j);
		if (e == OK)
			e = cache_drop_school(j->c, j->req->arena, j->req->deadline, *j->school, j->dry_run,
					      &selector_add(j, "school", buf_str(&id))->dropped);
	}
	return e;
}

/* ---- the answer ---- */

static void put_selector(struct req *req, const struct selector *s)
{
	buf_puts(&req->body, req->body.p[req->body.n - 1] == '[' ? STR("{") : STR(",{"));
	req_json_text(req, "selector", str_of(s->kind));
	req_json_text(req, "value", s->value);
	req_json_int(req, "removed", (int64_t)s->dropped.live);
	req_json_int(req, "expired", (int64_t)s->dropped.expired);
	req_json_int(req, "unreachable_before", (int64_t)s->dropped.stale);
	req_json_bool(req, "complete", s->dropped.complete);
	buf_putc(&req->body, '}');
}

/* The members of the answer's data, which are those of the record too. */
static void put_outcome(struct req *req, const struct job *j)
{
	struct cache_dropped sum = {.complete = true};

	for (size_t i = 0; i < j->n; i++)
		sum_up(&sum, &j->selectors[i].dropped);
	req_json_int(req, "invalidated_count", (int64_t)sum.live);
	req_json_bool(req, "dry_run", j->dry_run);
	req_json_bool(req, "complete", sum.complete);
	if (j->school != NULL)
		req_json_id(req, "school_id", *j->school);
	req_json_key(req, "invalidated_by");
	buf_putc(&req->body, '[');
	for (size_t i = 0; i < j->n; i++)
		put_selector(req, &j->selectors[i]);
	buf_putc(&req->body, ']');
}

static struct str outcome_text(struct req *req, const struct job *j)
{
	struct buf body = req->body, text;

	req->body = buf_in(req->arena);
	buf_putc(&req->body, '{');
	put_outcome(req, j);
	buf_putc(&req->body, '}');
	text = req->body;
	req->body = body;
	return buf_str(&text);
}

static bool has_selector(const struct cache_invalidate_in *in)
{
	return in->tags.n != 0 || in->tables.n != 0 || in->models.n != 0 || in->events.n != 0 || in->pattern.n != 0 ||
	       in->table_name.n != 0 || FIELD_HAS(in, cache_invalidate_in, user_id) ||
	       FIELD_HAS(in, cache_invalidate_in, school_id);
}

enum err cache_invalidate_answer(struct req *req)
{
	const struct cache_invalidate_in *in = req->in;
	enum err e, recorded;
	struct job j = {.req = req, .c = admin_cache(req, &e), .in = in, .dry_run = in->dry_run};

	if (j.c == NULL)
		return e;
	if (!has_selector(in))
		return req_fail_code(req, ERR_MALFORMED, "no_selector",
				     "say what to drop: tags, pattern, table_name, tables, models, events, user_id or school_id");
	if (FIELD_HAS(in, cache_invalidate_in, school_id))
		j.school = &in->school_id;
	j.selectors = arena_array(req->arena, GROUPS_MAX, sizeof(*j.selectors));
	j.groups = arena_array(req->arena, GROUPS_MAX, sizeof(*j.groups));
	e = drop(&j);
	if (e == ERR_CACHE && j.school != NULL)
		IGNORE(req_fail(req, e,
				"Redis is away: the tags are written down, and raised before this daemon reads the cache again"));
	else if (e == ERR_CACHE)
		IGNORE(req_fail(req, e, "Redis is away, and knows alone in which schools there is something to drop: ask again"));
	if (e == ERR_IN_PROGRESS) {
		req->retry_after_s = 2;
		IGNORE(req_fail(req, e, "another walk through the names is under way"));
	}
	if (e > 0 && e != ERR_IN_PROGRESS && e != ERR_CANCELLED && e != ERR_TIMEOUT)
		return e; /* nothing was dropped: what is wrong with the call is told before anything is done, or is a pattern's */
	if (e == OK) {
		admin_begin(req);
		put_outcome(req, &j);
		admin_end(req);
	}
	recorded = admin_audit(req, j.dry_run ? "cache_invalidation_tried" : "cache_invalidated", in->reason,
			       outcome_text(req, &j));
	return e != OK ? e : recorded;
}

/* ---- POST /cache/clear-all ---- */

enum err cache_clear_answer(struct req *req)
{
	const struct cache_clear_in *in = req->in;
	enum err e, recorded;
	struct cache *c = admin_cache(req, &e);
	int64_t generation = 0;
	struct buf values = buf_in(req->arena);

	if (c == NULL)
		return e;
	if (!FIELD_HAS(in, cache_clear_in, confirm) || !in->confirm)
		return req_fail_code(req, ERR_MALFORMED, "confirmation_required",
				     "every kept answer goes: say {\"confirm\": true}");
	e = cache_clear(c, req->arena, &generation);
	if (e == ERR_CACHE)
		IGNORE(req_fail(req, e, "Redis is away: this daemon clears the cache before it reads it again"));
	if (e == OK) {
		admin_begin(req);
		req_json_bool(req, "cleared", true);
		req_json_int(req, "generation", generation);
		admin_end(req);
	}
	buf_printf(&values, "{\"generation\":%lld,\"done\":%s}", (long long)generation, e == OK ? "true" : "false");
	recorded = admin_audit(req, "cache_cleared", in->reason, buf_str(&values));
	return e != OK ? e : recorded;
}
