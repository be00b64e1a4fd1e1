/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The document store on MongoDB. The driver blocks, so each call is a job in the work pool. A job owns copies of everything in an arena of its
 * own, because its fiber may walk away; what it found is copied to the caller's arena when it did not.
 */
#include <stdlib.h>

#include "base/str.h"
#include "io/mongo_job.h"

static void store_unref(struct docstore_mongo *s)
{
	if (--s->refs > 0)
		return;
	mongoc_client_pool_destroy(s->clients);
	pthread_mutex_destroy(&s->lock);
	free(s->database);
	free(s);
}

/* ---- jobs -------------------------------------------------------------------------------------------------------------------------- */

struct mongo_job *mongo_job_new(struct docstore *port, enum err (*fn)(struct mongo_job *, mongoc_client_t *),
				const char *collection, struct deadline d)
{
	struct docstore_mongo *s = CONTAINER_OF(port, struct docstore_mongo, port);
	struct arena *arena = arena_new();
	struct mongo_job *j = arena_zalloc(arena, sizeof(*j));
	int64_t left_ms = d.at_us == INT64_MAX ? 10000 : deadline_left_ms(s->loop, d);

	j->s = s;
	j->arena = arena;
	j->fn = fn;
	j->collection = arena_strdup(arena, collection);
	j->now_us = loop_real_us(s->loop);
	j->budget_ms = left_ms < 1 ? 1 : left_ms > 10000 ? 10000 : left_ms;
	s->refs++;
	return j;
}

static void job_release(void *arg)
{
	struct mongo_job *j = arg;
	struct docstore_mongo *s = j->s;

	arena_free(j->arena);
	store_unref(s);
}

static enum err job_main(void *arg)
{
	struct mongo_job *j = arg;
	mongoc_client_t *client = mongoc_client_pool_pop(j->s->clients); /* NULL after waitQueueTimeoutMS */
	enum err e;

	if (client == NULL)
		return ERR_OVERLOAD;
	e = j->fn(j, client);
	j->ok = e == OK;
	mongoc_client_pool_push(j->s->clients, client);
	return e;
}

static void job_collect(void *arg, void *to)
{
	struct mongo_job *j = arg;

	if (j->ok && j->collect != NULL)
		j->collect(j, to);
}

SUSPENDS enum err mongo_job_run(struct mongo_job *j, void (*collect)(struct mongo_job *j, void *to), void *to, struct deadline d)
{
	j->collect = collect;
	return work_run(j->s->pool,
			(struct work_job){.fn = job_main, .collect = job_collect, .release = job_release, .arg = j, .to = to}, d);
}

mongoc_collection_t *mongo_collection_of(struct mongo_job *j, mongoc_client_t *client, const char *name)
{
	return mongoc_client_get_collection(client, j->s->database, name);
}

enum err mongo_fault_of(const bson_error_t *error)
{
	return error->domain == MONGOC_ERROR_SERVER && error->code == MAX_TIME_EXPIRED ? ERR_TIMEOUT : ERR_DB;
}

enum err mongo_find_each(mongoc_collection_t *c, const bson_t *filter, const bson_t *opts,
			 bool (*each)(void *ctx, const bson_t *doc), void *ctx)
{
	mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(c, filter, opts, NULL);
	bson_error_t error;
	const bson_t *doc;
	enum err e = OK;

	while (e == OK && mongoc_cursor_next(cursor, &doc)) {
		if (!each(ctx, doc))
			e = ERR_CORRUPT;
	}
	if (mongoc_cursor_error(cursor, &error))
		e = mongo_fault_of(&error);
	mongoc_cursor_destroy(cursor);
	return e;
}

/* ---- reads -------------------------------------------------------------------------------------------------------------------------- */

static bool read_doc(void *ctx, const bson_t *stored)
{
	struct mongo_job *j = ctx;
	struct buf json = buf_in(j->arena), key = buf_in(j->arena);
	const uint8_t *bytes = NULL;
	bson_subtype_t subtype;
	struct doc *doc;
	bson_iter_t iter;
	uint32_t n = 0;

	if (j->page.n > j->find.limit)
		return true;
	doc = &j->page.docs[j->page.n];
	if (!bson_iter_init_find(&iter, stored, "_id") || !BSON_ITER_HOLDS_BINARY(&iter))
		return false;
	bson_iter_binary(&iter, &subtype, &n, &bytes);
	/* The filter has the school; what comes back is looked at all the same. */
	if (n != MONGO_ID_SIZE || memcmp(bytes, j->school.b, 16) != 0 || !bson_iter_init_find(&iter, stored, "v"))
		return false;
	memcpy(doc->id.b, bytes + 16, 16);
	doc->version = bson_iter_as_int64(&iter);
	if (!mongo_put_document(&json, stored) || !mongo_put_path(&key, stored, j->find.sort))
		return false;
	doc->json = buf_str(&json);
	j->page.keys[j->page.n++] = buf_str(&key);
	return true;
}

