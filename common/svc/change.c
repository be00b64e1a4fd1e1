/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several rows, their audit records and their events, in one PUT (write-path.md 3).
 *
 * A change of an existing row carries the version that was read as expectation and floor, so a base that has become old is a conflict and
 * never overwrites. The answer is made before the PUT, because an Idempotency-Key stores it in the same script call.
 */
#include <string.h>

#include "base/failpoint.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "svc/audit.h"
#include "svc/bases.h"
#include "svc/buffers.h"
#include "svc/cache_events.h"
#include "svc/cache_http.h"
#include "svc/cache_warm.h"
#include "svc/daemon.h"
#include "svc/degraded.h"
#include "svc/document_row.h"
#include "svc/envelope.h"
#include "svc/idem.h"
#include "svc/service.h"
#include "svc/through.h"

#define PRESSURE_WAIT_S 5

static void add_item(struct change *c, const struct entity *e, void *row)
{
	if (c->n_items == CHANGE_ITEMS_MAX) {
		c->too_many = true;
		return;
	}
	if (c->n_items == c->cap) {
		size_t cap = c->cap ? 4 * c->cap : 4;
		struct change_item *items = arena_array(c->req->arena, cap, sizeof(*items));

		if (c->n_items != 0)
			memcpy(items, c->items, c->n_items * sizeof(*items));
		c->items = items;
		c->cap = cap;
	}
	c->items[c->n_items++] = (struct change_item){.entity = e, .row = row};
}

void change_put(struct change *c, const struct entity *e, void *row)
{
	struct row *r = row;

	r->updated_at = c->req->now_us;
	add_item(c, e, row);
}

void change_delete(struct change *c, const struct entity *e, void *row)
{
	((struct row *)row)->deleted_at = c->req->now_us;
	change_put(c, e, row);
}

void change_event(struct change *c, const char *type, struct uuid subject, struct str data)
{
	struct change_event *event = arena_zalloc(c->req->arena, sizeof(*event));

	event->channel = envelope_channel(c->req->arena, type);
	event->envelope = envelope_new(c->req, type, subject, data);
	event->next = c->events;
	c->events = event;
	c->n_events++;
}

struct change *change_new(struct req *req)
{
	struct change *c = arena_zalloc(req->arena, sizeof(*c));

	c->req = req;
	return c;
}

/* ---- before the PUT ---- */

static bool is_natural(const struct entity *e)
{
	for (size_t i = 0; i < e->schema->n; i++) {
		if (e->schema->fields[i].flags & NATURAL)
			return true;
	}
	return false;
}

/* Has nobody read what may be there already, under a natural id? */
static bool needs_base(const struct change *c, const struct change_item *item)
{
	return item->entity->write != APPEND && is_natural(item->entity) &&
	       !base_find(c->req, item->entity, ((const struct row *)item->row)->id);
}

/* Reads the missing bases of one entity, from the item `first` on: one turn for a whole register. */
SUSPENDS static enum err read_bases(struct change *c, size_t first)
{
	const struct entity *entity = c->items[first].entity;
	struct uuid *ids = arena_array(c->req->arena, c->n_items - first, sizeof(*ids));
	void **rows = arena_array(c->req->arena, c->n_items - first, sizeof(*rows));
	size_t n = 0;

	for (size_t i = first; i < c->n_items; i++) {
		if (c->items[i].entity == entity && needs_base(c, &c->items[i]))
			ids[n++] = ((const struct row *)c->items[i].row)->id;
	}
	return entity_get_many(c->req, entity, ids, n, rows);
}

/* The database would refuse a row without a field that its table requires, long after the client was told that it is written. */
static enum err check_whole(struct change *c, const struct change_item *item)
{
	const struct schema *s = item->entity->schema;
	const struct row *row = item->row;

