/* SPDX-License-Identifier: Apache-2.0 */
/* Entities that are written through, on a real PostgreSQL: repeated keys, deadlines, lost answers, the end. */
#include "unit/through_case.h"

#include <libpq-fe.h>

#include "base/failpoint.h"

/* ---- idempotency keys ---- */

static enum err make_keyed(struct call *call)
{
	enum err e = idem_begin(call->req);

	if (e != OK || call->req->replayed)
		return e;
	e = make_seat(call);
	idem_end(call->req, e);
	return e;
}

static struct call a_keyed_call(const char *key, int64_t place)
{
	return (struct call){.req = a_request(&routes[0], key), .fn = make_keyed, .place = place, .name = "keyed"};
}

static void a_repeated_key_gives_the_stored_answer(void **state)
{
	struct call calls[] = {a_keyed_call("k1", 1), a_keyed_call("k1", 1), a_keyed_call("k1", 1)};

	(void)state;
	run_calls(&calls[0], 1);
	run_calls(&calls[1], 1);
	assert_int_equal(calls[0].e, OK);
	assert_int_equal(calls[1].e, OK);
	assert_false(calls[0].req->replayed);
	assert_true(calls[1].req->replayed);
	assert_true(str_eq(buf_str(&calls[0].req->body), buf_str(&calls[1].req->body)));
	calls[2].req->x->target = STR("/other");
	run_calls(&calls[2], 1);
	assert_int_equal(calls[2].e, ERR_KEY_REUSED);
	assert_int_equal(count("SELECT count(*) FROM fee.seats"), 1);
	free_calls(calls, 3);
}

/* Two requests with one key whose claims did not keep them apart: the same id, and where that is no help, the key itself. */
static enum err update_keyed(struct call *call)
{
	enum err e = idem_begin(call->req);

	return e != OK || call->req->replayed ? e : rename_again(call);
}

static void twins_without_a_claim_run_once(void **state)
{
	struct call first = a_call(make_seat, 1, "twin"), calls[2];

	(void)state;
	run_calls(&first, 1);
	real_redis_kill(&buffer); /* nobody holds a claim */
	for (size_t i = 0; i < 2; i++) {
		calls[i] = a_keyed_call("k2", 2);
		calls[i].fn = update_keyed;
		calls[i].id = first.id;
	}
	run_calls(calls, 2);
	real_redis_again(&buffer);
	assert_int_equal(calls[0].e, OK);
	assert_int_equal(calls[1].e, OK);
	assert_int_equal(calls[0].req->replayed + calls[1].req->replayed, 1);
	assert_int_equal(count("SELECT count(*) FROM fee.audit_logs WHERE action = 'update'"), 1);
	free_calls(calls, 2);
	free_calls(&first, 1);
}

/* ---- deadlines, loss, the end ---- */

/* A transaction of statements of its own, as auth has: what stands in it is not known to anybody but the handler. */
static enum err statements(struct call *call)
{
	static const struct pg_stmt insert = {
		.name = "test_seat", .sql = "INSERT INTO fee.seats (id, school_id, name, place) VALUES ($1, $2, $3, $4)"};
	struct uuid id = uuid_v7(call->req->now_us);
	struct list none;
	struct tx *tx;
	enum err e = tx_begin(call->req, &tx);

	if (e != OK)
		return e;
	e = tx_query(tx, &insert,
		     PG_PARAMS(PG_UUID(id), PG_UUID(call->req->who.school_id), PG_TEXT(str_of(call->name)),
			       PG_INT4((int32_t)call->place)),
		     NULL, &none);
	if (e == OK)
		e = tx_audit(tx, "create", "seat", id, STR(""), STR(""));
	return tx_end(tx, e);
}

/* Compiled in, the failpoints strike: before the commit once, behind it once for a group, for a change of several rows, and for statements. */
static void a_step_that_fails_is_done_again_and_a_lost_answer_is_looked_up(void **state)
{
	struct call calls[] = {a_call(make_seat, 100, "a"), a_call(two_kinds, 1, "b"), a_call(statements, 5, "c")};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		run_calls(&calls[i], 1);
		assert_int_equal(calls[i].e, OK);
	}
	assert_int_equal(count("SELECT count(*) FROM fee.seats"), 5);
	assert_int_equal(count("SELECT count(*) FROM fee.outbox"), 4);
#ifdef S24_FAILPOINTS
	assert_false(failpoint_armed("wt.before_commit"));
	assert_false(failpoint_armed("wt.after_commit_before_reply"));
#endif
	free_calls(calls, ARRAY_LEN(calls));
}

static void a_commit_without_an_answer_is_looked_up_and_done_again(void **state)
{
	struct call calls[4];

	(void)state;
	for (size_t i = 0; i < 4; i++)
		calls[i] = a_call(make_seat, (int64_t)i, i == 2 ? "dies" : "lives");
	run_calls(calls, 4);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(calls[i].e, OK);
	assert_true(count("SELECT last_value FROM fee.deaths") >= 2);
	assert_int_equal(count("SELECT count(*) FROM fee.seats"), 4);
	assert_int_equal(count("SELECT count(*) FROM fee.outbox"), 4);
	real_pg_sql(server, "ALTER SEQUENCE fee.deaths RESTART");
	free_calls(calls, 4);
}

