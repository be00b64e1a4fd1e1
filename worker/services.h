/* SPDX-License-Identifier: Apache-2.0 */
/* The services whose entities are flushed: worker_services.c is written by cmake, a line for each folder in services/. */
#ifndef S24_WORKER_SERVICES_H
#define S24_WORKER_SERVICES_H

#include "svc/entity.h"

struct worker_service {
	const char *name; /* of the daemon and its schema; NULL ends */
	const struct entity *const *entities;
	const struct entity_sql *sql;
};
extern const struct worker_service worker_services[];

#endif
