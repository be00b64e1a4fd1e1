# SPDX-License-Identifier: Apache-2.0
"""From a change to what is kept of it, over real daemons: raised once and before the answer, not for what was not made, again for who has died, and on an
operator's word for what went around the daemons (D1, D2, D4, D5, F7)."""
from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from cache_scene import platform, teacher  # noqa: F401  the fixtures are asked for by their names
from scene import FIRST, assign, class_id, email, flush, identity, row, sign_in, student_id
from s24.seed import PASSWORD
from s24.servers import Service
from s24.soak import another

from harness import Client, TestStack, wait_for


@pytest.fixture(scope="module")
def pupil(stack: TestStack) -> Client:
    return sign_in(stack, "student")


@pytest.fixture(scope="module")
def homework(teacher: Client) -> str:
    return str(assign(teacher)["id"])


def kept(client: Client, path: str) -> None:
    """Asks until the answer comes out of the cache."""
    wait_for(f"{path} is kept", lambda: client.get(path).headers.get("x-cache") == "HIT", 10)


class News:
    """What is said of raised tags from here on, each message a set of tags without the school."""

    def __init__(self, stack: TestStack) -> None:
        self.client: redis.Redis = stack.cache.client()
        self.pubsub = self.client.pubsub(ignore_subscribe_messages=True)
        self.pubsub.subscribe("cache:test:news")
        wait_for("the news are heard", lambda: dict(self.client.pubsub_numsub("cache:test:news"))[b"cache:test:news"] > 0 and self.pubsub.subscribed, 5)
        self.pubsub.get_message(timeout=0.2)

    def all(self, wait_s: float = 0) -> list[set[str]]:
        found, until = [], time.monotonic() + wait_s
        while (message := self.pubsub.get_message(timeout=max(0.05, until - time.monotonic()))) or time.monotonic() < until:
            words = message["data"].decode().split() if message else []
            if words and words[0] == "r":
                found.append({word.split("}:", 1)[1] for word in words[1:] if "}:" in word})
        return found

    def naming(self, tag: str) -> int:
        return sum(tag in one for one in self.all())

    def close(self) -> None:
        self.pubsub.close()
        self.client.close()


@pytest.fixture
def news(stack: TestStack) -> Iterator[News]:
    flush(stack)  # nothing of an earlier change is told in between
    time.sleep(0.3)
    listening = News(stack)
    yield listening
    listening.close()


# ---- once, before the answer, and only for what is made --------------------------------------------------------------------------

def test_a_change_is_raised_once_before_its_answer(teacher: Client, homework: str, news: News) -> None:
    assert teacher.put(f"/teacher/homework/{homework}", {"title": "raised once"}).status == 200
    said = news.all()
    assert sum(f"homework:{homework}" in one for one in said) == 1, said
    (tags,) = [one for one in said if f"homework:{homework}" in one]
    assert {f"class:{class_id()}", f"teacher:{identity('teacher', FIRST, 0)}", "table:homework.homework"} <= tags
    # … and once more when its row has left the buffer, which the lists do not show.
    assert teacher.get("/teacher/homework").status == 200


def test_a_person_is_raised_once_with_everything_that_shows_him(pupil: Client, news: News) -> None:
    assert pupil.put("/auth/me", {"full_name": "Once Raised"}).status == 200
    said = [one for one in news.all(2.5) if f"user:{identity('user', FIRST, 'student', 0)}" in one]  # the outbox's relay and two looks
    assert len(said) == 1, said
    assert {f"dir:student:{student_id()}", f"dir:roster:{class_id()}", "dirs:student", "dirs:roster"} <= said[0]


def test_who_changes_no_name_leaves_the_lists_of_his_kind(pupil: Client, teacher: Client, news: News) -> None:
    roster = f"/teacher/classes/{class_id()}/students"
    kept(teacher, roster)
    assert pupil.put("/auth/me", {"phone": f"+9198765{int(time.time()) % 100000:05}"}).status == 200
    (said,) = [one for one in news.all() if f"user:{identity('user', FIRST, 'student', 0)}" in one]
    assert not any(tag.startswith("dir") for tag in said), said
    assert teacher.get(roster).headers["x-cache"] == "HIT"
    assert pupil.put("/auth/me", {"full_name": "Another Name"}).status == 200
    answer = teacher.get(roster)
    assert answer.headers["x-cache"] == "MISS" and b"Another Name" in answer.body


