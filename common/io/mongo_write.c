/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes and indexes of the document store on MongoDB.
 *
 * A write replaces the document where its version is older, and inserts it otherwise (unordered bulk). When the stored version is not older the
 * insert meets _id: error 11000. The same error comes from a unique index, and from two first inserts that meet, so the stored versions are
 * read: not older is done; older is tried once more, and refused if it fails again.
 */
#include "base/str.h"
#include "base/uuid.h"
#include "io/mongo_job.h"

#define DUPLICATE_KEY 11000

/* ---- expiry ------------------------------------------------------------------------------------------------------------------------ */

static bool read_expiry(void *ctx, const bson_t *doc)
{
	struct mongo_expiry *x = ctx;
	bson_iter_t iter;

	if (bson_iter_init_find(&iter, doc, "paths") && BSON_ITER_HOLDS_UTF8(&iter))
		snprintf(x->path, sizeof(x->path), "%s", bson_iter_utf8(&iter, NULL));
	if (bson_iter_init_find(&iter, doc, "expire_s"))
		x->expire_s = bson_iter_as_int64(&iter);
	return true;
}

static void expiry_forget(struct docstore_mongo *s, const char *collection)
{
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->n_expiries; i++) {
		if (strcmp(s->expiries[i].collection, collection) == 0)
			s->expiries[i].read_at_us = INT64_MIN / 2;
	}
	pthread_mutex_unlock(&s->lock);
}

/* By which path the collection expires. Another process may have said so: known for a minute, then read again. */
static enum err expiry_of(struct mongo_job *j, mongoc_client_t *client, struct mongo_expiry *ret)
{
	struct docstore_mongo *s = j->s;
	struct mongo_expiry *known = NULL;
	mongoc_collection_t *c;
	bson_t *filter;
	enum err e;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; known == NULL && i < s->n_expiries; i++) {
		if (strcmp(s->expiries[i].collection, j->collection) == 0)
			known = &s->expiries[i];
	}
	if (known == NULL && s->n_expiries < EXPIRIES_MAX) {
		known = &s->expiries[s->n_expiries++];
		*known = (struct mongo_expiry){.read_at_us = INT64_MIN / 2};
		snprintf(known->collection, sizeof(known->collection), "%s", j->collection);
	}
	if (known != NULL)
		*ret = *known;
	pthread_mutex_unlock(&s->lock);
	if (known != NULL && j->now_us - ret->read_at_us < EXPIRY_KNOWN_US)
		return OK;

	*ret = (struct mongo_expiry){.read_at_us = j->now_us};
	snprintf(ret->collection, sizeof(ret->collection), "%s", j->collection);
	c = mongo_collection_of(j, client, MONGO_REGISTRY);
	filter = BCON_NEW("collection", BCON_UTF8(j->collection), "expire_s", "{", "$gt", BCON_INT64(0), "}");
	e = mongo_find_each(c, filter, NULL, read_expiry, ret);
	bson_destroy(filter);
	mongoc_collection_destroy(c);
	if (e != OK || known == NULL)
		return e;
	pthread_mutex_lock(&s->lock);
	*known = *ret;
	pthread_mutex_unlock(&s->lock);
	return OK;
}

/* ---- upsert ------------------------------------------------------------------------------------------------------------------------ */

/* Marks the duplicates of a bulk's reply; ops[i] is the document of the bulk's i-th operation. ERR_INVALID: refused for another reason. */
static enum err read_write_errors(struct mongo_job *j, const bson_t *reply, const size_t *ops, size_t n_ops,
				  const bson_error_t *error)
{
	bson_iter_t iter, list, member;
	size_t seen = 0;

	if (!bson_iter_init_find(&iter, reply, "writeErrors") || !bson_iter_recurse(&iter, &list))
		return mongo_fault_of(error);
	while (bson_iter_next(&list)) {
		int64_t index = -1, code = 0;

		if (bson_iter_recurse(&list, &member) && bson_iter_find(&member, "index"))
			index = bson_iter_as_int64(&member);
		if (bson_iter_recurse(&list, &member) && bson_iter_find(&member, "code"))
			code = bson_iter_as_int64(&member);
		if (index < 0 || index >= (int64_t)n_ops)
			return ERR_DB;
		if (code != DUPLICATE_KEY)
			return ERR_INVALID;
		j->duplicate[ops[index]] = true;
		seen++;
	}
	/* A failure without a word about any document says nothing about them all; so does a write concern that was not met. */
	if (seen == 0 ||
	    (bson_iter_init_find(&iter, reply, "writeConcernErrors") && bson_iter_recurse(&iter, &list) && bson_iter_next(&list)))
		return ERR_DB;
	return OK;
}

