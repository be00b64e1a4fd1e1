# SPDX-License-Identifier: Apache-2.0
"""The administration of the caches over real daemons: what one keeps another invalidates, counts and shows."""
from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.parse
import uuid
from typing import Any

import pytest
from cache_scene import by, data, entries, invalidate, kept, new_work, numbers, plant, school, state, store
from cache_scene import platform, teacher  # noqa: F401  the fixtures are asked for by their names
from s24.seed import seed
from scene import NOBODY, SECOND, problem, row, sign_in, student_id

from harness import Answer, Client, TestStack, wait_for

LOOKS = ("/cache/stats", "/cache/query-stats", "/cache/tags", "/cache/performance-report", "/cache/health")


def records(stack: TestStack, action: str) -> int:
    return int(row(stack, "SELECT count(*) FROM auth.audit_logs WHERE action = %s AND entity_type = 'cache'", action)[0])


def service_token(stack: TestStack, name: str) -> str:
    auth = stack.services["auth"]
    return subprocess.run([str(auth.binary), "--config", str(auth.config), "--service-token", name], capture_output=True, text=True, check=True, timeout=30,
                          env={"PATH": "/usr/bin:/bin", **auth.environment}).stdout.strip()


# ---- H1: who may, and what is answered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, path, body", [("GET", "/cache/stats", None), ("POST", "/cache/invalidate", {"tags": ["class:1"]}),
                                                ("POST", "/cache/clear-all", {"confirm": True}), ("DELETE", "/cache/key/x", None)])
def test_only_platform_administrators(stack: TestStack, method: str, path: str, body: object) -> None:
    """H1"""
    generation = store(stack).get("cache:test:generation")
    problem(Client(stack.url).request(method, path, body), 401, "unauthenticated")
    for role in ("admin", "teacher", "student", "parent"):
        problem(sign_in(stack, role).request(method, path, body), 403, "forbidden")
    assert store(stack).get("cache:test:generation") == generation


def test_stats_have_their_shape_and_count(stack: TestStack, platform: Client, teacher: Client) -> None:
    """H1: figures of Redis, statements, tags and warming."""
    kept(teacher, "/teacher/homework")
    answer = platform.get("/cache/stats")
    found, summary = data(answer), answer.json["summary"]
    assert {"connected_clients", "used_memory", "keyspace_hits", "keyspace_misses", "total_commands_processed", "uptime_in_seconds",
            "hit_ratio"} <= set(found["redis"]) and found["redis"]["connected"] is True
    assert found["redis"]["used_memory"] > 0 and 0 <= found["redis"]["hit_ratio"] <= 100
    assert {"total_cached_queries", "total_cache_hits", "top_cached_queries", "avg_hits_per_query"} <= set(found["query_cache"])
    assert found["invalidation"]["registered_tags"] > 0 and found["invalidation"]["tracked_keys"] > 0 and found["invalidation"]["counted_now"] is True
    assert isinstance(found["warming"]["scheduled_jobs"], int)
    assert summary == {"redis_hit_ratio": found["redis"]["hit_ratio"], "cached_queries": found["query_cache"]["total_cached_queries"],
                       "query_cache_hits": found["query_cache"]["total_cache_hits"], "tracked_tags": found["invalidation"]["registered_tags"]}


def test_kept_statements_are_listed_the_most_hit_first(platform: Client) -> None:
    """H1, G4"""
    found = data(platform.get("/cache/query-stats"))
    assert {"total_cached_queries", "total_cache_hits", "top_cached_queries", "avg_hits_per_query"} <= set(found)
    hits = [one["hit_count"] for one in found["top_cached_queries"]]
    assert hits == sorted(hits, reverse=True)
    for one in found["top_cached_queries"]:
        assert {"query", "cache_key", "cached_at", "ttl", "tags", "hit_count"} <= set(one)


