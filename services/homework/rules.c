/* SPDX-License-Identifier: Apache-2.0 */
/* Late, closed, for whom, and what history keeps: homework's own rules, free of I/O. */
#include "base/timefmt.h"
#include "base/uuid.h"
#include "homework.h"
#include "io/crypto.h"
#include "io/tz.h"

static bool day_is_over(struct str time_zone, int32_t day, int64_t at_us)
{
	const struct tz *zone = tz_find(time_zone);

	return at_us >= (zone ? tz_day_end(zone, day) : (int64_t)(day + 1) * 86400 * US_PER_S);
}

bool homework_is_late(const struct homework *hw, struct str time_zone, int64_t at_us)
{
	return day_is_over(time_zone, hw->due_date, at_us);
}

bool homework_is_visible(const struct homework *hw, int64_t at_us)
{
	return hw->status != HOMEWORK_DRAFT && !(FIELD_HAS(hw, homework, publish_at) && at_us < hw->publish_at);
}

bool homework_is_open(const struct homework *hw, struct str time_zone, int64_t at_us)
{
	if (hw->status != HOMEWORK_ACTIVE || !homework_is_visible(hw, at_us))
		return false;
	return !FIELD_HAS(hw, homework, close_date) || !day_is_over(time_zone, hw->close_date, at_us);
}

bool homework_is_for(const struct homework *hw, struct uuid student_id)
{
	const struct uuid *chosen = hw->student_ids.v;

	for (size_t i = 0; i < hw->student_ids.n; i++) {
		if (uuid_eq(chosen[i], student_id))
			return true;
	}
	return hw->student_ids.n == 0;
}

static size_t versions_in(struct str history)
{
	struct str one;
	size_t n = 0;

	while (json_next(&history, &one))
		n++;
	return n;
}

bool submission_keep(const struct submission *sub, struct arena *arena, struct str *ret_history)
{
	struct buf out = buf_in(arena);
	uint8_t hash[32];
	char hex[65];

	if (versions_in(sub->history) >= VERSIONS_MAX)
		return false;
	sha256(sub->submission_text, hash);
	hex_text(hash, sizeof(hash), hex);
	if (sub->history.n > 2) { /* more than [] */
		buf_put(&out, sub->history.p, sub->history.n - 1);
		buf_putc(&out, ',');
	} else {
		buf_putc(&out, '[');
	}
	json_encode_some(&submission_schema, sub,
			 UINT64_C(1) << submission__submission_text | UINT64_C(1) << submission__attachments |
				 UINT64_C(1) << submission__submitted_at | UINT64_C(1) << submission__status |
				 UINT64_C(1) << submission__marks_obtained | UINT64_C(1) << submission__feedback,
			 &out);
	out.n--; /* the closing brace: one member more */
	buf_printf(&out, "%s\"sha256\":\"%s\"}]", out.p[out.n - 1] == '{' ? "" : ",", hex);
	*ret_history = buf_str(&out);
	return true;
}
