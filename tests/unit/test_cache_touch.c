/* SPDX-License-Identifier: Apache-2.0 */
/* What a change touches: raised once, whatever becomes of the request, and not at all when it was certainly not made. */
#include "unit/events_world.h"

/* ---- once, and only what is made (D4, D5, F7) ---- */

static void a_change_of_many_rows_is_raised_once(void **state)
{
	long before;

	(void)state;
	pass_ms(600);
	before = said();
	assert_int_equal(one(put_three, "", NULL), OK);
	assert_int_equal(said(), before + 1);
	assert_true(is_raised("class:09000000-0000-0000-0000-000000000000"));
	assert_true(is_raised("student:28000000-0000-0000-0000-000000000000"));
	assert_true(is_raised("student:29000000-0000-0000-0000-000000000000"));
}

static void a_transaction_is_raised_once(void **state)
{
	long before;

	(void)state;
	pass_ms(600);
	before = said();
	assert_int_equal(one(commit_with_event, "", NULL), OK);
	assert_int_equal(said(), before + 1);
	assert_true(is_raised("user:09000000-0000-0000-0000-000000000000") && is_raised("table:fee.notes"));
}

/* Through the kit: the change's own tags with the change, the rest before the answer, although it is a failure. */
static void what_was_committed_is_raised_though_the_body_fails(void **state)
{
	struct kit_answer a;
	long before;

	(void)state;
	pass_ms(600);
	before = said();
	a = kit_json(kit, "POST", "/api/v1/notes", "Authorization: Bearer admin\r\n", "");
	assert_int_equal(a.status, 409);
	assert_int_equal(said(), before + 2); /* the change, and what came behind it, each once */
}

static void what_is_rolled_back_raises_nothing(void **state)
{
	struct uuid id = {{0}};
	long before;

	(void)state;
	assert_int_equal(one(put_seat, "first", &id), OK);
	assert_int_equal(one(put, "noted", &id), OK);
	pass_ms(600);
	before = said();
	assert_int_not_equal(one(roll_back, "", NULL), OK);
	assert_int_equal(said(), before);
	assert_int_equal(one(put_seat, "second on its place", &(struct uuid){{0}}), ERR_CONFLICT);
	assert_int_equal(said(), before);
	assert_false(is_raised("user:09000000-0000-0000-0000-000000000000"));
	assert_int_equal(one(change_too_late, "", &id), ERR_CONFLICT);
	assert_int_equal(said(), before + 1); /* of the faster one */
}

static void what_was_done_beside_a_transaction_that_fails_is_raised(void **state)
{
	(void)state;
	assert_int_equal(one(roll_back_beside, "", NULL), OK);
	assert_true(is_raised("table:fee.notes"));
	assert_false(is_raised("user:09000000-0000-0000-0000-000000000000"));
}

/* ---- the matrix "events to tags" (D2) ---- */

enum { OWN = 1, LISTS = 2, MOVED = 4, ANALYTICS = 8 };
static const struct matrix {
	const char *event;
	const char *was_name, *was_student, *name, *student; /* NULL: no row; name "" of a row: deleted */
	unsigned wanted;
} matrix[] = {
	{"created", NULL, NULL, "a", "s1", OWN | LISTS | ANALYTICS},
	{"nothing that lists show is updated", "a", "s1", "a", "s1", OWN},
	{"what lists show is updated", "a", "s1", "b", "s1", OWN | LISTS},
	{"its owner changes", "a", "s1", "a", "s2", OWN | LISTS | MOVED},
	{"status changes, not to its end", "a", "s1", "active", "s1", OWN | LISTS},
	{"it ends", "active", "s1", "ended", "s1", OWN | LISTS | ANALYTICS},
	{"it had ended, and still has", "ended", "s1", "ended", "s1", OWN},
	{"deleted", "a", "s1", "", "s1", OWN | LISTS | ANALYTICS},
};

static const struct note *note_of(struct req *req, const char *name, const char *student_name)
{
	struct note *row = arena_zalloc(req->arena, sizeof(*row));
	struct uuid pupil = {{(uint8_t)student_name[1]}};

	row->row.id = school_number(50);
	row->row.school_id = school_number(1);
	row->row.deleted_at = name[0] == '\0';
	FIELD_PUT(row, note, student_id, pupil);
	FIELD_PUT(row, note, name, str_of(name[0] == '\0' ? "a" : name));
	return row;
}

static bool touches(const struct req *req, const char *prefix, struct uuid id)
{
	const char *wanted = arena_printf(req->arena, "%s%s", prefix, text_of(id));

	for (size_t i = 0; req->touched && i < req->touched->n; i++)
		if (str_is(req->touched->v[i], wanted))
			return true;
	return false;
}

static void each_line_of_the_matrix_touches_what_it_says(void **state)
{
	struct entity e = note_entity;

	(void)state;
	e.tags[0] = "note:{id}";
	e.tags[1] = "student:{student_id}";
	e.list_fields[0] = "name";
	e.when[0] = (struct tag_when){"name", "ended", "analytics:{id}"};
	for (size_t i = 0; i < ARRAY_LEN(matrix); i++) {
		const struct matrix *m = &matrix[i];
		struct call call = {.req = a_request(&own_routes[1], NULL)};
		struct req *req = call.req;
		unsigned got = 0;

		if (m->wanted & ANALYTICS && strcmp(m->event, "it ends") != 0) /* made or gone: whatever it counts */
			e.when[0].becomes = NULL;
		else
			e.when[0].becomes = "ended";
		touch_change(req, &e, m->was_name ? note_of(req, m->was_name, m->was_student) : NULL,
			     note_of(req, m->name, m->student));
		got |= touches(req, "note:", school_number(50)) ? OWN : 0;
		got |= touches(req, "student:", (struct uuid){{'1'}}) ? LISTS : 0;
		got |= touches(req, "student:", (struct uuid){{'2'}}) ? MOVED : 0;
		got |= touches(req, "analytics:", school_number(50)) ? ANALYTICS : 0;
		if (got != m->wanted)
			fail_msg("%s: touches %u, not %u", m->event, got, m->wanted);
		free_calls(&call, 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_change_of_many_rows_is_raised_once),
		T(a_transaction_is_raised_once),
		T(what_was_committed_is_raised_though_the_body_fails),
		T(what_is_rolled_back_raises_nothing),
		T(what_was_done_beside_a_transaction_that_fails_is_raised),
		T(each_line_of_the_matrix_touches_what_it_says),
	};

	return run_events_world(tests, ARRAY_LEN(tests));
}
