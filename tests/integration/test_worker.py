# SPDX-License-Identifier: Apache-2.0
"""The worker on a real Redis and PostgreSQL: what is put comes to the tables once, whatever dies meanwhile."""
from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator

import pytest
import requests
from s24.servers import Redis
from worker_world import World, everything, metric, needs_worker, world  # noqa: F401  the fixtures are asked for by their names

from harness import wait_for

pytestmark = needs_worker


def test_rows_reach_their_tables_and_leave_the_buffer(world: World) -> None:
    service = world.worker()
    parents, children = world.put("homework", 250), world.put("submission", 250)
    world.wait_drained()
    assert world.rows("homework") == parents
    assert world.rows("homework_submission") == children
    title, marks = world.query("SELECT title, max_marks FROM homework.homework WHERE id = '0a000000-0000-0000-0000-000000000007'")[0]
    assert (title, marks) == ("homework 7 0", 0)
    assert metric(service, 'schools24_sync_items_total{entity="homework",result="applied"}') == 250
    assert metric(service, 'schools24_sync_items_total{entity="homework",result="superseded"}') == 0
    assert metric(service, 'schools24_buffer_durability_ok{buffer="main"}') == 1
    assert world.buffer.get("wb:durability").decode().split()[0] == "aof"
    wait_for("the run's row", lambda: world.query("SELECT sum(applied)::int FROM worker.runs WHERE entity = 'homework'") == [(250,)], 10)


def test_a_record_is_not_due_before_half_of_the_interval(world: World) -> None:
    world.worker(interval_s=3600)
    world.put("homework", 3)
    urgent = world.put("late", 1)  # a child without its parent: the worker asks for the parent at once
    world.wait_drained("homework_submission")
    assert list(world.rows("homework_submission").items()) == list(urgent.items())
    assert world.unsynced("homework")["pending"] == 2


def test_a_newer_version_goes_over_an_older_one_and_never_back(world: World) -> None:
    world.put("homework", 20, marks=1)
    newest = world.put("homework", 20, marks=2)
    world.worker()
    world.wait_drained()
    assert world.rows("homework") == newest
    with world.stack.postgres.cursor() as cursor:  # somebody was faster, with a newer version
        cursor.execute("UPDATE homework.homework SET version = version + 3600000000, max_marks = 9 WHERE id = '0a000000-0000-0000-0000-000000000003'")
    world.put("homework", 20, marks=3)
    world.wait_drained()
    assert dict(world.query("SELECT max_marks, count(*) FROM homework.homework GROUP BY 1")) == {3: 19, 9: 1}
    assert metric(world.workers[0], 'schools24_sync_items_total{entity="homework",result="superseded"}') == 1


@pytest.mark.parametrize("point", ["claim.after", "flush.before_commit", "flush.after_commit_before_ack", "ack.mid"])
def test_a_worker_killed_in_a_flush_loses_and_doubles_nothing(world: World, point: str) -> None:
    parents, children = world.put("homework", 120), world.put("submission", 120)
    broken = world.worker(failpoints=f"{point}=kill", wait=False)
    assert world.end(broken, dead=True) == -signal.SIGKILL
    newer = world.put("homework", 30, marks=5)  # written while the lease stands
    world.expire_leases()
    world.worker()
    world.wait_drained()
    assert world.rows("homework") == parents | newer
    assert world.rows("homework_submission") == children
    assert world.unsynced("homework")["dlq"] == 0


def test_a_worker_killed_before_giving_back_loses_nothing(world: World) -> None:
    world.put("poison", 1)
    good = world.put("homework", 40)
    broken = world.worker(failpoints="nack.before=kill", wait=False)
    assert world.end(broken, dead=True) == -signal.SIGKILL
    world.expire_leases()
    world.worker()
    world.wait_drained()
    assert world.rows("homework") == good
    assert world.unsynced("homework")["dlq"] == 1


