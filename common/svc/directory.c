/* SPDX-License-Identifier: Apache-2.0 */
/* The school's directory: memory, Redis, auth; the same JSON in all three. */
#include "svc/directory.h"

#include <string.h>

#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/tz.h"
#include "svc/authn_internal.h"

#define MEMORY_US (INT64_C(3600) * US_PER_S)
#define REDIS_TRY_MS 300

SCHEMA_TABLE(dir_school, DIR_SCHOOL_FIELDS);
SCHEMA_TABLE(dir_class, DIR_CLASS_FIELDS);
SCHEMA_TABLE(dir_subject, DIR_SUBJECT_FIELDS);
SCHEMA_TABLE(dir_student, DIR_STUDENT_FIELDS);
SCHEMA_TABLE(dir_roster, DIR_ROSTER_FIELDS);
SCHEMA_TABLE(dir_assignment, DIR_ASSIGNMENT_FIELDS);
SCHEMA_TABLE(dir_teacher, DIR_TEACHER_FIELDS);
SCHEMA_TABLE(dir_user, DIR_USER_FIELDS);
SCHEMA_TABLE(dir_children, DIR_CHILDREN_FIELDS);

#define DIR_IDS_FIELDS(F, T) F(T, UUIDS, ids, .max_items = 200)
SCHEMA_STRUCT(dir_ids, DIR_IDS_FIELDS);
SCHEMA_TABLE(dir_ids, DIR_IDS_FIELDS);

char *directory_key(struct arena *arena, struct uuid school, const char *kind, struct uuid id)
{
	struct buf b = buf_in(arena);

	buf_puts(&b, STR("directory:"));
	buf_put_uuid(&b, school);
	buf_putc(&b, ':');
	buf_puts(&b, str_of(kind));
	buf_putc(&b, ':');
	buf_put_uuid(&b, id);
	return buf_cstr(&b);
}

/* ---- changes ---- */

/* "<school> <kind> <id>" */
static void on_change(void *ctx, struct str channel, struct str payload)
{
	struct authn *a = ctx;
	struct str school = str_split(&payload, ' '), kind = str_split(&payload, ' ');
	struct buf key = {0};

	(void)channel;
	a->directory_turn++;
	buf_puts(&key, STR("directory:"));
	buf_puts(&key, school);
	buf_putc(&key, ':');
	buf_puts(&key, kind);
	buf_putc(&key, ':');
	buf_puts(&key, payload);
	lru_remove(a->directory, buf_str(&key));
	buf_done(&key);
}

/* Messages may have been missed before it. */
static void on_connected(void *ctx)
{
	struct authn *a = ctx;

	a->directory_turn++;
	lru_clear(a->directory);
}

enum err directory_open(struct daemon *d, struct authn *a)
{
	static const char *const channels[] = {DIRECTORY_CHANNEL};
	const struct redis_sub_events events = {.ctx = a, .message = on_change, .connected = on_connected};
	const struct redis_conf conf = {.name = "directory", .url = d->settings.cache_url, .connections = 1, .fault = ERR_CACHE};

	if (d->settings.cache_url[0] == '\0')
		return OK;
	return redis_sub_open(d->loop, &conf, channels, 1, &events, &a->directory_sub);
}

/* ---- looking up ---- */

SUSPENDS static enum err ask_auth(struct req *req, const char *kind, struct uuid id, struct str *ret)
{
	char text[UUID_TEXT + 1];
	struct http_reply reply;
	enum err e;

	uuid_text(id, text);
	e = peer_call(req, "auth", HTTP_GET, arena_printf(req->arena, "/internal/directory/%s/%s", kind, text),
		      (struct str){NULL, 0}, &reply);
	if (e != OK)
		return e == ERR_BUG ? e : ERR_PEER;
	if (reply.status == 404)
		return ERR_NOT_FOUND;
	*ret = reply.body;
	return reply.status == 200 ? OK : ERR_PEER;
}

/* Redis, then auth; what they say is remembered while somebody would tell of a change. */
SUSPENDS static enum err ask(struct req *req, const char *kind, struct uuid id, struct str key, struct str *ret)
{
	struct authn *a = req->daemon->authn;
	struct deadline d = deadline_sooner(req->deadline, deadline_in(req->daemon->loop, REDIS_TRY_MS));
	uint64_t turn = a->directory_turn;
	struct redis_reply reply = {0};
	enum err e = OK;

	if (req->daemon->cache && redis_call(req->daemon->cache, req->arena, d, REDIS_ARGS(STR("GET"), key), &reply) == OK &&
	    reply.type == REDIS_STRING && reply.s.n != 0) /* empty: it has just changed */
		*ret = reply.s;
	else
		e = ask_auth(req, kind, id, ret);
	if (e == OK && turn == a->directory_turn && redis_sub_is_up(a->directory_sub))
		lru_put(a->directory, key, *ret, req->now_us + MEMORY_US);
	return e;
}