static bool add_write(struct mongo_job *j, mongoc_bulk_operation_t *bulk, const struct doc *doc, const struct mongo_expiry *x)
{
	uint8_t id[MONGO_ID_SIZE];
	bson_t selector, older, own, *opts = BCON_NEW("upsert", BCON_BOOL(true));
	bson_error_t error;
	bool ok;

	mongo_id(j->school, doc->id, id);
	bson_init(&selector);
	bson_append_binary(&selector, "_id", -1, BSON_SUBTYPE_BINARY, id, sizeof(id));
	bson_append_document_begin(&selector, "v", -1, &older);
	bson_append_int64(&older, "$lt", -1, doc->version);
	bson_append_document_end(&selector, &older);
	bson_init(&own);
	ok = mongo_document(&own, j->school, doc, j->now_us, x->path[0] != '\0' ? x->path : NULL, x->expire_s) &&
	     (j->append ? mongoc_bulk_operation_insert_with_opts(bulk, &own, NULL, &error)
			: mongoc_bulk_operation_replace_one_with_opts(bulk, &selector, &own, opts, &error));
	bson_destroy(&own);
	bson_destroy(&selector);
	bson_destroy(opts);
	return ok;
}

/* Writes the documents ops[0..n_ops) and marks in j->duplicate those that met something. */
static enum err write_bulk(struct mongo_job *j, mongoc_collection_t *c, const size_t *ops, size_t n_ops,
			   const struct mongo_expiry *x)
{
	bson_t *opts = BCON_NEW("ordered", BCON_BOOL(false)), reply;
	mongoc_bulk_operation_t *bulk = mongoc_collection_create_bulk_operation_with_opts(c, opts);
	bson_error_t error;
	enum err e = OK;

	for (size_t i = 0; e == OK && i < n_ops; i++) {
		j->duplicate[ops[i]] = false;
		if (!add_write(j, bulk, &j->docs[ops[i]], x))
			e = ERR_INVALID;
	}
	if (e == OK) {
		if (mongoc_bulk_operation_execute(bulk, &reply, &error) == 0)
			e = read_write_errors(j, &reply, ops, n_ops, &error);
		bson_destroy(&reply);
	}
	mongoc_bulk_operation_destroy(bulk);
	bson_destroy(opts);
	return e;
}

static bool read_version(void *ctx, const bson_t *doc)
{
	struct mongo_job *j = ctx;
	const uint8_t *bytes = NULL;
	bson_subtype_t subtype;
	bson_iter_t iter;
	uint32_t n = 0;
	int64_t v;

	if (!bson_iter_init_find(&iter, doc, "_id") || !BSON_ITER_HOLDS_BINARY(&iter))
		return false;
	bson_iter_binary(&iter, &subtype, &n, &bytes);
	if (n != MONGO_ID_SIZE || !bson_iter_init_find(&iter, doc, "v"))
		return false;
	v = bson_iter_as_int64(&iter);
	for (size_t i = 0; i < j->n; i++) {
		if (memcmp(j->docs[i].id.b, bytes + 16, 16) == 0)
			j->stored_v[i] = v;
	}
	return true;
}

static enum err read_versions(struct mongo_job *j, mongoc_collection_t *c, const size_t *ops, size_t n_ops)
{
	bson_t filter, in, list,
		*opts = BCON_NEW("projection", "{", "v", BCON_INT32(1), "}", "maxTimeMS", BCON_INT64(j->budget_ms));
	uint8_t id[MONGO_ID_SIZE];
	char key[24];
	enum err e;

