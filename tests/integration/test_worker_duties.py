# SPDX-License-Identifier: Apache-2.0
"""What the worker does beside flushing, on real servers: the verifier, the audit chains, what is old, the lag of event streams."""
from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from s24 import audit
from s24.servers import Postgres
from worker_world import World, metric, needs_worker

from harness import wait_for

pytestmark = needs_worker
GHOST = "0a000000-0000-0000-0000-0000000fffff"
ROWS = "INSERT INTO homework.audit_logs (id, school_id, action, entity_type, old_values, created_at) SELECT gen_random_uuid(), gen_random_uuid(), "


@pytest.fixture(scope="module")
def everything() -> Iterator[World]:
    own = World()
    own.started = 1  # every worker has its own name and ports, so that one does not end with the configuration of the next
    try:
        yield own
    finally:
        own.close()


@pytest.fixture
def world(everything: World) -> Iterator[World]:
    everything.clear()
    run(everything, "TRUNCATE homework.audit_chain, homework.audit_logs, homework.idempotency RESTART IDENTITY")
    yield everything
    everything.end_all()
    everything.check_invariant()


def run(world: World, text: str) -> None:
    with world.stack.postgres.cursor() as cursor:
        cursor.execute(text)


def labelled(name: str, **labels: str) -> str:
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def violations(service, kind: str) -> float:
    return metric(service, labelled("schools24_buffer_violations_total", buffer="main", kind=kind))


KINDS = ("orphan", "several", "no_record", "owner_missing", "owner_stale", "scope_missing", "scope_stale")


# ---- the verifier ----------------------------------------------------------------------------------------------------------------


def test_each_fault_in_the_buffer_is_found_and_mended(world: World) -> None:
    rows = list(world.put("homework", 20))
    children = list(world.put("late", 1, 900))  # waits for a parent that never comes
    buffer = world.buffer
    scope = next(key.decode() for key in buffer.scan_iter("wb:scope:homework:class_id:*") if buffer.hexists(key, rows[1]))
    first_ms = buffer.zscore("wb:pending:homework", rows[0])
    buffer.zrem("wb:pending:homework", rows[0])
    buffer.hdel(scope, rows[1])
    buffer.zadd("wb:dlq:homework", {rows[2]: 1})
    buffer.zadd("wb:retry:homework", {GHOST: time.time() * 1000 + 3600_000})
    buffer.hset("wb:own:homework", rows[3], "nobody")
    buffer.hset(scope, GHOST, "")
    service = world.worker(interval_s=86400, WRITE_BUFFER_VERIFY_KEYS_PER_S="10000")
    for kind in ("orphan", "several", "no_record", "owner_stale", "scope_missing", "scope_stale"):
        wait_for(kind, lambda kind=kind: violations(service, kind) >= 1, 30)
    passed = metric(service, labelled("schools24_buffer_verify_passes_total", buffer="main"))
    wait_for("two more passes", lambda: metric(service, labelled("schools24_buffer_verify_passes_total", buffer="main")) >= passed + 2, 30)
    assert {kind: violations(service, kind) for kind in KINDS} == dict.fromkeys(KINDS, 1) | {"owner_missing": 0}
    assert metric(service, labelled("schools24_buffer_verified_at_seconds", buffer="main")) > time.time() - 60
    assert buffer.zscore("wb:pending:homework", rows[0]) == first_ms
    assert buffer.hexists(scope, rows[1]) and not buffer.hexists(scope, GHOST)
    assert world.unsynced("homework") == {"pending": 20, "retry": 0, "lease": 0, "dlq": 0}
    log = (world.stack.logs / f"{service.name}.log").read_text()
    assert log.count("the write buffer broke its invariant") == 6 and rows[0] in log and GHOST in log
    buffer.delete(*[key for key in buffer.scan_iter("*homework_submission*")])  # the child that waits
    assert children


