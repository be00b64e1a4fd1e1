# SPDX-License-Identifier: Apache-2.0
"""The harness itself: its servers are real, and the walls between the roles stand before any daemon does."""
from __future__ import annotations

import contextlib
import pathlib
import re
import time
import uuid
from collections.abc import Iterator

import psycopg2
import psycopg2.errors
import pytest
import redis
from s24 import services
from s24.base import Process
from s24.migrate import MigrationError, migrate
from s24.servers import Postgres

from harness import Proxy, TestStack, bare_postgres, wait_for
from harness.stack import own_account

SCHOOL, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


@contextlib.contextmanager
def as_role(stack: TestStack, name: str) -> Iterator[psycopg2.extensions.cursor]:
    with contextlib.closing(psycopg2.connect(stack.database_url(name))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


@pytest.fixture(scope="module")
def pupils(stores: TestStack) -> TestStack:
    """A schema of the tests' own, made by the functions that every daemon's migration uses. `report` is the last daemon to come."""
    with psycopg2.connect(stores.postgres.url(Postgres.OWNER, stores.password(Postgres.OWNER))) as connection, connection.cursor() as cursor:
        cursor.execute("""
            CREATE TABLE report.harness_through (LIKE common.row INCLUDING ALL, name text);
            CREATE TABLE report.harness_buffer (LIKE common.row INCLUDING ALL, name text);
            SELECT common.table_rules('report.harness_through', 'through');
            SELECT common.table_rules('report.harness_buffer', 'buffer');""")
    with stores.postgres.cursor() as cursor:
        for table in ("harness_through", "harness_buffer"):
            for school in (SCHOOL, OTHER):
                cursor.execute(f"INSERT INTO report.{table} (id, school_id, name) VALUES (gen_random_uuid(), %s, 'x')", (school,))
    return stores


def test_stores_are_ready_and_migrated(stores: TestStack) -> None:
    assert stores.buffer.client().config_get("appendfsync") == {"appendfsync": "always"}
    assert stores.buffer.client().config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert stores.cache.client().config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lfu"}
    with stores.postgres.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM public.schema_migrations")
        assert cursor.fetchone()[0] >= 2
    assert stores.migrate() == []


def test_redis_refuses_the_default_user(stores: TestStack) -> None:
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=stores.buffer.port).ping()


def test_who_is_killed_leaves_no_children(folder: pathlib.Path) -> None:
    parent = Process("parent", folder, folder / "parent.log", own_account())
    parent.start(["/bin/sh", "-c", "sleep 600 & echo $!; wait"])
    wait_for("the child is there", lambda: parent.log.read_text(encoding="utf-8").endswith("\n"), 5)
    child = int(parent.log.read_text(encoding="utf-8"))
    assert Process.birth(child)
    parent.kill()
    wait_for("the child is gone", lambda: not Process.birth(child), 5)


def test_an_edited_migration_is_refused(folder: pathlib.Path) -> None:
    server = bare_postgres(folder)
    try:
        migrations = folder / "migrations"
        migrations.mkdir()
        (migrations / "0001_first.sql").write_text("CREATE TABLE public.t ();")
        url = server.url(server.SUPERUSER, "superuser")
        assert migrate(url, migrations) == ["0001_first.sql"]
        (migrations / "0002_wrong.sql").write_text("CREATE TABLE public.u ();\nSELECT * FROM missing;")
        with pytest.raises(MigrationError, match="0002_wrong.sql, line 2"):
            migrate(url, migrations)
        with server.cursor() as cursor:
            cursor.execute("SELECT to_regclass('public.u')")
            assert cursor.fetchone()[0] is None, "a failed migration leaves nothing"
        (migrations / "0002_wrong.sql").unlink()
        (migrations / "0001_first.sql").write_text("CREATE TABLE public.t (a int);")
        with pytest.raises(MigrationError, match="edited"):
            migrate(url, migrations)
    finally:
        server.stop()