def test_an_absent_database_parks_nothing_and_its_return_is_noticed(world: World) -> None:
    service = world.worker()
    rows = world.put("homework", 50)
    world.wait_drained()
    world.stack.postgres.stop()
    try:
        rows |= world.put("homework", 150, 100)
        wait_for("the breaker", lambda: metric(service, "schools24_sync_breaker_open") == 1, 30)
        unsynced = world.unsynced("homework")
        assert unsynced["dlq"] == 0 and sum(unsynced.values()) == 150
    finally:
        world.stack.postgres.start()
    world.wait_drained(timeout_s=40)
    assert world.rows("homework") == rows
    assert world.unsynced("homework")["dlq"] == 0
    assert world.buffer.hlen("wb:own:homework") == 0


@pytest.fixture
def log_of_versions(world: World) -> Iterator[None]:
    """Every version that a row of homework ever had, noted by the table itself."""
    with world.stack.postgres.cursor() as cursor:
        cursor.execute("""CREATE TABLE public.versions_seen (id uuid, version bigint);
            GRANT INSERT ON public.versions_seen TO PUBLIC;
            CREATE FUNCTION public.note_version() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO public.versions_seen VALUES (NEW.id, NEW.version); RETURN NULL; END $$;
            CREATE TRIGGER note_version AFTER INSERT OR UPDATE ON homework.homework FOR EACH ROW EXECUTE FUNCTION public.note_version()""")
    yield
    with world.stack.postgres.cursor() as cursor:
        cursor.execute("DROP TRIGGER note_version ON homework.homework; DROP FUNCTION public.note_version; DROP TABLE public.versions_seen")


@pytest.mark.usefixtures("log_of_versions")
def test_two_workers_of_ten_threads_apply_no_record_twice(world: World) -> None:
    parents, children = world.put("homework", 600), world.put("submission", 600)
    many = {"BATCH_PROCESSOR_BATCH_SIZE": "20", "BATCH_PROCESSOR_PARALLEL_WORKERS": "10"}
    both = [world.worker(wait=False, **many), world.worker(wait=False, **many)]
    world.wait_drained(timeout_s=60)
    assert world.rows("homework") == parents and world.rows("homework_submission") == children
    for service in both:
        wait_for(service.name, service.is_ready, 20)
    applied = [metric(service, 'schools24_sync_items_total{entity="homework",result="applied"}') for service in both]
    same = [metric(service, 'schools24_sync_items_total{entity="homework",result="same"}') for service in both]
    assert sum(applied) == 600 and sum(same) == 0, (applied, same)
    assert dict(world.query("SELECT id::text, version FROM versions_seen")) == parents
    assert world.query("SELECT count(*)::int FROM versions_seen") == [(600,)]


@pytest.mark.usefixtures("log_of_versions")
def test_a_worker_killed_between_its_batches_is_not_noticed(world: World) -> None:
    first, many = world.put("homework", 400), {"BATCH_PROCESSOR_BATCH_SIZE": "10", "BATCH_PROCESSOR_PARALLEL_WORKERS": "10"}
    victim = world.worker(wait=False, failpoints="flush.before_commit=sleep(30),flush.after_commit_before_ack=sleep(30)", **many)
    world.worker(wait=False, failpoints="flush.before_commit=sleep(30)", **many)
    wait_for("rows", lambda: len(world.rows("homework")) > 50, 30)
    victim.process.kill()
    world.workers.remove(victim)
    newer = world.put("homework", 400, marks=1)  # the same rows again, while the dead one's leases stand
    world.expire_leases()
    world.wait_drained(timeout_s=60)
    assert world.rows("homework") == newer
    assert world.query("SELECT id, version FROM versions_seen GROUP BY 1, 2 HAVING count(*) > 1") == []
    seen = world.query("SELECT id::text, version FROM versions_seen")
    assert set(seen) <= set(first.items()) | set(newer.items())


def test_children_that_come_before_their_parents_converge(world: World) -> None:
    world.worker()
    children = world.put("late", 60)
    wait_for("children that wait", lambda: world.unsynced("homework_submission")["retry"] > 0, 20)
    parents = world.put("homework", 60)
    world.wait_drained(timeout_s=60)
    assert world.rows("homework") == parents and world.rows("homework_submission") == children
    assert world.unsynced("homework_submission")["dlq"] == 0


