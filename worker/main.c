/* SPDX-License-Identifier: Apache-2.0 */
/* The worker: everything buffered reaches PostgreSQL and the document store through it. */
#include "worker.h"
#include "worker_entity_sql.h"

static const struct service worker = {
	.name = "worker",
	.routes = worker_routes,
	.flags = SERVICE_DOCUMENTS, /* its loop asks the store for life; the threads write by connections of their own */
	.entities = worker_entities,
	.entity_sql = worker_entity_sql,
	.uses = {"auth"}, /* for sessions, while the buffer does not know them */
	.conf = worker_conf,
	.conf_size = sizeof(struct worker_conf),
	.start = worker_start,
	.stop = worker_stop,
	.metrics = worker_metrics,
};

int main(int argc, char **argv)
{
	return service_main(argc, argv, &worker);
}
