/* SPDX-License-Identifier: Apache-2.0 */
/* What the files around a request share: each function is of the file that its prefix names. Services do not include it. */
#ifndef S24_SVC_KIT_H
#define S24_SVC_KIT_H

#include <stdio.h>

#include "svc/daemon.h"
#include "svc/req.h"

#define KIT_JSON_MAX (256u << 10)
#define KIT_FILES_MAX 5
#define KIT_FILE_MAX (20u << 20)
#define KIT_FORM_FIELD_MAX (64u << 10)
#define KIT_FORM_MAX (256u << 10)

/* ---- req.c: a listener's callbacks ---- */
struct http_listener req_listener(struct side *side);

/* ---- body.c ---- */
/* What happens with the body of a routed request; sets req->early. Loop context. */
struct http_plan body_plan(struct req *req);
/* Fills req->query, req->in, req->files. ERR_INVALID, ERR_MALFORMED, ERR_TOO_LARGE, ERR_MEDIA_TYPE; faults of the storage. */
SUSPENDS MUST_CHECK enum err body_read(struct req *req);

/* ---- answer.c ---- */
/* Sends what the request has come to; the request dies in it. */
void answer_send(struct req *req, enum err e);
/* Does an If-None-Match or If-Match header name the tag? Weak comparison. */
uint64_t answer_hash(struct str body); /* what a weak ETag is made of */
bool answer_tag_matches(struct str header, struct str tag);

/* ---- problem.c ---- */
struct problem_text {
	int status;
	const char *code, *title, *detail; /* title, detail: NULL leaves it to the code, or out */
	const char *id;                    /* of the request; NULL: none */
	const struct problems *problems;
};
void problem_write(const struct problem_text *p, struct buf *out);
/* The body of a failed request, and its header lines without the common ones. */
void problem_of(const struct req *req, enum err e, struct buf *body, struct buf *headers);
void problem_log(const struct req *req, enum err e);
/* What the HTTP server itself refuses. */
void problem_of_server(void *ctx, int status, const char *code, const char *detail, struct buf *body);

/* ---- admin.c ---- */
extern const struct route admin_routes[]; /* of the admin listener */
extern const struct route openapi_route;  /* of both */
/* The body of /ready; false: 503. */
SUSPENDS bool admin_ready(struct daemon *d, struct buf *out);

/* ---- openapi.c, print.c, table_check.c: from the tables alone, without a daemon ---- */
void openapi_write(const struct service *s, struct buf *out);
void print_routes(const struct service *s, struct buf *out);
void print_entities(const struct service *s, struct buf *out);
/* show_record.c: the row of a buffered record as JSON. ERR_NOT_FOUND: no entity of this daemon, or no id; ERR_TOO_LARGE; ERR_CORRUPT; ERR_CONFLICT. */
MUST_CHECK enum err show_record(const struct service *s, const char *entity, const char *id, FILE *from, struct buf *out);
/* Every problem of routes, entities and events, a line each. ERR_INVALID. */
MUST_CHECK enum err table_check(const struct service *s, struct buf *problems);

#endif