def test_tags_are_listed_with_their_first_entries(stack: TestStack, platform: Client, teacher: Client) -> None:
    """H1"""
    homework = new_work(teacher)
    kept(teacher, f"/teacher/homework/{homework}")
    found = data(platform.get(f"/cache/tags?school_id={school()}&limit=1000"))
    tag = found["tags"][f"homework:{homework}"]
    assert found["total_tags"] >= len(found["tags"]) > 0 and tag["school_id"] == school()
    assert tag["dependent_keys_count"] >= len(tag["dependent_keys"]) >= 1 and all(key in entries(stack) for key in tag["dependent_keys"])
    assert f"{school()}:bulk:homework.homework" in found["tags"], "what is no id stands behind its school"
    assert len(data(platform.get("/cache/tags?limit=1"))["tags"]) == 1
    problem(platform.get("/cache/tags?limit=0"), 422)


def test_health_has_the_one_shape_and_numbers_that_agree(platform: Client) -> None:
    """H4"""
    found = data(platform.get("/cache/health"))
    assert {"overall", "redis", "cache"} <= set(found["health"])
    assert {"connected", "latency", "memoryUsage", "keyCount"} <= set(found["health"]["redis"])
    assert {"hitRate", "errorRate", "avgResponseTime", "totalOperations"} <= set(found["health"]["cache"])
    assert {"hits", "misses", "invalidations", "errors", "hitRate", "uptime"} <= set(found["metrics"])


def test_the_report_has_its_parts(platform: Client) -> None:
    """H3"""
    answer = platform.get("/cache/performance-report")
    assert {"timestamp", "performance_metrics", "redis_stats", "query_cache_stats", "invalidation_stats", "history"} <= set(data(answer))
    for one in answer.json["recommendations"]:
        assert {"category", "severity", "message", "action", "evidence"} <= set(one)


def test_warming_says_what_it_did(platform: Client) -> None:
    """E1, H1"""
    assert {"warmed", "skipped", "failed"} <= set(data(platform.post("/cache/warm", {})))
    assert platform.post("/cache/warm").status == 200, "a body is not needed"


# ---- H1: records -----------------------------------------------------------------------------------------------------------------------


def test_every_call_is_recorded(stack: TestStack, platform: Client) -> None:
    """H1: an audit entry per call, with who, why, and what was done."""
    calls = {"cache_stats_viewed": lambda: platform.get("/cache/stats"), "cache_query_stats_viewed": lambda: platform.get("/cache/query-stats"),
             "cache_tags_viewed": lambda: platform.get("/cache/tags"), "cache_report_viewed": lambda: platform.get("/cache/performance-report"),
             "cache_health_viewed": lambda: platform.get("/cache/health"), "cache_warmed": lambda: platform.post("/cache/warm", {}),
             "cache_invalidated": lambda: platform.post("/cache/invalidate", {"tags": ["class:7"], "reason": "a drill"}),
             "cache_invalidation_tried": lambda: platform.post("/cache/invalidate", {"tags": ["class:7"], "dry_run": True}),
             "cache_key_deleted": lambda: platform.delete(path_of("cache:test:auth:v1:{all}:nothing")),
             "cache_key_viewed": lambda: platform.get(f"/cache/key/{urllib.parse.quote(entries(stack)[0], safe='')}?reason=a+drill"),
             "cache_cleared": lambda: platform.post("/cache/clear-all", {"confirm": True, "reason": "a drill"})}
    kept(platform, "/auth/me")
    for action, call in calls.items():
        before = records(stack, action)
        assert call().status == 200, action
        assert records(stack, action) == before + 1, action
    actor, reason, values = row(stack, "SELECT actor::text, reason, new_values FROM auth.audit_logs WHERE action = 'cache_invalidated' ORDER BY created_at DESC LIMIT 1")
    assert actor == platform.user["id"] and reason == "a drill" and values["invalidated_by"][0]["value"] == "class:7"


# ---- H1: one entry -----------------------------------------------------------------------------------------------------------------------


def path_of(key: str | bytes) -> str:
    return "/cache/key/" + urllib.parse.quote(key, safe="")


