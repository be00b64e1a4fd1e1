/* SPDX-License-Identifier: Apache-2.0 */
/* Tags in events: written, read again, and made of the events of others. */
#include "svc/cache_events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/schema.h"
#include "base/str.h"
#include "base/uuid.h"
#include "cache/cache_internal.h"
#include "io/loop.h"
#include "svc/buffers.h"
#include "svc/daemon.h"
#include "svc/tail.h"

#define LOOK_MS 500
#define BACK_S 60     /* who starts may be the one that died */
#define SOME_TAGS 200 /* raised at once: they are looked for in a list */

/* ---- into an event ---- */

static struct cache_tags *fitting(struct req *req, const struct cache_tags *all)
{
	struct cache_tags *some = arena_zalloc(req->arena, sizeof(*some));

	/* The tables first, each as a whole: every kept answer that reads one has its bulk. */
	for (size_t i = 0; i < all->n; i++) {
		struct str value = all->v[i], kind = str_split(&value, ':');

		if (str_is(kind, "table"))
			cache_tag(some, req->arena, "bulk:", value);
	}
	for (size_t i = 0; i < all->n && some->n < EVENT_TAGS_MAX; i++)
		cache_tag_again(some, req->arena, all->v[i]);
	return some;
}

struct str event_with_tags(struct req *req, struct str envelope)
{
	const struct cache_tags *tags = req->touched;
	struct buf b = buf_in(req->arena);

	if (!tags || tags->n == 0 || envelope.n < 2)
		return envelope;
	req->touched->written = tags->n;
	if (tags->n > EVENT_TAGS_MAX)
		tags = fitting(req, tags);
	buf_puts(&b, STR("{\"cachetags\":\""));
	for (size_t i = 0; i < tags->n; i++) {
		if (i != 0)
			buf_putc(&b, ' ');
		buf_puts(&b, tags->v[i]); /* nothing in it needs to be escaped in JSON */
	}
	buf_puts(&b, STR("\","));
	buf_puts(&b, (struct str){envelope.p + 1, envelope.n - 1});
	return buf_str(&b);
}

/* ---- out of it ---- */

/* A member that is a plain string, without its quotes. What is escaped is none of ours. */
static bool plain_member(struct str object, const char *name, struct str *ret)
{
	struct str v;

	if (!json_member(object, name, &v) || v.n < 2 || v.p[0] != '"' || memchr(v.p, '\\', v.n) != NULL)
		return false;
	*ret = (struct str){v.p + 1, v.n - 2};
	return true;
}

static struct uuid school_of(struct str envelope)
{
	struct uuid school = {{0}};
	struct str text;

	if (plain_member(envelope, "schoolid", &text))
		IGNORE(!uuid_parse(text, &school)); /* of no school */
	return school;
}

struct str event_name(const struct daemon *d, struct arena *arena, struct str envelope)
{
	struct str id;

	if (!plain_member(envelope, "id", &id))
		return (struct str){NULL, 0};
	return str_of(arena_printf(arena, "%s.%.*s", daemon_service(d)->name, STR_FMT(id)));
}

bool event_channel(struct str envelope, char *to, size_t size)
{
	struct str type, parts[5];

	if (!plain_member(envelope, "type", &type))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		parts[i] = str_split(&type, '.');
	if (parts[4].n == 0)
		return false;
	snprintf(to, size, "%.*s:%.*s", STR_FMT(parts[2]), STR_FMT(parts[3]));
	return true;
}

static void add_told(struct cache_tags *tags, struct arena *arena, struct str name, size_t most)
{
	if (tags->told == NULL)
		tags->told = arena_array(arena, most, sizeof(*tags->told));
	tags->told[tags->n_told++] = name;
}

/* ---- events of others ---- */