SUSPENDS static enum err look_up(struct req *req, const char *kind, struct uuid id, const struct schema *s, void *to)
{
	struct authn *a = req->daemon->authn;
	struct str key = str_of(directory_key(req->arena, req->who.school_id, kind, id)), json, remembered;
	struct problems problems = {.arena = req->arena};
	bool known = lru_get(a->directory, key, req->now_us, &remembered);
	enum err e = OK;

	if (known)
		json = remembered = arena_str(req->arena, remembered);
	/* Without a living subscription nobody tells the memory of a change: then it is asked last, when auth is away as well. */
	if (!known || !redis_sub_is_up(a->directory_sub))
		e = ask(req, kind, id, key, &json);
	if (e == ERR_PEER && known) {
		json = remembered;
		e = OK;
	}
	if (e != OK)
		return e;
	return json_decode(s, json, req->arena, to, &problems) == OK ? OK : ERR_CORRUPT;
}

enum err directory_school(struct req *req, struct dir_school *ret)
{
	return look_up(req, "school", req->who.school_id, &dir_school_schema, ret);
}

enum err directory_today(struct req *req, int32_t *ret_day)
{
	struct dir_school school;
	enum err e = directory_school(req, &school);
	const struct tz *zone;

	if (e != OK)
		return e;
	zone = tz_find(school.time_zone);
	*ret_day = zone ? tz_date(zone, req->now_us) : (int32_t)(req->now_us / (86400 * US_PER_S));
	return OK;
}

enum err directory_class(struct req *req, struct uuid class_id, struct dir_class *ret)
{
	return look_up(req, "class", class_id, &dir_class_schema, ret);
}

enum err directory_subject(struct req *req, struct uuid subject_id, struct dir_subject *ret)
{
	return look_up(req, "subject", subject_id, &dir_subject_schema, ret);
}

enum err directory_student(struct req *req, struct uuid student_id, struct dir_student *ret)
{
	return look_up(req, "student", student_id, &dir_student_schema, ret);
}

enum err directory_teacher(struct req *req, struct uuid teacher_id, struct dir_teacher *ret)
{
	return look_up(req, "teacher", teacher_id, &dir_teacher_schema, ret);
}

enum err directory_user(struct req *req, struct uuid user_id, struct dir_user *ret)
{
	return look_up(req, "user", user_id, &dir_user_schema, ret);
}

enum err directory_roster(struct req *req, struct uuid class_id, struct dir_roster *ret)
{
	return look_up(req, "roster", class_id, &dir_roster_schema, ret);
}

enum err directory_children(struct req *req, struct uuid user_id, struct dir_children *ret)
{
	return look_up(req, "children", user_id, &dir_children_schema, ret);
}

enum err directory_teaches(struct req *req, struct uuid teacher_id, struct uuid class_id, struct uuid subject_id)
{
	struct dir_teacher teacher;
	const struct dir_assignment *a;
	enum err e = directory_teacher(req, teacher_id, &teacher);

	if (e != OK)
		return e == ERR_NOT_FOUND ? ERR_FORBIDDEN : e;
	a = teacher.assignments.v;
	for (size_t i = 0; i < teacher.assignments.n; i++) {
		if (uuid_eq(a[i].class_id, class_id) && (uuid_is_nil(subject_id) || uuid_eq(a[i].subject_id, subject_id)))
			return OK;
	}
	return ERR_FORBIDDEN;
}

enum err directory_search(struct req *req, const char *kind, struct str text, struct list *ret_ids)
{
	struct problems problems = {.arena = req->arena};
	struct buf target = buf_in(req->arena);
	struct http_reply reply;
	struct dir_ids ids;
	enum err e;

	buf_printf(&target, "/internal/search/%s?q=", kind);
	for (size_t i = 0; i < text.n; i++)
		buf_printf(&target, "%%%02X", (unsigned)(uint8_t)text.p[i]);
	e = peer_call(req, "auth", HTTP_GET, buf_cstr(&target), (struct str){NULL, 0}, &reply);
	if (e != OK || reply.status != 200)
		return e == ERR_BUG ? e : ERR_PEER;
	if (json_decode(&dir_ids_schema, reply.body, req->arena, &ids, &problems) != OK)
		return ERR_CORRUPT;
	*ret_ids = ids.ids;
	return OK;
}
