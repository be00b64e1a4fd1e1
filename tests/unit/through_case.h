/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon for each test, and changes that tests of both kinds make: for test_through.c and test_through_loss.c. */
#ifndef S24_UNIT_THROUGH_CASE_H
#define S24_UNIT_THROUGH_CASE_H

#include "unit/through_world.h"

static const struct service service = {
	.name = "fee", .routes = routes, .entities = fee_entities, .entity_sql = fee_entity_sql, .events = events};

#define MANY 64

static inline int setup(void **state)
{
	(void)state;
	kit = kit_open(&service);
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	kit_close(kit);
	real_pg_sql(server, "TRUNCATE fee.seats, fee.badges, fee.notes, fee.audit_logs, fee.outbox, fee.idempotency CASCADE");
	return 0;
}

static const struct uuid friend_id = {{7}};

static inline enum err two_kinds(struct call *call)
{
	struct change *c = change_new(call->req);
	struct badge *badge = entity_edit(call->req, &badge_entity, NULL);

	for (int i = 0; i < 3; i++) {
		struct seat *seat = entity_edit(call->req, &seat_entity, NULL);

		FIELD_PUT(seat, seat, name, str_of(call->name));
		FIELD_PUT(seat, seat, place, call->place + i);
		change_put(c, &seat_entity, seat);
	}
	FIELD_PUT(badge, badge, student_id, friend_id);
	FIELD_PUT(badge, badge, name, STR("b"));
	change_put(c, &badge_entity, badge);
	return change_commit(c);
}

static inline enum err rename_again(struct call *call)
{
	for (;;) {
		enum err e;

		bases_forget(call->req);
		e = rename_seat(call);
		if (e != ERR_CONFLICT || !call->req->bases->lost_race)
			return e;
		call->place++; /* conflicts met */
	}
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#endif