	for (size_t i = 0; i < s->n && row->deleted_at == 0; i++) {
		if ((s->fields[i].flags & (REQUIRED | NATURAL)) != 0 && (row->f.set >> i & 1) == 0)
			return req_fail(c->req, ERR_BUG, "a row of %s is put without its %s", item->entity->name,
					s->fields[i].name);
	}
	/* The store's refusal would come when nobody listens any more. */
	if (item->entity->collection && row->deleted_at == 0 &&
	    doc_check(document_of_row(item->entity, row, c->req->arena)) != OK)
		return req_fail(c->req, ERR_INVALID, "This cannot be stored: keys must be plain words");
	return OK;
}

/* One change is one acknowledgement: its rows are committed in PostgreSQL, or buffered, not some of each. */
static enum err check_one_mode(struct change *c, bool *ret_through)
{
	size_t n_through = 0;

	for (size_t i = 0; i < c->n_items; i++)
		n_through += c->items[i].entity->write == THROUGH;
	if (n_through != 0 && n_through != c->n_items)
		return req_fail(c->req, ERR_BUG, "one change mixes rows that are written through with buffered ones (%s)",
				c->items[0].entity->name);
	*ret_through = n_through != 0;
	return OK;
}

static enum err only_looked_at(struct change *c, const struct change_item *item)
{
	return req_fail(c->req, ERR_BUG, "a change of a %s that was looked at and not read", item->entity->name);
}

/* Finds each item's base. A row with a natural id that nobody has read is read now: it may be there already. */
SUSPENDS static enum err find_bases(struct change *c)
{
	for (size_t i = 0; i < c->n_items; i++) {
		struct row *row = c->items[i].row;
		enum err e = check_whole(c, &c->items[i]);

		if (e != OK)
			return e;
		if (uuid_is_nil(row->id))
			row->id = entity_natural_id(c->items[i].entity, row->school_id, row);
		/* Read now, its base would be newer than the kept row that was edited, whose old values would go with it. */
		if (row->version != 0 && base_seen(c->req, c->items[i].entity, row->id) &&
		    !base_find(c->req, c->items[i].entity, row->id))
			return only_looked_at(c, &c->items[i]);
	}
	for (size_t i = 0; i < c->n_items; i++) {
		enum err e = needs_base(c, &c->items[i]) ? read_bases(c, i) : OK;

		if (e != OK)
			return e;
	}
	for (size_t i = 0; i < c->n_items; i++) {
		struct change_item *item = &c->items[i];
		struct row *row = item->row;

		item->base = base_find(c->req, item->entity, row->id);
		if (!item->base && base_seen(c->req, item->entity, row->id))
			return only_looked_at(c, item);
		/* A row made without a look at the old one is not younger than that. */
		if (row->version == 0 && item->base && item->base->row)
			row->created_at = ((const struct row *)item->base->row)->created_at;
	}
	return OK;
}

/* If-Match compares only the version of the ETag (api.md 1). */
static enum err check_if_match(struct change *c)
{
	struct str header = http_header(c->req->x, "if-match"), version;
	const struct base *base = c->n_items > 0 ? c->items[0].base : NULL;
	int64_t v;

	if (header.n == 0 || str_is(header, "*"))
		return OK;
	if (header.n < 2 || header.p[0] != '"')
		return req_fail(c->req, ERR_PRECONDITION, "If-Match names no version of this resource");
	version = (struct str){header.p + 1, header.n - 1};
	version = str_split(&version, '-');
	if (!base || !base->row || !str_to_i64(version, &v) || v != base->floor)
		return req_fail(c->req, ERR_PRECONDITION, "The resource has changed since it was read");
	return OK;
}

static const void *old_row(const struct change_item *item)
{
	return item->base ? item->base->row : NULL;
}

static const char *action_of(const struct change_item *item)
{
	if (((const struct row *)item->row)->deleted_at != 0)
		return "delete";
	return old_row(item) ? "update" : "create";
}

