/* SPDX-License-Identifier: Apache-2.0 */
/* Failures as application/problem+json (RFC 9457) and as one line of the log. `error` repeats the code for the frontend; there is no `message`. */
#include <stdio.h>

#include "base/log.h"
#include "base/str.h"
#include "base/uuid.h"
#include "svc/kit.h"

#define PROBLEM_TYPE "https://schools24.org/problems/"

static void put_member(struct buf *out, const char *name, const char *value)
{
	if (value == NULL)
		return;
	buf_printf(out, ",\"%s\":", name);
	buf_put_json(out, str_of(value));
}

static void put_problems(const struct problems *problems, struct buf *out)
{
	if (problems == NULL || problems->n == 0)
		return;
	buf_puts(out, STR(",\"errors\":["));
	for (size_t i = 0; i < problems->n; i++) {
		const struct problem *p = &problems->v[i];

		buf_puts(out, i == 0 ? STR("{\"pointer\":") : STR(",{\"pointer\":"));
		buf_put_json(out, p->pointer);
		put_member(out, "code", p->code);
		put_member(out, "message", p->message);
		buf_putc(out, '}');
	}
	buf_putc(out, ']');
}

void problem_write(const struct problem_text *p, struct buf *out)
{
	buf_puts(out, STR("{\"type\":\"" PROBLEM_TYPE));
	buf_puts(out, str_of(p->code));
	buf_putc(out, '"');
	put_member(out, "title", p->title);
	buf_printf(out, ",\"status\":%d", p->status);
	put_member(out, "detail", p->detail);
	if (p->id != NULL)
		buf_printf(out, ",\"instance\":\"/requests/%s\"", p->id);
	put_member(out, "code", p->code);
	put_member(out, "error", p->code);
	put_problems(p->problems, out);
	buf_putc(out, '}');
}

static void put_allow(unsigned allowed, struct buf *out)
{
	const char *before = "Allow: ";

	for (unsigned m = 0; m < HTTP_OTHER; m++) {
		if ((allowed & 1U << m) == 0)
			continue;
		buf_printf(out, "%s%s", before, http_method_name((enum http_method)m));
		before = ", ";
	}
	buf_printf(out, "%sOPTIONS\r\n", before);
}

static const char *detail_of(const struct req *req, enum err e)
{
	if (req->detail != NULL)
		return req->detail;
	if (req->route == NULL && e == ERR_NOT_FOUND)
		return "there is no such path";
	if (req->route == NULL && e == ERR_METHOD)
		return "the path does not take this method";
	if (e == ERR_INVALID && req->problems.n != 0)
		return "errors names each field";
	/* A body that is no JSON leaves one problem that says where. */
	return e == ERR_MALFORMED && req->problems.n != 0 ? req->problems.v[0].message : NULL;
}

void problem_of(const struct req *req, enum err e, struct buf *body, struct buf *headers)
{
	int status = err_status(e);
	struct problem_text p = {
		.status = status,
		.code = req->code != NULL ? req->code : err_code(e),
		.title = err_title(e),
		.detail = detail_of(req, e),
		.id = req->id,
		.problems = e == ERR_INVALID ? &req->problems : NULL,
	};

	problem_write(&p, body);
	if (status == 401)
		buf_puts(headers, STR("WWW-Authenticate: Bearer realm=\"schools24\"\r\n"));
	if (status == 405)
		put_allow(req->allowed, headers);
	if (status == 429 || status == 503)
		buf_printf(headers, "Retry-After: %lld\r\n",
			   (long long)(req->retry_after_s > 0 ? req->retry_after_s
				       : status == 429        ? 1
							      : 2));
}

/* Whose fault decides the level: a client's is told, the system's warned of, ours an error. Denials are of interest (ASVS 16.3). */
static enum log_level level_of(enum err e)
{
	if (e == ERR_BUG || e == ERR_CORRUPT)
		return LOG_ERROR;
	if (e == ERR_CANCELLED)
		return LOG_INFO;
	return err_is_fault(e) ? LOG_WARN : LOG_INFO;
}

void problem_log(const struct req *req, enum err e)
{
	char user[UUID_TEXT + 1], school[UUID_TEXT + 1], where[128] = "";
	const char *file = req->fail_file;

	uuid_text(req->who.user_id, user);
	uuid_text(req->who.school_id, school);
	if (file != NULL) {
		const char *common = strstr(file, "common/"), *services = strstr(file, "services/");

		snprintf(where, sizeof(where), "%s:%d",
			 common != NULL     ? common
			 : services != NULL ? services
					    : file,
			 req->fail_line);
	}
	log_at(level_of(e), "request failed", LOG_S("request_id", req->id), LOG_S("method", http_method_name(req->x->method)),
	       LOG_S("route", req->entry->path), LOG_I("status", err_status(e)),
	       LOG_S("code", req->code != NULL ? req->code : err_code(e)), LOG_E(e), LOG_S("at", where),
	       LOG_S("detail", req->detail != NULL ? req->detail : ""),
	       LOG_STR("field", req->problems.n != 0 ? req->problems.v[0].pointer : STR("")),
	       LOG_S("role", role_name(req->who.role)), LOG_S("user", user), LOG_S("school", school), LOG_END);
}

static const struct {
	int status;
	const char *title;
} server_titles[] = {
	{400, "The request cannot be read"},
	{408, "The request took too long"},
	{413, "The request is too large"},
	{414, "The address is too long"},
	{417, "Unknown expectation"},
	{431, "The header block is too large"},
	{501, "Not implemented"},
	{503, "Overloaded"},
	{505, "HTTP version not supported"},
};

void problem_of_server(void *ctx, int status, const char *code, const char *detail, struct buf *body)
{
	struct problem_text p = {.status = status, .code = code, .detail = detail};

	(void)ctx;
	for (size_t i = 0; i < ARRAY_LEN(server_titles); i++)
		if (server_titles[i].status == status)
			p.title = server_titles[i].title;
	problem_write(&p, body);
}