static void a_commit_of_statements_without_an_answer_is_looked_up(void **state)
{
	struct call calls[] = {a_call(statements, 1, "dies"), a_call(statements, 2, "lives")};

	(void)state;
	run_calls(&calls[0], 1);
	assert_int_equal(calls[0].e, ERR_DB); /* aborted, and known to be */
	assert_int_equal(count("SELECT count(*) FROM fee.seats"), 0);
	run_calls(&calls[1], 1);
	assert_int_equal(calls[1].e, OK);
	assert_int_equal(count("SELECT count(*) FROM fee.seats"), 1);
	real_pg_sql(server, "ALTER SEQUENCE fee.deaths RESTART");
	free_calls(calls, 2);
}

/* Somebody else's lock stops the statements of all who write. */
static PGconn *hold_table(void)
{
	PGconn *link = PQconnectdb(real_pg_url(server, NULL));

	PQclear(PQexec(link, "BEGIN"));
	PQclear(PQexec(link, "LOCK TABLE fee.seats IN ACCESS EXCLUSIVE MODE"));
	assert_int_equal(PQtransactionStatus(link), PQTRANS_INTRANS);
	return link;
}

static void who_waits_too_long_in_the_queue_leaves_it_unwritten(void **state)
{
	struct call calls[4];
	PGconn *holder;

	(void)state;
	calls[0] = a_call(make_seat, 0, "warm");
	run_calls(calls, 1);
	free_calls(calls, 1);
	holder = hold_table();
	for (size_t i = 0; i < 4; i++) {
		calls[i] = a_call(make_seat, 10 + (int64_t)i, "queued");
		calls[i].req->deadline = deadline_in(kit->daemon.loop, i < 2 ? 1500 : 200);
		start_call(&calls[i]);
		loop_turn(kit->daemon.loop, 0); /* the first two are on their way, each alone */
		loop_turn(kit->daemon.loop, 0);
	}
	while (running > 2)
		loop_turn(kit->daemon.loop, 1000);
	assert_int_equal(calls[2].e, ERR_OVERLOAD);
	assert_int_equal(calls[3].e, ERR_OVERLOAD);
	assert_true(calls[3].req->retry_after_s > 0);
	PQfinish(holder);
	wait_for_calls();
	assert_int_equal(calls[0].e, OK);
	assert_int_equal(calls[1].e, OK);
	assert_int_equal(count("SELECT count(*) FROM fee.seats"), 3);
	free_calls(calls, 4);
}

static void whose_deadline_passes_on_the_way_does_not_know(void **state)
{
	struct call calls[2];
	PGconn *holder = hold_table();

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		calls[i] = a_call(make_seat, (int64_t)i, "on the way");
		calls[i].req->deadline = deadline_in(kit->daemon.loop, i == 0 ? 200 : 1500);
		start_call(&calls[i]);
	}
	while (running > 1)
		loop_turn(kit->daemon.loop, 1000);
	assert_int_equal(calls[0].e, ERR_UNCERTAIN);
	free_calls(calls, 1); /* the row that is still on its way has texts of its own */
	PQfinish(holder);
	wait_for_calls();
	assert_int_equal(calls[1].e, OK);
	assert_int_equal(count("SELECT count(*) FROM fee.seats"), 2);
	free_calls(&calls[1], 1);
}

static void a_daemon_that_closes_tells_who_waits(void **state)
{
	struct call calls[MANY];

	(void)state;
	for (size_t i = 0; i < MANY; i++) {
		calls[i] = a_call(make_seat, (int64_t)i, "closing");
		start_call(&calls[i]);
	}
	loop_turn(kit->daemon.loop, 0);
	through_cancel(&kit->daemon);
	wait_for_calls();
	for (size_t i = 0; i < MANY; i++)
		assert_true(calls[i].e == OK || err_is_fault(calls[i].e));
	free_calls(calls, MANY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_step_that_fails_is_done_again_and_a_lost_answer_is_looked_up), /* first: it takes the failpoints' counts */
		T(a_repeated_key_gives_the_stored_answer),
		T(twins_without_a_claim_run_once),
		T(a_commit_without_an_answer_is_looked_up_and_done_again),
		T(a_commit_of_statements_without_an_answer_is_looked_up),
		T(who_waits_too_long_in_the_queue_leaves_it_unwritten),
		T(whose_deadline_passes_on_the_way_does_not_know),
		T(a_daemon_that_closes_tells_who_waits),
	};
	int failed;

	setenv("S24_FAILPOINTS", "wt.before_commit=err:1:1,wt.after_commit_before_reply=err:1:3", 1);
	start_database();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	stop_database();
	return failed;
}
