/* SPDX-License-Identifier: Apache-2.0 */
/* The homework daemon. */
#include "homework.h"
#include "homework_entity_sql.h"
#include "homework_sql.h"
#include "svc/service.h"

static const struct service homework = {
	.name = "homework",
	.routes = homework_routes,
	.entities = homework_entities,
	.entity_sql = homework_entity_sql,
	.events = homework_events,
	.warms = homework_warms,
	.uses = {"auth"},
	.flags = SERVICE_STORAGE,
	.named_files = &SQL_NAMED_FILES,
};

int main(int argc, char **argv)
{
	return service_main(argc, argv, &homework);
}
