/* SPDX-License-Identifier: Apache-2.0 */
/* The directory as the other daemons ask for it, and as people see it: classes, assignments, rosters. */
#include <string.h>

#include "auth.h"
#include "auth_sql.h"
#include "base/uuid.h"
#include "svc/buffers.h"
#include "svc/cache_query.h"

/* ---- /internal/sessions/{session_id} ---- */

#define LIVE_SESSION_FIELDS(F, T) F(T, UUID, user_id) F(T, UUID, school_id) F(T, TIME, expires_at)
SCHEMA_STRUCT(live_session, LIVE_SESSION_FIELDS);
SCHEMA_TABLE(live_session, LIVE_SESSION_FIELDS);

enum err auth_internal_session(struct req *req)
{
	struct live_session found = {0};
	struct account account = {0};
	struct session session = {0};
	enum err e = db_query_one(req, &SQL_SCHOOL_OF_SESSION, PG_PARAMS(PG_UUID(req->params[0])), &live_session_schema, &found);

	if (e != OK)
		return e;
	req->who.school_id = found.school_id;
	e = db_query_one(req, &SQL_SESSION_GET, PG_PARAMS(PG_UUID(req->params[0])), &live_session_schema, &found);
	if (e == OK)
		e = db_query_one(req, &SQL_ACCOUNT_GET, PG_PARAMS(PG_UUID(found.user_id)), &account_schema, &account);
	if (e != OK)
		return e;
	if (!account.is_active || account.is_suspended)
		return ERR_NOT_FOUND;
	e = req_use_buffer(req, account.buffer);
	if (e != OK)
		return e;
	session_publish(req, req->params[0], &account, found.expires_at);
	session_of(&account, found.expires_at, &session);
	return req_reply(req, &session_schema, &session);
}

/* ---- /internal/directory/{kind}/{object_id} ---- */

struct kind {
	const char *name;
	const struct schema *schema;
	const struct pg_stmt *one;  /* $1 id; NULL: the entry is its list alone */
	const struct pg_stmt *many; /* $1 id; its list */
	const struct schema *item;
	const char *list, *key; /* fields of the entry for list and id */
};

static const struct kind kinds[] = {
	{"school", &dir_school_schema, &SQL_DIR_SCHOOL, NULL, NULL, NULL, NULL},
	{"class", &dir_class_schema, &SQL_DIR_CLASS, NULL, NULL, NULL, NULL},
	{"subject", &dir_subject_schema, &SQL_DIR_SUBJECT, NULL, NULL, NULL, NULL},
	{"student", &dir_student_schema, &SQL_DIR_STUDENT, NULL, NULL, NULL, NULL},
	{"user", &dir_user_schema, &SQL_DIR_USER, NULL, NULL, NULL, NULL},
	{"teacher", &dir_teacher_schema, &SQL_DIR_TEACHER, &SQL_DIR_ASSIGNMENTS, &dir_assignment_schema, "assignments", NULL},
	{"roster", &dir_roster_schema, NULL, &SQL_DIR_ROSTER, &dir_student_schema, "students", "class_id"},
	{"children", &dir_children_schema, NULL, &SQL_DIR_CHILDREN, &dir_student_schema, "students", "user_id"},
};

static void set_field(const struct schema *s, void *to, const char *name, const void *value, size_t size)
{
	const struct field *f = schema_find(s, str_of(name));

	memcpy((char *)to + f->offset, value, size);
	((struct fields *)to)->set |= UINT64_C(1) << (f - s->fields);
}

SUSPENDS static enum err read_entry(struct req *req, const struct kind *kind, struct uuid id, void *to)
{
	struct list items;
	enum err e = OK;

	if (kind->one)
		e = db_query_one(req, kind->one, PG_PARAMS(PG_UUID(id)), kind->schema, to);
	if (e == OK && kind->many) {
		e = db_query(req, kind->many, PG_PARAMS(PG_UUID(id)), kind->item, &items);
		if (e == OK)
			set_field(kind->schema, to, kind->list, &items, sizeof(items));
	}
	if (e == OK && kind->key)
		set_field(kind->schema, to, kind->key, &id, sizeof(id));
	return e;
}

enum err auth_internal_directory(struct req *req)
{
	struct str name = req_param_text(req, "kind");
	struct uuid id = req_param(req, "object_id");
	const struct kind *kind = NULL;
	void *entry;
	enum err e;

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (str_is(name, kinds[i].name))
			kind = &kinds[i];
	}
	if (!kind)
		return req_fail(req, ERR_NOT_FOUND, "the directory has no such kind");
	entry = arena_zalloc(req->arena, kind->schema->size);
	e = read_entry(req, kind, id, entry);
	return e != OK ? e : req_reply(req, kind->schema, entry);
}

