/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request on its way through the filters (req.c: one ordered array): request id, deadline, route, token and session, rate, body,
 * object rule, handler, answer, log. A handler sees it when everything its route row says has been checked.
 *
 * A handler returns OK with the answer set, or an error: req_fail gives it a detail. It reads like blocking code; what may wait is marked SUSPENDS.
 */
#ifndef S24_SVC_REQ_H
#define S24_SVC_REQ_H

#include "base/schema.h"
#include "io/http.h"
#include "io/storage.h"
#include "svc/role.h"
#include "svc/route.h"

struct service;
struct daemon;
struct route_entry;
struct change;
struct cache_tags;
struct http_cache;

struct upload { /* a file of a multipart body, already staged in the storage port */
	struct str field, file_name; /* name made safe: no path, no control characters, at most 200 characters */
	struct stored_file file;
};

struct query_note { /* how kept statements (cache_query.h) had a hand in an answer */
	unsigned hits, misses;
	int64_t written_us, fresh_until_us; /* of the oldest, and of what ends first */
};

enum sync_state { SYNC_NONE, SYNC_PENDING, SYNC_IN_FLIGHT, SYNC_DEAD, SYNC_DONE };

struct req {
	struct daemon *daemon;
	struct http_exchange *x;
	struct arena *arena;
	const struct route *route; /* NULL: the path or method is no route's */
	struct route_entry *entry; /* the route in the daemon's router: full path, metrics */
	size_t n_params;
	struct uuid params[4];     /* the path's {…_id}, in order */
	struct str param_text[4];  /* the same as text, and those that are no id */
	int64_t now_us;            /* real time of the request: one value for everything it writes */
	struct deadline deadline;  /* shorter than 60 s, always (the marker's life) */
	char id[37];               /* request id */
	struct caller who;
	const void *query;         /* struct of route->query, zeroed when absent */
	const void *in;            /* struct of route->in */
	struct upload *files;
	size_t n_files;
	void *object;              /* row that the rule loaded */
	const struct entity *object_entity;
	struct uuid student_id;    /* whom a /student route is about: the caller, or the child that a parent named */

	/* the answer */
	int status;                /* 0: 200 */
	struct buf body;           /* JSON object, without `sync` */
	struct buf headers;        /* more lines with CRLF */
	int64_t version;           /* of the resource, for the ETag; 0: weak hash of the body, -1: no ETag */
	uint64_t body_hash;        /* answer_hash of body, when it is known already; 0: it is not */
	enum sync_state sync;
	bool database_only;        /* the buffer was away */
	bool answered;             /* a ROUTE_STREAM handler has begun it with http_answer_begin; the kit ends it */
	bool replayed;             /* idem_begin has filled in the stored answer of an earlier call */
	const char *content_type;  /* of body; NULL: application/json */
	const char *durability;    /* in `sync`; NULL: the buffer's verified mode, "database" when done or database_only */
	int64_t due_us;            /* in `sync`: real time until which the row is in the database; 0: left out */
	size_t kept_headers;       /* bytes of `headers` that an error answer keeps: those of the filters */

	/* the failure */
	const char *detail, *code; /* code overrides err_code(): "class_has_students" */
	const char *fail_file;
	int fail_line;
	unsigned allowed;          /* ERR_METHOD: bits 1 << enum http_method, for Allow */
	enum err early;            /* found when the header block was complete; told after authentication */
	int64_t retry_after_s;
	struct problems problems;

	struct cache_tags *touched; /* what this request's writes have changed: raised before its answer */
	struct query_note queries;
	struct http_cache *cached;  /* how the cache had a hand in the answer (cache_http.c) */
	bool filling;               /* the handler's answer will be kept: nothing that is read for it may come out of memory unasked */
	int64_t good_until_us;      /* req_good_until; 0: as long as its kind */
	struct dir_seen *seen;      /* the directory's entries that this request has asked for (directory.c) */
	struct bases *bases;       /* what entity_edit copied, for audit and expectation (entity.c) */
	struct idem *idem;         /* the Idempotency-Key in force (idem.c) */
	int64_t page_size;         /* req_page's default, for req_reply_page */
	unsigned calls;            /* PUT calls so far: request tags count them */
};

/* Fails with a sentence for people: return req_fail(req, ERR_CONFLICT, "homework is closed"); */
#define req_fail(req, e, ...) req_fail_at((req), (e), NULL, __FILE__, __LINE__, __VA_ARGS__)
/* With a code that the frontend compares: return req_fail_code(req, ERR_CONFLICT, "class_has_students", "…"); */
#define req_fail_code(req, e, code, ...) req_fail_at((req), (e), (code), __FILE__, __LINE__, __VA_ARGS__)
enum err req_fail_at(struct req *req, enum err e, const char *code, const char *file, int line, const char *fmt, ...) PRINTF(6, 7);
/* 422 for one field: req_invalid(req, "/due_date", "date", "is before today"). */
enum err req_invalid(struct req *req, const char *pointer, const char *code, const char *message);
/* The same with a pointer made here, for items of a list: req_invalid_at(req, "unknown", "is not in this class", "/attendance/%zu/student_id", i). */
enum err req_invalid_at(struct req *req, const char *code, const char *message, const char *pointer_fmt, ...) PRINTF(4, 5);