static enum err read_page(struct mongo_job *j, mongoc_client_t *client, const bson_t *filter)
{
	mongoc_collection_t *c = mongo_collection_of(j, client, j->collection);
	bson_t opts, sort;
	enum err e;

	j->page.docs = arena_array(j->arena, j->find.limit + 1, sizeof(*j->page.docs));
	j->page.keys = arena_array(j->arena, j->find.limit + 1, sizeof(*j->page.keys));
	bson_init(&opts);
	bson_append_document_begin(&opts, "sort", -1, &sort);
	mongo_sort(&sort, &j->find);
	bson_append_document_end(&opts, &sort);
	bson_append_int64(&opts, "limit", -1, (int64_t)j->find.limit + 1);
	bson_append_int64(&opts, "maxTimeMS", -1, j->budget_ms);
	e = mongo_find_each(c, filter, &opts, read_doc, j);
	bson_destroy(&opts);
	mongoc_collection_destroy(c);
	return e;
}

static enum err find_job(struct mongo_job *j, mongoc_client_t *client)
{
	bson_t filter;
	enum err e = ERR_INVALID;

	bson_init(&filter);
	if (mongo_filter(&filter, j->school, j->now_us, &j->find, &j->after, j->arena))
		e = read_page(j, client, &filter);
	bson_destroy(&filter);
	return e;
}

static enum err get_job(struct mongo_job *j, mongoc_client_t *client)
{
	uint8_t id[MONGO_ID_SIZE];
	bson_t filter;
	enum err e;

	mongo_id(j->school, j->id, id);
	bson_init(&filter);
	bson_append_binary(&filter, "_id", -1, BSON_SUBTYPE_BINARY, id, sizeof(id));
	mongo_living(&filter, j->school, j->now_us);
	e = read_page(j, client, &filter);
	bson_destroy(&filter);
	return e == OK && j->page.n == 0 ? ERR_NOT_FOUND : e;
}

struct page_to {
	struct arena *arena;
	struct doc_page page;
};

static void collect_page(struct mongo_job *j, void *to)
{
	struct page_to *t = to;

	t->page.n = j->page.n;
	t->page.docs = arena_dup(t->arena, j->page.docs, j->page.n * sizeof(struct doc));
	t->page.keys = arena_array(t->arena, j->page.n, sizeof(struct str));
	for (size_t i = 0; i < j->page.n; i++) {
		t->page.docs[i].json = arena_str(t->arena, j->page.docs[i].json);
		t->page.keys[i] = arena_str(t->arena, j->page.keys[i]);
	}
}

SUSPENDS static enum err get_mongo(struct docstore *port, const struct doc_scope *scope, const char *collection, struct uuid id,
				   struct doc *ret)
{
	struct mongo_job *j = mongo_job_new(port, get_job, collection, scope->deadline);
	struct page_to to = {.arena = scope->arena};
	enum err e;

	j->school = scope->school;
	j->id = id;
	j->find.limit = 1;
	e = mongo_job_run(j, collect_page, &to, scope->deadline);
	if (e == OK)
		*ret = to.page.docs[0];
	return e;
}

SUSPENDS static enum err find_mongo(struct docstore *port, const struct doc_scope *scope, const char *collection,
				    const struct doc_find *find, const struct doc_after *after, struct doc_page *ret)
{
	struct mongo_job *j = mongo_job_new(port, find_job, collection, scope->deadline);
	struct page_to to = {.arena = scope->arena};
	struct doc_cond *conds = arena_array(j->arena, find->n_conds + 1, sizeof(*conds));
	enum err e;

	for (size_t i = 0; i < find->n_conds; i++) {
		conds[i] = find->conds[i];
		conds[i].path = arena_strdup(j->arena, find->conds[i].path);
		conds[i].value = arena_str(j->arena, find->conds[i].value);
	}
	j->school = scope->school;
	j->find = *find;
	j->find.conds = conds;
	j->find.sort = find->sort != NULL ? arena_strdup(j->arena, find->sort) : NULL;
	j->after = *after;
	j->after.key = arena_str(j->arena, after->key);
	e = mongo_job_run(j, collect_page, &to, scope->deadline);
	if (e == OK)
		*ret = to.page;
	return e;
}

static enum err ping_job(struct mongo_job *j, mongoc_client_t *client)
{
	bson_t *command = BCON_NEW("ping", BCON_INT32(1));
	bson_error_t error;
	bool ok = mongoc_client_command_simple(client, j->s->database, command, NULL, NULL, &error);

	bson_destroy(command);
	return ok ? OK : ERR_DB;
}

SUSPENDS static enum err ping_mongo(struct docstore *port, struct deadline d)
{
	return mongo_job_run(mongo_job_new(port, ping_job, "", d), NULL, NULL, d);
}

/* The server itself removes what has expired, by its index. */
static enum err sweep_collection(struct mongo_job *j, mongoc_client_t *client, const char *name)
{
	mongoc_collection_t *c = mongo_collection_of(j, client, name);
	bson_t *filter = BCON_NEW("deleted_at", "{", "$lt", BCON_DATE_TIME(j->before_ms), "}");
	bson_error_t error;
	bson_iter_t iter;
	bson_t reply;
	enum err e = mongoc_collection_delete_many(c, filter, NULL, &reply, &error) ? OK : mongo_fault_of(&error);

