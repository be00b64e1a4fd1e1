/* SPDX-License-Identifier: Apache-2.0 */
/* Levels: a child waits while a parent's due backlog is young. */
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
		for (size_t p = 0; rows[i].claim && p < n; p++)
			rows[i].claim = !holds_back(&rows[p], &rows[i]);
	}
}
