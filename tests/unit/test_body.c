/* SPDX-License-Identifier: Apache-2.0 */
/* Query strings, JSON bodies and multipart forms reach the handler checked, or not at all. */
#include "kit_fixture.h"

#include "base/schema.h"
#include "base/uuid.h"

#define ESSAY_FIELDS(F, T)                              \
	F(T, TEXT, title, .flags = REQUIRED, .max = 20) \
	F(T, INT, marks, .min = 0, .max = 100) F(T, UUIDS, student_ids, .max_items = 3)
SCHEMA_STRUCT(essay_in, ESSAY_FIELDS);
SCHEMA_TABLE(essay_in, ESSAY_FIELDS);
#define LIST_FIELDS(F, T) PAGE_FIELDS(F, T) F(T, TEXT, search, .max = 50) F(T, UUIDS, class_ids) F(T, BOOL, all)
SCHEMA_STRUCT(list_in, LIST_FIELDS);
SCHEMA_TABLE(list_in, LIST_FIELDS);

static int handled;

static enum err take_essay(struct req *req)
{
	const struct essay_in *in = req->in;

	handled++;
	req_json_begin(req);
	req_json_key(req, "title");
	buf_put_json(&req->body, in->title);
	buf_printf(&req->body, ",\"marks\":%lld,\"has_marks\":%d,\"students\":%zu,\"files\":[", (long long)in->marks,
		   FIELD_HAS(in, essay_in, marks), in->student_ids.n);
	for (size_t i = 0; i < req->n_files; i++) {
		const struct upload *f = &req->files[i];

		buf_puts(&req->body, i != 0 ? STR(",{\"field\":") : STR("{\"field\":"));
		buf_put_json(&req->body, f->field);
		buf_puts(&req->body, STR(",\"name\":"));
		buf_put_json(&req->body, f->file_name);
		buf_puts(&req->body, STR(",\"type\":"));
		buf_put_json(&req->body, f->file.content_type);
		buf_printf(&req->body, ",\"size\":%lld}", (long long)f->file.size_bytes);
	}
	buf_putc(&req->body, ']');
	req_json_end(req);
	return OK;
}

static enum err take_query(struct req *req)
{
	const struct list_in *in = req->query;
	struct page page = req_page(req, 20);

	handled++;
	req_json_begin(req);
	buf_printf(&req->body,
		   "\"page\":%lld,\"size\":%lld,\"offset\":%lld,\"classes\":%zu,\"all\":%d,\"search\":", (long long)page.number,
		   (long long)page.size, (long long)page.offset, in->class_ids.n, in->all);
	buf_put_json(&req->body, in->search);
	req_json_end(req);
	return OK;
}

static enum err take_nothing(struct req *req)
{
	handled++;
	return req_reply_message(req, "done");
}

/* clang-format off */
static const struct route routes[] = {
	{HTTP_POST, "/essays", ROLE_TEACHER, MAY_SELF, .in = &essay_in_schema, .handler = take_essay},
	{HTTP_PUT, "/essays", ROLE_TEACHER, MAY_SELF, .in = &list_in_schema, .flags = ROUTE_BODY_OPTIONAL, .handler = take_nothing},
	{HTTP_POST, "/uploads", ROLE_TEACHER, MAY_SELF, .in = &essay_in_schema, .flags = ROUTE_MULTIPART, .handler = take_essay},
	{HTTP_GET, "/essays", ROLE_TEACHER, MAY_SELF, .query = &list_in_schema, .handler = take_query},
	{HTTP_DELETE, "/essays", ROLE_TEACHER, MAY_SELF, .handler = take_nothing},
	ROUTE_END,
};
/* clang-format on */
static const struct service service = {
	.name = "body", .routes = routes, .flags = SERVICE_NO_PG | SERVICE_NO_BUFFER | SERVICE_STORAGE};

static int setup(void **state)
{
	handled = 0;
	*state = kit_open(&service);
	return 0;
}

static int teardown(void **state)
{
	kit_close(*state);
	return 0;
}

static struct kit_answer post(struct kit *k, const char *json)
{
	return kit_json(k, "POST", "/api/v1/essays", TEACHER, json);
}

/* The answer's status, with the handler untouched. */
static void expect_refused(struct kit_answer a, int status, const char *part)
{
	assert_int_equal(a.status, status);
	assert_holds(a.body, part);
	assert_int_equal(handled, 0);
}

static void a_right_body_reaches_the_handler(void **state)
{
	struct kit_answer a = post(*state, "{\"title\":\" Rain \",\"marks\":7,\"unknown\":[{}]}");

	assert_int_equal(a.status, 200);
	assert_str(a.body, STR("{\"title\":\"Rain\",\"marks\":7,\"has_marks\":1,\"students\":0,\"files\":[]}"));
}

