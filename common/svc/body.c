/* SPDX-License-Identifier: Apache-2.0 */
/* What a request says: query string, JSON body, multipart form with its files, each by its route's field table. */
#include <stdio.h>

#include "base/arena.h"
#include "base/str.h"
#include "io/loop.h"
#include "io/multipart.h"
#include "svc/kit.h"

#define PAIRS_MAX 64
#define BODY_MS 15000
#define UPLOAD_READ_MS 30000
#define UPLOAD_MIN_RATE 8192
#define FILE_NAME_MAX 200

/* ---- before the body is read ------------------------------------------------------------------------------------------------------- */

/* "application/json; charset=utf-8" → "application/json" */
static bool is_type(struct str header, const char *type)
{
	return str_ieq(str_trim(str_split(&header, ';')), str_of(type));
}

static struct http_plan refuse(struct req *req, enum err e, const char *detail)
{
	req->early = e;
	req->detail = detail;
	return (struct http_plan){.body = HTTP_BODY_REFUSE};
}

struct http_plan body_plan(struct req *req)
{
	const struct route *route = req->route;
	struct str type = http_header(req->x, "Content-Type");
	int64_t length = req->x->body_length;

	if (route->in == NULL)
		return (struct http_plan){.body = HTTP_BODY_NONE};
	if ((route->flags & ROUTE_MULTIPART) != 0 && is_type(type, "multipart/form-data"))
		return (struct http_plan){.body = HTTP_BODY_STREAM,
					  .body_max = (size_t)KIT_FILES_MAX * KIT_FILE_MAX + 2 * KIT_FORM_MAX,
					  .body_ms = UPLOAD_READ_MS,
					  .min_rate_bps = UPLOAD_MIN_RATE};
	if (length != 0 && !is_type(type, "application/json"))
		return refuse(req, ERR_MEDIA_TYPE,
			      (route->flags & ROUTE_MULTIPART) != 0 ? "send multipart/form-data or application/json"
								    : "send application/json");
	if (length > KIT_JSON_MAX)
		return refuse(req, ERR_TOO_LARGE, "a JSON body has at most 256 KiB");
	return (struct http_plan){.body = HTTP_BODY_WHOLE, .body_max = KIT_JSON_MAX, .body_ms = BODY_MS};
}

/* ---- query --------------------------------------------------------------------------------------------------------------------------- */

static bool decode_text(struct arena *arena, struct str *text)
{
	char *to;
	size_t n;

	if (text->n == 0 || (memchr(text->p, '%', text->n) == NULL && memchr(text->p, '+', text->n) == NULL))
		return true;
	to = arena_alloc(arena, text->n + 1);
	if (!str_percent_decode(to, *text, true, &n))
		return false;
	*text = (struct str){to, n};
	return true;
}

static enum err read_query(struct req *req)
{
	const struct schema *s = req->route->query;
	struct str rest = req->x->query;
	void *to = arena_zalloc(req->arena, s->size);
	struct form_pair *pairs = NULL;
	size_t n = 0;

	if (rest.n != 0)
		pairs = arena_array(req->arena, PAIRS_MAX, sizeof(*pairs));
	while (rest.n != 0) {
		struct str value = str_split(&rest, '&'), name = str_split(&value, '=');

		if (name.n == 0)
			continue;
		if (n == PAIRS_MAX)
			return req_fail(req, ERR_MALFORMED, "the query has more than %d parameters", PAIRS_MAX);
		if (!decode_text(req->arena, &name) || !decode_text(req->arena, &value))
			return req_fail(req, ERR_MALFORMED, "the query has a broken escape");
		if (!str_is_utf8(name) || !str_is_utf8(value))
			return req_fail(req, ERR_MALFORMED, "the query is not UTF-8");
		pairs[n++] = (struct form_pair){name, value.p != NULL ? value : STR("")};
	}
	/* A name twice could mean one thing to the gateway and another here: the decoder refuses it, unless the field is a list. */
	req->query = to;
	return form_decode(s, pairs, n, req->arena, to, &req->problems);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------------------------------ */

static enum err read_json(struct req *req)
{
	const struct schema *s = req->route->in;
	void *to = arena_zalloc(req->arena, s->size);
	struct str body = req->x->body;

	if (body.n == 0) {
		if ((req->route->flags & ROUTE_BODY_OPTIONAL) == 0)
			return req_fail(req, ERR_MALFORMED, "the body is empty");
		body = STR("{}");
	}
	req->in = to;
	return json_decode(s, body, req->arena, to, &req->problems);
}

/* ---- multipart -------------------------------------------------------------------------------------------------------------------------- */

struct intake {
	struct req *req;
	struct form_pair pairs[PAIRS_MAX];
	size_t n_pairs, form_bytes;
	struct buf field;
	struct str name, file_name; /* of the part that is being read */
	bool is_file;
	struct storage_writer *writer;
	size_t file_bytes;
};

/* What a browser calls the file is kept for people, never used as a path. */
static struct str safe_file_name(struct arena *arena, struct str sent)
{
	struct buf out = buf_in(arena);
	size_t from = 0, letters = 0;

	for (size_t i = 0; i < sent.n; i++)
		if (sent.p[i] == '/' || sent.p[i] == '\\')
			from = i + 1;
	for (size_t i = from; i < sent.n && letters < FILE_NAME_MAX;) {
		bool ok;
		size_t step = str_utf8_step((struct str){sent.p + i, sent.n - i}, &ok);

		if (!ok)
			buf_putc(&out, '_');
		else if (step > 1 || ((unsigned char)sent.p[i] >= ' ' && sent.p[i] != 127))
			buf_put(&out, sent.p + i, step);
		else
			letters--;
		letters++;
		i += step;
	}
	if (out.n == 0 || str_is(buf_str(&out), ".") || str_is(buf_str(&out), ".."))
		return STR("file");
	return buf_str(&out);
}

static enum err part_begin(void *ctx, const struct multipart_part *part)
{
	struct intake *in = ctx;