def test_flush_answers_when_the_backlog_is_drained(world: World) -> None:
    service = world.worker(interval_s=3600)
    rows = world.put("homework", 300)
    answer = world.call(service, "POST", "/sync/flush", {"entity": "homework", "reason": "test"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["drained"] is True and answer.json()["remaining"] == 0
    assert world.rows("homework") == rows
    assert world.call(service, "POST", "/sync/flush", {"entity": "nothing", "reason": "test"}).status_code == 422
    assert world.call(service, "POST", "/sync/flush", {"entity": "homework"}).status_code == 422  # no reason
    assert requests.post(f"{service.url}/api/v1/sync/flush", timeout=10).status_code == 401

    assert world.call(service, "POST", "/sync/pause", {"entity": "homework", "reason": "test"}).status_code == 200
    world.put("homework", 5, 1000)
    answer = world.call(service, "POST", "/sync/flush", {"reason": "test"}).json()
    assert answer["drained"] is False and answer["remaining"] == 5, answer
    status = {entity["entity"]: entity for entity in world.call(service, "GET", "/sync/status").json()["entities"]}
    assert status["homework"]["pending"] == 5 and status["homework"]["paused"] is True
    assert world.call(service, "POST", "/sync/resume", {"entity": "homework", "reason": "test"}).status_code == 200
    assert world.call(service, "POST", "/sync/flush", {"reason": "test"}).json()["drained"] is True
    assert len(world.rows("homework")) == 305
    wait_for("runs", lambda: len(world.call(service, "GET", "/sync/runs").json()["runs"]) > 0, 10)


def test_sigterm_finishes_what_runs_and_leaves_no_lease(world: World) -> None:
    rows = world.put("homework", 400)
    service = world.worker(failpoints="flush.before_commit=sleep(300)", wait=False, BATCH_PROCESSOR_BATCH_SIZE="50")
    wait_for("a batch in flight", lambda: world.unsynced("homework")["lease"] > 0, 20)
    assert world.end(service) == 0
    unsynced = world.unsynced("homework")
    assert unsynced["lease"] == 0 and unsynced["dlq"] == 0
    assert len(world.rows("homework")) + sum(unsynced.values()) == 400
    assert all(rows[row] == version for row, version in world.rows("homework").items())
    world.worker()
    world.wait_drained()
    assert world.rows("homework") == rows


def test_workers_that_keep_dying_lose_and_double_nothing(world: World) -> None:
    """Every failpoint at five in a hundred, writes of the same rows meanwhile; what is acknowledged last is what the tables have."""
    points = ("claim.after", "flush.before_commit", "flush.after_commit_before_ack", "ack.mid", "nack.before", "dlq.before_copy")
    parents: dict[str, int] = {}
    children: dict[str, int] = {}
    bad = set(world.put("poison", 2))
    deaths = 0
    for turn in range(12):
        parents |= world.put("homework", 60, 20 * (turn % 4), turn)
        children |= world.put("submission", 60, 20 * (turn % 4), turn)
        service = world.worker(interval_s=1, failpoints=",".join(f"{point}=kill:0.05" for point in points), wait=False,
                               BATCH_PROCESSOR_BATCH_SIZE="10", S24_FAILPOINT_SEED=str(turn))
        end = time.monotonic() + 1.5
        while time.monotonic() < end and service.process.pid is not None:
            time.sleep(0.02)
        code = world.end(service, dead=service.process.pid is None)
        assert code in (0, -signal.SIGKILL), "a failpoint may strike while it ends, too"
        deaths += code != 0
        world.check_invariant()
        world.expire_leases()
    assert deaths > 0
    world.worker(interval_s=1)
    world.wait_drained(timeout_s=60)
    assert world.rows("homework") == parents and world.rows("homework_submission") == children
    assert {member.decode() for member in world.buffer.zrange("wb:dlq:homework", 0, -1)} == bad
    assert metric(world.workers[0], 'schools24_sync_items_total{entity="homework",result="superseded"}') == 0


def test_events_of_an_outbox_reach_the_stream_once_they_are_committed(world: World) -> None:
    world.worker()
    heard = world.buffer.pubsub()
    heard.subscribe("homework:assigned")
    with world.stack.postgres.cursor() as cursor:
        cursor.execute("""INSERT INTO homework.outbox (id, school_id, domain, channel, envelope)
            SELECT gen_random_uuid(), gen_random_uuid(), 'homework', 'homework:assigned', jsonb_build_object('n', n) FROM generate_series(1, 150) n""")
    wait_for("the stream", lambda: world.buffer.xlen("events:homework") == 150, 20)
    _, fields = world.buffer.xrange("events:homework", count=1)[0]
    assert json.loads(fields[b"e"]) == {"n": 1} and int(fields[b"v"]) > 0
    wait_for("the marks", lambda: world.query("SELECT count(*)::int FROM homework.outbox WHERE sent_at IS NULL") == [(0,)], 10)
    messages = [heard.get_message(timeout=1) for _ in range(3)]
    assert any(message and message["type"] == "message" for message in messages)


def test_an_event_whose_mark_was_lost_is_sent_again(world: World) -> None:
    with world.stack.postgres.cursor() as cursor:
        cursor.execute("""INSERT INTO homework.outbox (id, school_id, domain, channel, envelope)
            SELECT gen_random_uuid(), gen_random_uuid(), 'homework', 'homework:assigned', jsonb_build_object('n', n) FROM generate_series(1, 5) n""")
    broken = world.worker(failpoints="outbox.after_xadd_before_mark=kill", wait=False)
    assert world.end(broken, dead=True) == -signal.SIGKILL
    assert world.buffer.xlen("events:homework") == 5
    world.worker()
    wait_for("the marks", lambda: world.query("SELECT count(*)::int FROM homework.outbox WHERE sent_at IS NULL") == [(0,)], 20)
    sent = [json.loads(fields[b"e"])["n"] for _, fields in world.buffer.xrange("events:homework")]
    assert sent == [1, 2, 3, 4, 5] * 2


# ---- early triggers, pressure ----

def verdict(server: Redis) -> str:
    word, at_ms = server.client().get("wb:pressure").decode().split()
    assert abs(time.time() * 1000 - int(at_ms)) < 5000
    return word


def test_a_backlog_above_the_high_mark_is_flushed_at_once_and_told_to_the_daemons(world: World) -> None:
    service = world.worker(interval_s=3600, WRITE_BUFFER_HIGH_MARK="60", WRITE_BUFFER_LIMIT="120", BATCH_PROCESSOR_BATCH_SIZE="10")
    assert world.call(service, "POST", "/sync/pause", {"entity": "homework", "reason": "test"}).status_code == 200
    rows = world.put("homework", 50)
    wait_for("a look", lambda: world.status(service, "homework")["pending"] == 50, 10)
    assert verdict(world.stack.buffer) == "none"
    rows |= world.put("homework", 30, 100)
    wait_for("the high mark", lambda: verdict(world.stack.buffer) == "high", 10)
    rows |= world.put("homework", 60, 200)
    wait_for("the limit", lambda: verdict(world.stack.buffer) == "full", 10)
    (buffer,) = world.call(service, "GET", "/sync/status").json()["buffers"]
    assert buffer["pressure"] == "full" and buffer["backlog"] >= 140 and buffer["up"] is True and buffer["durability"] == "aof"
    assert metric(service, 'schools24_sync_buffer_pressure{buffer="main"}') == 2
    assert world.call(service, "POST", "/sync/resume", {"entity": "homework", "reason": "test"}).status_code == 200
    world.wait_drained("homework", timeout_s=15)  # half of the interval would be half an hour
    assert world.rows("homework") == rows
    wait_for("room", lambda: verdict(world.stack.buffer) == "none", 10)
    world.put("homework", 3, 500)
    time.sleep(1.5)
    assert world.unsynced("homework")["pending"] == 3  # and waits again


def test_memory_that_runs_out_is_pressure_too(world: World) -> None:
    service, client = world.worker(interval_s=3600), world.buffer
    before = client.config_get("maxmemory")["maxmemory"]
    rows = world.put("homework", 20)
    try:
        assert verdict(world.stack.buffer) == "none" and world.unsynced("homework")["pending"] == 20
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.4))
        wait_for("the mark of memory", lambda: verdict(world.stack.buffer) == "high", 10)
        world.wait_drained("homework", timeout_s=10)
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.08))
        wait_for("its limit", lambda: verdict(world.stack.buffer) == "full", 10)
    finally:
        client.config_set("maxmemory", before)
    assert world.rows("homework") == rows
    wait_for("room", lambda: verdict(world.stack.buffer) == "none", 10)
    assert metric(service, 'schools24_sync_buffer_pressure{buffer="main"}') == 0


