# SPDX-License-Identifier: Apache-2.0
"""Every cached route of auth and homework on two replicas: kept, changed through the first, and new for everybody on the second; nobody sees an old mark."""
from __future__ import annotations

import collections
import datetime
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from scene import NOBODY, PASSWORD, assign, class_id, email, flush, problem, row, sign_in, student_id, today, unsynced

from harness import Answer, Client, TestStack, wait_for
from s24.base import free_ports
from s24.seed import seed
from s24.servers import Service

ELSEWHERE_S = 0.1  # so long another process may give out of its memory what a school shares (cache.md L1)
NEW_PASSWORD = "a quite different one 7"


@dataclass
class World:
    """One system with a second auth and a second homework beside the first, and everybody signed in."""

    stack: TestStack
    seconds: dict[str, Service]
    people: dict[str, Client] = field(default_factory=dict)

    def client(self, who: str, service: str, replica: int) -> Client:
        base = (self.seconds[service] if replica else self.stack.services[service]).url
        return Client(base, self.people[who].token, user=self.people[who].user)

    def get(self, who: str, path: str, replica: int) -> Answer:
        return self.client(who, "homework" if "homework" in path else "auth", replica).get(path)

    def kept(self, who: str, path: str) -> Any:
        """Reads until both replicas give it out of the cache; what they give."""
        seen: list[Answer] = []

        def hit(replica: int) -> bool:
            answer = self.get(who, path, replica)
            if answer.headers.get("x-cache") != "HIT":
                return False
            assert answer.headers["x-cache-level"] in ("MEMORY", "REDIS") and int(answer.headers["age"]) >= 0
            seen.append(answer)
            return True

        for replica in (0, 1):
            wait_for(f"{who}'s {path} is kept", lambda: hit(replica), 5)
        # A flush in between changes `sync` alone.
        assert seen[0].body == seen[1].body or "sync" in seen[0].json
        return seen[1].json

    def told(self, who: str, path: str, what: Callable[[Any], object], wanted: object) -> None:
        """The very next read on each replica, the other first, is new; so is what is kept then."""
        for replica in (1, 0):
            answer = self.get(who, path, replica)
            assert answer.status == 200 and what(answer.json) == wanted, f"{who} at replica {replica} of {path}: {answer.headers.get('cache-status')} {answer}"
        assert what(self.kept(who, path)) == wanted

    def refused(self, who: str, path: str, status: int) -> None:
        for replica in (1, 0):
            answer = self.get(who, path, replica)
            assert answer.status == status and "x-cache" not in answer.headers, f"{who} of {path}: {answer}"

    def state(self, who: str, path: str) -> str:
        return self.get(who, path, 1).headers.get("x-cache", "")

    def around(self, statement: str, *parameters: object, tables: tuple[str, ...]) -> None:
        """What no route changes yet: by SQL, and the administrator's word of it. Memories of others: within a tenth of a second."""
        with self.stack.postgres.cursor() as cursor:
            cursor.execute(statement, parameters)
        answer = self.people["platform"].post("/cache/invalidate", {"tables": list(tables), "reason": "a test"})
        assert answer.status == 200, str(answer)
        time.sleep(ELSEWHERE_S)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    # A busy machine with sanitizers is not a slow Redis.
    stack = TestStack(settings={"RATE_LIMIT_PER_MINUTE": "0"})
    seconds: dict[str, Service] = {}
    try:
        stack.start(on_database=lambda own: seed(own.postgres, small=True))
        for name in ("auth", "homework"):
            first, ports = stack.services[name], free_ports(2)
            second = seconds[name] = Service(f"{name}-2", first.binary, first.folder, stack.logs, first.account, *ports)
            own = {key: value for key, value in first.settings.items() if key not in ("LISTEN", "ADMIN_LISTEN")}
            second.configure(own, first.environment)
            second.start()
        world = World(stack, seconds)
        for who, role, number in (("teacher", "teacher", 0), ("colleague", "teacher", 1), ("pupil", "student", 0), ("mate", "student", 1),
                                  ("parent", "parent", 0), ("admin", "admin", 0), ("platform", "super_admin", 0)):
            world.people[who] = sign_in(stack, role, number)
        yield world
    finally:
        codes = [second.stop() for second in seconds.values()]
        stack.close()
        assert not any(codes), f"a second replica ended with {codes}"