/* ---- changes ---- */

void directory_changed(struct req *req, const char *kind, struct uuid id)
{
	req_touch(req, arena_printf(req->arena, DIRECTORY_ENTRY, kind), id);
	req_touch_name(req, DIRECTORY_KIND, kind);
}

#define SHOWN_IN_FIELDS(F, T) F(T, TEXT, kind) F(T, UUID, id)
SCHEMA_STRUCT(shown_in, SHOWN_IN_FIELDS);
SCHEMA_TABLE(shown_in, SHOWN_IN_FIELDS);

enum err directory_person_changed(struct req *req, struct tx *tx, struct uuid user_id, bool shown)
{
	const struct shown_in *v;
	struct list rows = {0};
	enum err e = OK;

	req_touch(req, "user:", user_id);
	if (shown)
		e = tx_query(tx, &SQL_DIR_OF_PERSON, PG_PARAMS(PG_UUID(user_id)), &shown_in_schema, &rows);
	v = rows.v;
	for (size_t i = 0; i < rows.n; i++)
		directory_changed(req, arena_cstr(req->arena, v[i].kind), v[i].id);
	return e;
}

/* ---- /internal/search/{kind}?q= ---- */

#define FOUND_FIELDS(F, T) F(T, UUID, id)
SCHEMA_STRUCT(found, FOUND_FIELDS);
SCHEMA_TABLE(found, FOUND_FIELDS);
#define FOUND_IDS_FIELDS(F, T) F(T, UUIDS, ids)
SCHEMA_STRUCT(found_ids, FOUND_IDS_FIELDS);
SCHEMA_TABLE(found_ids, FOUND_IDS_FIELDS);

enum err auth_internal_search(struct req *req)
{
	static const struct query_life kept = {.kind = KIND_DEFAULT};
	const struct search_in *in = req->query;
	struct str kind = req_param_text(req, "kind");
	struct found_ids answer = {0};
	struct uuid *ids;
	struct list rows;
	enum err e;

	if (!str_is(kind, "student") && !str_is(kind, "teacher") && !str_is(kind, "user"))
		return req_fail(req, ERR_NOT_FOUND, "people are student, teacher or user");
	/* All names of a school are looked at, and what people look for is much the same: it is kept until one of its people changes. */
	e = db_query_kept(req, &SQL_DIR_SEARCH, PG_PARAMS(PG_TEXT(kind), PG_TEXT(in->q)), &found_schema, &kept, NULL, &rows);
	if (e != OK)
		return e;
	ids = arena_array(req->arena, rows.n, sizeof(*ids));
	for (size_t i = 0; i < rows.n; i++)
		ids[i] = ((struct found *)rows.v)[i].id;
	FIELD_PUT(&answer, found_ids, ids, ((struct list){ids, rows.n}));
	return req_reply(req, &found_ids_schema, &answer);
}

/* ---- people's routes ---- */

enum err auth_classes(struct req *req)
{
	const struct classes_in *in = req->query;
	struct list rows;
	enum err e = db_query(req, &SQL_CLASSES, PG_PARAMS(PG_TEXT_OR_NULL(in->academic_year)), &dir_class_schema, &rows);

	return e != OK ? e : req_reply_list(req, "classes", &dir_class_schema, &rows);
}

enum err auth_teacher_classes(struct req *req)
{
	struct list rows;
	enum err e = db_query(req, &SQL_TEACHER_CLASSES, PG_PARAMS(PG_UUID(req->who.teacher_id)), &teacher_class_schema, &rows);

	return e != OK ? e : req_reply_list(req, "classes", &teacher_class_schema, &rows);
}

enum err auth_class_students(struct req *req)
{
	static const struct query_life kept = {.kind = KIND_ROSTER};
	struct cache_tags its = {.school = req->who.school_id};
	struct list rows;
	enum err e;

	/* Each teacher of the class has an answer of his own, made of the same rows. */
	cache_tag_id(&its, req->arena, arena_printf(req->arena, DIRECTORY_ENTRY, "roster"), req->params[0]);
	cache_tag(&its, req->arena, "bulk:", STR("directory"));
	e = db_query_kept(req, &SQL_DIR_ROSTER, PG_PARAMS(PG_UUID(req->params[0])), &dir_student_schema, &kept, &its, &rows);
	return e != OK ? e : req_reply_list(req, "students", &dir_student_schema, &rows);
}