static void add_value(struct cache_tags *tags, struct arena *arena, struct str kind, struct str json)
{
	if (json.n >= 2 && json.p[0] == '"')
		json = (struct str){json.p + 1, json.n - 2};
	if (json.n != 0 && !str_is(json, "null") && memchr(json.p, '\\', json.n) == NULL && tags->n < EVENT_TAGS_MAX)
		cache_tag(tags, arena, arena_cstr(arena, kind), json);
}

/* "class:{class_id}" by the envelope's data, or its subject; a list gives a tag for each of its values. */
static void expand(struct cache_tags *tags, struct arena *arena, const char *tag, struct str envelope)
{
	struct str rest = str_of(tag), kind = str_split(&rest, '{'), name = str_split(&rest, '}'), data, value, one;

	if (name.n == 0) {
		cache_tag(tags, arena, arena_cstr(arena, kind), (struct str){NULL, 0});
	} else if (str_is(name, "subject")) {
		if (json_member(envelope, "subject", &value))
			add_value(tags, arena, kind, value);
	} else if (json_member(envelope, "data", &data) && json_member(data, arena_cstr(arena, name), &value)) {
		if (value.n == 0 || value.p[0] != '[')
			add_value(tags, arena, kind, value);
		else
			while (json_next(&value, &one))
				add_value(tags, arena, kind, one);
	}
}

void event_raise(struct daemon *d, const struct listen_row *row, struct str envelope, struct arena *arena)
{
	struct cache_tags tags = {.school = school_of(envelope)};
	struct str name = event_name(d, arena, envelope);

	if (name.n != 0) /* not what its own service has raised */
		name = str_of(arena_printf(arena, "%.*s~", STR_FMT(name)));
	if (!d->caches || row->tags[0] == NULL || (name.n != 0 && cache_was_raised(d->caches, name)))
		return;
	for (size_t i = 0; i < TAGS_MAX && row->tags[i]; i++)
		expand(&tags, arena, row->tags[i], envelope);
	if (name.n != 0)
		add_told(&tags, arena, name, 1);
	IGNORE(cache_raise(d->caches, arena, &tags)); /* else it is in the journal */
}

/* ---- the streams, again ---- */

struct repeat_source {
	struct daemon *daemon;
	struct tail *tail;
};

struct cache_repeat {
	size_t n;
	struct repeat_source v[BUFFERS_MAX];
};

SUSPENDS static void raise_again(struct daemon *d, struct arena *arena, struct cache_tags *tags)
{
	if (tags->n == 0 || FAILPOINT_ERR("cache.before_repeat"))
		return;
	log_info("tags are raised again: nobody has said that they were", LOG_I("tags", tags->n), LOG_I("events", tags->n_told));
	d->caches->stats.repeated += tags->n;
	IGNORE(cache_raise(d->caches, arena, tags)); /* else it is in the journal */
	*tags = (struct cache_tags){.school = tags->school};
}

static struct cache_tags *tags_of_school(struct cache_tags *sets, size_t *n, struct uuid school)
{
	for (size_t i = 0; i < *n; i++)
		if (uuid_eq(sets[i].school, school))
			return &sets[i];
	sets[*n] = (struct cache_tags){.school = school};
	return &sets[(*n)++];
}

/* What rows say of events, of others for the most part. */
SUSPENDS static void repeat_rows(struct daemon *d, struct arena *arena, struct str envelope)
{
	char channel[96];

	if (!event_channel(envelope, channel, sizeof(channel)))
		return;
	for (const struct listen_row *row = daemon_service(d)->listens; row != NULL && row->channel != NULL; row++)
		if (row->tags[0] != NULL && strcmp(row->channel, channel) == 0)
			event_raise(d, row, envelope, arena);
}

/* By its source: an event's type names what it is about ("user.updated"), not who has written it. */
static bool is_own(const struct daemon *d, struct str envelope)
{
	const struct str prefix = STR("/services/");
	struct str source;

	return plain_member(envelope, "source", &source) && str_has_prefix(source, prefix) &&
	       str_is((struct str){source.p + prefix.n, source.n - prefix.n}, daemon_service(d)->name);
}

