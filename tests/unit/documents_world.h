/* SPDX-License-Identifier: Apache-2.0 */
/* A tiny service with documents over a real PostgreSQL, for the tests of the kit's document store and sweep. */
#ifndef S24_DOCUMENTS_WORLD_H
#define S24_DOCUMENTS_WORLD_H

#include "kit_fixture.h"

#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/await.h"
#include "svc/documents.h"
#include "unit/real_pg.h"

static struct real_pg *server;

static inline struct uuid the_school(void)
{
	struct uuid id = {{1}};

	IGNORE(uuid_parse(STR("01900000-0000-7000-8000-000000000001"), &id)); /* it is one */
	return id;
}

/* The test's callers come without a school. */
static inline struct doc_scope scope_of(struct req *req)
{
	req->who.school_id = the_school();
	return docs_scope(req);
}

SUSPENDS static inline enum err wait_a_little(struct req *req)
{
	enum err e = sleep_ms(req->daemon->loop, 100, req->deadline);

	return e != OK ? e : req_reply_message(req, "waited");
}

/* Lets the daemon's loop run until the admin listener's page has the text. */
static inline bool becomes(struct kit *k, const char *page, const char *text)
{
	for (int i = 0; i < 150; i++) {
		struct str body = kit_admin_get(k, page).body;

		if (body.n != 0 && memmem(body.p, body.n, text, strlen(text)) != NULL)
			return true;
		assert_int_equal(kit_get(k, "/api/v1/wait", "").status, 200);
	}
	return false;
}

static inline int start_postgres(void **state)
{
	static const char *const names[] = {"0001_roles.sql", "0002_common.sql", "0005_documents.sql", "0006_sweep_documents.sql",
					    "0007_quiz_documents.sql"};

	(void)state;
	server = real_pg_start();
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		real_pg_migrate(server, names[i]);
	setenv("DATABASE_URL", real_pg_url(server, "schools24_quiz"), 1);
	return 0;
}

static inline int stop_postgres(void **state)
{
	(void)state;
	server = real_pg_free(server);
	return 0;
}

#endif
