/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entities: one descriptor says everything about a noun, and the engine does the rest (buffer, table, lists, audit, events).
 *
 * The one rule: a buffered table is written by the worker alone. A service reads with entity_get, changes a copy, and puts it back.
 *
 *	struct submission *old, *sub;
 *	e = entity_get(req, &submission_entity, id, &old);       -- buffer, then database; ERR_NOT_FOUND; tombstones and other schools too
 *	sub = entity_edit(req, &submission_entity, old);          -- a copy in the request's arena (old NULL: a new row of this school)
 *	FIELD_PUT(sub, submission, feedback, in->feedback);
 *	return entity_put(req, &submission_entity, sub);           -- one record, its audit record and its event, in one PUT
 *
 * Several records at once: change_new, change_put…, change_commit. Everything of a change is acknowledged together or not at all.
 * An entity with .write = THROUGH is used the same way: its row, audit record, events and kept answer are committed in one PostgreSQL transaction
 * before the answer (`sync` says done, durability database); single rows of concurrent requests share transactions. What a rule of the table
 * refuses is the request's own error (change_refusal). A POST that writes through is a route with ROUTE_THROUGH.
 *
 * A conflict with another writer is ERR_CONFLICT to change_commit's caller; wrap the read-edit-put in entity_retry when the request
 * itself carries no If-Match (the kit does so for the generic handlers).
 *
 * To add an entity: list macro and ROW_STRUCT in <service>.h; descriptor in entities.c; a migration with its table (same columns); run
 * the build once and copy the printed E_live function into a migration. The build generates its statements.
 */
#ifndef S24_SVC_ENTITY_H
#define S24_SVC_ENTITY_H

#include "base/schema.h"
#include "io/codec.h"
#include "io/pg.h"
#include "svc/role.h"

struct req;

enum write_mode {
	BUFFERED, /* acknowledged from Redis, flushed by the worker */
	APPEND,   /* buffered, insert-only */
	THROUGH,  /* committed in PostgreSQL before the answer */
};

#define SCOPES_MAX 6
#define TAGS_MAX 8
#define LIST_FIELDS_MAX 16
#define TAG_WHENS_MAX 4

struct entity {
	const char *name;   /* "homework_submission": buffer keys, events, audit */
	const char *table;  /* "homework.homework_submissions" */
	const struct schema *schema; /* a ROW_TABLE */
	enum write_mode write;
	unsigned level;     /* flush order: parents first */
	const char *scopes[SCOPES_MAX]; /* lists that must show it before its row exists: "class_id", "date+class_id", "student_ids[]" */
	const char *tags[TAGS_MAX];     /* caches that must forget: "homework:{id}", "class:{class_id}", "work:{homework_id}.{student_id}" */
	/* An update that changes none of these leaves the tags of lists alone, that is every tag but those of {id}; NULL: lists show every field. Whatever
	 * lists filter, sort and group by belongs here. A row that moves from one value of a tag to another is always told to both. */
	const char *list_fields[LIST_FIELDS_MAX];
	/* More tags for a change of `field`, to `becomes` (NULL: to anything; a row that is made or deleted changes what it has): {"status", "ended",
	 * "analytics:{id}"}. Also for lists that show nothing else of it: {"submitted_at", NULL, "teacher:{teacher_id}"} counts who has handed in. */
	struct tag_when {
		const char *field, *becomes, *tag;
	} when[TAG_WHENS_MAX];
	const char *owner;       /* field with the teacher_id that owns it (rule OWNS) */
	const char *class_field; /* field with its class (rules ASSIGNED, TEACHES) */
	const char *student_field;  /* field with the one student it is about (rule ABOUT_ME) */
	const char *students_field; /* UUIDS: chosen students; empty means the whole class */
	unsigned ttl_s, negative_ttl_s; /* cache lifetimes */
	/* Its rows are documents of the document store instead: "activity_logs", with .table "<service>.documents". Read by entity_get and docstore_find;
	 * NULL: rows of the table. Never THROUGH; change_commit refuses values of FIELD_JSON that doc_check (io/docstore.h) does not take. */
	const char *collection;
};

/* Statements made from the descriptor at build time (cmake/entity_sql.py), in the same order as the service's entity table. */
struct entity_sql {
	const char *entity;
	const struct pg_stmt *get;    /* $1 id → the whole row, deleted too */
	const struct pg_stmt *get_many; /* $1 ids → the rows that there are, deleted too */
	const struct pg_stmt *upsert; /* pg_row_params; guarded; version := greatest(clock, row's + 1) when $version is 0; returns id, version */
	const struct pg_stmt *through; /* rows that are written through, with audit records, events and kept answers (through.c); NULL for others */
	const struct pg_stmt *copy_table, *copy, *flush, *versions; /* the worker's: temp table, COPY, upsert from it, id/version/school of ids */
	/* Of a collection there are flush ($1 school, ids, versions, documents → i, outcome: the embedded store's) and versions alone. */
};

const struct field *entity_field(const struct entity *e, const char *name); /* aborts when the descriptor is wrong */

/* ---- one row ------------------------------------------------------------------------------------------------------------- */

/* The row as it is now: buffer first, then the database's primary, never a cache (but with PostgreSQL away a kept row that is fresh; cache_entity.c says why
 * that is a sound base). *ret is a struct of the entity in the request's arena.
 * The sync state of what was read is remembered for the answer. ERR_NOT_FOUND also for another school's row and a deleted one. */
