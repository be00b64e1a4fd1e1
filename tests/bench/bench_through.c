/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing through, without HTTP: requests that each commit one row, in a transaction of its own and in groups.
 *
 *	bench_through REQUESTS_AT_ONCE SECONDS [CONNECTIONS]
 *
 * S24_BENCH_PG names a database server (superuser, an empty database) whose commits cost what they cost; without it one is started that does not
 * wait for its disk. Both ways share rows, validation, audit records and events; only the transaction differs.
 */
#include "unit/through_world.h"

#include "svc/audit.h"

static const struct service service = {
	.name = "fee", .routes = routes, .entities = fee_entities, .entity_sql = fee_entity_sql, .events = events};

static int64_t place, until_us;
static uint64_t done, failed;
static bool own_transaction;

/* A change of two rows has a transaction of its own; here the one row gets the same. */
static enum err commit_alone(struct req *req, struct seat *seat)
{
	struct str wanted, audit_json, json;
	struct schema columns = entity_columns(req->arena, &seat_schema),
		      audit_columns = entity_columns(req->arena, &audit_row_schema);
	struct buf w = buf_in(req->arena), a = buf_in(req->arena), r = buf_in(req->arena);
	struct str old_json, new_json;
	struct through_row row, *list = &row;
	struct list rows;
	struct tx *tx;
	enum err e;

	buf_puts(&w, STR("{\"id\":\""));
	buf_put_uuid(&w, seat->row.id);
	buf_puts(&w, STR("\",\"expect\":0}"));
	wanted = buf_str(&w);
	seat->row.updated_at = req->now_us;
	audit_values(req, &seat_schema, NULL, seat, &old_json, &new_json);
	entity_columns_json(&audit_columns, &audit_new(req, "create", "seat", seat->row.id, old_json, new_json)->row, &a);
	audit_json = buf_str(&a);
	entity_columns_json(&columns, &seat->row, &r);
	json = buf_str(&r);
	row = (struct through_row){.id = seat->row.id, .row = json, .wanted = wanted, .audit = audit_json};
	e = tx_begin(req, &tx);
	if (e == OK)
		e = tx_query(tx, fee_entity_sql[0].through,
			     through_params((const struct through_row *const *)&list, 1, req->arena), &through_done_schema,
			     &rows);
	return e == OK ? tx_end(tx, e) : e;
}

static void client(void *arg)
{
	(void)arg;
	while (loop_mono_us(kit->daemon.loop) < until_us) {
		struct req *req = a_request(&routes[0], NULL);
		struct seat *seat = entity_edit(req, &seat_entity, NULL);
		enum err e;

		FIELD_PUT(seat, seat, name, STR("a seat with a name of a usual length, as receipts have them"));
		FIELD_PUT(seat, seat, place, ++place);
		FIELD_PUT(seat, seat, price, place);
		FIELD_PUT(seat, seat, extra, STR("{\"method\":\"card\",\"reference\":\"0123456789abcdef\"}"));
		e = own_transaction ? commit_alone(req, seat) : entity_put(req, &seat_entity, seat);
		if (e == OK)
			done++;
		else
			failed++;
		arena_free(req->arena);
	}
	running--;
}

static double measure(size_t at_once, int64_t seconds, bool alone)
{
	int64_t start;

	own_transaction = alone;
	done = failed = 0;
	loop_turn(kit->daemon.loop, 0);
	start = loop_mono_us(kit->daemon.loop);
	until_us = start + seconds * US_PER_S;
	for (size_t i = 0; i < at_once; i++) {
		running++;
		if (fiber_spawn(kit->daemon.loop, "client", client, NULL) != OK)
			abort();
	}
	while (running > 0)
		loop_turn(kit->daemon.loop, 100000);
	printf("%s requests=%zu writes_per_s=%.0f failed=%llu\n", alone ? "own_transaction" : "groups", at_once,
	       (double)done / ((double)(loop_mono_us(kit->daemon.loop) - start) / 1e6), (unsigned long long)failed);
	return (double)done;
}

static void start(const char *url, int connections)
{
	char number[16];

	if (url) {
		setenv("DATABASE_URL", url, 1);
		real_redis_start(&buffer, "maxmemory-policy noeviction");
		setenv("REDIS_BUFFER_URLS", buffer.url, 1);
		setenv("REDIS_CACHE_URL", buffer.url, 1);
	} else {
		start_database();
	}
	snprintf(number, sizeof(number), "%d", connections);
	setenv("POSTGRES_MAX_CONNECTIONS", number, 1);
	kit = kit_open(&service);
}

int main(int argc, char **argv)
{
	size_t at_once = argc > 1 ? strtoul(argv[1], NULL, 10) : 64;
	int64_t seconds = argc > 2 ? strtol(argv[2], NULL, 10) : 3;
	double alone = 0, groups = 0;

	start(getenv("S24_BENCH_PG"), argc > 3 ? (int)strtol(argv[3], NULL, 10) : 10);
	IGNORE(measure(8, 1, false)); /* warms up */
	for (int round = 0; round < 3; round++) {
		alone += measure(at_once, seconds, true);
		groups += measure(at_once, seconds, false);
	}
	printf("groups_to_own_transactions=%.2f\n", groups / alone);
	kit_close(kit);
	real_redis_stop(&buffer);
	server = real_pg_free(server);
	return 0;
}
