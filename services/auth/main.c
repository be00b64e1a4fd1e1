/* SPDX-License-Identifier: Apache-2.0 */
/* The auth daemon: accounts, sessions, and the school's directory. */
#include "auth.h"
#include "auth_entity_sql.h"

static const struct service auth = {
	.name = "auth",
	.routes = auth_routes,
	.entities = auth_entities,
	.entity_sql = auth_entity_sql,
	.events = auth_events,
	.warms = auth_warms,
	.used_by = AUTH_USED_BY,
	.flags = SERVICE_CACHE_ADMIN,
	.conf = auth_conf_rows,
	.conf_size = sizeof(struct auth_conf),
	.start = auth_start,
	.stop = auth_stop,
	.command = auth_command,
};

int main(int argc, char **argv)
{
	return service_main(argc, argv, &auth);
}