static void every_wrong_field_is_told_at_once(void **state)
{
	struct kit_answer a = post(*state, "{\"marks\":700,\"student_ids\":[\"x\"]}");

	expect_refused(a, 422, "\"pointer\":\"/marks\"");
	assert_holds(a.body, "\"pointer\":\"/student_ids/0\"");
	assert_holds(a.body, "\"pointer\":\"/title\",\"code\":\"required\"");
}

static void what_is_no_json_is_malformed(void **state)
{
	struct kit *k = *state;

	expect_refused(post(k, "{\"title\":"), 400, "\"malformed\"");
	expect_refused(post(k, "[]"), 400, "\"malformed\"");
	expect_refused(post(k, ""), 400, "the body is empty");
	assert_int_equal(kit_json(k, "PUT", "/api/v1/essays", TEACHER, "").status, 200);
}

static void other_media_types_are_refused_after_the_token(void **state)
{
	struct kit *k = *state;

	expect_refused(kit_send(k, kit_port(k), "POST", "/api/v1/essays", TEACHER "Content-Type: text/plain\r\n", STR("{}")), 415,
		       "unsupported_media_type");
	expect_refused(kit_send(k, kit_port(k), "POST", "/api/v1/essays", TEACHER, STR("{}")), 415, "unsupported_media_type");
	expect_refused(kit_send(k, kit_port(k), "POST", "/api/v1/essays",
				TEACHER "Content-Type: multipart/form-data; boundary=x\r\n", STR("--x--")),
		       415, "unsupported_media_type");
	expect_refused(kit_send(k, kit_port(k), "POST", "/api/v1/essays", "Content-Type: text/plain\r\n", STR("{}")), 401,
		       "unauthenticated");
	assert_int_equal(kit_send(k, kit_port(k), "POST", "/api/v1/essays",
				  TEACHER "Content-Type: Application/JSON; charset=utf-8\r\n", STR("{\"title\":\"a\"}"))
				 .status,
			 200);
}

static void a_body_above_256_kib_is_refused(void **state)
{
	struct kit *k = *state;
	struct buf big = buf_in(k->arena), chunked = buf_in(k->arena);

	buf_puts(&big, STR("{\"title\":\""));
	while (big.n < 300000)
		buf_puts(&big, STR("aaaaaaaaaaaaaaaa"));
	buf_puts(&big, STR("\"}"));
	expect_refused(kit_send(k, kit_port(k), "POST", "/api/v1/essays", TEACHER JSON_TYPE, buf_str(&big)), 413, "too_large");
	buf_printf(&chunked,
		   "POST /api/v1/essays HTTP/1.1\r\nHost: a\r\n" TEACHER JSON_TYPE "Transfer-Encoding: chunked\r\n\r\n%zx\r\n",
		   big.n);
	buf_puts(&chunked, buf_str(&big));
	buf_puts(&chunked, STR("\r\n0\r\n\r\n"));
	expect_refused(kit_split(k, kit_exchange(k, kit_port(k), buf_str(&chunked))), 413, "too_large");
}

static void a_query_is_typed_and_bounded(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = kit_get(k, "/api/v1/essays?page=3&page_size=10&search=caf%C3%A9+au%20lait&all=true&other=1",
				      TEACHER);

	assert_str(a.body,
		   STR("{\"page\":3,\"size\":10,\"offset\":20,\"classes\":0,\"all\":1,\"search\":\"caf\xc3\xa9 au lait\"}"));
	assert_str(kit_get(k, "/api/v1/essays", TEACHER).body,
		   STR("{\"page\":1,\"size\":20,\"offset\":0,\"classes\":0,\"all\":0,\"search\":\"\"}"));
	handled = 0;
	expect_refused(kit_get(k, "/api/v1/essays?page=0", TEACHER), 422, "\"pointer\":\"/page\"");
	expect_refused(kit_get(k, "/api/v1/essays?page_size=501", TEACHER), 422, "\"pointer\":\"/page_size\"");
	expect_refused(kit_get(k, "/api/v1/essays?search=%zz", TEACHER), 400, "escape");
	expect_refused(kit_get(k, "/api/v1/essays?search=%ff", TEACHER), 400, "UTF-8");
	expect_refused(kit_get(k, "/api/v1/essays?search=%00", TEACHER), 400, "escape");
}

static void a_parameter_twice_is_refused_unless_a_list(void **state)
{
	struct kit *k = *state;
	const char *id = "0192f0c4-1111-7000-8000-000000000001", *other = "0192f0c4-1111-7000-8000-000000000002";

	expect_refused(kit_get(k, "/api/v1/essays?page=1&page=2", TEACHER), 422, "\"code\":\"duplicate\"");
	expect_refused(kit_get(k, "/api/v1/essays?page=1&%70age=2", TEACHER), 422, "\"pointer\":\"/page\"");
	assert_holds(kit_get(k, arena_printf(k->arena, "/api/v1/essays?class_ids=%s&class_ids=%s", id, other), TEACHER).body,
		     "\"classes\":2");
}