	bson_init(&filter);
	bson_append_document_begin(&filter, "_id", -1, &in);
	bson_append_array_begin(&in, "$in", -1, &list);
	for (size_t i = 0; i < n_ops; i++) {
		j->stored_v[ops[i]] = 0;
		mongo_id(j->school, j->docs[ops[i]].id, id);
		snprintf(key, sizeof(key), "%zu", i);
		bson_append_binary(&list, key, -1, BSON_SUBTYPE_BINARY, id, sizeof(id));
	}
	bson_append_array_end(&in, &list);
	bson_append_document_end(&filter, &in);
	e = mongo_find_each(c, &filter, opts, read_version, j);
	bson_destroy(&filter);
	bson_destroy(opts);
	return e;
}

static enum err upsert_rounds(struct mongo_job *j, mongoc_collection_t *c, const struct mongo_expiry *x)
{
	size_t *ops = arena_array(j->arena, j->n, sizeof(*ops)), n_ops = j->n;
	enum err e;

	for (size_t i = 0; i < j->n; i++)
		ops[i] = i;
	for (int round = 0; n_ops != 0; round++) {
		size_t met = 0, again = 0;

		e = write_bulk(j, c, ops, n_ops, x);
		if (e != OK)
			return e;
		for (size_t i = 0; i < n_ops; i++) {
			if (j->duplicate[ops[i]])
				ops[met++] = ops[i];
			else
				j->outcomes[ops[i]] = DOC_APPLIED;
		}
		e = met != 0 ? read_versions(j, c, ops, met) : OK;
		if (e != OK)
			return e;
		for (size_t i = 0; i < met; i++) {
			if (j->stored_v[ops[i]] >= j->docs[ops[i]].version || (j->append && j->stored_v[ops[i]] > 0))
				j->outcomes[ops[i]] = DOC_NEWER;
			else if (round > 0)
				j->outcomes[ops[i]] = DOC_REFUSED;
			else
				ops[again++] = ops[i];
		}
		n_ops = again;
	}
	return OK;
}

enum err mongo_upsert_now(struct mongo_job *j, mongoc_client_t *client)
{
	mongoc_collection_t *c = mongo_collection_of(j, client, j->collection);
	struct mongo_expiry x;
	enum err e = expiry_of(j, client, &x);

	if (e == OK)
		e = upsert_rounds(j, c, &x);
	mongoc_collection_destroy(c);
	return e;
}

static void collect_outcomes(struct mongo_job *j, void *to)
{
	memcpy(to, j->outcomes, j->n * sizeof(*j->outcomes));
}

SUSPENDS enum err mongo_upsert(struct docstore *port, const struct doc_scope *scope, const char *collection,
			       const struct doc *docs, size_t n, enum doc_outcome *outcomes)
{
	struct mongo_job *j = mongo_job_new(port, mongo_upsert_now, collection, scope->deadline);

	j->school = scope->school;
	j->n = n;
	j->docs = arena_dup(j->arena, docs, n * sizeof(*docs));
	for (size_t i = 0; i < n; i++) {
		if (docs[i].json.p != NULL)
			j->docs[i].json = arena_str(j->arena, docs[i].json);
	}
	j->outcomes = arena_array(j->arena, n, sizeof(*j->outcomes));
	j->duplicate = arena_array(j->arena, n, sizeof(*j->duplicate));
	j->stored_v = arena_array(j->arena, n, sizeof(*j->stored_v));
	return mongo_job_run(j, collect_outcomes, outcomes, scope->deadline);
}

/* ---- indexes ------------------------------------------------------------------------------------------------------------------------ */

#define INTERNAL_ERROR 1
#define INDEX_OPTIONS_CONFLICT 85
#define INDEX_KEY_CONFLICT 86

struct registered {
	const struct doc_index *wanted;
	const char *paths;
	bool conflict;
};

static bool text_is(const bson_t *doc, const char *key, const char *want)
{
	bson_iter_t iter;

	return bson_iter_init_find(&iter, doc, key) && BSON_ITER_HOLDS_UTF8(&iter) &&
	       strcmp(bson_iter_utf8(&iter, NULL), want) == 0;
}