SUSPENDS MUST_CHECK enum err entity_get(struct req *req, const struct entity *e, struct uuid id, void *ret);
/* The row for a read that writes nothing: out of the cache when it is there (one round trip, epochs checked), else as entity_get, and then kept for the
 * descriptor's ttl_s, "there is none" for negative_ttl_s. Never the base of a write: change_commit refuses a change of it (ERR_BUG). */
SUSPENDS MUST_CHECK enum err entity_look(struct req *req, const struct entity *e, struct uuid id, void *ret);
/* Is there such a row, so that others may name it? As entity_look, but that there is none is asked anew. */
SUSPENDS MUST_CHECK enum err entity_parent(struct req *req, const struct entity *e, struct uuid id, void *ret);
/* Several at once (two round trips at most); missing ones are NULL in ret, an array of n pointers. */
SUSPENDS MUST_CHECK enum err entity_get_many(struct req *req, const struct entity *e, const struct uuid *ids, size_t n, void **ret);
/* entity_get for a child whose parent was loaded before: with PostgreSQL away and the parent's creation still in the buffer there can be no
 * row, so it is ERR_NOT_FOUND, and a put of it is accepted (the worker parks it should a row be there after all). */
SUSPENDS MUST_CHECK enum err entity_get_child(struct req *req, const struct entity *e, struct uuid id, const struct entity *parent,
					      const void *parent_row, void *ret);
/* Natural id of a row whose NATURAL fields are set. */
struct uuid entity_natural_id(const struct entity *e, struct uuid school, const void *row);
/* A copy to change; NULL: a new zeroed row with this school, created_at now, and an id: natural when the entity has NATURAL fields (set by
 * change_put), from the Idempotency-Key when there is one, else UUIDv7. */
void *entity_edit(struct req *req, const struct entity *e, const void *old) NEVER_NULL;
SUSPENDS MUST_CHECK enum err entity_put(struct req *req, const struct entity *e, void *row);
SUSPENDS MUST_CHECK enum err entity_delete(struct req *req, const struct entity *e, void *row); /* a tombstone */
/* Runs fn again from a fresh base, up to 5 times, while it returns ERR_CONFLICT from a lost race and the request has no If-Match. */
SUSPENDS MUST_CHECK enum err entity_retry(struct req *req, SUSPENDS enum err (*fn)(struct req *req, void *arg), void *arg);

/* The answer of a resource's own GET: the object, the row's version for the ETag, and where the row is (pending, in flight, dead). */
SUSPENDS MUST_CHECK enum err entity_reply(struct req *req, const struct entity *e, const void *row, const struct schema *s, const void *object);

/* ---- several rows, one PUT ------------------------------------------------------------------------------------------------- */

struct change;
struct change *change_new(struct req *req) NEVER_NULL;
/* A row from entity_edit, with every field that its table requires (else change_commit is ERR_BUG; row_merge leaves NATURAL and SERVER fields to the
 * handler). A natural id is set by change_commit; an answer made before sets it with entity_natural_id. Its `version` is the base's (0: new, or
 * made whole over what is there under a natural id). Reads old values for the audit record from the base that entity_edit remembered. */
void change_put(struct change *c, const struct entity *e, void *row);
void change_delete(struct change *c, const struct entity *e, void *row);
/* An event beside the ones that the service's event table makes of the rows by itself. `data` is a JSON object. */
void change_event(struct change *c, const char *type, struct uuid subject, struct str data);
/* Validated all, written all or none. If the answer is not set yet and the route has an out schema, the first row becomes the answer; the answer's
 * `sync` comes from here; Prefer: wait is honoured; an Idempotency-Key stores the answer in the same PUT.
 * All rows of one change are THROUGH, parents before children, or none is (ERR_BUG).
 * ERR_CONFLICT (lost race), ERR_PRECONDITION (If-Match), ERR_BUFFER, ERR_UNCERTAIN. Buffer away: full_state routes go to the database. */
SUSPENDS MUST_CHECK enum err change_commit(struct change *c);
/* Of rows written through, which rule of the table has refused the request's last change: constraint and SQLSTATE, empty strings for none. The
 * request has failed with ERR_CONFLICT already_exists (unique) or reference_missing (foreign key), ERR_CONFLICT (exclusion, RAISE) or ERR_INVALID; the
 * handler may say it better: if (e == ERR_CONFLICT && strcmp(change_refusal(req)->constraint, "seat_once") == 0) return req_fail_code(…); */
const struct pg_fail *change_refusal(const struct req *req) NEVER_NULL;

/* ---- lists (write-path.md 5) ------------------------------------------------------------------------------------------------ */

/* The unsynced rows of a scope as one jsonb text for E_live functions; several values of one scope are united. Must be taken BEFORE the
 * table is read. Above 500 rows the records are urged. With the buffer away: "[]", and the answer says X-Data: database-only. */
SUSPENDS MUST_CHECK enum err entity_overlay(struct req *req, const struct entity *e, const char *scope, const struct uuid *values, size_t n,
					    struct str *ret_jsonb);
/* The same for the one scope that a row has, whatever its columns: set them in a struct of the entity.
 *	struct attendance like = {0};
 *	FIELD_PUT(&like, attendance, date, day); FIELD_PUT(&like, attendance, class_id, class_id);
 *	e = entity_overlay_like(req, &attendance_entity, "date+class_id", &like, &overlay); */
SUSPENDS MUST_CHECK enum err entity_overlay_like(struct req *req, const struct entity *e, const char *scope, const void *row,
						 struct str *ret_jsonb);

#endif