def test_an_entry_is_shown_and_dropped(stack: TestStack, platform: Client, teacher: Client) -> None:
    """H1: key, value, tags, ttl and level; then it is gone, for every daemon."""
    homework = new_work(teacher)
    kept(teacher, f"/teacher/homework/{homework}")
    key, = [one for one in entries(stack) if f":{homework}:" in one and ":http:" in one]
    assert "%2F" in key, "the name has escapes of its own"
    found = data(platform.get(path_of(key)))
    assert found["key"] == key and f"homework:{homework}" in found["tags"] and 0 < found["ttl"] <= 7200 and found["level"] in ("MEMORY", "REDIS")
    assert found["size"] > 0 and found["value"]
    assert data(platform.delete(path_of(key)))["deleted"] is True
    assert platform.delete(path_of(key)).json["deleted"] is False
    problem(platform.get(path_of(key)), 404, "not_found")
    assert key not in entries(stack)
    time.sleep(0.2)  # so long may a memory of another daemon know nothing of it
    assert state(teacher, f"/teacher/homework/{homework}") == "MISS"


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", "100%", "a b+c", "sch\u00fcler \u5b66\u751f \U0001f600", "?x=1&y#z", "..", "a//b", "\"'<>", "{x}:y:*[z]\\", "a\nb\x01\x7f"])
def test_any_name_is_reached(stack: TestStack, platform: Client, name: str) -> None:
    """H1: slash, percent, unicode and the rest, through the gateway too."""
    prefix = f"cache:test:auth:v{int(store(stack).get('cache:test:generation'))}:{{all}}:thing:"
    store(stack).set(prefix + name, b"x", ex=60)
    for address in (stack.services["auth"].url, stack.url):
        store(stack).set(prefix + name, b"x", ex=60)
        client = Client(address, platform.token)
        assert data(client.delete(path_of(prefix + name)))["key"] == prefix + name
        assert not store(stack).exists(prefix + name)


def test_a_name_of_any_bytes_is_reached(stack: TestStack, platform: Client) -> None:
    """H1: what is no UTF-8 too."""
    key = f"cache:test:auth:v{int(store(stack).get('cache:test:generation'))}:{{all}}:thing:".encode() + bytes(range(1, 256))[:120] + b"\xff\xfe\x80"
    store(stack).set(key, b"x", ex=60)
    assert platform.delete(path_of(key)).json["deleted"] is True
    assert not store(stack).exists(key)
    problem(platform.get("/teacher/%ff"), 404)


@pytest.mark.parametrize("name", ["session:1", "write_buffer:homework:1", "cache:test:generation", "cache:test:epoch:{all}:thing:x", "cache:other:auth:v1:{all}:x",
                                  "cache:test:auth:v1:{all}:thing~lock"])
def test_what_is_no_entry_is_not_reached(stack: TestStack, platform: Client, name: str) -> None:
    """H1: the endpoint is no way into Redis."""
    there = store(stack).set(name, "1", ex=600, nx=True)
    problem(platform.get(path_of(name)), 404, "not_found")
    problem(platform.delete(path_of(name)), 404, "not_found")
    assert store(stack).exists(name) == 1
    if there:
        store(stack).delete(name)


def test_another_schools_entry_is_looked_at_for_a_reason(stack: TestStack, platform: Client) -> None:
    """Security 5.3: across schools only with a reason, which is recorded."""
    kept(sign_in(stack, "teacher", school=SECOND), "/teacher/classes")
    key = next(one for one in entries(stack) if school(SECOND) in one and ":http:" in one)
    assert problem(platform.get(path_of(key)), 422)["errors"][0]["pointer"] == "/reason"
    assert data(platform.get(path_of(key) + "?reason=ticket+17"))["key"] == key
    assert row(stack, "SELECT reason FROM auth.audit_logs WHERE action = 'cache_key_viewed' ORDER BY created_at DESC LIMIT 1")[0] == "ticket 17"