def test_a_storm_of_writers_and_workers_is_no_violation(world: World) -> None:
    """Records come, are claimed and acknowledged and written again, all at once, while the verifier walks as fast as it may."""
    services = [world.worker(interval_s=1, wait=False, WRITE_BUFFER_VERIFY_KEYS_PER_S="10000", BATCH_PROCESSOR_BATCH_SIZE="20") for _ in range(2)]
    for service in services:
        wait_for(service.name, service.is_ready, 30)
    with ThreadPoolExecutor(4) as pool:
        end = time.monotonic() + 60
        for turn in itertools.takewhile(lambda _: time.monotonic() < end, itertools.count()):
            list(pool.map(lambda at, turn=turn: world.put("homework", 150, at * 100, turn), range(4)))
            list(pool.map(lambda at, turn=turn: world.put("submission", 80, at * 100, turn), range(4)))
            if max(metric(service, labelled("schools24_buffer_verify_passes_total", buffer="main")) for service in services) >= 4:
                break
    world.wait_drained(timeout_s=60)
    passes = [metric(service, labelled("schools24_buffer_verify_passes_total", buffer="main")) for service in services]
    assert min(passes) == 0 and max(passes) >= 4, passes  # one of them has the lock
    for service in services:
        assert {kind: violations(service, kind) for kind in KINDS} == dict.fromkeys(KINDS, 0)
        assert metric(service, labelled("schools24_buffer_verify_errors_total", buffer="main")) == 0
    assert max(metric(service, labelled("schools24_buffer_verified_total", buffer="main")) for service in services) > 1000


def test_a_verifier_that_goes_leaves_its_turn(world: World) -> None:
    first = world.worker(WRITE_BUFFER_VERIFY_KEYS_PER_S="1000")
    wait_for("the lock", lambda: world.buffer.get("wb:verify") is not None, 20)
    assert 0 < world.buffer.ttl("wb:verify") <= 30
    assert world.end(first) == 0
    assert world.buffer.get("wb:verify") is None
    second = world.worker(WRITE_BUFFER_VERIFY_KEYS_PER_S="0")
    time.sleep(1.5)
    assert world.buffer.get("wb:verify") is None
    with pytest.raises(AssertionError):
        metric(second, labelled("schools24_buffer_verified_total", buffer="main"))


# ---- the audit chain -------------------------------------------------------------------------------------------------------------


def as_worker(world: World) -> psycopg2.extensions.connection:
    return psycopg2.connect(world.stack.postgres.url("schools24_worker", world.stack.password("schools24_worker")))


def chained(world: World) -> int:
    return world.query("SELECT count(*)::int FROM homework.audit_chain")[0][0]


def broken(world: World) -> list[tuple[int, str]]:
    return [(link[0], link[1]) for link in world.query("SELECT seq, why FROM worker.audit_chain_check('homework', 0, NULL, 1000000) WHERE why IS NOT NULL")]


def test_audit_rows_are_chained_in_their_order_and_late_ones_later(world: World) -> None:
    run(world, ROWS + "'made', 'x', jsonb_build_object('n', n), clock_timestamp() - n * interval '1 second' FROM generate_series(1, 1300) n")
    service = world.worker()
    wait_for("the chain", lambda: chained(world) == 1300, 30)
    order = [row[0] for row in world.query("SELECT (a.old_values->>'n')::int FROM homework.audit_chain c JOIN homework.audit_logs a ON a.id = c.audit_id ORDER BY c.seq")]
    assert order == list(range(1300, 0, -1))
    run(world, ROWS + "'flushed an hour later', 'x', NULL, clock_timestamp() - interval '1 hour' FROM generate_series(1, 3)")
    wait_for("the late rows", lambda: chained(world) == 1303, 30)
    assert broken(world) == []
    wait_for("the gauge", lambda: metric(service, labelled("schools24_audit_unchained", schema="homework")) == 0, 20)
    assert metric(service, labelled("schools24_audit_chained_total", schema="homework")) == 1303
    assert metric(service, labelled("schools24_audit_chain_broken_total", schema="homework")) == 0


def test_a_row_that_came_years_late_is_chained_too(world: World) -> None:
    run(world, ROWS + "'made', 'x', NULL, clock_timestamp() FROM generate_series(1, 10)")
    with as_worker(world) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT chained, waiting FROM worker.audit_chain_append('homework', 100)")
        assert cursor.fetchone() == (10, 0)
    run(world, ROWS + "'ancient', 'x', NULL, '2020-02-02' FROM generate_series(1, 2)")
    world.worker()
    wait_for("the ancient rows", lambda: chained(world) == 12, 30)
    assert broken(world) == []


def test_one_chainer_at_a_time_and_batches_that_go_on(world: World) -> None:
    run(world, ROWS + "'made', 'x', NULL, clock_timestamp() FROM generate_series(1, 7)")
    first, second = as_worker(world), as_worker(world)
    try:
        with first.cursor() as one, second.cursor() as two:
            one.execute("SELECT chained, waiting FROM worker.audit_chain_append('homework', 3)")
            assert one.fetchone() == (3, 4)
            two.execute("SELECT chained FROM worker.audit_chain_append('homework', 100)")
            assert two.fetchone() == (0,)
            first.rollback()  # as a kill in the middle of it
            second.commit()
            two.execute("SELECT chained, waiting FROM worker.audit_chain_append('homework', 100)")
            assert two.fetchone() == (7, 0)
            second.commit()
    finally:
        first.close()
        second.close()
    assert chained(world) == 7 and broken(world) == []