static void add_audit_and_events(struct change *c)
{
	const struct service *service = daemon_service(c->req->daemon);
	const struct entity *audit = audit_entity(c->req);
	size_t n = c->n_items;

	for (size_t i = 0; i < n; i++) {
		const struct change_item item_copy = c->items[i], *item = &item_copy; /* adding moves the array */
		const struct row *row = item->row;
		struct str old_json, new_json;
		const struct event_row *event;
		size_t from = 0;

		if (item->entity->write == THROUGH || (audit && item->entity->write != APPEND)) {
			struct audit_row *record;

			audit_values(c->req, item->entity->schema, old_row(item), row, &old_json, &new_json);
			record = audit_new(c->req, action_of(item), item->entity->name, row->id, old_json, new_json);
			if (item->entity->write == THROUGH)
				c->items[i].audit = record;
			else
				add_item(c, audit, record);
		}
		while ((event = envelope_next(service, item->entity, old_row(item), row, &from)) != NULL)
			change_event(c, event->type, row->id, envelope_data(c->req, event, old_row(item), row));
	}
	c->n_rows = n;
}

/* Before the PUT: should its outcome be unknown, caches forget all the same. */
static void touch_rows(const struct change *c)
{
	for (size_t i = 0; i < c->n_rows; i++)
		touch_change(c->req, c->items[i].entity, old_row(&c->items[i]), c->items[i].row);
}

/* Its tags stand beside the data, should this process die before it has raised them (cache_events.h). */
static void write_down_tags(struct change *c)
{
	struct req *req = c->req;

	if (!req->touched || c->n_rows == 0)
		return;
	if (!c->events) {
		change_event(c, arena_printf(req->arena, "%s.touched", daemon_service(req->daemon)->name),
			     ((const struct row *)c->items[0].row)->id, (struct str){NULL, 0});
		c->events->quiet = true;
	}
	c->events->envelope = event_with_tags(req, c->events->envelope);
	c->told = event_name(req->daemon, req->arena, c->events->envelope);
}

/* The change is made, so raising means that the event's tags are raised. */
SUSPENDS static void raise_touched(struct change *c)
{
	if (!c->req->touched)
		return;
	touch_told(c->req, &c->told, c->told.n != 0);
	touch_raise(c->req);
	for (size_t i = 0; i < c->n_rows; i++)
		cache_warm_changed(c->req, c->items[i].entity, old_row(&c->items[i]), c->items[i].row);
}

/* entity_put's own answer: the first row by the route's answer schema, field by field of the same name. */
static void default_answer(struct change *c)
{
	struct req *req = c->req;
	const struct schema *out = req->route->out;
	const struct entity *e = c->n_items > 0 ? c->items[0].entity : NULL;
	void *object;

	if (req->body.n != 0 || !e || !out)
		return;
	object = arena_zalloc(req->arena, out->size);
	schema_project(out, object, e->schema, c->items[0].row);
	IGNORE(req_reply(req, out, object)); /* it cannot fail */
}

static void request_tag(struct req *req, uint8_t tag[8])
{
	uint64_t seed = ++req->calls, hash;
	struct str id = req->idem ? idem_key(req) : str_of(req->id);

	hash = str_hash(id, seed) ^ str_hash((struct str){(const char *)req->who.user_id.b, 16}, seed + 1);
	hash |= 1; /* eight zeros mean "no tag" */
	memcpy(tag, &hash, sizeof(hash));
}

static struct buffer_put *make_put(struct change *c)
{
	struct req *req = c->req;
	struct buffer_put *put;
	uint8_t tag[8];