	in->is_file = part->file_name.p != NULL;
	in->name = arena_str(in->req->arena, part->name);
	in->file_name = in->is_file ? arena_str(in->req->arena, part->file_name) : STR("");
	in->field = buf_in(in->req->arena);
	in->writer = NULL;
	in->file_bytes = 0;
	return OK;
}

SUSPENDS static enum err file_open(struct intake *in)
{
	struct req *req = in->req;

	if (req->n_files == KIT_FILES_MAX)
		return req_invalid(req, arena_printf(req->arena, "/%.*s", STR_FMT(in->name)), "too_many", "at most 5 files");
	if (daemon_storage(req->daemon) == NULL)
		return req_fail(req, ERR_IO, "this service keeps no files");
	return storage_begin(daemon_storage(req->daemon), req->who.school_id, req->arena, req->deadline, &in->writer);
}

SUSPENDS static enum err part_data(void *ctx, struct str bytes)
{
	struct intake *in = ctx;
	struct req *req = in->req;
	enum err e;

	if (!in->is_file) {
		if (in->field.n + bytes.n > KIT_FORM_FIELD_MAX || in->form_bytes + in->field.n + bytes.n > KIT_FORM_MAX)
			return req_fail(req, ERR_TOO_LARGE, "a field has at most 64 KiB, all fields 256 KiB");
		buf_puts(&in->field, bytes);
		return OK;
	}
	in->file_bytes += bytes.n;
	if (in->file_bytes > KIT_FILE_MAX)
		return req_fail(req, ERR_TOO_LARGE, "a file has at most 20 MiB");
	if (in->writer == NULL) {
		e = file_open(in);
		if (e != OK)
			return e;
	}
	return storage_append(in->writer, bytes, req->deadline);
}

SUSPENDS static enum err part_end(void *ctx)
{
	struct intake *in = ctx;
	struct req *req = in->req;
	struct upload *file;
	enum err e;

	if (!in->is_file) {
		if (in->n_pairs == PAIRS_MAX)
			return req_fail(req, ERR_MALFORMED, "the form has more than %d fields", PAIRS_MAX);
		in->form_bytes += in->field.n;
		in->pairs[in->n_pairs++] = (struct form_pair){in->name, in->field.n != 0 ? buf_str(&in->field) : STR("")};
		return OK;
	}
	/* A browser sends a part without name and bytes for a file input that was left empty. */
	if (in->writer == NULL && in->file_name.n == 0)
		return OK;
	if (in->writer == NULL) {
		e = file_open(in);
		if (e != OK)
			return e;
	}
	if (req->files == NULL)
		req->files = arena_array(req->arena, KIT_FILES_MAX, sizeof(*req->files));
	file = &req->files[req->n_files];
	e = storage_commit(in->writer, req->deadline, &file->file);
	in->writer = NULL;
	if (e != OK)
		return e;
	file->field = in->name;
	file->file_name = safe_file_name(req->arena, in->file_name);
	req->n_files++;
	return OK;
}

SUSPENDS static enum err feed_all(struct req *req, struct multipart *m)
{
	struct loop *loop = daemon_loop(req->daemon);

	for (;;) {
		struct str bytes;
		enum err e;

		/* Each step has its own time: the rate that the plan demands bounds the whole. */
		req->deadline = deadline_in(loop, UPLOAD_READ_MS);
		e = http_read(req->x, &bytes, req->deadline);
		if (e != OK)
			return e;
		if (bytes.n == 0)
			return multipart_finish(m);
		e = multipart_feed(m, bytes);
		if (e != OK)
			return e;
	}
}

SUSPENDS static enum err read_multipart(struct req *req)
{
	const struct schema *s = req->route->in;
	struct intake *in = arena_zalloc(req->arena, sizeof(*in));
	struct multipart_events events = {.ctx = in, .begin = part_begin, .data = part_data, .end = part_end};
	void *to = arena_zalloc(req->arena, s->size);
	struct multipart *m;
	enum err e;

	in->req = req;
	e = multipart_new(http_header(req->x, "Content-Type"), req->arena, &events, &m);
	if (e != OK)
		return e;
	e = feed_all(req, m);
	if (e != OK) {
		if (in->writer != NULL)
			storage_abort(in->writer);
		if (e == ERR_MALFORMED && req->detail == NULL)
			return req_fail(req, e, "the form is malformed or cut off");
		return e;
	}
	req->in = to;
	return form_decode(s, in->pairs, in->n_pairs, req->arena, to, &req->problems);
}

SUSPENDS enum err body_read(struct req *req)
{
	const struct route *route = req->route;
	enum err query = OK, e = OK;

	if (req->early != OK)
		return req->early;
	if (route->query != NULL)
		query = read_query(req);
	if (query == ERR_MALFORMED)
		return query;
	if (route->in != NULL && (route->flags & ROUTE_MULTIPART) != 0 &&
	    is_type(http_header(req->x, "Content-Type"), "multipart/form-data"))
		e = read_multipart(req);
	else if (route->in != NULL)
		e = read_json(req);
	/* Both sets of problems are told at once. */
	return e != OK ? e : query;
}
