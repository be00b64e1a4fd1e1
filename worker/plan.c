/* SPDX-License-Identifier: Apache-2.0 */
/* Levels: a child waits while a parent's due backlog is young. Pressure: above a mark, until well below it. */
#include "plan.h"

/* A paused parent keeps nobody waiting: its children meet the foreign key, and wait there. An overdue backlog does not either, or they would starve. */
static bool holds_back(const struct plan_row *parent, const struct plan_row *child)
{
	return parent->service == child->service && parent->level < child->level && parent->due > 0 && parent->overdue == 0 &&
	       !parent->paused;
}

void plan_levels(struct plan_row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		rows[i].claim = rows[i].due > 0 && !rows[i].paused;
		for (size_t p = 0; rows[i].claim && !rows[i].late && p < n; p++)
			rows[i].claim = !holds_back(&rows[p], &rows[i]);
	}
}

#define HIGH_MEMORY_PERCENT 60
#define FULL_MEMORY_PERCENT 85

static bool is_above(const struct fullness *f, int64_t mark, int64_t memory_percent, bool was)
{
	int64_t tenths = was ? 9 : 10;

	return f->backlog > mark / 10 * tenths + mark % 10 * tenths / 10 ||
	       (f->most_bytes > 0 && f->used_bytes > f->most_bytes / 1000 * memory_percent * tenths);
}

enum pressure plan_pressure(enum pressure was, const struct fullness *f)
{
	if (is_above(f, f->limit, FULL_MEMORY_PERCENT, was == PRESSURE_FULL))
		return PRESSURE_FULL;
	return is_above(f, f->high_mark, HIGH_MEMORY_PERCENT, was != PRESSURE_NONE) ? PRESSURE_HIGH : PRESSURE_NONE;
}
