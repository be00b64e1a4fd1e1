# SPDX-License-Identifier: Apache-2.0
"""The first slice under sanitizers: what `./s24 up` shows at its end, and what stands around it."""
from __future__ import annotations

import json

from s24 import buffer
from s24.seed import logins
from s24.slice import run_slice

from harness import Client, TestStack


def test_a_homework_travels_from_the_request_to_the_row(stack: TestStack) -> None:
    steps: list[str] = []
    made = run_slice(stack, lambda text, _: steps.append(text))
    assert steps[-1].startswith(f"row: homework {made['homework_id']}")
    with stack.postgres.cursor() as cursor:
        cursor.execute("SELECT school_id::text FROM homework.homework WHERE id = %s", (made["homework_id"],))
        assert cursor.fetchone()[0] == logins()["teacher"]["school_id"]
    assert stack.buffer.client().get(f"write_buffer:homework:{made['homework_id']}") is None, "what is in the database is no longer in the buffer"


def test_the_other_school_sees_nothing_of_it(stack: TestStack) -> None:
    made = run_slice(stack, lambda *_: None)
    other = Client(stack.url)
    login = logins()["teacher"]["second_school"]
    assert other.login(login["email"], login["password"]).status == 200
    assert other.get(f"/teacher/homework/{made['homework_id']}").status == 404


def test_env_names_every_address(stack: TestStack) -> None:
    env = json.loads(json.dumps(stack.env(logins())))
    assert {"gateway_url", "pg_url", "redis_buffer_url", "redis_cache_url", "mongo_uri", "services", "worker", "logins"} <= set(env)
    for service in [*env["services"].values(), env["worker"]]:
        assert Client(service["admin_url"]).request("GET", "/ready", bare=True).status == 200
        assert service["pid"] > 0


def test_a_buffered_record_can_be_shown(stack: TestStack) -> None:
    teacher, login = Client(stack.url), logins()["teacher"]
    assert teacher.login(login["email"], login["password"]).status == 200
    option = teacher.get("/teacher/homework/options").json["options"][0]
    made = teacher.multipart("POST", "/teacher/homework", {"title": "Shown", "class_id": option["class_id"], "due_date": "2099-01-31",
                                                           "subject_id": option["subjects"][0]["subject_id"]}).json
    shown = buffer.show(stack.buffer.client(), stack.binaries, "homework", made.get("homework", made)["id"])
    assert (shown["state"], shown["row"]["title"], shown["row"]["due_date"]) == ("pending", "Shown", "2099-01-31")
    assert "class_id:" + option["class_id"] in shown["scopes"]
