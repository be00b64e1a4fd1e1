/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records as a school writes them, for dictionaries to be trained on and for their worth to be measured. A school's ids, its people and a third of
 * its sentences are its own: what is measured is another school than what was trained on.
 */
#ifndef S24_BENCH_RECORDS_H
#define S24_BENCH_RECORDS_H

#include "homework.h"

enum records_school { RECORDS_TRAIN, RECORDS_MEASURE, RECORDS_STRANGE /* not one sentence in common */ };

/* One row in the arena; the same seed gives the same row. */
void *records_row(enum records_school school, const struct entity *e, uint64_t seed, struct arena *arena) NEVER_NULL;
extern const struct entity homework_audit_entity;

/* For training: n packed rows of RECORDS_TRAIN, one behind the other, and the size of each. The caller ends ret with buf_done. */
void records_samples(const struct entity *e, size_t n, struct buf *ret, size_t *ret_sizes);

#endif
