/* SPDX-License-Identifier: Apache-2.0 */
/* Nouns of the tests of writing through: a seat has a field of every type and a rule of every kind; a badge has a natural id; a note is buffered. */
#ifndef S24_UNIT_SEATS_H
#define S24_UNIT_SEATS_H

#include "svc/entity.h"

enum { SEAT_FREE, SEAT_TAKEN };
/* clang-format off */
#define SEAT_FIELDS(F, T)                                                                          \
	F(T, TEXT,    name,    .max = 200, .flags = REQUIRED)                                      \
	F(T, INT,     place,   .flags = REQUIRED)                                                  \
	F(T, MONEY,   price)                                                                       \
	F(T, DECIMAL, share)                                                                       \
	F(T, FLOAT,   weight)                                                                      \
	F(T, BOOL,    aisle)                                                                       \
	F(T, TIME,    taken_at)                                                                    \
	F(T, DATE,    day)                                                                         \
	F(T, ENUM,    status,  .names = ENUM_NAMES("free", "taken"))                               \
	F(T, JSON,    extra)                                                                       \
	F(T, UUIDS,   friends)                                                                     \
	F(T, TEXTS,   words)                                                                       \
	F(T, INTS,    numbers)                                                                     \
	F(T, UUID,    beside)
#define BADGE_FIELDS(F, T) F(T, UUID, student_id, .flags = NATURAL) F(T, TEXT, name, .max = 200, .flags = REQUIRED)
#define NOTE_FIELDS(F, T) F(T, UUID, student_id, .flags = NATURAL) F(T, TEXT, name, .max = 200, .flags = REQUIRED)
/* clang-format on */
ROW_STRUCT(seat, SEAT_FIELDS);
ROW_STRUCT(badge, BADGE_FIELDS);
ROW_STRUCT(note, NOTE_FIELDS);

extern const struct entity seat_entity, badge_entity, note_entity, fee_audit_entity;
extern const struct entity *const fee_entities[];

/* Their tables, in the schema fee behind the common migrations. A COMMIT with the name "dies" loses its connection once. */
#define SEATS_SQL \
	"SELECT common.create_tables('fee');" \
	"CREATE TABLE fee.seats (LIKE common.row INCLUDING ALL, name text NOT NULL CHECK (length(name) <= 200)," \
	" place integer NOT NULL CONSTRAINT place_sound CHECK (place >= 0), price bigint, share bigint, weight double precision, aisle boolean," \
	" taken_at timestamptz, day date, status text, extra jsonb, friends uuid[], words text[], numbers bigint[]," \
	" beside uuid CONSTRAINT beside_known REFERENCES fee.seats (id));" \
	"CREATE UNIQUE INDEX place_once ON fee.seats (school_id, place);" \
	"SELECT common.table_rules('fee.seats', 'through');" \
	"CREATE TABLE fee.badges (LIKE common.row INCLUDING ALL, student_id uuid NOT NULL, name text NOT NULL);" \
	"SELECT common.table_rules('fee.badges', 'through');" \
	"CREATE TABLE fee.notes (LIKE common.row INCLUDING ALL, student_id uuid NOT NULL, name text NOT NULL);" \
	"SELECT common.table_rules('fee.notes', 'buffer', full_state => true);" \
	"CREATE SEQUENCE fee.deaths;" \
	"CREATE FUNCTION fee.die() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN" \
	" IF nextval('fee.deaths') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); END IF; RETURN NULL; END $$;" \
	"CREATE CONSTRAINT TRIGGER die AFTER INSERT ON fee.seats DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.name = 'dies')" \
	" EXECUTE FUNCTION fee.die();"

#endif