@pytest.fixture
def homework(world: World) -> dict[str, Any]:
    """Assigned, and with what everybody sees of it kept on both replicas."""
    made = assign(world.client("teacher", "homework", 0))
    for who, path in everywhere(made["id"]):
        world.kept(who, path)
    return made


ALL = "?page_size=500"


def everywhere(homework_id: str) -> list[tuple[str, str]]:
    """Who sees a homework where."""
    return [("teacher", f"/teacher/homework{ALL}"), ("teacher", f"/teacher/homework/{homework_id}"), ("teacher", f"/teacher/homework/{homework_id}/submissions"),
            *((who, path) for who in ("pupil", "mate", "parent") for path in (f"/academic/homework{ALL}", f"/academic/homework/{homework_id}"))]


def pick(homework_id: str, name: str) -> Callable[[Any], object]:
    """A field of the homework in an answer of whatever shape; "-" when it is not in it."""
    def found(body: Any) -> object:
        if "homework" not in body:
            return body.get(name)
        one = next((one for one in body["homework"] if one["id"] == homework_id), None)
        return one.get(name) if one else "-"
    return found


def mark(homework_id: str) -> Callable[[Any], object]:
    """What the first pupil got, as pupil, parent and teacher read it."""
    def found(body: Any) -> object:
        if "submissions" in body:
            return next(one for one in body["submissions"] if one["student_id"] == student_id()).get("marks_obtained")
        submission = pick(homework_id, "submission")(body)
        return submission.get("marks_obtained") if isinstance(submission, dict) else None
    return found


def submit(world: World, homework_id: str, text: str = "done") -> None:
    answer = world.client("pupil", "homework", 0).post(f"/academic/homework/{homework_id}/submit", {"submission_text": text, "attachments": []})
    assert answer.status == 200, str(answer)


def grade(world: World, homework_id: str, marks: object) -> None:
    body = {"feedback": "Again."} if marks is None else {"marks_obtained": marks, "feedback": "Well."}
    answer = world.client("teacher", "homework", 0).put(f"/teacher/homework/{homework_id}/submissions/{student_id()}", body)
    assert answer.status == 200, str(answer)


def marks_are(world: World, homework_id: str, wanted: object) -> None:
    for who, path in (("pupil", f"/academic/homework/{homework_id}"), ("parent", f"/academic/homework/{homework_id}"), ("pupil", f"/academic/homework{ALL}"),
                      ("parent", f"/academic/homework{ALL}"), ("teacher", f"/teacher/homework/{homework_id}/submissions")):
        world.told(who, path, mark(homework_id), wanted)


# ---- homework -------------------------------------------------------------------------------------------------------------------------

def test_a_new_homework_is_in_every_list(world: World, homework: dict[str, Any]) -> None:
    made = assign(world.client("teacher", "homework", 0), title="brand new")
    for who, path in (("teacher", f"/teacher/homework{ALL}"), ("pupil", f"/academic/homework{ALL}"), ("mate", f"/academic/homework{ALL}"),
                      ("parent", f"/academic/homework{ALL}")):
        world.told(who, path, pick(made["id"], "title"), "brand new")
    assert world.state("pupil", f"/academic/homework/{homework['id']}") == "HIT", "another homework is as it was"


def test_nobody_ever_sees_an_old_mark(world: World, homework: dict[str, Any]) -> None:
    """Handed in, marked, marked again, the mark taken away, and marked at last: in the buffer, and after the flush."""
    work = homework["id"]
    submit(world, work)
    for who in ("pupil", "parent"):
        world.told(who, f"/academic/homework/{work}", pick(work, "is_submitted"), True)
        world.told(who, f"/academic/homework{ALL}", pick(work, "is_submitted"), True)
    for marks in (7, 12.5, None, 20):
        grade(world, work, marks)
        # The API leaves a mark as it is when none is given.
        marks_are(world, work, 12.5 if marks is None else marks)
    flush(world.stack)
    marks_are(world, work, 20)
    grade(world, work, 3)
    marks_are(world, work, 3)


