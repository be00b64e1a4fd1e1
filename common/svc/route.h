/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routes: one row says everything about a request that is not in its handler.
 *
 *	method path                               who              may              input                       answer
 *	{GET,  "/teacher/homework",               ROLE_TEACHER,    MAY_SELF,        .query = &list_in_schema,   .handler = homework_list},
 *	{PUT,  "/teacher/homework/{homework_id}", ROLE_TEACHER,    MAY_OWN(&homework_entity), .in = &…,         .handler = homework_update},
 *
 * The daemon refuses to start when a row has no role, no rule, no handler, an unbound {parameter}, or stands twice. Contract tests,
 * OpenAPI and the gateway's map come from this table. Paths are below /api/v1 unless ROUTE_BARE; a {…_id} segment must be a UUID
 * (else 404). To add a route: the row, its input schema, its handler; nothing else.
 */
#ifndef S24_SVC_ROUTE_H
#define S24_SVC_ROUTE_H

#include "io/http.h"
#include "svc/entity.h"

struct req;
typedef SUSPENDS enum err (*route_fn)(struct req *req);

enum rule_kind {
	RULE_NONE = 0, /* refused at start */
	RULE_PUBLIC,   /* only with ROLE_ANYONE */
	RULE_SELF,     /* the answer holds the caller's own things alone: the handler filters by req->who */
	RULE_SCHOOL,   /* everything of the caller's school */
	RULE_OWNS,     /* loads .entity by its path parameter into req->object; the caller's teacher_id owns it (admins of the school too) */
	RULE_ASSIGNED, /* loads .entity; the student is in its class (or among the chosen); a parent through student_id= of a linked child */
	RULE_TEACHES,  /* path, query or body names class_id (and subject_id): the caller teaches it this year (admins: it is of their school) */
	RULE_ABOUT_ME, /* loads .entity; its student is the caller, or the caller's child */
	RULE_INTERNAL, /* a declared peer with a service token */
	RULE_CHECK,    /* .check decides, and may load req->object */
};
struct rule {
	enum rule_kind kind;
	const struct entity *entity;
	const char *param; /* path parameter of .entity; NULL: "<entity>_id" */
	route_fn check;
};
#define MAY_PUBLIC {RULE_PUBLIC, NULL, NULL, NULL}
#define MAY_SELF {RULE_SELF, NULL, NULL, NULL}
#define MAY_SCHOOL {RULE_SCHOOL, NULL, NULL, NULL}
#define MAY_TEACH {RULE_TEACHES, NULL, NULL, NULL}
#define MAY_OWN(entity_) {RULE_OWNS, (entity_), NULL, NULL}
#define MAY_ASSIGNED(entity_) {RULE_ASSIGNED, (entity_), NULL, NULL}
#define MAY_ABOUT_ME(entity_) {RULE_ABOUT_ME, (entity_), NULL, NULL}
#define MAY_INTERNAL {RULE_INTERNAL, NULL, NULL, NULL}
#define MAY_CHECK(fn) {RULE_CHECK, NULL, NULL, (fn)}

enum {
	ROUTE_MULTIPART = 1 << 0,  /* .in describes the fields; files are staged before the handler: req->files */
	ROUTE_FULL_STATE = 1 << 1, /* needs no old row: goes to the database when the buffer is away */
	ROUTE_BARE = 1 << 2,       /* not below /api/v1 */
	ROUTE_NO_KEY = 1 << 3,     /* takes no Idempotency-Key (login, refresh) */
	ROUTE_STREAM = 1 << 4,     /* the handler answers itself with http_answer_begin (downloads) */
	ROUTE_BODY_OPTIONAL = 1 << 5, /* an empty body is an empty object */
	ROUTE_BYTES = 1 << 7,      /* a parameter of the path may be any bytes but NUL, not only UTF-8 */
	ROUTE_DASHBOARD = 1 << 8,  /* internal: for the dashboard alone, whatever .used_by says */
	ROUTE_THROUGH = 1 << 6,    /* commits in PostgreSQL: the answer of an Idempotency-Key is kept in the schema's table */
};

enum rate_class { RATE_NORMAL, RATE_LOGIN, RATE_HEAVY, RATE_NONE };

/* Lifetimes by kind, each a setting CACHE_TTL_… (settings.c has the defaults). */
enum cache_kind {
	KIND_DEFAULT, KIND_LIST, KIND_DETAIL, KIND_ANALYTICS, KIND_PROFILE, KIND_PERMISSIONS, KIND_SCHOOL, KIND_ROSTER, KIND_SUBMISSIONS,
	KIND_DASHBOARD, KIND_INVENTORY, KIND_CALENDAR, KIND_STATIC, CACHE_KINDS
};

/*
 * A cached route is this one row and no code (cache_http.h). For GET only; the answer is kept for each caller unless .vary says otherwise.
 *	.cache = {.policy = "redis", .kind = KIND_LIST, .tags = {"teacher:{me.teacher_id}"}, .reads = {&homework_entity}}
 * What a tag's braces may name: a parameter of the path or the query, me.user_id, me.teacher_id, me.student_id, me.staff_id, me.school_id, and
 * student_id and student.class_id (whom a /student route is about); several make one tag: "work:{homework_id}.{student_id}". Writes of an entity raise
 * the tags of its descriptor; a handler that writes otherwise: req_touch. An answer that is good until an instant only: req_good_until.
 * A tag by a filter that was not given is left out, and .reads stands in for it; without .reads such an answer is not kept.
 */
struct cache_policy {
	const char *policy;  /* NULL: nothing is kept. "browser": the browser alone, by ETag; "cdn": shared caches too, for rows without a role; "redis": by the
	                        daemons; "full": redis, and given out of memory unasked (what a school shares); "no-store": by nobody at all */
	enum cache_kind kind;
	unsigned ttl_s;      /* instead of the kind's; swr_s, sie_s: given out so long past it while one refreshes it, or while its source fails */
	unsigned swr_s, sie_s;
	unsigned negative_s; /* so long the handler's 404 is remembered; 0: not. (The object rule's own is, for the entity's negative_ttl_s.) */
	const char *tags[TAGS_MAX];
	const struct entity *reads[4]; /* `bulk` of their tables, and `table` of those that none of .tags stands for, by the kinds in the descriptor */
	const char *names;   /* "class subject": kinds of the directory that it shows; a change of any one in the school drops it */
	const char *vary;    /* what answers differ by, besides path, query and role: "user" (the default), "student", "school"; with "today": and the school's date */
};

struct route {
	enum http_method method;
	const char *path;
	unsigned roles;
	struct rule rule;
	const struct schema *query; /* NULL: the query string is ignored */
	const struct schema *in;    /* NULL: no body is read */
	const struct schema *out;   /* of the answer or of its list items: docs, and entity_put's own answer */
	unsigned flags;
	enum rate_class rate;
	struct cache_policy cache;
	const struct entity *creates; /* ROUTE_FULL_STATE: whose rows it makes (the database's grants follow from it) */
	route_fn handler;
	const char *summary; /* one line for OpenAPI */
};
#define ROUTE_END {.path = NULL}

/* page, page_size: embed in a query schema: `#define LIST_FIELDS(F, T) PAGE_FIELDS(F, T) F(T, UUID, class_id)` */
#define PAGE_FIELDS(F, T)                                                                          \
	F(T, INT, page, .min = 1, .max = 1000000)                                                  \
	F(T, INT, page_size, .min = 1, .max = 500)

#endif