def test_what_is_refused_raises_nothing(teacher: Client, pupil: Client, homework: str, news: News) -> None:
    path = f"/teacher/homework/{homework}"
    kept(teacher, path)
    assert teacher.put(path, {"title": "too late"}, **{"If-Match": '"1-0"'}).status == 412
    assert teacher.put(path, {"title": ""}).status == 422
    assert pupil.put(path, {"title": "not mine"}).status == 403
    assert teacher.get(path).headers["x-cache"] == "HIT"
    assert news.naming(f"homework:{homework}") == 0


def test_created_and_deleted_tell_the_owners_lists_and_no_others(stack: TestStack, teacher: Client, pupil: Client) -> None:
    other, elsewhere = sign_in(stack, "teacher", 1), sign_in(stack, "teacher", school="riverside")
    for step in ("created", "deleted"):
        for one in (teacher, other, elsewhere):
            kept(one, "/teacher/homework")
        kept(pupil, "/academic/homework")
        if step == "created":
            made = assign(teacher)["id"]
        else:
            assert teacher.delete(f"/teacher/homework/{made}").status == 200
        assert other.get("/teacher/homework").headers["x-cache"] == "HIT" and elsewhere.get("/teacher/homework").headers["x-cache"] == "HIT"
        assert (made.encode() in teacher.get("/teacher/homework").body) is (step == "created")
        assert (made.encode() in pupil.get("/academic/homework").body) is (step == "created")
    assert teacher.get(f"/teacher/homework/{made}").status == 404


# ---- who dies in between -----------------------------------------------------------------------------------------------------------

@contextmanager
def dying(stack: TestStack, first: Service) -> Iterator[str]:
    """A replica that dies between its writing and its raising."""
    replica = another(stack, first)
    replica.environment["S24_FAILPOINTS"] = "cache.before_raise=kill:1:1"
    replica.start()
    try:
        yield replica.url
        wait_for("it has died", lambda: replica.process.pid is None, 5)
    finally:
        replica.process.kill()


def dies(client: Client, path: str, body: object) -> None:
    with pytest.raises((OSError, http.client.HTTPException)):
        client.put(path, body)


def test_what_a_dead_daemon_did_not_raise_is_raised_by_the_others(stack: TestStack, teacher: Client, pupil: Client, homework: str) -> None:
    page = f"/academic/homework/{homework}"
    with dying(stack, stack.services["homework"]) as url:
        kept(pupil, page)
        began = time.monotonic()
        dies(Client(url, teacher.token), f"/teacher/homework/{homework}", {"title": "of a dead one"})
        seen = pupil.get(page).body
        assert b"of a dead one" not in seen or time.monotonic() - began > 0.4, "somebody has raised it"
        wait_for("it is raised again", lambda: b"of a dead one" in pupil.get(page).body, 5)
        assert time.monotonic() - began < 3  # a second, and what the sanitizers take


def test_the_same_behind_an_outbox(stack: TestStack, teacher: Client, pupil: Client) -> None:
    roster = f"/teacher/classes/{class_id()}/students"
    with dying(stack, stack.services["auth"]) as url:
        kept(teacher, roster)
        dies(Client(url, pupil.token), "/auth/me", {"full_name": "Dead Daemons Word"})
        began = time.monotonic()
        wait_for("it is raised again", lambda: b"Dead Daemons Word" in teacher.get(roster).body, 8)
        assert time.monotonic() - began < 5  # the relay looks once a second


def test_a_password_that_a_dead_daemon_has_changed_is_told(stack: TestStack, teacher: Client) -> None:
    """A transaction without an event of its own has one for its tags."""
    other = sign_in(stack, "teacher", 2)
    kept(other, "/auth/me")
    before = other.get("/auth/me").json["user"]["updated_at"]
    with dying(stack, stack.services["auth"]) as url:
        with pytest.raises((OSError, http.client.HTTPException)):
            Client(url, other.token).post("/auth/change-password", {"current_password": PASSWORD, "new_password": "Another-Long-Passphrase-24"})
    wait_for("it is raised again", lambda: other.get("/auth/me").json["user"]["updated_at"] != before, 8)
    assert Client(stack.url).login(email("teacher", 2), "Another-Long-Passphrase-24").status == 200


