/* SPDX-License-Identifier: Apache-2.0 */
/* The playing daemon, and what it says to the others: stream events:play, channel play:<verb>. */
#include "play.h"
#include "play_entity_sql.h"

/* clang-format off */
static const struct event_row events[] = {
	{"play.topic_changed", &topic_entity, ON_CREATE | ON_UPDATE, {0}, {"title"}},
	{"play.note_changed", &note_entity, ON_CREATE | ON_UPDATE, {0}, {"class_id", "seq"}},
	{"play.note_deleted", &note_entity, ON_DELETE, {0}, {"class_id", "seq"}},
	{"play.counter_added", &counter_entity, ON_CREATE | ON_UPDATE, {0}, {"value"}},
	{0},
};
static const struct service play = {.name = "play", .routes = play_routes, .entities = play_entities, .entity_sql = play_entity_sql,
	.events = events, .uses = {"auth"}};
/* clang-format on */

int main(int argc, char **argv)
{
	return service_main(argc, argv, &play);
}