# ---- H1: every daemon on its internal listener ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["auth", "homework", "worker"])
def test_every_daemon_answers_the_dashboard(stack: TestStack, platform: Client, name: str) -> None:
    """H1: with the dashboard's token, on somebody's behalf; nobody else."""
    daemon = stack.worker if name == "worker" else stack.services[name]
    behalf = {"X-User-Id": platform.user["id"], "X-School-Id": school()}
    dashboard = Client(daemon.admin_url, service_token(stack, "dashboard"))

    def ask(client: Client, method: str, path: str, body: object = None, **headers: str) -> Answer:
        return client.request(method, "/internal" + path, body, headers, bare=True)

    own = f"write_buffer:{name}_audit:*"
    waiting = len(list(stack.buffer.client().scan_iter(own)))
    for path in LOOKS:
        assert ask(dashboard, "GET", path, **behalf).status == 200, path
    if name != "auth":  # its record is in its table at once; a flush may be at it meanwhile
        assert len(list(stack.buffer.client().scan_iter(own))) > waiting or row(stack, f"SELECT 1 FROM {name}.audit_logs WHERE entity_type = 'cache'")
    assert data(ask(dashboard, "GET", "/cache/stats", **behalf))["engine"]["service"] == name
    assert data(ask(dashboard, "POST", "/cache/invalidate", {"tags": ["class:7"]}, **behalf))["invalidated_count"] == 0
    problem(ask(dashboard, "GET", "/cache/stats"), 403)
    problem(ask(Client(daemon.admin_url, service_token(stack, "quiz")), "GET", "/cache/stats", **behalf), 403)
    problem(ask(Client(daemon.admin_url), "GET", "/cache/stats", **behalf), 401)
    problem(ask(Client(daemon.admin_url, platform.token), "GET", "/cache/stats", **behalf), 401)


def test_a_daemon_sees_its_own_services_entries_and_drops_all(stack: TestStack, platform: Client, teacher: Client) -> None:
    """H1: no daemon's Redis user reads what others keep, but auth's; what it raises is gone for all."""
    behalf = {"X-User-Id": platform.user["id"], "X-School-Id": school()}
    dashboard = Client(stack.services["homework"].admin_url, service_token(stack, "dashboard"))
    kept(teacher, "/auth/me")
    kept(teacher, "/teacher/homework")
    foreign = next(one for one in entries(stack) if teacher.user["id"] in one and ":auth:" in one)
    problem(dashboard.request("GET", "/internal" + path_of(foreign), None, behalf, bare=True), 403, "forbidden")
    answer = dashboard.request("POST", "/internal/cache/invalidate", {"tags": [f"user:{teacher.user['id']}"]}, behalf, bare=True)
    assert data(answer)["invalidated_count"] >= 1
    assert state(teacher, "/teacher/homework") == "MISS" and state(teacher, "/auth/me") == "MISS"


# ---- invalidation -----------------------------------------------------------------------------------------------------------------------


def test_what_one_daemon_keeps_another_invalidates_and_counts(stack: TestStack, platform: Client, teacher: Client) -> None:
    """B1, B2: homework keeps, auth invalidates: nothing of it can be read, and as many are counted as there were."""
    works = [new_work(teacher) for _ in range(3)]
    for one in works:
        kept(teacher, f"/teacher/homework/{one}")
    before = entries(stack)
    tags = [f"homework:{one}" for one in works]
    tried = invalidate(platform, tags=tags, dry_run=True)
    assert tried["dry_run"] is True and entries(stack) == before
    expected = [key for key in before if any(one in key for one in works)]
    done = invalidate(platform, tags=tags)
    assert done["invalidated_count"] == tried["invalidated_count"] == len(set(before) - set(entries(stack))) >= len(expected) > 0
    for tag in tags:
        assert by(done, "tag", tag)["removed"] == by(tried, "tag", tag)["removed"] >= 1
    for one in works:
        assert state(teacher, f"/teacher/homework/{one}") == "MISS"
    again = [f"homework:{NOBODY}"]
    assert invalidate(platform, tags=again)["invalidated_count"] == 0


