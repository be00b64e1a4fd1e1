/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cached routes: from a route's cache_policy (route.h) to keys, tags, lifetimes and headers. Internal to the kit; handlers know nothing of it.
 *
 * The object rule has run before, so what a handler would refuse is never given out of a cache. The key holds what the row says that
 * answers differ by, the role always, and the whole verified subject; an answer that is marked private to a moment (a buffer that is away, a record in
 * flight, a cookie) is not kept.
 */
#ifndef S24_SVC_CACHE_HTTP_H
#define S24_SVC_CACHE_HTTP_H

#include "cache/cache.h"
#include "svc/req.h"

/* Does the kit keep this request's answer? */
bool http_cache_applies(const struct req *req);
/* Instead of the handler: the kept answer, or the handler's, which is then kept. */
SUSPENDS MUST_CHECK enum err http_cache_run(struct req *req, SUSPENDS enum err (*handler)(struct req *req));
/* Header lines of an answer: Cache-Control and its siblings, Vary, Age, X-Cache, X-Cache-Level, Cache-Status. */
void http_cache_lines(const struct req *req, int status, struct buf *out);
/* Behind the answer: fills anew what has aged, in a request of its own. Takes what it needs before the request dies. */
void http_cache_after(struct req *req);

/* ---- an answer as bytes (cache_answer.c) ---- */
/* Is it the same for whoever asks next? What holds for this moment or this client alone is told, not kept. */
bool cache_answer_is_lasting(const struct req *req);
void cache_answer_put(const struct req *req, struct buf *out);
MUST_CHECK enum err cache_answer_take(struct req *req, struct str bytes); /* they must live as long as the request; ERR_CORRUPT */

/* ---- what writes have changed (cache_touch.c) ---- */
/* The tags of an entity's descriptor by the values of the row before (NULL: there was none) and after, and its table. An update of nothing that
 * lists show (.list_fields) leaves the tags of lists alone; .when adds tags. */
void touch_change(struct req *req, const struct entity *e, const void *old, const void *row);
/* Up to here it has touched: what comes behind is forgotten again, when the change that would have made it true is certainly not made. */
struct touch_mark {
	const struct cache_tags *tags;
	size_t n;
};
struct touch_mark touch_mark(const struct req *req);
void touch_undo(struct req *req, struct touch_mark mark);
/* The change of these events is made, so the news of raising what was touched name them (cache_events.h). */
void touch_told(struct req *req, const struct str *names, size_t n);
/* Raises what was touched. A cache that is away has it in its journal, so this cannot fail. */
SUSPENDS void touch_raise(struct req *req);
/* The tags of a descriptor that stand for one row, by its id: what a flush changes. */
void touch_flushed(const struct entity *e, struct uuid id, struct arena *arena, struct cache_tags *to);

/* ---- a request that nobody sent (req.c): refreshing and warming ---- */
/* GET of a path with query, as `who`, up to the handler: routed, decoded, its object rule passed. The handler's answer is left in the request. */
SUSPENDS MUST_CHECK enum err inner_request(struct daemon *d, struct arena *arena, struct str target, const struct caller *who, struct req **ret);
/* The same; `shared`: its object rule, which knows nobody by the name of a role alone, is left out (cache_warm.h says for which routes). */
SUSPENDS MUST_CHECK enum err inner_request_as(struct daemon *d, struct arena *arena, struct str target, const struct caller *who, bool shared, struct req **ret);
/* The tags that its answer has. */
SUSPENDS MUST_CHECK enum err http_cache_tags(struct req *req, struct cache_tags *ret);
/* Fills the entry of an inner request; `force`: though it is there and fresh. ERR_GONE: the answer is not one to keep. */
SUSPENDS MUST_CHECK enum err http_cache_fill(struct req *req, bool force, struct cache_note *ret_note);

#endif