	request_tag(req, tag);
	put = buffer_put_new(req->arena, req->who.school_id, tag);
	if (req->idem)
		buffer_put_idem(put, idem_key(req), IDEM_TTL_S, idem_result(req));
	for (size_t i = 0; i < c->n_items; i++) {
		const struct change_item *item = &c->items[i];
		const struct base *base = item->base;
		struct put_options o = {.codec = daemon_codec(req->daemon), .urgent = c->urgent};

		o.floor = base ? base->floor : 0;
		o.expect = base && base->row ? base->floor : 0;
		o.blind = base && base->blind;
		o.old = old_row(item);
		/* A change of what was never flushed leaves it so. */
		o.creation = !base || (base->row ? base->creation : base->floor == 0 && !base->blind);
		buffer_put_row(put, item->entity, item->row, o);
	}
	for (const struct change_event *e = c->events; e; e = e->next)
		buffer_put_event(put, daemon_service(req->daemon)->name, e->envelope);
	return put;
}

/* ---- after it ---- */

static void written(struct change *c, int64_t version)
{
	struct req *req = c->req;

	for (size_t i = 0; i < c->n_items; i++) {
		struct row *row = c->items[i].row;

		row->version = version;
		if (i < c->n_rows)
			base_add(req, &(struct base){.entity = c->items[i].entity,
						     .id = row->id,
						     .row = row->deleted_at == 0 ? row : NULL,
						     .floor = version,
						     .buffered = true});
	}
	FAILPOINT("put.after_reply_before_publish");
	req->version = version;
	req->sync = SYNC_PENDING;
	req->due_us = req->now_us + daemon_settings(req->daemon)->batch_interval_s * US_PER_S;
	for (const struct change_event *e = c->events; e; e = e->next) {
		if (!e->quiet)
			redis_post(req_buffer(req), REDIS_ARGS(STR("PUBLISH"), e->channel, e->envelope));
	}
	if (c->urgent)
		redis_post(req_buffer(req), REDIS_ARGS(STR("PUBLISH"), STR(BUFFER_HINT), str_of(c->items[0].entity->name)));
}

/* Prefer: wait=N (RFC 7240): seconds, at most ten; 0: does not ask. */
static int64_t prefer_wait_s(const struct req *req)
{
	struct str rest = http_header(req->x, "prefer"), part;
	int64_t s;

	while (rest.p) {
		part = str_trim(str_split(&rest, ','));
		if (str_has_prefix(part, STR("wait=")) && str_to_i64((struct str){part.p + 5, part.n - 5}, &s) && s > 0)
			return s < 10 ? s : 10;
	}
	return 0;
}

/* Looks at the first record until it has left the buffer, or a newer one stands there, or the wait is over. */
SUSPENDS static void wait_for_row(struct change *c, int64_t wait_s)
{
	struct req *req = c->req;
	struct loop *loop = daemon_loop(req->daemon);
	struct deadline d = deadline_sooner(req->deadline, deadline_in(loop, wait_s * 1000));
	struct str key = buffer_key(req->arena, c->items[0].entity, ((const struct row *)c->items[0].row)->id);

	for (int64_t ms = 25; sleep_ms(loop, ms, d) == OK; ms = ms < 200 ? 2 * ms : 200) {
		struct redis_reply reply;

		if (redis_call(req_buffer(req), req->arena, d, REDIS_ARGS(STR("EXISTS"), key), &reply) != OK)
			return;
		if (reply.type == REDIS_INTEGER && reply.i == 0) {
			req->sync = SYNC_DONE;
			req->due_us = 0;
			return;
		}
	}
}

SUSPENDS static enum err outcome(struct change *c, const struct put_result *r, int64_t wait_s)
{
	struct req *req = c->req;

	switch (r->outcome) {
	case PUT_OK:
	case PUT_SAME:
		written(c, r->version);
		raise_touched(c); /* before a wait for the row: others read meanwhile */
		if (wait_s > 0)
			wait_for_row(c, wait_s);
		return OK;
	case PUT_REPLAY:
		return idem_replay(req, r->replay);
	case PUT_CONFLICT:
		if (r->record < c->n_items)
			write_counts_conflict(req->daemon, c->items[r->record].entity);
		req->bases->lost_race = http_header(req->x, "if-match").n == 0;
		return req->bases->lost_race ? req_fail(req, ERR_CONFLICT, "Somebody else has just changed this")
					     : req_fail(req, ERR_PRECONDITION, "The resource has changed since it was read");
	case PUT_REFUSED:
		return req_fail(req, ERR_NOT_FOUND, "There is no such object");
	case PUT_UNKNOWN:
		c->unsure = true;
		return req_fail_code(req, ERR_CONFLICT, "outcome_unknown",
				     "Read the resource again: this change may have been made");
	}
	return ERR_BUG;
}