SUSPENDS static void on_entries(void *ctx, struct arena *arena, const struct str *texts, size_t n)
{
	struct daemon *d = ((struct repeat_source *)ctx)->daemon;
	struct cache_tags *sets = arena_array(arena, n, sizeof(*sets));
	size_t n_sets = 0;

	for (size_t i = 0; i < n; i++) {
		struct str name = event_name(d, arena, texts[i]), list;
		struct cache_tags *tags;

		repeat_rows(d, arena, texts[i]);
		if (name.n == 0 || !is_own(d, texts[i]) || !plain_member(texts[i], "cachetags", &list) ||
		    cache_was_raised(d->caches, name))
			continue;
		tags = tags_of_school(sets, &n_sets, school_of(texts[i]));
		while (list.n != 0)
			cache_tag_again(tags, arena, str_split(&list, ' '));
		add_told(tags, arena, name, n);
		if (tags->n >= SOME_TAGS)
			raise_again(d, arena, tags);
	}
	for (size_t i = 0; i < n_sets; i++)
		raise_again(d, arena, &sets[i]);
}

/* What was trimmed away may have been a dead one's, and nobody knows of which school, nor what it had touched. */
SUSPENDS static void on_gap(void *ctx, const char *stream)
{
	struct daemon *d = ((struct repeat_source *)ctx)->daemon;
	struct arena *arena = arena_new();

	(void)stream;
	IGNORE(cache_new_generation(d->caches, arena)); /* else it is in the journal */
	arena_free(arena);
}

static void add_stream(struct tail_conf *conf, struct arena *arena, struct str domain)
{
	const char *stream = arena_printf(arena, "events:%.*s", STR_FMT(domain));

	for (size_t i = 0; i < conf->n; i++)
		if (strcmp(conf->streams[i], stream) == 0)
			return;
	if (conf->n < TAIL_STREAMS_MAX)
		conf->streams[conf->n++] = stream;
}

/* The own one, and those that rows with tags listen to. */
static void find_streams(struct daemon *d, struct tail_conf *conf)
{
	add_stream(conf, d->arena, str_of(daemon_service(d)->name));
	for (const struct listen_row *row = daemon_service(d)->listens; row != NULL && row->channel != NULL; row++) {
		struct str rest = str_of(row->channel), domain = str_split(&rest, ':');

		if (row->tags[0] != NULL)
			add_stream(conf, d->arena, domain);
	}
}

enum err cache_repeat_open(struct daemon *d, struct cache_repeat **ret)
{
	struct cache_repeat *r;
	enum err e = OK;

	*ret = NULL;
	if (!d->caches || daemon_buffers(d) == 0)
		return OK;
	r = mem_zalloc(sizeof(*r));
	for (; e == OK && r->n < daemon_buffers(d); r->n++) {
		struct repeat_source *s = &r->v[r->n];
		struct tail_conf conf = {.daemon = d,
					 .buffer = r->n,
					 .every_ms = LOOK_MS,
					 .back_s = BACK_S,
					 .kept = daemon_service(d)->name,
					 .lagging = true,
					 .ctx = s,
					 .entries = on_entries,
					 .gap = on_gap};

		s->daemon = d;
		find_streams(d, &conf);
		e = tail_open(&conf, &s->tail);
	}
	*ret = r; /* also half open: the daemon closes it */
	return e;
}

void cache_repeat_close(struct cache_repeat *r)
{
	for (size_t i = 0; r != NULL && i < r->n; i++)
		tail_close(r->v[i].tail);
}

struct cache_repeat *cache_repeat_free(struct cache_repeat *r)
{
	for (size_t i = 0; r != NULL && i < r->n; i++)
		r->v[i].tail = tail_free(r->v[i].tail);
	free(r);
	return NULL;
}
