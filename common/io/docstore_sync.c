/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's way to MongoDB: mongo_write.c's bulks without the loop. */
#include "io/docstore_sync.h"

#include <stdlib.h>
#include <string.h>

#include "base/timefmt.h"
#include "io/mongo_job.h"

#define SERVICES_MOST 32 /* a database each */
#define BUDGET_MS 10000

struct docstore_sync {
	mongoc_client_t *client;
	struct docstore_mongo *databases[SERVICES_MOST]; /* what mongo_write.c keeps of each */
	size_t n;
};

enum err docstore_sync_open(const char *mongo_uri, struct docstore_sync **ret)
{
	struct docstore_sync *s;
	mongoc_client_t *client;
	mongoc_uri_t *uri;

	mongo_library();
	uri = mongo_uri_of(mongo_uri, (struct mongo_waits){.selection_ms = 10000, .connect_ms = 5000, .socket_ms = 30000});
	client = uri != NULL ? mongoc_client_new_from_uri(uri) : NULL;
	mongoc_uri_destroy(uri);
	if (client == NULL)
		return ERR_INVALID;
	mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
	s = mem_zalloc(sizeof(*s));
	s->client = client;
	*ret = s;
	return OK;
}

struct docstore_sync *docstore_sync_close(struct docstore_sync *s)
{
	if (s == NULL)
		return NULL;
	for (size_t i = 0; i < s->n; i++) {
		pthread_mutex_destroy(&s->databases[i]->lock);
		free(s->databases[i]->database);
		free(s->databases[i]);
	}
	mongoc_client_destroy(s->client);
	free(s);
	return NULL;
}

static struct docstore_mongo *database_of(struct docstore_sync *s, const char *service, struct arena *arena)
{
	const char *name = arena_printf(arena, "schools24_%s", service);

	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->databases[i]->database, name) == 0)
			return s->databases[i];
	if (s->n == SERVICES_MOST)
		return NULL;
	s->databases[s->n] = mem_zalloc(sizeof(*s->databases[0]));
	s->databases[s->n]->database = mem_strdup(name);
	pthread_mutex_init(&s->databases[s->n]->lock, NULL);
	return s->databases[s->n++];
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the job writes them */
enum err docstore_sync_upsert(struct docstore_sync *s, const struct doc_batch *b, enum doc_outcome *outcomes, int64_t *versions)
{
	struct mongo_job j = {.s = database_of(s, b->service, b->arena),
			      .arena = b->arena,
			      .school = b->school,
			      .collection = b->collection,
			      .now_us = clock_real_us(),
			      .budget_ms = BUDGET_MS,
			      .append = b->append,
			      .n = b->n,
			      .outcomes = outcomes,
			      .stored_v = versions};

	if (j.s == NULL)
		return ERR_BUG;
	j.docs = arena_dup(b->arena, b->docs, b->n * sizeof(*b->docs));
	j.duplicate = arena_array(b->arena, b->n + 1, sizeof(*j.duplicate));
	return mongo_upsert_now(&j, s->client);
}