def test_the_expired_are_told_apart(stack: TestStack, platform: Client, teacher: Client) -> None:
    """B2: what had ended is not counted as removed."""
    work = new_work(teacher)
    kept(teacher, f"/teacher/homework/{work}")
    index = f"cache:test:index:{{{school()}}}:homework:{work}"
    live = store(stack).zcard(index)
    store(stack).zadd(index, {f"cache:test:homework:v1:{{{school()}}}:http:gone{i}": (time.time() - 5) * 1000 for i in range(4)})
    found = by(invalidate(platform, tags=[f"homework:{work}"]), "tag")
    assert found["removed"] == live and found["expired"] == 4 and found["complete"] is True


def test_several_selectors_are_all_applied_and_each_is_reported(stack: TestStack, platform: Client, teacher: Client) -> None:
    """H1, B8: no selector is passed over, an entry is counted once."""
    work, other = new_work(teacher), new_work(teacher)
    for one in (work, other):
        kept(teacher, f"/teacher/homework/{one}")
    kept(teacher, "/teacher/homework")
    kept(teacher, "/auth/me")
    name = f"kind{next(numbers)}"
    plant(stack, f"{name}:1"), plant(stack, f"{name}:2")
    before = entries(stack)
    done = invalidate(platform, tags=[f"homework:{work}", f"homework:{work}"], table_name="homework.homework", user_id=teacher.user["id"], pattern=f"{name}:*")
    kinds = [one["selector"] for one in done["invalidated_by"]]
    assert sorted(kinds) == ["pattern", "table", "tag", "tag", "user"]
    assert by(done, "pattern")["removed"] == 2 and by(done, "user")["removed"] >= 1 and by(done, "table")["removed"] >= 1
    assert done["invalidated_count"] == sum(one["removed"] for one in done["invalidated_by"]) == len(set(before) - set(entries(stack)))
    for path in (f"/teacher/homework/{work}", f"/teacher/homework/{other}", "/teacher/homework", "/auth/me"):
        assert state(teacher, path) == "MISS", path


def test_all_of_several_tags_are_their_intersection(stack: TestStack, platform: Client, teacher: Client) -> None:
    """B8"""
    work, other = new_work(teacher), new_work(teacher)
    for one in (work, other):
        kept(teacher, f"/teacher/homework/{one}")
    tags = [f"homework:{work}", f"handed_in:{work}"]
    assert invalidate(platform, tags=[f"homework:{work}", f"handed_in:{other}"], match="all")["invalidated_count"] == 0
    for where in ({"school_id": school(SECOND)}, {}):
        done = invalidate(platform, tags=tags, match="all", **where)
        assert bool(by(done, "tags")["removed"]) is (not where)
    assert state(teacher, f"/teacher/homework/{work}") == "MISS" and state(teacher, f"/teacher/homework/{other}") == "HIT"
    problem(platform.post("/cache/invalidate", {"tags": ["class:*", "user:1"], "match": "all"}), 422)


@pytest.mark.parametrize("body", [{"table_name": "homework.homework"}, {"tables": ["Homework.\"homework\""]}, {"table_name": "homework"}, {"models": ["homework"]},
                                  {"events": ["homework.assigned"]}, {"events": ["homework:assigned"]}, {"tags": ["teacher:*"]}])
def test_tables_models_and_events_reach_every_read_of_them(platform: Client, teacher: Client, body: dict[str, Any]) -> None:
    """B10: in whatever way a table is named; by daemons that know nothing of it."""
    kept(teacher, "/teacher/homework")
    done = invalidate(platform, **body)
    assert done["invalidated_count"] >= 1 and len(done["invalidated_by"]) == 1 and done["invalidated_by"][0]["value"] == next(
        value if isinstance(value, str) else value[0] for value in body.values())
    assert state(teacher, "/teacher/homework") == "MISS"