def test_a_daemon_sees_and_writes_one_school(pupils: TestStack) -> None:
    with as_role(pupils, "report") as cursor:
        cursor.execute("SELECT count(*) FROM report.harness_through")
        assert cursor.fetchone()[0] == 0, "without a school nothing is seen"
        cursor.execute("SET app.school_id = %s", (SCHOOL,))
        cursor.execute("SELECT DISTINCT school_id::text FROM report.harness_through")
        assert cursor.fetchall() == [(SCHOOL,)]
        cursor.execute("INSERT INTO report.harness_through (id, school_id) VALUES (gen_random_uuid(), %s)", (SCHOOL,))
        with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="row-level security"):
            cursor.execute("INSERT INTO report.harness_through (id, school_id) VALUES (gen_random_uuid(), %s)", (OTHER,))


@pytest.mark.parametrize("statement", [
    "DELETE FROM report.harness_through",
    "INSERT INTO report.harness_buffer (id, school_id) VALUES (gen_random_uuid(), '00000000-0000-0000-0000-000000000001')",
    "UPDATE report.harness_buffer SET name = 'y'",
    "CREATE TABLE report.own ()",
    "CREATE TEMPORARY TABLE own ()",
    "SELECT * FROM worker.runs",
    "SELECT common.table_rules('report.harness_through', 'through')",
])
def test_a_daemon_may_not(pupils: TestStack, statement: str) -> None:
    with as_role(pupils, "report") as cursor:
        cursor.execute("SET app.school_id = %s", (SCHOOL,))
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(statement)