# ---- around the daemons ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("selector", [{"tables": ["auth.students"]}, {"table_name": "students"}, {"tags": ["bulk:directory"]}])
def test_after_sql_of_an_operator_the_tables_name_is_enough(stack: TestStack, teacher: Client, platform: Client, homework: str, selector: dict[str, object]) -> None:
    paths = [f"/teacher/classes/{class_id()}/students", f"/teacher/homework/{homework}/submissions"]
    number = f"R{time.time_ns() % 1000000}"

    def renumber(to: str) -> None:
        with stack.postgres.cursor() as cursor:
            cursor.execute("UPDATE auth.students SET roll_number = %s, version = version + 1 WHERE id = %s", (to, student_id()))

    def tell() -> None:
        assert platform.post("/cache/invalidate", {**selector, "reason": "roll numbers"}).status == 200

    for path in paths:
        kept(teacher, path)
    try:
        renumber(number)
        assert all(number.encode() not in teacher.get(path).body for path in paths), "nobody was told"
        tell()
        assert all(number.encode() in teacher.get(path).body for path in paths)
    finally:
        renumber("1")
        tell()


def test_after_sql_on_accounts_everybody_sees_his_own(stack: TestStack, teacher: Client, platform: Client) -> None:
    kept(teacher, "/auth/me")
    with stack.postgres.cursor() as cursor:
        cursor.execute("UPDATE auth.users SET profile_picture_url = 'https://example.org/new.png', version = version + 1 WHERE id = %s", (identity("user", FIRST, "teacher", 0),))
    assert platform.post("/cache/invalidate", {"tables": ["auth.users"], "reason": "pictures"}).status == 200
    assert teacher.get("/auth/me").json["user"]["profile_picture_url"] == "https://example.org/new.png"


def test_seeding_and_migrating_begin_anew(stack: TestStack, teacher: Client) -> None:
    kept(teacher, "/classes")
    kept(teacher, "/auth/me")
    stack.forget_caches()
    time.sleep(0.1)  # the bound of what is given out unasked
    assert teacher.get("/classes").headers["x-cache"] == teacher.get("/auth/me").headers["x-cache"] == "MISS"


def test_a_dead_letter_that_is_discarded_gives_way_to_the_row_below_it(stack: TestStack, teacher: Client, pupil: Client, platform: Client) -> None:
    made = str(assign(teacher, title="Before The Poison")["id"])
    pages = [(teacher, f"/teacher/homework/{made}"), (teacher, "/teacher/homework"), (pupil, f"/academic/homework/{made}"), (pupil, "/academic/homework")]
    flush(stack)
    with stack.postgres.cursor() as cursor:
        cursor.execute("ALTER TABLE homework.homework ADD CONSTRAINT no_poison CHECK (title <> 'poison') NOT VALID")
    try:
        assert teacher.put(f"/teacher/homework/{made}", {"title": "poison"}).status == 200

        def is_dead() -> bool:
            platform.post("/sync/flush", {"reason": "a test"})
            return bool(platform.get("/sync/dead-letter/homework").json["dead_letters"])

        wait_for("it is dead", is_dead, 60)
        (letter,) = platform.get("/sync/dead-letter/homework").json["dead_letters"]
        for client, path in pages:
            client.get(path)
            assert b"poison" in client.get(path).body
        assert teacher.get(pages[0][1]).json["sync"]["state"] == "dead"
        assert platform.post("/sync/pause", {"entity": "homework", "reason": "a test"}).status == 200
        answer = platform.post("/sync/dead-letter/homework/replay", {"ids": [made], "reason": "a test"})
        assert answer.json["replayed"] == 1 and teacher.get(pages[0][1]).json["sync"]["state"] == "pending", str(answer)
        assert platform.post("/sync/resume", {"reason": "a test"}).status == 200
        wait_for("it is dead again", is_dead, 60)
        for client, path in pages:
            client.get(path)
        answer = platform.post("/sync/dead-letter/homework/discard", {"records": [{"id": made, "version": letter["version"]}], "reason": "poison"})
        assert answer.json["discarded"] == 1, str(answer)
        for client, path in pages:
            body = client.get(path).body
            assert b"poison" not in body and b"Before The Poison" in body, path
    finally:
        with stack.postgres.cursor() as cursor:
            cursor.execute("ALTER TABLE homework.homework DROP CONSTRAINT no_poison")
    assert row(stack, "SELECT title FROM homework.homework WHERE id = %s", made) == ("Before The Poison",)