static void a_route_without_body_drops_one(void **state)
{
	assert_int_equal(kit_json(*state, "DELETE", "/api/v1/essays", TEACHER, "{\"ignored\":1}").status, 200);
}

/* ---- multipart ---- */

#define FORM_TYPE "Content-Type: multipart/form-data; boundary=frontier\r\n"

static void put_part(struct buf *b, const char *disposition, struct str bytes)
{
	buf_printf(b, "--frontier\r\nContent-Disposition: form-data; %s\r\n\r\n", disposition);
	buf_puts(b, bytes);
	buf_puts(b, STR("\r\n"));
}

static struct kit_answer upload(struct kit *k, struct buf *form)
{
	buf_puts(form, STR("--frontier--\r\n"));
	return kit_send(k, kit_port(k), "POST", "/api/v1/uploads", TEACHER FORM_TYPE, buf_str(form));
}

static void a_form_brings_fields_and_staged_files(void **state)
{
	struct kit *k = *state;
	struct buf form = buf_in(k->arena);
	struct kit_answer a;

	put_part(&form, "name=\"title\"", STR("Rain"));
	put_part(&form, "name=\"marks\"", STR("12"));
	put_part(&form, "name=\"attachments\"; filename=\"C:\\\\docs\\\\../a b.pdf\"", STR("%PDF-1.7 hello"));
	put_part(&form, "name=\"attachments\"; filename=\"\"", STR(""));
	put_part(&form, "name=\"attachments\"; filename=\"empty.txt\"", STR(""));
	a = upload(k, &form);
	assert_int_equal(a.status, 200);
	assert_holds(a.body, "\"title\":\"Rain\",\"marks\":12");
	assert_holds(a.body, "{\"field\":\"attachments\",\"name\":\"a b.pdf\",\"type\":\"application/pdf\",\"size\":14}");
	assert_holds(a.body, "\"name\":\"empty.txt\"");
	assert_lacks(a.body, "\"name\":\"file\"");
}

static void a_form_is_checked_like_a_body(void **state)
{
	struct kit *k = *state;
	struct buf form = buf_in(k->arena);

	put_part(&form, "name=\"marks\"", STR("1200"));
	put_part(&form, "name=\"marks\"", STR("12"));
	struct kit_answer a = upload(k, &form);

	expect_refused(a, 422, "\"pointer\":\"/title\"");
	assert_holds(a.body, "\"duplicate\"");
}

static void a_form_route_takes_json_too(void **state)
{
	assert_int_equal(kit_json(*state, "POST", "/api/v1/uploads", TEACHER, "{\"title\":\"a\"}").status, 200);
	handled = 0;
	expect_refused(
		kit_send(*state, kit_port(*state), "POST", "/api/v1/uploads", TEACHER "Content-Type: text/csv\r\n", STR("a")),
		415, "multipart/form-data");
}

static void more_than_five_files_are_refused(void **state)
{
	struct kit *k = *state;
	struct buf form = buf_in(k->arena);

	put_part(&form, "name=\"title\"", STR("Rain"));
	for (int i = 0; i < 6; i++)
		put_part(&form, "name=\"attachments\"; filename=\"a.txt\"", STR("text"));
	expect_refused(upload(k, &form), 422, "too_many");
}

static void a_field_above_64_kib_and_a_file_above_20_mib_are_refused(void **state)
{
	struct kit *k = *state;
	struct buf form = buf_in(k->arena);
	size_t n = (20u << 20) + 1;
	char *big = mem_alloc(n);

	memset(big, 'x', n);
	put_part(&form, "name=\"title\"", (struct str){big, (64u << 10) + 1});
	expect_refused(upload(k, &form), 413, "a field has");
	form = buf_in(k->arena);
	put_part(&form, "name=\"a\"; filename=\"a\"", (struct str){big, n});
	expect_refused(upload(k, &form), 413, "20 MiB");
	free(big);
}

static void a_form_that_is_cut_off_is_malformed(void **state)
{
	struct kit *k = *state;

	expect_refused(kit_send(k, kit_port(k), "POST", "/api/v1/uploads", TEACHER FORM_TYPE,
				STR("--frontier\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nRain")),
		       400, "malformed");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_right_body_reaches_the_handler),
		T(every_wrong_field_is_told_at_once),
		T(what_is_no_json_is_malformed),
		T(other_media_types_are_refused_after_the_token),
		T(a_body_above_256_kib_is_refused),
		T(a_query_is_typed_and_bounded),
		T(a_parameter_twice_is_refused_unless_a_list),
		T(a_route_without_body_drops_one),
		T(a_form_brings_fields_and_staged_files),
		T(a_form_is_checked_like_a_body),
		T(a_form_route_takes_json_too),
		T(more_than_five_files_are_refused),
		T(a_field_above_64_kib_and_a_file_above_20_mib_are_refused),
		T(a_form_that_is_cut_off_is_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