def test_everything_of_a_user_and_nothing_of_others(stack: TestStack, platform: Client, teacher: Client) -> None:
    other = sign_in(stack, "teacher", 1)
    for client in (teacher, other):
        for path in ("/auth/me", "/teacher/classes", "/teacher/homework"):
            kept(client, path)
    done = invalidate(platform, user_id=teacher.user["id"])
    assert by(done, "user")["removed"] >= 3
    assert not [key for key in entries(stack) if teacher.user["id"] in key]
    for path in ("/auth/me", "/teacher/classes", "/teacher/homework"):
        assert state(teacher, path) == "MISS" and state(other, path) == "HIT", path


def test_everything_of_a_pupil_whoever_has_asked_for_it(stack: TestStack, platform: Client) -> None:
    """What is kept of a student for himself and his parents carries the student's own tag."""
    pupil, parent = sign_in(stack, "student"), sign_in(stack, "parent")
    for client, path in ((pupil, "/academic/homework"), (parent, f"/academic/homework?student_id={student_id()}")):
        kept(client, path)
        assert by(invalidate(platform, user_id=pupil.user["id"]), "user")["removed"] >= 1
        assert state(client, path) == "MISS", path


def test_everything_of_a_school_and_nothing_of_others(stack: TestStack, platform: Client, teacher: Client) -> None:
    elsewhere = sign_in(stack, "teacher", school=SECOND)
    for client in (teacher, elsewhere):
        kept(client, "/teacher/classes")
        kept(client, "/auth/me")
    assert invalidate(platform, school_id=school(SECOND), dry_run=True)["invalidated_count"] >= 2
    assert state(elsewhere, "/auth/me") == "HIT"
    done = invalidate(platform, school_id=school(SECOND))
    assert by(done, "school")["removed"] >= 2 and done["school_id"] == school(SECOND)
    assert not [key for key in entries(stack) if school(SECOND) in key]
    assert state(elsewhere, "/auth/me") == "MISS" and state(teacher, "/auth/me") == "HIT" and state(teacher, "/teacher/classes") == "HIT"


def test_a_school_bounds_the_other_selectors(platform: Client, stack: TestStack, teacher: Client) -> None:
    kept(teacher, "/teacher/homework")
    assert invalidate(platform, tables=["homework.homework"], school_id=school(SECOND))["invalidated_count"] == 0
    assert state(teacher, "/teacher/homework") == "HIT"
    key = plant(stack, f"kind{next(numbers)}:1")
    assert by(invalidate(platform, pattern="kind*", school_id=school(SECOND)), "pattern")["removed"] == 0 and store(stack).exists(key)
    assert by(invalidate(platform, pattern="kind*", school_id=school()), "pattern")["removed"] >= 1 and not store(stack).exists(key)
    problem(platform.post("/cache/invalidate", {"pattern": "cache:test:*", "school_id": school()}), 422)


def test_a_pattern_takes_entries_alone_and_specials_are_their_own(stack: TestStack, platform: Client) -> None:
    """B9: what a glob could understand beside * and ? stands for itself."""
    name = f"kind{next(numbers)}"
    odd, plain, backslash = plant(stack, f"{name}:a[bc]d"), plant(stack, f"{name}:abd"), plant(stack, f"{name}:\\^x")
    foreign = plant(stack, f"{name}:abd", "auth", "all")
    assert by(invalidate(platform, pattern=f"{name}:a[bc]d"), "pattern")["removed"] == 1
    assert store(stack).exists(odd) == 0 and store(stack).exists(plain, backslash, foreign) == 3
    assert by(invalidate(platform, pattern=f"{name}:\\^?"), "pattern")["removed"] == 1 and store(stack).exists(plain, foreign) == 2
    assert by(invalidate(platform, pattern=f"{name}:*"), "pattern")["removed"] == 2


@pytest.mark.parametrize("pattern", ["cache:*", "cache:prod:*", "cache:test", "cache:tes?:*", "cache:*:*"])
def test_a_pattern_that_leaves_the_namespace_is_refused(stack: TestStack, platform: Client, pattern: str) -> None:
    """B9"""
    before = entries(stack)
    assert problem(platform.post("/cache/invalidate", {"pattern": pattern}), 422)["errors"][0]["pointer"] == "/pattern"
    assert entries(stack) == before