def test_nobody_sees_an_old_mark_while_marks_rain(world: World, homework: dict[str, Any]) -> None:
    """Whoever asks after a mark was answered sees that one or a later one, on any replica, while others fill the same answers and the worker flushes."""
    work = homework["id"]
    submit(world, work)
    told, over, seen, old = [0], threading.Event(), collections.Counter[str](), []
    places = [("pupil", f"/academic/homework/{work}"), ("parent", f"/academic/homework/{work}"), ("pupil", f"/academic/homework{ALL}"),
              ("teacher", f"/teacher/homework/{work}/submissions")]

    def read(who: str, path: str, replica: int) -> None:
        while not over.is_set():
            least = told[0]
            answer = world.get(who, path, replica)
            found = mark(work)(answer.json) if answer.status == 200 else None
            seen[answer.headers.get("x-cache", "")] += 1
            if round((found or 0) * 100) < least:
                old.append(f"{who} at replica {replica} of {path}: {found} after {least / 100}: {answer}")

    readers = [threading.Thread(target=read, args=(who, path, replica)) for who, path in places for replica in (0, 1)]
    for reader in readers:
        reader.start()
    try:
        end = time.monotonic() + 6
        while time.monotonic() < end and told[0] < 2000:
            grade(world, work, (told[0] + 1) / 100)
            told[0] += 1
            if told[0] % 50 == 0:
                world.people["platform"].post("/sync/flush", {"reason": "a test"})
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert not old, old[:3]
    assert told[0] > 10 and seen["MISS"] > 10 and seen["HIT"] > 10, (told, seen)


def test_handing_in_is_counted_at_once_and_a_mark_leaves_the_counts_alone(world: World, homework: dict[str, Any]) -> None:
    work = homework["id"]
    submit(world, work)
    for path in (f"/teacher/homework{ALL}", f"/teacher/homework/{work}"):
        world.told("teacher", path, pick(work, "submissions_count"), 1)
    world.told("teacher", f"/teacher/homework/{work}/submissions", lambda body: body["submissions_count"], 1)
    for path in (f"/academic/homework{ALL}", f"/academic/homework/{work}"):
        world.kept("mate", path)
    grade(world, work, 5)
    for who, path in (("teacher", f"/teacher/homework{ALL}"), ("mate", f"/academic/homework{ALL}"), ("mate", f"/academic/homework/{work}")):
        assert world.state(who, path) == "HIT", f"{who}'s {path} shows no mark of another's"


def test_a_mark_leaves_the_pupils_other_homework_alone(world: World, homework: dict[str, Any]) -> None:
    other = assign(world.client("teacher", "homework", 0))["id"]
    world.kept("pupil", f"/academic/homework/{other}")
    submit(world, homework["id"])
    assert world.state("pupil", f"/academic/homework/{other}") == "HIT"


@pytest.mark.parametrize("name, value", [("title", "Ünder another name"), ("due_date", (today() + datetime.timedelta(days=20)).isoformat()),
                                         ("close_date", (today() + datetime.timedelta(days=30)).isoformat()), ("max_marks", 19)])
def test_a_change_is_seen_everywhere(world: World, homework: dict[str, Any], name: str, value: object) -> None:
    """An extension among them."""
    work = homework["id"]
    answer = world.client("teacher", "homework", 0).put(f"/teacher/homework/{work}", {name: value})
    assert answer.status == 200, str(answer)
    for who, path in everywhere(work):
        if not path.endswith("/submissions") or name == "title":
            world.told(who, path, pick(work, name), value)


def test_a_draft_is_gone_for_pupils_and_parents(world: World, homework: dict[str, Any]) -> None:
    work = homework["id"]
    teacher = world.client("teacher", "homework", 0)
    assert teacher.put(f"/teacher/homework/{work}", {"status": "draft"}).status == 200
    for who in ("pupil", "parent"):
        world.told(who, f"/academic/homework{ALL}", pick(work, "title"), "-")
        world.refused(who, f"/academic/homework/{work}", 404)
    world.told("teacher", f"/teacher/homework/{work}", pick(work, "status"), "draft")
    assert teacher.put(f"/teacher/homework/{work}", {"status": "active"}).status == 200
    for who in ("pupil", "parent"):
        world.told(who, f"/academic/homework/{work}", pick(work, "title"), homework["title"])


