# SPDX-License-Identifier: Apache-2.0
"""Warming, health and report of the caches over real daemons (cache.md E1, E2, E3, H3, H4, H5)."""
from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from s24.base import free_ports
from s24.seed import identity, seed
from s24.servers import Service

from harness import BUILD, Client, TestStack, wait_for
from scene import FIRST, SECOND, assign, class_id, sign_in


def data(answer: Any) -> dict[str, Any]:
    assert answer.status == 200, str(answer)
    return answer.json["data"]


def figures(service: Service) -> str:
    return requests.get(f"{service.admin_url}/metrics", timeout=10).text


def sample(page: str, name: str, **labels: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines()
               if re.match(re.escape(name) + r"[{ ]", line) and all(f'{key}="{value}"' in line for key, value in labels.items()))


def logged(service: Service, message: str) -> list[dict[str, Any]]:
    lines = service.process.log.read_text().splitlines() if service.process.log.exists() else []
    return [entry for entry in (json.loads(line) for line in lines if line.startswith("{")) if entry.get("msg") == message]


@pytest.fixture(scope="module")
def system() -> Iterator[TestStack]:
    """One of its own: caches are emptied, replicas come and go. A busy machine with sanitizers is not a slow Redis."""
    if not (BUILD / "bin" / "schools24-auth").exists():
        pytest.skip(f"no daemons in {BUILD}/bin (S24_BUILD)")
    own = TestStack(settings={"CACHE_HEALTH_MIN_SAMPLE": "20"})
    try:
        own.start(on_database=lambda it: seed(it.postgres, small=True))
        yield own
    finally:
        own.close()


@pytest.fixture(scope="module")
def platform(system: TestStack) -> Client:
    return sign_in(system, "super_admin")


def make_active(system: TestStack, school: str = FIRST) -> None:
    """Somebody reads, and Redis is told that his school is active."""
    sign_in(system, "admin", school=school).get("/classes")
    wait_for("the school is known to be active",
             lambda: any(member.startswith(identity("school", school).encode()) for member in system.cache.client().zrange("cache:test:jobs:schools", 0, -1)), 20)


def clear(platform: Client) -> None:
    assert platform.post("/cache/clear-all", {"confirm": True}).status == 200


# ---- E1 ----


def test_what_was_warmed_is_a_hit_for_its_first_reader_without_the_source(system: TestStack, platform: Client) -> None:
    """E1: on demand."""
    make_active(system)
    student, teacher = sign_in(system, "student"), sign_in(system, "teacher")
    clear(platform)
    done = data(platform.post("/cache/warm", {}))
    assert done["warmed"] > 5 and done["failed"] == 0, done  # five roles' classes, and rosters
    before = figures(system.services["auth"])
    for client, path in ((student, "/classes"), (teacher, "/classes"), (teacher, f"/teacher/classes/{class_id()}/students")):
        answer = client.get(path)
        assert answer.status == 200 and answer.headers["x-cache"] == "HIT", f"{path}: {answer}"
    assert answer.json["students"], "and it is the roster, not the answer to nobody"
    after = figures(system.services["auth"])
    for name, labels in (("schools24_cache_requests_total", {"namespace": "http", "result": "miss"}), ("schools24_cache_fills_total", {"namespace": "http"})):
        assert sample(after, name, **labels) == sample(before, name, **labels)
    again = data(platform.post("/cache/warm", {"critical_queries": ["classes"]}))
    assert (again["warmed"], again["skipped"], again["failed"]) == (0, 5, 0)


def test_warming_knows_no_statement_but_its_own(platform: Client) -> None:
    """E1: a client names jobs, never SQL."""
    answer = platform.post("/cache/warm", {"critical_queries": ["SELECT * FROM auth.users"]})
    assert answer.status == 422 and answer.json["errors"][0]["pointer"] == "/critical_queries/0", str(answer)