@pytest.mark.parametrize("body", [{}, {"dry_run": True}, {"tags": []}, {"pattern": ""}, {"tables": [], "reason": "x"}, {"match": "all"}])
def test_without_a_selector_it_is_400(platform: Client, body: dict[str, Any]) -> None:
    """H1"""
    problem(platform.post("/cache/invalidate", body), 400, "no_selector")


@pytest.mark.parametrize("body", [{"tags": "class:1"}, {"tags": [""]}, {"user_id": "x"}, {"match": "some", "tags": ["class:1"]}, {"events": ["assigned"]},
                                  {"table_name": '""'}, {"tables": ["x", '""']}])
def test_a_wrong_selector_is_422(platform: Client, body: dict[str, Any]) -> None:
    """H1"""
    problem(platform.post("/cache/invalidate", body), 422)


def test_the_same_call_twice_is_done_once(platform: Client, teacher: Client) -> None:
    """An Idempotency-Key is for these too."""
    work, key = new_work(teacher), str(uuid.uuid4())
    kept(teacher, f"/teacher/homework/{work}")
    first = platform.request("POST", "/cache/invalidate", {"tags": [f"homework:{work}"]}, {"Idempotency-Key": key})
    assert data(first)["invalidated_count"] >= 1
    kept(teacher, f"/teacher/homework/{work}")
    second = platform.request("POST", "/cache/invalidate", {"tags": [f"homework:{work}"]}, {"Idempotency-Key": key})
    assert second.headers["idempotency-replayed"] == "true" and second.json == first.json and state(teacher, f"/teacher/homework/{work}") == "HIT"


def test_without_redis_it_says_so_and_makes_up_for_it(stack: TestStack, platform: Client, teacher: Client) -> None:
    """H1, I4: quickly, as a problem, and what tags of a school were named is dropped all the same."""
    work, pid = new_work(teacher), stack.cache.process.pid
    kept(teacher, f"/teacher/homework/{work}")
    epoch = f"cache:test:epoch:{{{school()}}}:homework:{work}"
    before = int(store(stack).get(epoch))
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        problem(platform.post("/cache/invalidate", {"tags": [f"homework:{work}"], "school_id": school()}), 503, "cache_unavailable")
        problem(platform.post("/cache/invalidate", {"tags": [f"homework:{work}"]}), 503, "cache_unavailable")
        problem(platform.get("/cache/tags"), 503, "cache_unavailable")
        assert platform.get("/cache/health").status == 200
        answer = platform.get("/cache/stats")
        assert data(answer)["redis"]["connected"] is False and answer.json["summary"]["redis_hit_ratio"] is None
        assert time.monotonic() - started < 15
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for("auth has told Redis", lambda: data(platform.get("/cache/stats"))["engine"]["up"] is True, 10)
    assert int(store(stack).get(epoch)) > before
    wait_for("homework is back", lambda: state(teacher, f"/teacher/homework/{work}") == "HIT", 10)


def test_without_a_database_figures_are_shown_and_nothing_goes_unrecorded() -> None:
    """H1: what changes the caches fails when it cannot be recorded; what an operator needs to see he sees."""
    system = TestStack()
    try:
        system.start(on_database=lambda own: seed(own.postgres, small=True))
        platform = sign_in(system, "super_admin")
        kept(platform, "/auth/me")
        key = next(one for one in entries(system) if ":http:" in one)
        assert platform.get(path_of(key)).status == 200
        system.postgres.stop()
        wait_for("auth has noticed", lambda: platform.get("/cache/health").status == 200 and platform.get("/cache/stats").status == 200, 10)
        for path in LOOKS:
            assert platform.get(path).status == 200, path
        hidden = platform.get(path_of(key))
        assert problem(hidden, 503) and b"value" not in hidden.body
        problem(platform.post("/cache/invalidate", {"tags": ["class:1"], "school_id": school()}), 503)
        problem(platform.delete(path_of(key)), 503)
    finally:
        system.close()
