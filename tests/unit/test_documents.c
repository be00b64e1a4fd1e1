/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon with documents: the same requests over PostgreSQL and, where S24_TEST_MONGO_URI names a server, MongoDB; and a MongoDB that is away. */
#include "documents_world.h"

SUSPENDS static enum err put_note(struct req *req)
{
	struct doc_scope scope = scope_of(req);
	struct doc doc = {
		.id = req_param(req, "note_id"), .version = req->now_us, .json = STR("{\"text\":\"read chapter two\"}")};
	enum doc_outcome outcome;
	enum err e = docstore_upsert_many(daemon_documents(req->daemon), &scope, "notes", &doc, 1, &outcome);

	return e != OK ? e : req_reply_message(req, outcome == DOC_APPLIED ? "kept" : "refused");
}

SUSPENDS static enum err get_note(struct req *req)
{
	struct doc_scope scope = scope_of(req);
	struct doc doc;
	enum err e = docstore_get(daemon_documents(req->daemon), &scope, "notes", req_param(req, "note_id"), &doc);

	if (e != OK)
		return e;
	req->version = doc.version;
	buf_puts(&req->body, doc.json);
	return OK;
}

SUSPENDS static enum err find_notes(struct req *req)
{
	const struct doc_cond cond = {"text", DOC_EQ, STR("\"read chapter two\"")};
	const struct doc_find find = {.conds = &cond, .n_conds = 1, .limit = 10};
	struct doc_scope scope = scope_of(req);
	struct str cursor;
	struct list list;
	enum err e = docstore_find(daemon_documents(req->daemon), &scope, "notes", &find, &list, &cursor);

	if (e != OK)
		return e;
	req_json_begin(req);
	req_json_int(req, "found", (int64_t)list.n);
	req_json_end(req);
	return OK;
}

/* The caller's own scope, which has no school here. */
SUSPENDS static enum err without_school(struct req *req)
{
	struct doc_scope scope = docs_scope(req);
	struct doc doc;

	return docstore_get(daemon_documents(req->daemon), &scope, "notes", the_school(), &doc);
}

/* clang-format off */
static const struct route routes[] = {
	{HTTP_PUT, "/notes/{note_id}", ROLE_TEACHER, MAY_SELF, .handler = put_note},
	{HTTP_GET, "/notes/{note_id}", ROLE_TEACHER, MAY_SELF, .handler = get_note},
	{HTTP_GET, "/notes", ROLE_TEACHER, MAY_SELF, .handler = find_notes},
	{HTTP_GET, "/stray", ROLE_TEACHER, MAY_SELF, .handler = without_school},
	{HTTP_GET, "/wait", ROLE_ANYONE, MAY_PUBLIC, .handler = wait_a_little},
	ROUTE_END,
};
/* clang-format on */
static const struct service service = {.name = "quiz", .routes = routes, .flags = SERVICE_NO_BUFFER | SERVICE_DOCUMENTS};

static const char *mongo; /* address for the next daemon; NULL: embedded */

static int setup(void **state)
{
	if (mongo != NULL)
		setenv("S24_MONGO_URI", mongo, 1);
	else
		unsetenv("S24_MONGO_URI");
	*state = kit_open(&service);
	return 0;
}

static int teardown(void **state)
{
	kit_close(*state);
	return 0;
}

static void what_a_request_writes_the_next_one_reads(void **state)
{
	struct kit *k = *state;
	char id[UUID_TEXT + 1];
	const char *target;
	struct kit_answer a;

	uuid_text(uuid_v7(clock_real_us()), id);
	target = arena_printf(k->arena, "/api/v1/notes/%s", id);
	assert_int_equal(kit_get(k, target, TEACHER).status, 404);
	a = kit_json(k, "PUT", target, TEACHER, "{}");
	assert_int_equal(a.status, 200);
	assert_holds(a.body, "kept");
	a = kit_get(k, target, TEACHER);
	assert_int_equal(a.status, 200);
	assert_holds(a.body, "read chapter two");
	assert_true(strlen(kit_header(k, a, "ETag")) > 2);
	a = kit_get(k, "/api/v1/notes", TEACHER);
	assert_int_equal(a.status, 200);
	assert_lacks(a.body, "\"found\":0");
}

static void a_caller_without_a_school_has_no_documents(void **state)
{
	assert_int_equal(kit_get(*state, "/api/v1/stray", TEACHER).status, err_status(ERR_INVALID));
}

static void the_store_is_ready_and_measured(void **state)
{
	struct kit *k = *state;
	struct str metrics;

	assert_true(becomes(k, "/ready", "{\"away\":[],\"status\":\"ready\"}"));
	metrics = kit_admin_get(k, "/metrics").body;
	if (mongo == NULL) {
		assert_lacks(metrics, "schools24_documents_up"); /* the database's own numbers tell */
		return;
	}
	assert_holds(metrics, "schools24_documents_up 1\n");
	assert_holds(metrics, "schools24_documents_work_queued 0\n");
}

static void a_mongodb_that_is_away_is_named_and_only_degrades(void **state)
{
	struct kit *k = *state;

	assert_true(becomes(k, "/ready", "\"documents\""));
	assert_int_equal(kit_admin_get(k, "/ready").status, 200);
	assert_holds(kit_admin_get(k, "/ready").body, "\"status\":\"degraded\"");
	assert_holds(kit_admin_get(k, "/metrics").body, "schools24_documents_up 0\n");
	assert_int_equal(kit_get(k, "/api/v1/notes", TEACHER).status, err_status(ERR_DB));
}

static void a_service_without_a_database_needs_mongodb(void **state)
{
	const struct service bare = {
		.name = "bare", .routes = routes, .flags = SERVICE_NO_PG | SERVICE_NO_BUFFER | SERVICE_DOCUMENTS};
	struct buf problems = {0};
	struct daemon d = {0};

	(void)state;
	unsetenv("S24_MONGO_URI");
	assert_int_equal(daemon_load(&d, &bare, NULL, &problems), ERR_INVALID);
	assert_holds(buf_str(&problems), "S24_MONGO_URI: is needed");
	arena_free(d.arena);
	buf_done(&problems);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest both[] = {
		T(what_a_request_writes_the_next_one_reads),
		T(a_caller_without_a_school_has_no_documents),
		T(the_store_is_ready_and_measured),
	};
	const struct CMUnitTest away[] = {
		T(a_mongodb_that_is_away_is_named_and_only_degrades),
		cmocka_unit_test(a_service_without_a_database_needs_mongodb),
	};
	const char *given = getenv("S24_TEST_MONGO_URI");
	int failed = cmocka_run_group_tests_name("PostgreSQL", both, start_postgres, stop_postgres);

	if (given != NULL && given[0] != '\0') {
		mongo = given;
		failed += cmocka_run_group_tests_name("MongoDB", both, start_postgres, stop_postgres);
	} else {
		print_message("the MongoDB half is skipped: S24_TEST_MONGO_URI names no server (tools/s24/mongo_server.sh starts "
			      "one)\n");
	}
	mongo = "mongodb://127.0.0.1:1/";
	return failed + cmocka_run_group_tests_name("no MongoDB", away, start_postgres, stop_postgres);
}
