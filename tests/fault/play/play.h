/* SPDX-License-Identifier: Apache-2.0 */
/* The playing service of the fault runs: every kind of write of the kit, and no rules of its own (README.md). */
#ifndef S24_PLAY_H
#define S24_PLAY_H

#include "svc/entity.h"
#include "svc/req.h"
#include "svc/service.h"

/* clang-format off */
#define TOPIC_FIELDS(F, T) F(T, TEXT, title, .min = 1, .max = 200, .flags = REQUIRED)
#define NOTE_FIELDS_(F, T, flags_) \
	F(T, UUID, topic_id, .flags = (flags_)) F(T, UUID, class_id, .flags = (flags_)) F(T, INT, seq, .flags = (flags_)) F(T, TEXT, text, .min = 1, .max = 2000, .flags = (flags_))
#define NOTE_FIELDS(F, T) NOTE_FIELDS_(F, T, REQUIRED)
#define COUNTER_FIELDS(F, T) F(T, INT, value, .flags = REQUIRED)
#define STATUS_FIELD(F, T) F(T, ENUM, status, .names = {attendance_names, 3}, .flags = REQUIRED)
#define MARK_FIELDS(F, T) F(T, DATE, date, .flags = NATURAL) F(T, UUID, class_id, .flags = NATURAL) F(T, UUID, student_id, .flags = NATURAL) STATUS_FIELD(F, T)
#define ACCOUNT_FIELDS(F, T) F(T, INT, balance, .flags = REQUIRED) F(T, INT, payments, .flags = REQUIRED)
extern const char *const attendance_names[3];
ROW_STRUCT(topic, TOPIC_FIELDS);
ROW_STRUCT(note, NOTE_FIELDS);
ROW_STRUCT(counter, COUNTER_FIELDS);
ROW_STRUCT(mark, MARK_FIELDS);
ROW_STRUCT(account, ACCOUNT_FIELDS);

/* What comes in and goes out: rows look the same both ways, and what is the server's is ignored in a body. */
#define TOPIC_IO_FIELDS(F, T) F(T, UUID, id, .flags = SERVER) TOPIC_FIELDS(F, T)
#define NOTE_IO_FIELDS(F, T) F(T, UUID, id) NOTE_FIELDS(F, T) F(T, INT, total, .flags = SERVER | HIDDEN)
#define NOTE_PATCH_FIELDS(F, T) NOTE_FIELDS_(F, T, 0)
#define NOTE_LIST_FIELDS(F, T) PAGE_FIELDS(F, T) F(T, UUID, class_id, .flags = REQUIRED)
#define BUNDLE_FIELDS(F, T) F(T, UUID, topic_id, .flags = REQUIRED) TOPIC_FIELDS(F, T) F(T, LIST, notes, .sub = &note_io_schema, .max_items = 80, .flags = REQUIRED)
#define COUNTER_OUT_FIELDS(F, T) F(T, UUID, id) COUNTER_FIELDS(F, T)
#define ADD_FIELDS(F, T) F(T, INT, by, .min = -1000, .max = 1000, .flags = REQUIRED)
#define MARK_IO_FIELDS(F, T) F(T, UUID, student_id, .flags = REQUIRED) STATUS_FIELD(F, T)
#define REGISTER_FIELDS(F, T) F(T, UUID, class_id, .flags = SERVER) F(T, DATE, date, .flags = SERVER) F(T, LIST, rows, .sub = &mark_io_schema, .max_items = 80, .flags = REQUIRED)
#define PAYMENT_FIELDS(F, T)                                                                       \
	F(T, UUID, id, .flags = SERVER) F(T, UUID, account_id, .flags = REQUIRED) F(T, INT, amount, .min = 1, .max = 1000000, .flags = REQUIRED) F(T, INT, balance, .flags = SERVER)
#define ACCOUNT_OUT_FIELDS(F, T) F(T, UUID, id) ACCOUNT_FIELDS(F, T)
#define IO_SCHEMAS(X)                                                                              \
	X(topic_io, TOPIC_IO_FIELDS) X(note_io, NOTE_IO_FIELDS) X(note_patch, NOTE_PATCH_FIELDS) X(note_list, NOTE_LIST_FIELDS)    \
	X(bundle, BUNDLE_FIELDS) X(counter_out, COUNTER_OUT_FIELDS) X(add_in, ADD_FIELDS) X(mark_io, MARK_IO_FIELDS)               \
	X(class_register, REGISTER_FIELDS) X(payment, PAYMENT_FIELDS) X(account_out, ACCOUNT_OUT_FIELDS)
#define DECLARE(T, LIST) SCHEMA_STRUCT(T, LIST);
IO_SCHEMAS(DECLARE)
/* clang-format on */

extern const struct entity topic_entity, note_entity, counter_entity, mark_entity, account_entity;
extern const struct entity *const play_entities[];
extern const struct route play_routes[];

#endif