def test_a_backlog_drains_at_full_speed_not_a_batch_for_a_look(world: World) -> None:
    rows = world.put("homework", 1500)
    service = world.worker(interval_s=3600, WRITE_BUFFER_HIGH_MARK="100", BATCH_PROCESSOR_BATCH_SIZE="10", BATCH_PROCESSOR_PARALLEL_WORKERS="1")
    began = time.monotonic()
    world.wait_drained("homework", timeout_s=60)
    assert time.monotonic() - began < 20  # 150 batches of one thread
    assert world.rows("homework") == rows
    assert metric(service, 'schools24_sync_transactions_total{entity="homework"}') >= 150


# ---- operators ----

def test_status_and_metrics_say_all_that_is_promised(world: World) -> None:
    service = world.worker(interval_s=4)
    world.put("homework", 40)
    world.put("poison", 1)
    world.wait_drained("homework")
    wait_for("a run", lambda: world.status(service, "homework").get("rows_per_second", 0) > 0, 10)
    world.call(service, "POST", "/sync/pause", {"entity": "homework", "reason": "test"})
    world.put("homework", 7, 100)
    wait_for("what is due", lambda: world.status(service, "homework")["due"] == 7, 10)
    row = world.status(service, "homework")
    assert row["pending"] == 7 and row["leased"] == 0 and row["dead"] == 1 and row["oldest_age_seconds"] >= 2
    assert row["applied"] == 40 and row["last_error"].startswith("23514 ") and row["breaker"] == "closed" and row["durability"] == "aof"
    whole = world.call(service, "GET", "/sync/status").json()
    assert whole["totals"]["pending"] >= 7 and whole["totals"]["due"] >= 7 and whole["totals"]["dead"] == 1 and whole["buffer"] == "up"
    text = requests.get(f"{service.admin_url}/metrics", timeout=10).text
    for name in ('buffer_items{entity="homework",state="pending"} 7', 'buffer_items{entity="homework",state="dead"} 1',
                 'sync_items_total{entity="homework",result="dead"} 1', 'sync_items_total{entity="homework",result="applied"} 40',
                 'sync_items_total{entity="homework",result="same"} 0', 'sync_items_total{entity="homework",result="superseded"} 0',
                 'buffer_durability_ok{buffer="main"} 1', 'buffer_ack_newer_total{entity="homework"} 0', 'buffer_lease_reaped_total{entity="homework"} 0',
                 'buffer_oldest_unsynced_seconds{entity="homework"} ', 'buffer_ttl_margin_seconds{entity="homework"} ',
                 'sync_run_duration_seconds_sum{entity="homework"} ', "sync_clock_difference_seconds "):
        assert f"\nschools24_{name}" in text, name
    assert metric(service, 'schools24_buffer_oldest_unsynced_seconds{entity="homework"}') >= 2
    assert metric(service, 'schools24_buffer_ttl_margin_seconds{entity="homework"}') < 7200
    assert abs(metric(service, "schools24_sync_clock_difference_seconds")) < 0.25
    world.call(service, "POST", "/sync/resume", {"entity": "homework", "reason": "test"})


