/* SPDX-License-Identifier: Apache-2.0 */
/* A row with every type of field, for tests and fuzz targets; included by one file of a program. */
#ifndef S24_TESTS_EVERY_H
#define S24_TESTS_EVERY_H

#include "base/schema.h"

/* clang-format off */
#define LEAF_FIELDS(F, T)                                                                          \
	F(T, TEXT, word, .flags = REQUIRED, .min = 1, .max = 10)                                   \
	F(T, INTS, counts, .min = -5, .max = 5, .max_items = 4)
SCHEMA_STRUCT(leaf, LEAF_FIELDS);
SCHEMA_TABLE(leaf, LEAF_FIELDS);

#define BRANCH_FIELDS(F, T)                                                                        \
	F(T, UUID, question_id, .flags = REQUIRED)                                                 \
	F(T, TEXT, answer, .max = 50)                                                              \
	F(T, LIST, leaves, .sub = &leaf_schema, .max_items = 6)
SCHEMA_STRUCT(branch, BRANCH_FIELDS);
SCHEMA_TABLE(branch, BRANCH_FIELDS);

#define EVERY_FIELDS(F, T)                                                                         \
	F(T, UUID, class_id, .flags = REQUIRED)                                                    \
	F(T, TEXT, title, .flags = REQUIRED, .min = 1, .max = 30)                                  \
	F(T, TEXT, secret, .flags = RAW_TEXT, .max = 20)                                           \
	F(T, TEXT, note, .flags = BLANK_NULL | OMIT, .max = 40)                                    \
	F(T, INT, marks, .min = 0, .max = 1000)                                                    \
	F(T, INT, any)                                                                             \
	F(T, DECIMAL, weight, .min = -10000, .max = 10000)                                         \
	F(T, MONEY, fee)                                                                           \
	F(T, FLOAT, lat, .min = -90, .max = 90)                                                    \
	F(T, FLOAT, ratio)                                                                         \
	F(T, BOOL, late)                                                                           \
	F(T, TIME, at)                                                                             \
	F(T, DATE, day)                                                                            \
	F(T, ENUM, status, .names = ENUM_NAMES("draft", "open", "closed"))                         \
	F(T, JSON, extra, .max = 200)                                                              \
	F(T, UUIDS, students, .max_items = 5)                                                      \
	F(T, TEXTS, tags, .min = 1, .max = 12, .max_items = 5)                                     \
	F(T, INTS, scores, .max_items = 8)                                                         \
	F(T, LIST, branches, .sub = &branch_schema, .max_items = 5)                                \
	F(T, INT, graded, .flags = SERVER)                                                         \
	F(T, TEXT, pair, .min = 2, .max = 4)
ROW_STRUCT(every, EVERY_FIELDS);
ROW_TABLE(every, EVERY_FIELDS, 1);
/* clang-format on */

#endif
