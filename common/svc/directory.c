/* SPDX-License-Identifier: Apache-2.0 */
/* The school's directory: kept entries, else auth; the same JSON in both. */
#include "svc/directory.h"

#include <string.h>

#include "base/timefmt.h"
#include "base/uuid.h"
#include "cache/cache.h"
#include "io/tz.h"
#include "svc/daemon.h"

#define DAY_S 86400u /* so long past its life a known entry stands in for auth, when that is away */

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

/* ---- asking auth ---- */

struct asking {
	struct req *req;
	const char *kind;
	const char *id;
};

SUSPENDS static enum err ask_auth(void *ctx, struct buf *out)
{
	const struct asking *a = ctx;
	struct http_reply reply;
	enum err e = peer_call(a->req, "auth", HTTP_GET, arena_printf(a->req->arena, "/internal/directory/%s/%s", a->kind, a->id),
			       (struct str){NULL, 0}, &reply);

	if (e != OK)
		return e == ERR_BUG || e == ERR_CANCELLED ? e : ERR_PEER;
	if (reply.status == 404)
		return ERR_NOT_FOUND;
	buf_puts(out, reply.body);
	return reply.status == 200 ? OK : ERR_PEER;
}

/* ---- kept entries ---- */

/* Links of parents begin and end on a day, which is the database's, in UTC: what was read on one is not given out on the next, not even with auth away. */
static unsigned until_midnight_s(const struct req *req)
{
	unsigned most = 100 + (unsigned)req->daemon->settings.cache_jitter_percent; /* lifetimes may be stretched by it */

	return (unsigned)((86400 - req->now_us / US_PER_S % 86400) * 100 / most);
}

static struct cache_life life_of(const struct req *req, const char *kind)
{
	const int64_t *ttl = req->daemon->settings.cache_ttl.v;
	struct cache_life life = {.ttl_s = (unsigned)ttl[KIND_SCHOOL], .sie_s = DAY_S, .memory = !req->filling};

	if (strcmp(kind, "roster") == 0)
		life.ttl_s = (unsigned)ttl[KIND_ROSTER];
	if (strcmp(kind, "children") == 0) {
		unsigned left_s = until_midnight_s(req);

		life.ttl_s = ttl[KIND_PERMISSIONS] < (int64_t)left_s ? (unsigned)ttl[KIND_PERMISSIONS] : left_s;
		life.sie_s = left_s - life.ttl_s;
	}
	return life;
}

/* An entry goes with what it shows of others: a class counts its students, a teacher's assignments name classes and subjects. */
static const char *shown_by(const char *kind)
{
	if (strcmp(kind, "teacher") == 0)
		return "school class subject";
	return strcmp(kind, "class") == 0 || strcmp(kind, "roster") == 0 || strcmp(kind, "children") == 0 ? "student" : "";
}

SUSPENDS static enum err read_entry(struct req *req, const char *kind, struct uuid id, struct str *ret)
{
	struct cache *c = req->daemon->caches;
	char text[UUID_TEXT + 1];
	struct asking asking = {req, kind, text};
	struct cache_tags tags = {.school = req->who.school_id};
	struct cache_call call = {.tags = &tags, .fill = ask_auth, .ctx = &asking};
	struct buf fresh = buf_in(req->arena);
	struct str shown = str_of(shown_by(kind));
	struct cache_note note;
	enum err e;

	uuid_text(id, text);
	if (!c) {
		e = ask_auth(&asking, &fresh);
		*ret = buf_str(&fresh);
		return e;
	}
	cache_tag(&tags, req->arena, DIRECTORY_BULK, STR(""));
	cache_tag(&tags, req->arena, arena_printf(req->arena, DIRECTORY_ENTRY, kind), (struct str){text, UUID_TEXT});
	while (shown.n != 0)
		cache_tag(&tags, req->arena, DIRECTORY_KIND, str_split(&shown, ' '));
	call.key = cache_key_of(c, req->arena, "directory", req->who.school_id, kind, &(struct str){text, UUID_TEXT}, 1);
	call.life = life_of(req, kind);
	return cache_read(c, req->arena, req->deadline, &call, ret, &note);
}

/* ---- what a request has asked for: the names of a list's rows repeat ---- */

#define SEEN_MAX 256

struct dir_seen {
	struct dir_seen *next;
	size_t n; /* with those behind it */
	const struct schema *schema;
	struct uuid id;
	bool filling; /* asked while an answer was made that will be kept */
	const void *entry;
};

static const void *seen_before(const struct req *req, const struct schema *s, struct uuid id)
{
	for (const struct dir_seen *one = req->seen; one; one = one->next) {
		if (one->schema == s && uuid_eq(one->id, id) && (one->filling || !req->filling))
			return one->entry;
	}
	return NULL;
}

static void remember(struct req *req, const struct schema *s, struct uuid id, const void *entry)
{
	size_t n = req->seen ? req->seen->n : 0;
	struct dir_seen *one;

	if (n == SEEN_MAX)
		return;
	one = arena_alloc(req->arena, sizeof(*one));
	*one = (struct dir_seen){req->seen, n + 1, s, id, req->filling, entry};
	req->seen = one;
}

SUSPENDS static enum err look_up(struct req *req, const char *kind, struct uuid id, const struct schema *s, void *to)
{
	const void *before = seen_before(req, s, id);
	struct problems problems = {.arena = req->arena};
	struct str json;
	void *entry;
	enum err e;

	if (before) {
		memcpy(to, before, s->size);
		return OK;
	}
	e = read_entry(req, kind, id, &json);
	if (e != OK)
		return e;
	entry = arena_zalloc(req->arena, s->size);
	if (json_decode(s, json, req->arena, entry, &problems) != OK)
		return ERR_CORRUPT;
	remember(req, s, id, entry);
	memcpy(to, entry, s->size);
	return OK;
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