# ---- several buffers ----

def test_two_buffers_are_drained_by_the_same_workers(world: World) -> None:
    both = world.with_second_buffer()
    second = world.second
    services_of_both = [world.worker(**both), world.worker(**both)]
    rows = world.put("homework", 130) | world.put("homework", 130, 1000, to=second)
    children = world.put("submission", 130) | world.put("submission", 130, 1000, to=second)
    bad = world.put("poison", 1, 2000, to=second)
    wait_for("both", lambda: world.rows("homework") == rows and world.rows("homework_submission") == children, 30)
    wait_for("the poison", lambda: world.unsynced("homework", second)["dlq"] == 1, 20)
    assert second.client().get("wb:durability").decode().split()[0] == "aof" and verdict(second) == "none"
    service = services_of_both[0]
    wait_for("its death seen", lambda: world.status(service, "homework", "second")["dead"] == 1, 10)
    assert world.status(service, "homework")["dead"] == 0
    (letter,) = world.call(service, "GET", "/sync/dead-letter/homework").json()["dead_letters"]
    assert letter["buffer"] == "second" and letter["id"] in bad
    assert world.call(service, "GET", "/sync/dead-letter/homework?buffer=main").json()["dead_letters"] == []
    assert world.call(service, "GET", "/sync/dead-letter/homework?buffer=third").status_code == 404
    assert world.call(service, "POST", "/sync/dead-letter/homework/replay", {"ids": [letter["id"]], "reason": "test"}).json()["replayed"] == 1
    wait_for("its second death", lambda: world.unsynced("homework", second)["dlq"] == 1, 10)
    gone = {"records": [{"id": letter["id"], "version": letter["version"]}], "reason": "test"}
    assert world.call(service, "POST", "/sync/dead-letter/homework/discard", {**gone, "buffer": "main"}).json()["discarded"] == 0
    assert world.call(service, "POST", "/sync/dead-letter/homework/discard", gone).json()["discarded"] == 1

    assert world.call(service, "POST", "/sync/pause", {"entity": "homework", "reason": "test"}).status_code == 200
    assert world.buffer.smembers("wb:paused") == second.client().smembers("wb:paused") == {b"homework"}
    assert world.call(service, "POST", "/sync/resume", {"entity": "homework", "reason": "test"}).status_code == 200
    wait_for("runs of both", lambda: {name for name, in world.query("SELECT detail->>'buffer' FROM worker.runs WHERE entity = 'homework'")} == {"main", "second"}, 10)