def test_what_is_deleted_is_gone(world: World, homework: dict[str, Any]) -> None:
    work = homework["id"]
    assert world.client("teacher", "homework", 0).delete(f"/teacher/homework/{work}").status == 200
    for who, path in everywhere(work):
        if path.endswith(ALL):
            world.told(who, path, pick(work, "title"), "-")
        else:
            world.refused(who, path, 404)


def test_where_a_row_is_by_now_is_told(world: World, homework: dict[str, Any]) -> None:
    """`sync`: pending while it is in the buffer, done after the flush, for at most as long as that word takes."""
    work = homework["id"]
    if not unsynced(world.stack, f"homework:{work}"):
        pytest.skip("the worker was faster")
    flush(world.stack)
    for replica in (1, 0):
        assert world.get("teacher", f"/teacher/homework/{work}", replica).json.get("sync", {}).get("state") in (None, "done")


def test_a_homework_that_appears_at_an_instant_appears_then(world: World, homework: dict[str, Any]) -> None:
    """publish_at: no route sets it yet. The list is good until then, and no longer."""
    work = homework["id"]
    flush(world.stack)
    with world.stack.postgres.cursor() as cursor:
        cursor.execute("UPDATE homework.homework SET publish_at = now() + interval '4 seconds', version = version + 1 WHERE id = %s", (work,))
    assert world.people["platform"].post("/cache/invalidate", {"tables": ["homework.homework"], "reason": "a test"}).status == 200
    at = time.monotonic()
    assert pick(work, "title")(world.get("pupil", f"/academic/homework{ALL}", 1).json) == "-"
    assert world.get("pupil", f"/academic/homework/{work}", 1).status == 404
    time.sleep(max(0.0, 4.2 - (time.monotonic() - at)))
    for replica in (1, 0):
        assert pick(work, "title")(world.get("pupil", f"/academic/homework{ALL}", replica).json) == homework["title"]
        assert world.get("pupil", f"/academic/homework/{work}", replica).status == 200


def test_what_is_not_there_is_looked_for_once(world: World) -> None:
    """A5: the rule's own 404 comes from the kept row that says so."""
    for replica in (0, 1):
        problem(world.get("teacher", f"/teacher/homework/{NOBODY}", replica), 404)


# ---- whose it is ----------------------------------------------------------------------------------------------------------------------

def test_two_users_of_one_path_never_get_each_others_answer(world: World, homework: dict[str, Any]) -> None:
    work = homework["id"]
    submit(world, work, "what only the pupil wrote")
    for path in (f"/academic/homework/{work}", f"/academic/homework{ALL}"):
        for _ in range(2):
            for who, wanted in (("pupil", True), ("mate", False), ("parent", True)):
                for replica in (0, 1):
                    assert pick(work, "is_submitted")(world.get(who, path, replica).json) is wanted
    for _ in range(2):
        for who in ("teacher", "colleague", "pupil", "mate", "parent", "admin"):
            assert world.get(who, "/auth/me", 1).json["user"]["email"] == world.people[who].user["email"]
    assert work not in [one["id"] for one in world.get("colleague", f"/teacher/homework{ALL}", 0).json["homework"]]


def test_what_a_handler_would_refuse_is_never_served(world: World, homework: dict[str, Any]) -> None:
    work = homework["id"]
    world.kept("teacher", f"/teacher/classes/{class_id()}/students")
    for who, path, status in (("colleague", f"/teacher/homework/{work}", 403), ("colleague", f"/teacher/homework/{work}/submissions", 403),
                              ("pupil", f"/teacher/homework/{work}", 403), ("pupil", f"/teacher/classes/{class_id()}/students", 403),
                              ("parent", f"/academic/homework/{work}?student_id={student_id(1)}", 403), ("teacher", f"/academic/homework/{work}", 403)):
        world.refused(who, path, status)
    nobody = Client(world.seconds["homework"].url)
    assert nobody.get(f"/teacher/homework/{work}").status == 401 and nobody.get(f"/academic/homework{ALL}").status == 401


