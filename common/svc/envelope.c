/* SPDX-License-Identifier: Apache-2.0 */
/* Domain events: the envelope, and which rows of the event table a change calls for. */
#include "svc/envelope.h"

#include <string.h>

#include "base/timefmt.h"
#include "base/uuid.h"
#include "svc/audit.h"

struct str envelope_new(struct req *req, const char *type, struct uuid subject, struct str data)
{
	struct buf b = buf_in(req->arena);
	struct str trace = http_header(req->x, "traceparent");
	char time[TIME_TEXT + 1];

	time_text(req->now_us, time);
	buf_puts(&b, STR("{\"specversion\":\"1.0\",\"id\":\""));
	buf_put_uuid(&b, uuid_v7(req->now_us));
	buf_printf(&b, "\",\"source\":\"/services/%s\",\"type\":\"org.schools24.%s.v1\",\"subject\":\"",
		   daemon_service(req->daemon)->name, type);
	buf_put_uuid(&b, subject);
	buf_printf(&b, "\",\"time\":\"%s\",\"datacontenttype\":\"application/json\",\"schoolid\":\"", time);
	buf_put_uuid(&b, req->who.school_id);
	buf_putc(&b, '"');
	if (!uuid_is_nil(req->who.user_id)) {
		buf_puts(&b, STR(",\"actor\":\""));
		buf_put_uuid(&b, req->who.user_id);
		buf_putc(&b, '"');
	}
	if (trace.n == 55) { /* the only length of version 00 */
		buf_puts(&b, STR(",\"traceparent\":"));
		buf_put_json(&b, trace);
	}
	buf_puts(&b, STR(",\"data\":"));
	buf_puts(&b, data.n != 0 ? data : STR("{}"));
	buf_putc(&b, '}');
	return buf_str(&b);
}

struct str envelope_channel(struct arena *arena, const char *type)
{
	char *channel = arena_strdup(arena, type), *dot = strchr(channel, '.');

	if (dot)
		*dot = ':';
	return str_of(channel);
}

static uint64_t field_mask(const struct entity *e, const char *const *names, size_t n)
{
	uint64_t mask = 0;

	for (size_t i = 0; i < n && names[i]; i++)
		mask |= UINT64_C(1) << (entity_field(e, names[i]) - e->schema->fields);
	return mask;
}

const struct event_row *envelope_next(const struct service *s, const struct entity *e, const void *old, const void *row,
				      size_t *from)
{
	bool deleted = !row || ((const struct row *)row)->deleted_at != 0;
	unsigned on = deleted ? ON_DELETE : old ? ON_UPDATE : ON_CREATE;

	for (; s->events && s->events[*from].type; (*from)++) {
		const struct event_row *event = &s->events[*from];
		uint64_t fields, changes;

		if (event->entity != e || (event->on & on) == 0)
			continue;
		fields = field_mask(e, event->fields, ARRAY_LEN(event->fields));
		changes = on == ON_UPDATE ? row_changes(e->schema, old, row) : UINT64_MAX;
		if (changes == 0 || (fields != 0 && (changes & fields) == 0))
			continue;
		if (on == ON_CREATE && fields != 0 && (((const struct fields *)row)->set & fields) == 0)
			continue; /* made without them: a mark before anything was handed in */
		(*from)++;
		return event;
	}
	return NULL;
}

/* ,"changes":["title","due_date"]} in the place of the object's end. */
static void put_changes(const struct schema *s, uint64_t changes, struct buf *object)
{
	const char *between = object->n > 2 ? ",\"changes\":[" : "\"changes\":[";

	object->n--;
	for (size_t i = 0; i < s->n; i++) {
		if ((changes >> i & 1) == 0)
			continue;
		buf_printf(object, "%s\"%s\"", between, s->fields[i].name);
		between = ",";
	}
	buf_puts(object, STR("]}"));
}

struct str envelope_data(struct req *req, const struct event_row *event, const void *old, const void *row)
{
	const struct schema *s = event->entity->schema;
	uint64_t changes = old && row && ((const struct row *)row)->deleted_at == 0 ? row_changes(s, old, row) : 0;
	struct buf b = buf_in(req->arena);

	json_encode_some(s, row, field_mask(event->entity, event->data, ARRAY_LEN(event->data)), &b);
	if (changes != 0)
		put_changes(s, changes, &b);
	return buf_str(&b);
}
