/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptors of seats.h. */
#include "seats.h"

#include "svc/audit.h"

ROW_TABLE(seat, SEAT_FIELDS, 1);
ROW_TABLE(badge, BADGE_FIELDS, 1);
ROW_TABLE(note, NOTE_FIELDS, 1);

const struct entity seat_entity = {.name = "seat", .table = "fee.seats", .schema = &seat_schema, .write = THROUGH, .level = 1};
const struct entity badge_entity = {
	.name = "badge", .table = "fee.badges", .schema = &badge_schema, .write = THROUGH, .level = 1};
const struct entity note_entity = {.name = "note", .table = "fee.notes", .schema = &note_schema, .write = BUFFERED, .level = 1};

AUDIT_ENTITY(fee);

const struct entity *const fee_entities[] = {&seat_entity, &badge_entity, &note_entity, &fee_audit_entity, NULL};