def test_what_the_chain_does_not_allow_is_found(world: World) -> None:
    run(world, ROWS + "'made', 'x', jsonb_build_object('n', n), clock_timestamp() + n * interval '1 ms' FROM generate_series(1, 20) n")
    run(world, "SELECT worker.audit_chain_append('homework', 100)")
    assert broken(world) == []
    far = "SET timezone = 'Asia/Kolkata'; SELECT count(*)::int FROM worker.audit_chain_check('homework', 0, NULL, 1000000) WHERE why IS NOT NULL"
    assert world.query(far) == [(0,)]
    assert audit.verify(world.stack.postgres.url(Postgres.SUPERUSER, world.stack.password("pg_superuser")), None, {}, lambda _: None)

    service = world.worker(AUDIT_PROOF_INTERVAL_S="1")
    name = labelled("schools24_audit_chain_broken_total", schema="homework")
    wait_for("a first proof", lambda: "an audit chain was proven" in (world.stack.logs / f"{service.name}.log").read_text(), 30)
    assert metric(service, name) == 0
    run(world, "UPDATE homework.audit_logs SET old_values = '{\"n\": 99}' WHERE id = (SELECT audit_id FROM homework.audit_chain WHERE seq = 5)")
    assert broken(world) == [(5, "its row was changed")]
    wait_for("the tampered row", lambda: metric(service, name) >= 1, 30)
    run(world, "UPDATE homework.audit_logs SET old_values = '{\"n\": 5}' WHERE id = (SELECT audit_id FROM homework.audit_chain WHERE seq = 5)")
    assert broken(world) == []
    head = world.query("SELECT seq, encode(hash, 'hex') FROM homework.audit_chain ORDER BY seq DESC LIMIT 1")[0]

    seen = metric(service, name)
    run(world, "DELETE FROM homework.audit_chain WHERE seq = 9")
    assert broken(world) == [(10, "the link before it is gone or another")]
    run(world, "DELETE FROM homework.audit_chain WHERE seq > 8")  # with its end the fault is gone too, but for who knows the head
    assert broken(world) == []
    said: list[str] = []
    url = world.stack.postgres.url(Postgres.SUPERUSER, world.stack.password("pg_superuser"))
    assert not audit.verify(url, "homework", {"homework": head}, said.append)
    assert any("gone" in line for line in said), said
    wait_for("the worker to miss it", lambda: metric(service, name) > seen, 30)


def test_a_row_without_its_table_row_is_found(world: World) -> None:
    run(world, ROWS + "'made', 'x', NULL, clock_timestamp() FROM generate_series(1, 4)")
    run(world, "SELECT worker.audit_chain_append('homework', 100)")
    run(world, "SET session_replication_role = replica; DELETE FROM homework.audit_logs WHERE id = (SELECT audit_id FROM homework.audit_chain WHERE seq = 2)")
    assert broken(world) == [(2, "its row is gone")]
    said: list[str] = []
    assert not audit.verify(world.stack.postgres.url(Postgres.SUPERUSER, world.stack.password("pg_superuser")), "homework", {}, said.append)
    assert any("its row is gone" in line for line in said), said


# ---- what is old -----------------------------------------------------------------------------------------------------------------