# ---- people ---------------------------------------------------------------------------------------------------------------------------

def test_a_new_name_is_shown_wherever_it_stands(world: World, homework: dict[str, Any]) -> None:
    work = homework["id"]
    world.kept("teacher", "/auth/me")
    world.kept("pupil", "/classes")
    before = world.people["teacher"].user["full_name"]
    for name in ("Ann Other-Name", before):
        answer = world.client("teacher", "auth", 0).put("/auth/me", {"full_name": name})
        assert answer.status == 200, str(answer)
        world.told("teacher", "/auth/me", lambda body: body["user"]["full_name"], name)
        for who in ("pupil", "parent"):
            world.told(who, f"/academic/homework/{work}", pick(work, "teacher_name"), name)
            world.told(who, f"/academic/homework{ALL}", pick(work, "teacher_name"), name)
        time.sleep(ELSEWHERE_S)
        world.told("pupil", "/classes", lambda body: next(one for one in body["classes"] if one["id"] == class_id())["class_teacher_name"], name)
        for path in ("/teacher/classes", "/teacher/homework/options", f"/teacher/classes/{class_id()}/students"):
            world.kept("teacher", path)


def test_a_pupils_new_name_is_in_rosters_and_lists(world: World, homework: dict[str, Any]) -> None:
    work, before = homework["id"], world.people["pupil"].user["full_name"]
    roster = f"/teacher/classes/{class_id()}/students"
    world.kept("teacher", roster)
    for name in ("Pu Pil", before):
        assert world.client("pupil", "auth", 0).put("/auth/me", {"full_name": name}).status == 200
        world.told("teacher", roster, lambda body: next(one for one in body["students"] if one["id"] == student_id())["full_name"], name)
        world.told("teacher", f"/teacher/homework/{work}/submissions",
                   lambda body: next(one for one in body["submissions"] if one["student_id"] == student_id())["student_name"], name)


def test_a_telephone_number_is_the_accounts_alone(world: World, homework: dict[str, Any]) -> None:
    roster = f"/teacher/classes/{class_id()}/students"
    world.kept("pupil", "/auth/me")
    world.kept("teacher", roster)
    world.kept("teacher", f"/teacher/homework/{homework['id']}/submissions")
    assert world.client("pupil", "auth", 0).put("/auth/me", {"phone": "+44 20 7946 0000"}).status == 200
    assert world.state("teacher", roster) == "HIT" and world.state("teacher", f"/teacher/homework/{homework['id']}/submissions") == "HIT"
    world.told("pupil", "/auth/me", lambda body: body["user"]["phone"], "+44 20 7946 0000")


def test_the_account_shows_that_its_password_has_changed(world: World) -> None:
    mine = sign_in(world.stack, "student", 2)
    world.people["third"] = mine
    before = world.kept("third", "/auth/me")["user"]["updated_at"]
    for old, new in ((PASSWORD, NEW_PASSWORD), (NEW_PASSWORD, PASSWORD)):
        answer = world.client("third", "auth", 0).post("/auth/change-password", {"current_password": old, "new_password": new})
        assert answer.status == 200, str(answer)
        for replica in (1, 0):
            after = world.get("third", "/auth/me", replica).json["user"]["updated_at"]
            assert after > before or new == PASSWORD, "the account is the new one"
    del world.people["third"]


# ---- relations: no route changes them yet ---------------------------------------------------------------------------------------------

def test_who_has_moved_to_another_class_sees_its_homework_and_no_other(world: World, homework: dict[str, Any]) -> None:
    work = homework["id"]
    roster = f"/teacher/classes/{class_id()}/students"
    submit(world, work)
    world.kept("teacher", roster)
    for target, there in ((class_id("B"), False), (class_id(), True)):
        world.around("UPDATE auth.students SET class_id = %s WHERE id = %s", target, student_id(), tables=("auth.students",))
        for who in ("pupil", "parent"):
            world.told(who, f"/academic/homework{ALL}", pick(work, "title"), homework["title"] if there else "-")
            if there:
                world.told(who, f"/academic/homework/{work}", pick(work, "title"), homework["title"])
            else:
                world.refused(who, f"/academic/homework/{work}", 404)
        world.told("teacher", roster, lambda body: student_id() in [one["id"] for one in body["students"]], there)
        # His work stays in the list of the homework that he did, with or without a name of the roster.
        world.told("teacher", f"/teacher/homework/{work}/submissions",
                   lambda body: [one["is_late"] for one in body["submissions"] if one["student_id"] == student_id()], [False])


