/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events and the cache.
 *
 * What a change has touched stands in its event, as the CloudEvents extension `cachetags`, written with the data (a change without an event has one for
 * this alone, <service>.touched). Who made the change raises the tags before its answer, and the news of that name the event. Every daemon
 * reads the stream of its own service twice a second, and raises the tags of each event that no news have named by the second look: so a process that
 * died between its writing and its raising leaves old answers for a second at most (behind an outbox: and the time of its relay).
 *
 * What others' events make untrue is said in rows of service->listens: .tags. Their streams are read again in the same way, for what was said while no
 * daemon of this service was there.
 *
 * How far the streams were read stands in the cache (tail.h), so what died with a service's last process is raised by its next. When events were
 * trimmed away unread, nobody knows what they said: then everything is forgotten (a new generation of names).
 */
#ifndef S24_SVC_CACHE_EVENTS_H
#define S24_SVC_CACHE_EVENTS_H

#include "cache/cache.h"
#include "svc/req.h"
#include "svc/service.h"

/* Tags of one event at most. What has touched more says `bulk:` of its tables instead, and the tags that fit. */
#define EVENT_TAGS_MAX 256

/* The envelope with what the request has touched up to now; the same without a cache, or when there is nothing. */
struct str event_with_tags(struct req *req, struct str envelope);
/* "homework.<id>": how the news name an event that a daemon of this service has raised the tags of. Empty: it has no id. */
struct str event_name(const struct daemon *d, struct arena *arena, struct str envelope);
/* "org.schools24.homework.assigned.v1" → "homework:assigned"; false: it is none of ours. */
bool event_channel(struct str envelope, char *to, size_t size);
/* Raises what a row says of this event, unless the news have named it already. */
SUSPENDS void event_raise(struct daemon *d, const struct listen_row *row, struct str envelope, struct arena *arena);

struct cache_repeat;
MUST_CHECK enum err cache_repeat_open(struct daemon *d, struct cache_repeat **ret); /* NULL without a cache or a buffer */
void cache_repeat_close(struct cache_repeat *r);
struct cache_repeat *cache_repeat_free(struct cache_repeat *r); /* when no fiber is left */

#endif