def test_another_school_gets_its_own(system: TestStack, platform: Client) -> None:
    make_active(system, SECOND)
    clear(platform)
    data(platform.post("/cache/warm", {}))
    first, second = sign_in(system, "student").get("/classes"), sign_in(system, "student", school=SECOND).get("/classes")
    assert first.headers["x-cache"] == second.headers["x-cache"] == "HIT"
    assert {entry["id"] for entry in first.json["classes"]}.isdisjoint(entry["id"] for entry in second.json["classes"])


def test_the_warmed_is_for_those_alone_whom_the_route_lets_in(system: TestStack, platform: Client) -> None:
    make_active(system)
    clear(platform)
    data(platform.post("/cache/warm", {}))
    stranger = sign_in(system, "teacher", school=SECOND)
    assert stranger.get(f"/teacher/classes/{class_id()}/students").status in (403, 404)
    assert sign_in(system, "student").get(f"/teacher/classes/{class_id()}/students").status == 403


# ---- E1 at start, E2 ----


def second_auth(system: TestStack, name: str) -> Service:
    first = system.services["auth"]
    ports = free_ports(2)
    service = Service(name, first.binary, system.conf, system.logs, system.daemon_account, ports[0], ports[1])
    service.configure({key: value for key, value in first.settings.items() if key not in ("LISTEN", "ADMIN_LISTEN")}, dict(first.environment))
    return service


def test_replicas_that_start_together_warm_once(system: TestStack, platform: Client) -> None:
    """E2: once fleet-wide; E1: at start."""
    make_active(system)
    clear(platform)
    store = system.cache.client()
    store.delete("cache:test:jobs:auth")  # as if it had never run
    replicas = [second_auth(system, "auth2"), second_auth(system, "auth3")]
    try:
        for replica in replicas:
            replica.start()
        wait_for("both jobs have run", lambda: sum(len(logged(replica, "warmed")) for replica in [*replicas, system.services["auth"]]) >= 2, 30)
        wait_for("their record", lambda: store.hlen("cache:test:jobs:auth") == 2, 5)
        time.sleep(6)  # a tick of each: who comes later finds it done
        runs = [entry for replica in replicas for entry in logged(replica, "warmed")]
        assert len({(entry["job"]) for entry in runs}) == len(runs) <= 2, runs
        assert sign_in(system, "student").get("/classes").headers["x-cache"] == "HIT"
        jobs = {job["name"]: job for job in data(platform.post("/cache/warm", {"critical_queries": ["classes"]}))["jobs"]}
        assert set(jobs) == {"classes", "rosters"}
        for job in jobs.values():
            assert job["outcome"] == "ok" and job["failed"] == 0 and job["interval_s"] == 900 and job["paused"] is False, job
            assert job["last_run"] < job["next_run"] and job["duration_ms"] >= 0 and job["warmed"] + job["skipped"] > 0, job
    finally:
        for replica in replicas:
            assert replica.stop() == 0


def test_a_paused_job_is_paused_for_all(system: TestStack, platform: Client) -> None:
    """E2."""
    paused = data(platform.post("/cache/warm", {"pause": ["rosters"]}))
    assert {job["name"]: job["paused"] for job in paused["jobs"]} == {"classes": False, "rosters": True}
    assert paused["warmed"] == paused["skipped"] == 0, "steering runs nothing"
    resumed = data(platform.post("/cache/warm", {"resume": ["rosters"]}))
    assert not any(job["paused"] for job in resumed["jobs"])
    assert platform.post("/cache/warm", {"pause": ["nothing"]}).status == 422


# ---- E3 ----