static int64_t number_of(const bson_t *doc, const char *key)
{
	bson_iter_t iter;

	return bson_iter_init_find(&iter, doc, key) ? bson_iter_as_int64(&iter) : 0;
}

/* Another index of the collection: the same name must mean the same, and text and expiry are there once. */
static bool read_registered(void *ctx, const bson_t *doc)
{
	struct registered *r = ctx;
	const struct doc_index *x = r->wanted;
	bool is_text = number_of(doc, "text") != 0;
	int64_t expire_s = number_of(doc, "expire_s");

	if (text_is(doc, "name", x->name))
		r->conflict = r->conflict || !text_is(doc, "paths", r->paths) || is_text != x->text ||
			      (number_of(doc, "unique") != 0) != x->unique || expire_s != x->expire_s;
	else
		r->conflict = r->conflict || (is_text && x->text) || (expire_s > 0 && x->expire_s > 0);
	return true;
}

static void index_keys(bson_t *spec, const struct mongo_job *j)
{
	const struct doc_index *x = &j->index;
	bson_t key, filter, exists;

	bson_append_document_begin(spec, "key", -1, &key);
	if (x->expire_s > 0) {
		bson_append_int32(&key, "_expire", -1, 1);
	} else {
		bson_append_int32(&key, "school_id", -1, 1);
		for (size_t i = 0; i < j->n_paths; i++) {
			if (x->text)
				bson_append_utf8(&key, x->paths[i], -1, "text", -1);
			else
				bson_append_int32(&key, x->paths[i], -1, 1);
		}
	}
	bson_append_document_end(spec, &key);
	if (!x->unique)
		return;
	/* Tombstones and documents without a value are not bound. */
	bson_append_bool(spec, "unique", -1, true);
	bson_append_document_begin(spec, "partialFilterExpression", -1, &filter);
	for (size_t i = 0; i < j->n_paths; i++) {
		bson_append_document_begin(&filter, x->paths[i], -1, &exists);
		bson_append_bool(&exists, "$exists", -1, true);
		bson_append_document_end(&filter, &exists);
	}
	bson_append_document_end(spec, &filter);
}

/* The name is another's, or documents are equal already; the latter is an internal error to DocumentDB, known by its words only. */
static bool is_index_conflict(const bson_error_t *error)
{
	if (error->domain != MONGOC_ERROR_SERVER)
		return false;
	return error->code == INDEX_OPTIONS_CONFLICT || error->code == INDEX_KEY_CONFLICT || error->code == DUPLICATE_KEY ||
	       (error->code == INTERNAL_ERROR && strstr(error->message, "exclusion constraint") != NULL);
}

static enum err make_index(struct mongo_job *j, mongoc_client_t *client)
{
	bson_t command, list, spec;
	bson_error_t error;
	enum err e = OK;

	bson_init(&command);
	bson_append_utf8(&command, "createIndexes", -1, j->collection, -1);
	bson_append_array_begin(&command, "indexes", -1, &list);
	bson_append_document_begin(&list, "0", -1, &spec);
	index_keys(&spec, j);
	bson_append_utf8(&spec, "name", -1, j->index.name, -1);
	if (j->index.expire_s > 0)
		bson_append_int32(&spec, "expireAfterSeconds", -1, 0); /* _expire is the very instant */
	if (j->index.text) {
		/* No stop words and stems of one language, and no member of a document that names another. */
		bson_append_utf8(&spec, "default_language", -1, "none", -1);
		bson_append_utf8(&spec, "language_override", -1, "_language_", -1);
	}
	bson_append_document_end(&list, &spec);
	bson_append_array_end(&command, &list);
	if (!mongoc_client_write_command_with_opts(client, j->s->database, &command, NULL, NULL, &error))
		e = is_index_conflict(&error) ? ERR_CONFLICT : mongo_fault_of(&error);
	bson_destroy(&command);
	return e;
}