def test_what_is_old_goes_and_nothing_else(world: World) -> None:
    run(world, """INSERT INTO worker.runs (id, worker, started_at, finished_at, entity)
        SELECT gen_random_uuid(), 'w', clock_timestamp() - age, clock_timestamp(), entity FROM (VALUES ('31 days'::interval, 'old'), ('29 days', 'young')) v (age, entity),
        generate_series(1, 1500)""")
    run(world, """INSERT INTO homework.outbox (id, school_id, domain, channel, envelope, created_at, sent_at)
        SELECT gen_random_uuid(), gen_random_uuid(), 'homework', name, '{}', clock_timestamp() - interval '9 days', clock_timestamp() - age
        FROM (VALUES ('8 days'::interval, 'old'), ('6 days', 'young')) v (age, name), generate_series(1, 1200)""")
    run(world, """INSERT INTO homework.idempotency (school_id, key, fingerprint, status, answer, created_at)
        SELECT gen_random_uuid(), name, 'f', 200, '{}', clock_timestamp() - age FROM (VALUES ('27 hours'::interval, 'old'), ('25 hours', 'young')) v (age, name)""")
    run(world, """INSERT INTO homework.dead_letter (entity, id, school_id, version, payload, error, attempts, first_at, resolution, resolved_at)
        SELECT name, gen_random_uuid(), gen_random_uuid(), 1, '{}', 'e', 1, clock_timestamp(), resolution, clock_timestamp() - age
        FROM (VALUES ('91 days'::interval, 'old', 'replayed'), ('89 days', 'young', 'discarded'), ('91 days', 'open', NULL)) v (age, name, resolution)""")
    service = world.worker()

    def left(table: str, column: str) -> dict[str, int]:
        return dict(world.query(f"SELECT {column}, count(*)::int FROM {table} GROUP BY 1"))

    wait_for("old runs to go", lambda: "old" not in left("worker.runs", "entity"), 60)
    assert left("worker.runs", "entity")["young"] == 1500
    assert left("homework.outbox", "channel") == {"young": 1200}
    assert left("homework.idempotency", "key") == {"young": 1}
    assert left("homework.dead_letter", "entity") == {"young": 1, "open": 1}
    for table, count in {"outbox": 1200, "idempotency": 1, "dead_letter": 1, "runs": 1500}.items():
        wait_for(table, lambda table=table, count=count: metric(service, labelled("schools24_retention_removed_total", table=table)) == count, 10)


def test_nobody_may_delete_and_no_age_is_young(world: World) -> None:
    run(world, """INSERT INTO homework.outbox (id, school_id, domain, channel, envelope, sent_at)
        SELECT gen_random_uuid(), gen_random_uuid(), 'homework', 'unsent', '{}'::jsonb, NULL::timestamptz UNION ALL
        SELECT gen_random_uuid(), gen_random_uuid(), 'homework', 'sent', '{}'::jsonb, clock_timestamp() - interval '23 hours'""")
    run(world, """INSERT INTO homework.idempotency (school_id, key, fingerprint, status, answer, created_at)
        VALUES (gen_random_uuid(), 'k', 'f', 200, '{}', clock_timestamp() - interval '24 hours 30 minutes')""")
    connection = as_worker(world)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT sum(gone)::int FROM worker.retain('homework', 0, -5, 0, 1000000)")
            assert cursor.fetchone() == (0,)
            for table in ("homework.outbox", "homework.idempotency", "homework.dead_letter", "worker.runs", "homework.audit_logs", "homework.audit_chain"):
                with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                    cursor.execute(f"DELETE FROM {table}")
            with pytest.raises(psycopg2.Error):
                cursor.execute("SELECT worker.retain('pg_catalog', 0, 0, 0, 1)")
            for right in ("UPDATE homework.audit_logs SET action = 'x'", "UPDATE homework.audit_chain SET hash = previous_hash"):
                with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                    cursor.execute(right)
    finally:
        connection.close()
    with psycopg2.connect(world.stack.postgres.url("schools24_homework", world.stack.password("schools24_homework"))) as daemon, daemon.cursor() as cursor:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("SELECT worker.retain('homework', 0, 0, 0, 1)")


# ---- event streams ---------------------------------------------------------------------------------------------------------------


def test_the_lag_of_a_group_is_what_it_has_not_read(world: World) -> None:
    """cache.md J4. Audit records themselves are no stream: they are in the PUT of what they tell of, and go with the buffer's protocol."""
    stream = "events:homework"
    for at in range(5):
        world.buffer.xadd(stream, {"e": "{}", "v": str(at)})
    world.buffer.xgroup_create(stream, "report", id="0")
    world.buffer.xreadgroup("report", "one", {stream: ">"}, count=2)
    world.buffer.xadd("events:auth", {"e": "{}", "v": "1"})  # without groups
    service = world.worker()
    name = {"stream": stream, "group": "report", "buffer": "main"}
    wait_for("the lag", lambda: "schools24_event_lag{" in metrics_of(service), 30)
    assert metric(service, labelled("schools24_event_lag", **name)) == 3
    assert metric(service, labelled("schools24_event_pending", **name)) == 2
    assert metric(service, labelled("schools24_event_stream_length", stream=stream, buffer="main")) == 5
    assert metric(service, labelled("schools24_event_stream_length", stream="events:auth", buffer="main")) == 1
    assert metrics_of(service).count("schools24_event_lag{") == 1


def metrics_of(service) -> str:
    import requests

    return requests.get(f"{service.admin_url}/metrics", timeout=10).text
