/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon for `./s24 bench write`: one handler, and the entity of its route says which way a row takes. It stands in for homework. */
#ifndef S24_BENCH_WRITER_H
#define S24_BENCH_WRITER_H

#include "homework.h"

/* Homework's own fields in tables that the daemon itself writes: `single` by one statement and one commit a request, `through` by the kit. */
extern const struct entity single_entity, through_entity, quiz_entity;
extern const struct entity *const writer_entities[];

/* What a student hands in at the end of a quiz: 1,245 bytes of JSON. */
/* clang-format off */
#define ANSWER_FIELDS(F, T)                                                                        \
	F(T, TEXT, question, .flags = REQUIRED, .max = 40)                                         \
	F(T, INTS, selected, .max = 20, .max_items = 20)                                           \
	F(T, INT,  seconds,  .max = 7200)
SCHEMA_STRUCT(answer, ANSWER_FIELDS);

#define QUIZ_IN_FIELDS(F, T)                                                                       \
	F(T, UUID, quiz_id,    .flags = REQUIRED)                                                  \
	F(T, UUID, attempt_id, .flags = REQUIRED)                                                  \
	F(T, TIME, started_at, .flags = REQUIRED)                                                  \
	F(T, LIST, answers,    .flags = REQUIRED, .sub = &answer_schema, .max_items = 200)         \
	F(T, TEXT, client,     .max = 100)
SCHEMA_STRUCT(quiz_in, QUIZ_IN_FIELDS);

#define QUIZ_FIELDS(F, T) QUIZ_IN_FIELDS(F, T) F(T, UUID, student_id, .flags = REQUIRED | SERVER)
ROW_STRUCT(quiz, QUIZ_FIELDS);
/* clang-format on */

#endif