def test_a_parent_without_a_link_sees_nothing_and_with_it_everything(world: World, homework: dict[str, Any]) -> None:
    work = homework["id"]
    parent = world.people["parent"].user["id"]
    for linked in (False, True):
        world.around(f"UPDATE auth.guardians SET deleted_at = {'NULL' if linked else 'now()'} WHERE user_id = %s", parent, tables=("auth.guardians",))
        for path in (f"/academic/homework{ALL}", f"/academic/homework/{work}"):
            if linked:
                world.told("parent", path, pick(work, "title"), homework["title"])
            else:
                world.refused("parent", path, 403)


def test_a_link_that_ended_yesterday_is_none(world: World, homework: dict[str, Any]) -> None:
    parent = world.people["parent"].user["id"]
    for until, status in (("current_date - 1", 403), ("NULL", 200)):
        world.around(f"UPDATE auth.guardians SET until = {until} WHERE user_id = %s", parent, tables=("auth.guardians",))
        for replica in (1, 0):
            assert world.get("parent", f"/academic/homework/{homework['id']}", replica).status == status


def test_who_teaches_a_class_no_more_sees_it_no_more(world: World) -> None:
    roster, mine = f"/teacher/classes/{class_id()}/students", world.people["teacher"].user["id"]
    for path in (roster, "/teacher/classes", "/teacher/homework/options"):
        world.kept("teacher", path)
    before = row(world.stack, "SELECT array_agg(a.id::text) FROM auth.teacher_assignments a JOIN auth.teachers t ON t.id = a.teacher_id "
                              "WHERE t.user_id = %s AND a.class_id = %s", mine, class_id())
    assert before is not None
    for there in (False, True):
        world.around(f"UPDATE auth.teacher_assignments SET deleted_at = {'NULL' if there else 'now()'} WHERE id = ANY(%s::uuid[])", before[0],
                     tables=("auth.teacher_assignments",))
        world.told("teacher", "/teacher/classes", lambda body: class_id() in [one["class_id"] for one in body["classes"]], there)
        world.told("teacher", "/teacher/homework/options", lambda body: class_id() in [one["class_id"] for one in body["options"]], there)
        if there:
            world.told("teacher", roster, lambda body: len(body["students"]), 5)
        else:
            world.refused("teacher", roster, 403)


def test_whose_session_has_ended_gets_no_kept_answer(world: World, homework: dict[str, Any]) -> None:
    """By himself, and because his account was switched off: answers that are kept are behind the session."""
    client = sign_in(world.stack, "student", 3)
    world.people["leaver"] = client
    world.kept("leaver", "/auth/me")
    world.kept("leaver", f"/academic/homework/{homework['id']}")
    assert client.post("/auth/logout").status == 200
    for path in ("/auth/me", f"/academic/homework/{homework['id']}"):
        for replica in (0, 1):
            wait_for("the session is over", lambda: world.get("leaver", path, replica).status == 401, 1.5)
    client = world.people["leaver"] = sign_in(world.stack, "student", 3)
    world.kept("leaver", "/auth/me")
    world.around("UPDATE auth.users SET is_active = false WHERE id = %s", client.user["id"], tables=("auth.users",))
    for key in world.stack.buffer.client().scan_iter("session:*", count=1000):
        world.stack.buffer.client().delete(key)  # who switches an account off ends its sessions; the others' come back from auth
    for path in ("/auth/me", f"/academic/homework/{homework['id']}"):
        for replica in (0, 1):
            wait_for("the account is off", lambda: world.get("leaver", path, replica).status == 401, 1.5)
    assert Client(world.stack.url).login(email("student", 3), PASSWORD).status == 401
    world.around("UPDATE auth.users SET is_active = true WHERE id = %s", client.user["id"], tables=("auth.users",))
    assert world.get("pupil", "/auth/me", 1).status == 200
    del world.people["leaver"]
