/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The administration of the caches: nine endpoints as rows of the kit.
 *
 * Every daemon that has a cache answers for itself on its internal listener (/internal/cache/…, for the dashboard's service token alone, whatever .used_by says; the
 * call names the platform administrator and his school by X-User-Id and X-School-Id). A service with SERVICE_CACHE_ADMIN serves the public paths (/cache/…)
 * too, to platform administrators, and its Redis user may look at every entry. What a daemon invalidates is gone for all daemons, for tags, names and
 * generations are the fleet's; its figures are its own, and so are the entries that another than this service shows, counts and frees by tag.
 *
 * Every call is recorded: mutations with what they did, and fail when that cannot be written (what was dropped stays dropped; repeating it is harmless);
 * a look at an entry before it is shown, and shows nothing else; a look at figures is answered all the same, with a line in the log.
 */
#ifndef S24_SVC_CACHE_ADMIN_H
#define S24_SVC_CACHE_ADMIN_H

#include "base/schema.h"
#include "cache/cache_index.h"
#include "svc/route.h"
#include "svc/service.h"

struct req;

#define CACHE_ADMIN_PEER "dashboard" /* adds up what the daemons say */

/* The rows that the service has beside its own: service_main adds them to the table. */
size_t cache_admin_rows(const struct service *s, struct route *to, size_t most);

/* clang-format off */
#define CACHE_INVALIDATE_FIELDS(F, T)                                                                                                                \
	F(T, TEXTS, tags, .min = 1, .max = 200, .max_items = 200)                                                                                    \
	F(T, ENUM, match, .names = ENUM_NAMES("any", "all"), .flags = BLANK_NULL)                                                                    \
	F(T, TEXT, pattern, .max = CACHE_KEY_MAX, .flags = BLANK_NULL)                                                                               \
	F(T, TEXT, table_name, .max = 130, .flags = BLANK_NULL)                                                                                      \
	F(T, TEXTS, tables, .min = 1, .max = 130, .max_items = 50)                                                                                   \
	F(T, TEXTS, models, .min = 1, .max = 64, .max_items = 50)                                                                                    \
	F(T, TEXTS, events, .min = 3, .max = 100, .max_items = 50)                                                                                   \
	F(T, UUID, user_id)                                                                                                                          \
	F(T, UUID, school_id)                                                                                                                        \
	F(T, BOOL, dry_run)                                                                                                                          \
	F(T, TEXT, reason, .max = 1000, .flags = BLANK_NULL)
SCHEMA_STRUCT(cache_invalidate_in, CACHE_INVALIDATE_FIELDS);
#define CACHE_CLEAR_FIELDS(F, T) F(T, BOOL, confirm) F(T, TEXT, reason, .max = 1000, .flags = BLANK_NULL)
SCHEMA_STRUCT(cache_clear_in, CACHE_CLEAR_FIELDS);
#define CACHE_KEY_FIELDS(F, T) F(T, TEXT, reason, .max = 1000, .flags = BLANK_NULL)
SCHEMA_STRUCT(cache_key_in, CACHE_KEY_FIELDS);
#define CACHE_TAGS_FIELDS(F, T) F(T, UUID, school_id) F(T, INT, limit, .min = 1, .max = 1000)
SCHEMA_STRUCT(cache_tags_in, CACHE_TAGS_FIELDS);
/* clang-format on */

/* ---- inside: cache_admin.c, cache_invalidate.c ---- */

/* The engine, or NULL when the daemon has none: then the request has failed. */
struct cache *admin_cache(struct req *req, enum err *ret);
/* The record of a call: what it was given and did, as a JSON object. */
SUSPENDS MUST_CHECK enum err admin_audit(struct req *req, const char *action, struct str reason, struct str values_json);
/* {"success":true,"data":{…}}: between them come the members of data. */
void admin_begin(struct req *req);
void admin_end(struct req *req);
SUSPENDS MUST_CHECK enum err cache_invalidate_answer(struct req *req);
SUSPENDS MUST_CHECK enum err cache_clear_answer(struct req *req);

#endif