def test_an_event_goes_to_the_buffer_that_its_row_names(world: World) -> None:
    world.worker(**world.with_second_buffer())
    with world.stack.postgres.cursor() as cursor:
        cursor.execute("""INSERT INTO homework.outbox (id, school_id, domain, channel, envelope, buffer)
            SELECT gen_random_uuid(), gen_random_uuid(), 'homework', 'homework:assigned', jsonb_build_object('b', b), b
            FROM unnest(ARRAY['main', 'second', 'nowhere']) b""")
    wait_for("the marks", lambda: world.query("SELECT buffer FROM homework.outbox WHERE sent_at IS NULL") == [("nowhere",)], 10)
    for name, client in (("main", world.buffer), ("second", world.second.client())):
        assert [json.loads(fields[b"e"]) for _, fields in client.xrange("events:homework")] == [{"b": name}]


def test_a_buffer_that_is_away_stops_no_other(world: World) -> None:
    service = world.worker(interval_s=4, **world.with_second_buffer())
    second = world.second
    waiting = world.put("homework", 20, to=second)
    second.process.kill()
    try:
        rows = world.put("homework", 250, 1000)
        wait_for("the other's rows", lambda: len(world.rows("homework").keys() & rows.keys()) == 250, 20)
        whole = world.call(service, "GET", "/sync/status").json()
        assert {buffer["buffer"]: buffer["up"] for buffer in whole["buffers"]} == {"main": True, "second": False} and whole["buffer"] == "away"
        rows |= world.put("homework", 5, 2000)
        answer = world.call(service, "POST", "/sync/flush", {"entity": "homework", "reason": "test"}).json()
        left = {row["buffer"]: row.get("remaining") for row in answer["entities"]}
        assert left == {"main": 0, "second": None} and answer["drained"] is False
        assert len(world.rows("homework").keys() & rows.keys()) == 255
        assert metric(service, 'schools24_sync_buffer_up{buffer="second"}') == 0
    finally:
        second.start()
    wait_for("those that waited", lambda: world.rows("homework") == rows | waiting, 30)