def test_a_teachers_list_is_there_before_he_asks(system: TestStack) -> None:
    teacher, other = sign_in(system, "teacher"), sign_in(system, "teacher", 1)
    made = [assign(teacher) for _ in range(5)]
    homework = system.services["homework"]
    wait_for("the list is warmed", lambda: sample(figures(homework), "schools24_cache_warmed_total", warming="after a change", result="warmed") >= 1, 5)
    time.sleep(0.3)
    answer = teacher.get("/teacher/homework")
    assert answer.headers["x-cache"] == "HIT"
    assert {entry["id"] for entry in made} <= {entry["id"] for entry in answer.json["homework"]}
    assert not {entry["id"] for entry in made} & {entry["id"] for entry in other.get("/teacher/homework").json["homework"]}
    page = figures(homework)
    dropped = sample(page, "schools24_cache_warm_dropped_total")
    assert sample(page, "schools24_cache_warmed_total", warming="after a change", result="warmed") + dropped == 5
    assert sample(page, "schools24_cache_warmed_total", warming="after a change", result="failed") == 0


# ---- H3, H4, H5 ----


def test_health_agrees_with_the_metrics_of_the_same_daemon(system: TestStack, platform: Client) -> None:
    """H4."""
    for _ in range(30):
        assert platform.get("/auth/me").status == 200
    time.sleep(1.1)
    found = data(platform.get("/cache/health"))
    metrics, cache = found["metrics"], found["health"]["cache"]
    assert metrics["operations"] == metrics["hits"] + metrics["misses"] + metrics["bypassed"]
    assert abs(metrics["hitRate"] - 100 * metrics["hits"] / (metrics["hits"] + metrics["misses"])) < 0.01
    assert cache["totalOperations"] <= metrics["operations"] and 0 <= cache["errorRate"] <= 100
    page = figures(system.services["auth"])
    assert metrics["hits"] <= sample(page, "schools24_cache_requests_total", result="hit") + sample(page, "schools24_cache_requests_total", result="stale")
    assert found["health"]["redis"]["keyCount"] > 0 and found["health"]["redis"]["latency"] > 0
    assert abs(sample(page, "redis_cache_hit_rate") * 100 - cache["hitRate"]) < 5


def test_the_report_has_history_and_names_its_window(platform: Client) -> None:
    """H3."""
    found = platform.get("/cache/performance-report")
    body = data(found)
    own = body["performance_metrics"]
    assert own["window_seconds"] > 0 and own["operations"] >= own["hits"] + own["misses"]
    assert own["lookup"]["p50_ms"] <= own["lookup"]["p95_ms"] <= own["lookup"]["p99_ms"]
    assert body["redis_stats"]["max_memory"] == 256 << 20 and body["redis_stats"]["evicted_keys"] == 0
    assert body["history"] and body["history"][0]["timestamp"] <= body["timestamp"]
    assert [job["name"] for job in body["warming"]] == ["classes", "rosters"]
    for advice in found.json["recommendations"]:
        assert advice["rule"] and advice["severity"] in ("info", "warning", "critical") and advice["message"] and advice["action"]
        assert isinstance(advice["evidence"]["value"], (float, int))


def test_without_the_cache_the_verdict_is_critical_and_probes_are_well(system: TestStack, platform: Client) -> None:
    """H5: liveness and readiness follow no rate."""
    auth = system.services["auth"]
    system.cache.process.kill()
    try:
        wait_for("it is noticed", lambda: data(platform.get("/cache/health"))["health"]["overall"] == "critical", 15)
        found = data(platform.get("/cache/health"))
        assert found["health"]["redis"]["connected"] is False and found["health"]["redis"]["latency"] is None
        assert "cache.connection" in [alert["rule"] for alert in found["alerts"]["active"]]
        assert requests.get(f"{auth.admin_url}/health", timeout=5).status_code == 200
        assert requests.get(f"{auth.admin_url}/ready", timeout=5).status_code == 200
        assert sample(figures(auth), "schools24_cache_circuit_open") == 1
    finally:
        system.cache.start()
    wait_for("the alert has ended", lambda: "cache.connection" in [alert["rule"] for alert in data(platform.get("/cache/health"))["alerts"]["past"]], 20)
    ended = next(alert for alert in data(platform.get("/cache/health"))["alerts"]["past"] if alert["rule"] == "cache.connection")
    assert ended["resolve_seconds"] > 0 and ended["since"] < ended["resolved"]
