/* SPDX-License-Identifier: Apache-2.0 */
/* Domain events (architecture.md 8): CloudEvents 1.0 in JSON. */
#ifndef S24_SVC_ENVELOPE_H
#define S24_SVC_ENVELOPE_H

#include "svc/req.h"
#include "svc/service.h"

/* type "homework.assigned" → org.schools24.homework.assigned.v1; data is a JSON object. In the request's arena. */
struct str envelope_new(struct req *req, const char *type, struct uuid subject, struct str data);
/* "homework.assigned" → "homework:assigned", the pub/sub channel. */
struct str envelope_channel(struct arena *arena, const char *type);
/* The rows of the service's event table that apply to a change of one row (old or row may be NULL), none to an update that changes nothing; *from goes on behind the one returned. NULL: no more. */
const struct event_row *envelope_next(const struct service *s, const struct entity *e, const void *old, const void *row, size_t *from);
/* The fields that the event's row names, and of an update the names of those that it has changed: {"class_id": …, "changes": ["title"]}. */
struct str envelope_data(struct req *req, const struct event_row *event, const void *old, const void *row);

#endif