def test_the_worker_flushes_every_school_and_only_buffered_tables(pupils: TestStack) -> None:
    with as_role(pupils, "worker") as cursor:
        cursor.execute("SELECT count(DISTINCT school_id) FROM report.harness_buffer")
        assert cursor.fetchone()[0] == 2
        cursor.execute("UPDATE report.harness_buffer SET name = 'flushed'")
        cursor.execute("CREATE TEMPORARY TABLE wb_x (id uuid)")
        for statement in ("DELETE FROM report.harness_buffer", "SELECT * FROM report.harness_through"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(statement)


def put(client: redis.Redis, entity: str, domain: str) -> object:
    """put.lua as a daemon calls it: one record with a scope, and an event."""
    text = (pathlib.Path(services.__file__).parents[2] / "common" / "svc" / "lua" / "put.lua").read_text()
    record = [entity, str(uuid.uuid4()), "0", "", "0", "100", "1", "class_id:" + SCHOOL, b"payload"]
    arguments = [uuid.UUID(SCHOOL).bytes, b"\1" * 8, "", "0", "", "1", *record, "1", domain, "2", "e", "{}"]
    return client.evalsha(client.script_load(text), 0, *arguments)


def test_the_scripts_run_within_each_users_rules(stores: TestStack) -> None:
    passwords = {name: stores.password(f"redis_{name}") for name in ("operator", "worker", "homework", "auth")}
    stores.buffer.configure(services.buffer_acl(passwords, {"homework": ["homework"], "auth": ["auth_audit"]}), passwords["operator"])
    homework = redis.Redis(port=stores.buffer.port, username="homework", password=passwords["homework"])
    assert put(homework, "homework", "homework")[0] == b"OK"
    assert homework.get("session:any") is None
    with pytest.raises(redis.ResponseError, match="access|permission"):
        put(homework, "quiz_submission", "homework")
    with pytest.raises(redis.ResponseError, match="access|permission"):
        put(homework, "homework", "quiz")
    for command in (("SET", "session:x", "1"), ("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("GET", "write_buffer:auth_audit:1"),
                    ("SCRIPT", "FLUSH"), ("ACL", "LIST"), ("EVAL", "return 1", "0")):
        with pytest.raises(redis.exceptions.NoPermissionError):
            homework.execute_command(*command)
    worker = redis.Redis(port=stores.buffer.port, username="worker", password=passwords["worker"])
    lua = pathlib.Path(services.__file__).parents[2] / "common" / "svc" / "lua"
    claimed = worker.evalsha(worker.script_load((lua / "claim.lua").read_text()), 0, "homework", "host:1", "1", "1000000", "60000", "0")
    assert claimed[0] == 0 and len(claimed) == 5
    version = int.from_bytes(claimed[4][2:10], "little")
    acked = worker.evalsha(worker.script_load((lua / "ack.lua").read_text()), 0, "homework", "host:1", claimed[2], str(version))
    assert acked == [1, 0]
    assert worker.config_get("appendfsync") == {"appendfsync": "always"}


def test_who_raises_a_tag_drops_the_entries_of_others_and_makes_none(stores: TestStack) -> None:
    passwords = {name: stores.password(f"redis_{name}") for name in ("operator", "worker", "homework", "auth")}
    stores.cache.configure(services.cache_acl(passwords, ["homework", "auth"]), passwords["operator"])
    homework = redis.Redis(port=stores.cache.port, username="homework", password=passwords["homework"])
    own, foreign = "cache:test:homework:v1:{all}:x", "cache:test:auth:v1:{all}:x"
    assert homework.set(own, "1") and homework.set("cache:test:epoch:{all}:user:1", "1") and homework.set("cache:test:directory:v1:{all}:x", "1")
    stores.cache.client().set(foreign, "1")
    with pytest.raises(redis.exceptions.NoPermissionError):
        homework.set(foreign, "forged")
    with pytest.raises(redis.exceptions.NoPermissionError):
        homework.set("session:1", "forged")
    for command in (("GET", foreign), ("GETRANGE", foreign, "0", "1"), ("TYPE", foreign)):
        with pytest.raises(redis.exceptions.NoPermissionError):
            homework.execute_command(*command)
    admin = redis.Redis(port=stores.cache.port, username="auth", password=passwords["auth"])
    assert admin.get(foreign) == b"1" and admin.get(own) == b"1", "the administration looks at all"
    with pytest.raises(redis.exceptions.NoPermissionError):
        admin.set(own, "forged")
    assert homework.execute_command("UNLINK", own, foreign) == 2, "in one command, as the scripts do"
    for command in (("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("UNLINK", "session:1"), ("EVAL", "return 1", "0")):
        with pytest.raises(redis.exceptions.NoPermissionError):
            homework.execute_command(*command)


def test_the_proxy_passes_delays_refuses_and_cuts(stores: TestStack) -> None:
    proxy = Proxy(stores.buffer.port)
    try:
        through = redis.Redis(port=proxy.port, username="operator", password=stores.password("redis_operator"), socket_timeout=5)
        assert through.ping()
        proxy.delay_s = 0.1
        started = time.monotonic()
        assert through.ping()
        assert time.monotonic() - started >= 0.2
        proxy.delay_s = 0.0
        connection = through.connection_pool.get_connection("PING")
        connection.send_command("PING")
        assert connection.read_response() == b"PONG"
        proxy.cut_after(0)
        connection.send_command("PING")
        with pytest.raises(redis.ConnectionError):
            connection.read_response()
        proxy.refuse = True
        with pytest.raises(redis.ConnectionError):
            through.ping()
    finally:
        proxy.close()


def test_every_command_of_the_scripts_is_granted() -> None:
    granted = set(re.findall(r"\+(\w+)", " ".join((services.READ, services.WRITE, services.STREAMS, services.PUBSUB, services.CONNECTION))))
    scripts = list((pathlib.Path(services.__file__).parents[2] / "common").glob("*/lua/*.lua"))
    assert {script.parent.parent.name for script in scripts} == {"cache", "svc"}
    for script in scripts:
        used = {name.lower() for name in re.findall(r"redis\.call\('(\w+)'", script.read_text())} | {"xadd"}
        assert used <= granted, f"{script.name}: {used - granted}"