static enum err register_index(struct mongo_job *j, mongoc_collection_t *registry, const char *paths)
{
	const struct doc_index *x = &j->index;
	char *id = arena_printf(j->arena, "%s/%s", j->collection, x->name);
	bson_t *filter = BCON_NEW("_id", BCON_UTF8(id)), *opts = BCON_NEW("upsert", BCON_BOOL(true));
	bson_t *row = BCON_NEW("_id", BCON_UTF8(id), "collection", BCON_UTF8(j->collection), "name", BCON_UTF8(x->name), "paths",
			       BCON_UTF8(paths), "unique", BCON_INT32(x->unique), "text", BCON_INT32(x->text), "expire_s",
			       BCON_INT64(x->expire_s));
	bson_error_t error;
	enum err e = mongoc_collection_replace_one(registry, filter, row, opts, NULL, &error) ? OK : mongo_fault_of(&error);

	bson_destroy(filter);
	bson_destroy(opts);
	bson_destroy(row);
	return e;
}

/* Documents that are older than the index get their instant; one that changes meanwhile gets it from its own writer. */
struct backfill {
	struct mongo_job *j;
	mongoc_collection_t *c;
};

static bool set_expiry(void *ctx, const bson_t *doc)
{
	struct backfill *b = ctx;
	bson_t *opts, *update;
	bson_error_t error;
	bson_iter_t iter;
	bson_t filter;
	int64_t at_ms;
	bool ok;

	if (!mongo_expiry(doc, b->j->index.paths[0], b->j->index.expire_s, &at_ms))
		return true;
	bson_init(&filter);
	ok = bson_iter_init_find(&iter, doc, "_id") && bson_append_iter(&filter, "_id", -1, &iter);
	ok = ok && bson_append_int64(&filter, "v", -1, number_of(doc, "v"));
	update = BCON_NEW("$set", "{", "_expire", BCON_DATE_TIME(at_ms), "}");
	opts = bson_new();
	ok = ok && mongoc_collection_update_one(b->c, &filter, update, opts, NULL, &error);
	bson_destroy(opts);
	bson_destroy(update);
	bson_destroy(&filter);
	return ok;
}

static enum err fill_expiry(struct mongo_job *j, mongoc_client_t *client)
{
	struct backfill b = {j, mongo_collection_of(j, client, j->collection)};
	bson_t *filter = BCON_NEW(j->index.paths[0], "{", "$exists", BCON_BOOL(true), "}", "_expire", BCON_NULL);
	enum err e = mongo_find_each(b.c, filter, NULL, set_expiry, &b);

	bson_destroy(filter);
	mongoc_collection_destroy(b.c);
	return e == ERR_CORRUPT ? ERR_DB : e;
}

static enum err index_job(struct mongo_job *j, mongoc_client_t *client)
{
	mongoc_collection_t *registry = mongo_collection_of(j, client, MONGO_REGISTRY);
	bson_t *filter = BCON_NEW("collection", BCON_UTF8(j->collection));
	struct registered r = {.wanted = &j->index};
	struct buf paths = buf_in(j->arena);
	enum err e;

	for (size_t i = 0; i < j->n_paths; i++)
		buf_printf(&paths, "%s%s", i != 0 ? "," : "", j->index.paths[i]);
	r.paths = buf_cstr(&paths);
	e = mongo_find_each(registry, filter, NULL, read_registered, &r);
	if (e == OK && r.conflict)
		e = ERR_CONFLICT;
	if (e == OK)
		e = make_index(j, client);
	/* Behind the index, so that a crash between them repeats both. */
	if (e == OK)
		e = register_index(j, registry, r.paths);
	if (e == OK && j->index.expire_s > 0) {
		expiry_forget(j->s, j->collection);
		e = fill_expiry(j, client);
	}
	bson_destroy(filter);
	mongoc_collection_destroy(registry);
	return e;
}

SUSPENDS enum err mongo_create_index(struct docstore *port, const struct doc_index *index, size_t n_paths, struct deadline d)
{
	struct mongo_job *j = mongo_job_new(port, index_job, index->collection, d);

	j->index = *index;
	j->n_paths = n_paths;
	j->index.collection = j->collection;
	j->index.name = arena_strdup(j->arena, index->name);
	for (size_t i = 0; i < n_paths; i++)
		j->index.paths[i] = arena_strdup(j->arena, index->paths[i]);
	return mongo_job_run(j, NULL, NULL, d);
}