/* How long the answer waits for the flush: as the client prefers; with a backlog above the high mark everybody waits, so that writers are no
 * faster than the worker. What waits too long is answered as pending: it is acknowledged all the same. */
static enum err back_pressure(struct change *c, int64_t *ret_wait_s)
{
	struct req *req = c->req;
	int64_t wait_s = prefer_wait_s(req);

	switch (req_pressure(req)) {
	case PRESSURE_NONE:
		break;
	case PRESSURE_HIGH:
		wait_s = wait_s > PRESSURE_WAIT_S ? wait_s : PRESSURE_WAIT_S;
		break;
	case PRESSURE_FULL:
		req->retry_after_s = 5;
		return req_fail_code(req, ERR_BUFFER, "buffer_full", "Too much waits to be written: try again soon");
	}
	c->urgent = wait_s > 0;
	*ret_wait_s = wait_s;
	return OK;
}

/* Certainly not made: there is nothing to be forgotten. What may have been made, is raised. */
static enum err give_up(struct change *c, struct touch_mark mark, enum err e)
{
	if (e > 0 && !c->unsure)
		touch_undo(c->req, mark);
	return e;
}

SUSPENDS static enum err commit_through(struct change *c)
{
	enum err e = through_commit(c);

	if (e == OK && !c->req->replayed)
		raise_touched(c);
	return e;
}

SUSPENDS static enum err commit_degraded(struct change *c)
{
	enum err e = degraded_commit(c);

	if (e == OK)
		raise_touched(c);
	return e;
}

SUSPENDS static enum err commit_buffered(struct change *c, int64_t wait_s)
{
	struct req *req = c->req;
	struct buffer_io io = request_buffer_io(req);
	struct put_result result;
	enum err e;

	FAILPOINT("put.before_send"); /* the base is read, and grows old */
	e = buffer_put_send(&io, make_put(c), req->arena, loop_mono_us(daemon_loop(req->daemon)) + PUT_PATIENCE_US, &result);
	if (FAILPOINT_ERR("put.before_reply"))
		e = ERR_UNCERTAIN;
	if (e == OK)
		return outcome(c, &result, wait_s);
	if (e == ERR_BUFFER && degraded_allowed(c))
		return commit_degraded(c);
	if (e == ERR_BUFFER)
		write_counts_degraded(req->daemon, DEGRADED_REFUSED);
	req->retry_after_s = 5;
	return e == ERR_BUFFER || e == ERR_TIMEOUT ? req_fail(req, ERR_BUFFER, "Writing is not possible at the moment") : e;
}

enum err change_commit(struct change *c)
{
	struct req *req = c->req;
	struct touch_mark mark;
	int64_t wait_s = 0;
	bool through = false;
	enum err e;

	e = check_one_mode(c, &through);
	if (e == OK && !through)
		e = back_pressure(c, &wait_s);
	if (e != OK)
		return e;
	e = find_bases(c);
	if (e != OK)
		return e;
	e = check_if_match(c);
	if (e != OK)
		return e;
	if (!req->bases)
		bases_forget(req);
	default_answer(c);
	add_audit_and_events(c);
	if (c->too_many)
		return req_fail(req, ERR_TOO_LARGE, "Too many rows in one change");
	mark = touch_mark(req);
	touch_rows(c);
	write_down_tags(c);
	return give_up(c, mark, through ? commit_through(c) : commit_buffered(c, wait_s));
}