	if (e == OK && bson_iter_init_find(&iter, &reply, "deletedCount"))
		j->removed += bson_iter_as_int64(&iter);
	bson_destroy(&reply);
	bson_destroy(filter);
	mongoc_collection_destroy(c);
	return e;
}

static enum err sweep_job(struct mongo_job *j, mongoc_client_t *client)
{
	mongoc_database_t *database = mongoc_client_get_database(client, j->s->database);
	bson_error_t error;
	char **names = mongoc_database_get_collection_names_with_opts(database, NULL, &error);
	enum err e = names != NULL ? OK : mongo_fault_of(&error);

	for (size_t i = 0; names != NULL && names[i] != NULL && e == OK; i++)
		if (strcmp(names[i], MONGO_REGISTRY) != 0 && strncmp(names[i], "system.", 7) != 0)
			e = sweep_collection(j, client, names[i]);
	bson_strfreev(names);
	mongoc_database_destroy(database);
	return e;
}

static void collect_removed(struct mongo_job *j, void *to)
{
	*(int64_t *)to = j->removed;
}

SUSPENDS static enum err sweep_mongo(struct docstore *port, int64_t older_s, struct deadline d, int64_t *ret_removed)
{
	struct mongo_job *j = mongo_job_new(port, sweep_job, "", d);

	j->before_ms = j->now_us / US_PER_MS - older_s * 1000;
	return mongo_job_run(j, collect_removed, ret_removed, d);
}

/* ---- opening ------------------------------------------------------------------------------------------------------------------------ */

static void init_library(void)
{
	mongoc_init();
	mongoc_log_set_handler(NULL, NULL); /* its lines may quote documents and addresses */
}

void mongo_library(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init_library);
}

static void set_default(mongoc_uri_t *uri, const char *option, int32_t value)
{
	if (!mongoc_uri_has_option(uri, option))
		mongoc_uri_set_option_as_int32(uri, option, value);
}

/* The driver's own waits are made for people at a shell: 30 s to find a server, 5 min for an answer. */
mongoc_uri_t *mongo_uri_of(const char *text, struct mongo_waits waits)
{
	bson_error_t error;
	mongoc_uri_t *uri = mongoc_uri_new_with_error(text, &error);
	mongoc_write_concern_t *durable;

	if (uri == NULL)
		return NULL;
	set_default(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, waits.selection_ms);
	set_default(uri, MONGOC_URI_CONNECTTIMEOUTMS, waits.connect_ms);
	set_default(uri, MONGOC_URI_SOCKETTIMEOUTMS, waits.socket_ms);
	durable = mongoc_write_concern_new();
	mongoc_write_concern_set_wmajority(durable, 10000);
	mongoc_write_concern_set_journal(durable, true);
	mongoc_uri_set_write_concern(uri, durable);
	mongoc_write_concern_destroy(durable);
	return uri;
}

static mongoc_client_pool_t *open_clients(const char *text)
{
	mongoc_uri_t *uri = mongo_uri_of(text,
					 (struct mongo_waits){.selection_ms = 2000, .connect_ms = 2000, .socket_ms = 10000});
	mongoc_client_pool_t *clients;
	bson_error_t error;

	if (uri == NULL)
		return NULL;
	set_default(uri, MONGOC_URI_WAITQUEUETIMEOUTMS, 2000);
	clients = mongoc_client_pool_new_with_error(uri, &error);
	mongoc_uri_destroy(uri);
	if (clients != NULL)
		mongoc_client_pool_set_error_api(clients, MONGOC_ERROR_API_VERSION_2);
	return clients;
}

static void close_mongo(struct docstore *port)
{
	store_unref(CONTAINER_OF(port, struct docstore_mongo, port));
}

enum err docstore_open_mongo(struct loop *loop, struct work_pool *pool, const char *uri, const char *service,
			     struct docstore **ret)
{
	static const struct docstore_driver driver = {.close = close_mongo,
						      .ping = ping_mongo,
						      .sweep = sweep_mongo,
						      .upsert = mongo_upsert,
						      .get = get_mongo,
						      .find = find_mongo,
						      .create_index = mongo_create_index};
	mongoc_client_pool_t *clients;
	struct docstore_mongo *s;
	struct buf name = {0};

	mongo_library();
	clients = open_clients(uri);
	if (clients == NULL)
		return ERR_INVALID;
	buf_printf(&name, "schools24_%s", service);
	s = mem_zalloc(sizeof(*s));
	s->port.driver = &driver;
	s->loop = loop;
	s->pool = pool;
	s->clients = clients;
	s->database = mem_strdup(buf_cstr(&name));
	s->refs = 1;
	pthread_mutex_init(&s->lock, NULL);
	buf_done(&name);
	*ret = &s->port;
	return OK;
}