/* ---- answers ---- */
enum err req_reply(struct req *req, const struct schema *s, const void *object);             /* the object itself */
enum err req_reply_as(struct req *req, const char *name, const struct schema *s, const void *object); /* {"user": {…}} */
/* {"homework": […], "total": …, "page": …, "page_size": …} and Link headers; page and size from the query's PAGE_FIELDS. */
enum err req_reply_page(struct req *req, const char *name, const struct schema *s, const struct list *rows, int64_t total);
enum err req_reply_list(struct req *req, const char *name, const struct schema *s, const struct list *rows); /* {"classes": […]} */
enum err req_reply_message(struct req *req, const char *message_text); /* {"message": "…"}: an answer of success */
/* Free form: write members into req->body between req_json_begin and req_json_end. */
void req_json_begin(struct req *req);                       /* { */
void req_json_key(struct req *req, const char *name);       /* ,"name": */
void req_json_text(struct req *req, const char *name, struct str value);
void req_json_int(struct req *req, const char *name, int64_t value);
void req_json_id(struct req *req, const char *name, struct uuid value);
void req_json_date(struct req *req, const char *name, int32_t day);
void req_json_bool(struct req *req, const char *name, bool value);
void req_json_null(struct req *req, const char *name);
void req_json_object(struct req *req, const char *name, const struct schema *s, const void *object);
void req_json_list(struct req *req, const char *name, const struct schema *s, const struct list *rows);
void req_json_end(struct req *req);                         /* } */
/* A change that the entity engine does not see: req_touch(req, "user:", id). Cached answers under the tag are dropped before this one is sent. */
void req_touch(struct req *req, const char *kind, struct uuid id);
void req_touch_name(struct req *req, const char *kind, const char *name); /* of the school, without an id */
/* The answer shows what a clock will change: it is not kept longer. The soonest counts. */
void req_good_until(struct req *req, int64_t at_us);
void req_header(struct req *req, const char *name, const char *fmt, ...) PRINTF(3, 4);
/* Sends a stored file with Content-Disposition (inline or attachment), nosniff, and Range. */
SUSPENDS enum err req_send_file(struct req *req, struct str storage_key, struct str file_name, struct str content_type, bool inline_view);

/* A path parameter by name; aborts when the route has no such parameter. */
struct uuid req_param(const struct req *req, const char *name);
struct str req_param_text(const struct req *req, const char *name);
bool req_is_write(const struct req *req); /* neither GET nor HEAD */

struct str req_client_ip(const struct req *req); /* of the browser: what the gateway says, else the socket's peer */

struct page {
	int64_t number, size, offset; /* number from 1 */
};
struct page req_page(struct req *req, int64_t default_size); /* from the query's page and page_size; req_reply_page says the same size */

/* Of a page whose statement gives each row a `total` and one row without `id` when the page is empty: takes that row out, returns the total. */
int64_t list_total(const struct schema *s, struct list *rows);

/* ---- the service's database: scope, school and deadline are the request's ---- */
SUSPENDS MUST_CHECK enum err db_query(struct req *req, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out, struct list *ret);
SUSPENDS MUST_CHECK enum err db_query_one(struct req *req, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out, void *to);

/* A write-through transaction: statements, audit records and events together; commit also stores the answer of an Idempotency-Key. */
struct tx;
SUSPENDS MUST_CHECK enum err tx_begin(struct req *req, struct tx **ret);
SUSPENDS MUST_CHECK enum err tx_query(struct tx *tx, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out, struct list *ret);
SUSPENDS MUST_CHECK enum err tx_query_one(struct tx *tx, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out, void *to);
SUSPENDS MUST_CHECK enum err tx_audit(struct tx *tx, const char *action, const char *entity, struct uuid id, struct str old_json, struct str new_json);
SUSPENDS MUST_CHECK enum err tx_event(struct tx *tx, const char *type, struct uuid subject, struct str data_json);
SUSPENDS MUST_CHECK enum err tx_commit(struct tx *tx);
/* What every transaction ends with: commits when all went well, else rolls back and returns e. */
SUSPENDS MUST_CHECK enum err tx_end(struct tx *tx, enum err e);
void tx_rollback(struct tx *tx); /* also by itself when the request ends */
const struct pg_fail *tx_fail(const struct tx *tx);

#endif
