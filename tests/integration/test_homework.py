# SPDX-License-Identifier: Apache-2.0
"""Homework from the teacher's form to the mark, before and after its rows exist."""
from __future__ import annotations

import concurrent.futures
import datetime
import json
import time
import urllib.parse
import uuid
from typing import Any

import pytest
from scene import (FIRST, NOBODY, PDF, SECOND, assign, class_id, flush, homework_fields, identity, problem, row, sign_in, student_id, subject_id, today,
                   unsynced)

from harness import Answer, Client, TestStack

TEXT = "Notes\nfür alle\n".encode()


@pytest.fixture
def teacher(stack: TestStack) -> Client:
    return sign_in(stack, "teacher")


@pytest.fixture
def student(stack: TestStack) -> Client:
    return sign_in(stack, "student")


@pytest.fixture
def worker(stack: TestStack) -> None:
    if not stack.has_worker:
        pytest.skip("no worker is built")


def submissions(teacher: Client, homework_id: str) -> dict[str, Any]:
    answer = teacher.get(f"/teacher/homework/{homework_id}/submissions")
    assert answer.status == 200, str(answer)
    found: dict[str, Any] = answer.json
    return found


def submission_of(teacher: Client, homework_id: str, number: int = 0) -> dict[str, Any]:
    return next(one for one in submissions(teacher, homework_id)["submissions"] if one["student_id"] == student_id(number))


def submit(student: Client, homework_id: str, text: str = "done", **headers: str) -> Answer:
    return student.post(f"/academic/homework/{homework_id}/submit", {"submission_text": text, "attachments": []}, **headers)


def grade(teacher: Client, homework_id: str, marks: object, number: int = 0) -> Answer:
    return teacher.put(f"/teacher/homework/{homework_id}/submissions/{student_id(number)}", {"marks_obtained": marks, "feedback": "Well observed."})


def of_student(student: Client, homework_id: str, status: str = "all") -> dict[str, Any] | None:
    listed = student.get(f"/academic/homework?status={status}&page_size=500").json["homework"]
    return next((one for one in listed if one["id"] == homework_id), None)


def mine(teacher: Client, query: str = "") -> dict[str, Any]:
    answer = teacher.get(f"/teacher/homework?page_size=500{query}")
    assert answer.status == 200, str(answer)
    found: dict[str, Any] = answer.json
    return found


def count_records(stack: TestStack, homework_id: str) -> int:
    """Wherever it is by now."""
    in_table = row(stack, "SELECT count(*) FROM homework.homework WHERE id = %s", homework_id)
    assert in_table is not None
    return max(int(in_table[0]), len(unsynced(stack, f"homework:{homework_id}")))


# ---- assigning ----------------------------------------------------------------------------------------------------------------------

def test_homework_with_two_files(teacher: Client, student: Client) -> None:
    fields = homework_fields(description="Read the sheet.\nAnswer.")
    answer = teacher.multipart("POST", "/teacher/homework", fields, [
        ("attachments", "sheet.pdf", "application/pdf", PDF), ("attachments", "../../etc/nötes '1'.txt", "text/html", TEXT)])
    assert answer.status == 201, str(answer)
    made = answer.json
    assert {name: made[name] for name in ("title", "description", "class_id", "subject_id", "due_date", "max_marks", "status")} == {
        **{name: fields[name] for name in ("title", "description", "class_id", "subject_id", "due_date")}, "max_marks": 20, "status": "active"}
    assert made["class_name"] == "Class 10" and made["subject_name"] == "Mathematics" and made["students_count"] == 5
    assert made["attachment_count"] == 2 and made["has_attachments"] is True
    assert [(one["file_name"], one["file_size"], one["mime_type"]) for one in made["attachments"]] == [
        ("sheet.pdf", len(PDF), "application/pdf"), ("nötes '1'.txt", len(TEXT), "text/plain")]
    assert made["sync"]["state"] == "pending" and made["sync"]["durability"] == "aof" and made["sync"]["version"] > 0
    assert made["sync"]["due"] > made["created_at"], "until when the row is in the database"
    seen = of_student(student, made["id"])
    assert seen and not seen["is_submitted"] and len(seen["attachment_details"]) == 2 and seen["teacher_name"] == teacher.user["full_name"]
    for place, client, kind in (("teacher", teacher, "download"), ("academic", student, "download"), ("academic", student, "view")):
        for one, content, word in zip(made["attachments"], (PDF, TEXT), ("sheet.pdf", "n_tes '1'.txt")):
            got = client.get(f"/{place}/homework/{made['id']}/attachments/{one['id']}/{kind}")
            assert got.status == 200 and got.body == content and got.headers["content-type"] == one["mime_type"]
            assert got.headers["x-content-type-options"] == "nosniff" and "default-src 'none'" in got.headers["content-security-policy"]
            disposition = got.headers["content-disposition"]
            assert disposition.startswith("inline" if kind == "view" else "attachment") and f'filename="{word}"' in disposition
            if word != one["file_name"]:
                assert f"filename*=UTF-8''{urllib.parse.quote(one['file_name'])}" in disposition
    part = student.get(f"/academic/homework/{made['id']}/attachments/{made['attachments'][0]['id']}/download", Range="bytes=1-4")
    assert part.status == 206 and part.body == PDF[1:5] and part.headers["content-range"] == f"bytes 1-4/{len(PDF)}"
    problem(student.get(f"/academic/homework/{made['id']}/attachments/{NOBODY}/download"), 404)


def test_assigning_by_json_works_too(teacher: Client) -> None:
    answer = teacher.post("/teacher/homework", {**homework_fields(), "max_marks": 5})
    assert answer.status == 201 and answer.json["attachments"] == [] and answer.json["max_marks"] == 5, str(answer)


def test_what_is_wrong_is_named_field_by_field(stack: TestStack, teacher: Client) -> None:
    before = len(unsynced(stack, "homework:*"))
    body = problem(teacher.multipart("POST", "/teacher/homework", {
        "title": "", "class_id": class_id(), "subject_id": "x", "due_date": "2026-02-30", "max_marks": "1001"}), 422)
    assert {one["pointer"] for one in body["errors"]} == {"/title", "/subject_id", "/due_date", "/max_marks"}
    assert {one["pointer"] for one in problem(teacher.multipart("POST", "/teacher/homework", {"title": "x"}), 422)["errors"]} == {
        "/class_id", "/subject_id", "/due_date"}
    assert problem(teacher.multipart("POST", "/teacher/homework", homework_fields(close_date="2020-01-01")), 422)["errors"][0]["pointer"] == "/close_date"
    problem(teacher.multipart("POST", "/teacher/homework", homework_fields(), [("attachments", f"{n}.txt", "text/plain", b"x") for n in range(6)]), 422)
    assert len(unsynced(stack, "homework:*")) == before, "nothing was written"


def test_only_who_teaches_the_class_assigns(stack: TestStack, teacher: Client) -> None:
    taught = {(one["class_id"], subject["subject_id"]) for one in teacher.get("/teacher/homework/options").json["options"] for subject in one["subjects"]}
    assert (class_id(), subject_id()) in taught
    foreign = next((class_id(section), subject_id(code)) for section in "AB" for code in ("MAT", "ENG", "SCI", "SOC", "LAN", "CSC")
                   if (class_id(section), subject_id(code)) not in taught)
    problem(teacher.multipart("POST", "/teacher/homework", homework_fields(class_id=foreign[0], subject_id=foreign[1])), 403)
    problem(teacher.multipart("POST", "/teacher/homework", homework_fields(class_id=class_id("A", SECOND), subject_id=subject_id("MAT", SECOND))), 404)
    problem(sign_in(stack, "student").multipart("POST", "/teacher/homework", homework_fields()), 403)


# ---- lists --------------------------------------------------------------------------------------------------------------------------

def test_the_teachers_list_pages_counts_and_searches(teacher: Client) -> None:
    word = uuid.uuid4().hex
    made = [assign(teacher, title=f"{word} Ünder {number}", description="find me" if number else f"needle{word}")["id"] for number in range(5)]
    assert mine(teacher)["total"] >= 5
    found = mine(teacher, f"&search={word.upper()}")
    assert [one["id"] for one in found["homework"]] == made[::-1] and found["total"] == 5, "newest first"
    assert [one["id"] for one in mine(teacher, f"&search=needle{word}")["homework"]] == [made[0]]
    seen: list[str] = []
    for page in (1, 2, 3):
        answer = teacher.get(f"/teacher/homework?page={page}&page_size=2&search={word}")
        assert (answer.json["total"], answer.json["page"], answer.json["page_size"]) == (5, page, 2)
        assert ('rel="next"' in answer.headers["link"]) == (page < 3) and ('rel="prev"' in answer.headers["link"]) == (page > 1)
        seen += [one["id"] for one in answer.json["homework"]]
    assert seen == made[::-1]
    empty = teacher.get(f"/teacher/homework?page=9&page_size=2&search={word}").json
    assert empty["homework"] == [] and empty["total"] == 5
    assert mine(teacher, f"&class_id={class_id()}&subject_id={subject_id()}&search={word}")["total"] == 5
    assert mine(teacher, f"&class_id={class_id('B')}&search={word}")["total"] == 0
    problem(teacher.get("/teacher/homework?page_size=501"), 422)
    problem(teacher.get("/teacher/homework?page=0&page=1"), 422)


def test_search_takes_its_text_literally(teacher: Client) -> None:
    word = uuid.uuid4().hex
    exact = assign(teacher, title=f"{word} 100% _x_ \\ 'quoted'")["id"]
    assign(teacher, title=f"{word} 100 percent")
    for text in ("100%", "_x_", "\\", "'quoted'"):
        assert [one["id"] for one in mine(teacher, "&search=" + urllib.parse.quote(f"{text}"))["homework"] if one["title"].startswith(word)] == [exact]


def test_the_students_list_knows_what_is_done(teacher: Client, student: Client) -> None:
    homework_id = assign(teacher)["id"]
    assert of_student(student, homework_id, "pending") and not of_student(student, homework_id, "submitted")
    assert submit(student, homework_id).status == 200
    seen = of_student(student, homework_id, "submitted")
    assert seen and seen["is_submitted"] and seen["submission"]["status"] == "submitted" and seen["submission"]["submitted_at"].endswith("Z")
    assert not of_student(student, homework_id, "pending")
    total = student.get("/academic/homework?status=all").json["total"]
    assert total == student.get("/academic/homework?status=pending").json["total"] + student.get("/academic/homework?status=submitted").json["total"]
    problem(student.get("/academic/homework?status=lost"), 422)


# ---- one homework -------------------------------------------------------------------------------------------------------------------

def test_etag_and_if_match(teacher: Client) -> None:
    made = assign(teacher)
    path = f"/teacher/homework/{made['id']}"
    first = teacher.get(path)
    assert first.status == 200 and first.json["sync"]["state"] in ("pending", "in_flight") and first.headers["cache-control"] == "private, no-cache"
    tag = first.headers["etag"]
    assert tag.startswith(f'"{made["sync"]["version"]}-')
    not_changed = teacher.get(path, **{"If-None-Match": f'"other", {tag}'})
    assert not_changed.status == 304 and not_changed.body == b"" and not_changed.headers["etag"] == tag
    changed = teacher.put(path, {"title": "Changed", "max_marks": 30, "status": "active"}, **{"If-Match": tag})
    assert changed.status == 200 and changed.json["title"] == "Changed" and changed.json["max_marks"] == 30, str(changed)
    assert changed.json["description"] == made.get("description") and changed.json["due_date"] == made["due_date"]
    problem(teacher.put(path, {"title": "Too late"}, **{"If-Match": tag}), 412)
    problem(teacher.put(path, {"title": "Too late"}, **{"If-Match": "nonsense"}), 412)
    again = teacher.get(path, **{"If-None-Match": tag})
    assert again.status == 200 and again.json["title"] == "Changed"
    assert teacher.put(path, {"title": "Star"}, **{"If-Match": "*"}).status == 200
    assert problem(teacher.put(path, {"close_date": "2020-01-01"}), 422)["errors"][0]["pointer"] == "/close_date"
    cleared = teacher.put(path, {"description": ""})
    assert cleared.status == 200 and not cleared.json.get("description")


def test_the_tag_tells_of_a_submission_though_the_row_is_the_same(teacher: Client, student: Client) -> None:
    homework_id = assign(teacher)["id"]
    tag = teacher.get(f"/teacher/homework/{homework_id}").headers["etag"]
    assert submit(student, homework_id).status == 200
    answer = teacher.get(f"/teacher/homework/{homework_id}", **{"If-None-Match": tag})
    assert answer.status == 200 and answer.json["submissions_count"] == 1
    assert answer.headers["etag"].split("-")[0] == tag.split("-")[0]
    assert teacher.put(f"/teacher/homework/{homework_id}", {"title": "x"}, **{"If-Match": tag}).status == 200


def test_deleted_is_gone(teacher: Client, student: Client) -> None:
    homework_id = assign(teacher)["id"]
    assert submit(student, homework_id).status == 200
    path = f"/teacher/homework/{homework_id}"
    problem(teacher.request("DELETE", path, headers={"If-Match": '"1-x"'}), 412)
    assert teacher.delete(path).status == 200
    for answer in (teacher.get(path), teacher.put(path, {"title": "x"}), teacher.delete(path), student.get(f"/academic/homework/{homework_id}"),
                   submit(student, homework_id)):
        problem(answer, 404)
    assert of_student(student, homework_id) is None and homework_id not in {one["id"] for one in mine(teacher)["homework"]}


def test_a_draft_is_not_shown_and_an_archived_one_is_closed(teacher: Client, student: Client) -> None:
    homework_id = assign(teacher)["id"]
    assert teacher.put(f"/teacher/homework/{homework_id}", {"status": "draft"}).status == 200
    assert of_student(student, homework_id) is None
    problem(student.get(f"/academic/homework/{homework_id}"), 404)
    problem(submit(student, homework_id), 404)
    assert teacher.put(f"/teacher/homework/{homework_id}", {"status": "archived"}).status == 200
    assert of_student(student, homework_id) is not None
    problem(submit(student, homework_id), 409, "homework_closed")


# ---- handing in and grading ---------------------------------------------------------------------------------------------------------

def test_late_and_closed_by_the_schools_day(teacher: Client, student: Client) -> None:
    yesterday, now = today() - datetime.timedelta(days=1), today()
    late = assign(teacher, due_date=yesterday.isoformat())["id"]
    answer = submit(student, late)
    assert answer.status == 200 and answer.json["is_late"] is True and answer.json["status"] == "late", str(answer)
    in_time = assign(teacher, due_date=now.isoformat(), close_date=now.isoformat())["id"]
    answer = submit(student, in_time)
    assert answer.status == 200 and answer.json["is_late"] is False and answer.json["status"] == "submitted"
    closed = assign(teacher, due_date=yesterday.isoformat(), close_date=yesterday.isoformat())["id"]
    problem(submit(student, closed), 409, "homework_closed")
    assert submissions(teacher, closed)["submissions_count"] == 0


def test_handing_in_again_keeps_what_was_there(teacher: Client, student: Client) -> None:
    homework_id = assign(teacher)["id"]
    first = student.post(f"/academic/homework/{homework_id}/submit", {"submission_text": "one \"quoted\"", "attachments": ["https://example.org/a"]})
    assert first.status == 200, str(first)
    assert grade(teacher, homework_id, 7).status == 200
    second = submit(student, homework_id, "two")
    assert second.status == 200 and second.json["submission_text"] == "two" and second.json["id"] == first.json["id"], str(second)
    assert submit(student, homework_id, "three").status == 200
    seen = submission_of(teacher, homework_id)
    assert seen["submission_text"] == "three" and [one["submission_text"] for one in seen["history"]] == ['one "quoted"', "two"]
    assert seen["history"][0]["attachments"] == ["https://example.org/a"] and seen["history"][0]["marks_obtained"] == 7
    assert seen["history"][0]["submitted_at"] == first.json["submitted_at"] and len(seen["history"][0]["sha256"]) == 64
    assert submissions(teacher, homework_id)["submissions_count"] == 1


def test_versions_of_a_submission_are_bounded(teacher: Client, student: Client) -> None:
    homework_id = assign(teacher)["id"]
    statuses = [submit(student, homework_id, str(number)).status for number in range(22)]
    assert statuses == [200] * 21 + [409]
    assert len(submission_of(teacher, homework_id)["history"]) == 20


def test_grading(stack: TestStack, teacher: Client, student: Client) -> None:
    homework_id = assign(teacher)["id"]
    assert submit(student, homework_id).status == 200
    answer = grade(teacher, homework_id, 17.5)
    assert answer.status == 200 and answer.json["marks_obtained"] == 17.5 and answer.json["status"] == "graded", str(answer)
    assert answer.json["student_name"] == student.user["full_name"] and answer.json["sync"]["state"] == "pending"
    seen = of_student(student, homework_id)
    assert seen and seen["submission"]["marks_obtained"] == 17.5 and seen["submission"]["feedback"] == "Well observed."
    own = student.get(f"/academic/homework/{homework_id}").json
    assert own["submission"]["marks_obtained"] == 17.5 and own["is_submitted"] is True
    for marks, pointer in ((20.01, "/marks_obtained"), (-1, "/marks_obtained"), ("x", "/marks_obtained"), (1.005, "/marks_obtained")):
        assert pointer in {one["pointer"] for one in problem(grade(teacher, homework_id, marks), 422)["errors"]}, marks
    problem(grade(teacher, homework_id, 5, number=7), 404)  # the other class
    problem(teacher.put(f"/teacher/homework/{homework_id}/submissions/{student_id(0, SECOND)}", {"marks_obtained": 1}), 404)
    problem(teacher.put(f"/teacher/homework/{homework_id}/submissions/{NOBODY}", {"marks_obtained": 1}), 404)
    problem(grade(sign_in(stack, "teacher", 1), homework_id, 5), 403)
    problem(grade(student, homework_id, 20), 403)
    without = grade(teacher, homework_id, 3, number=2)
    assert without.status == 200 and not without.json.get("submitted_at"), "marked without a submission: handed in on paper"
    assert of_student(sign_in(stack, "student", 2), homework_id, "submitted") is None


def test_submissions_come_in_the_rosters_order(stack: TestStack, teacher: Client) -> None:
    homework_id = assign(teacher)["id"]
    for number in (3, 1):
        assert submit(sign_in(stack, "student", number), homework_id, f"by {number}").status == 200
    listed = submissions(teacher, homework_id)
    assert (listed["submissions_count"], listed["students_count"]) == (2, 5)
    assert [one["student_id"] for one in listed["submissions"]] == [student_id(number) for number in range(5)]
    assert [one["roll_number"] for one in listed["submissions"]] == ["1", "2", "3", "4", "5"]
    assert [one.get("submission_text") for one in listed["submissions"]] == [None, "by 1", None, "by 3", None]
    assert all(one["student_name"] for one in listed["submissions"])


def test_concurrent_grades_and_submissions_lose_nothing(stack: TestStack, teacher: Client) -> None:
    homework_id = assign(teacher)["id"]
    students = [sign_in(stack, "student", number) for number in range(5)]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        handed_in = list(pool.map(lambda one: submit(one, homework_id, "x").status, students))
        again = [pool.submit(submit, students[0], homework_id, f"again {number}") for number in range(4)]
        marks = [pool.submit(grade, teacher, homework_id, number, number) for number in range(1, 5)]
        assert handed_in == [200] * 5 and all(one.result().status == 200 for one in marks)
        statuses = [one.result().status for one in again]
    assert set(statuses) <= {200, 409} and 200 in statuses
    assert [submission_of(teacher, homework_id, number)["marks_obtained"] for number in range(1, 5)] == [1, 2, 3, 4]
    assert len(submission_of(teacher, homework_id)["history"]) == statuses.count(200)


# ---- who sees it ----------------------------------------------------------------------------------------------------------------------

def test_a_parent_sees_his_child_and_nobody_else(stack: TestStack, teacher: Client, student: Client) -> None:
    homework_id = assign(teacher, title="For the parents")["id"]
    assert submit(student, homework_id, "my own words").status == 200
    parent = sign_in(stack, "parent")
    seen = of_student(parent, homework_id)
    assert seen and seen["is_submitted"]
    answer = parent.get(f"/academic/homework/{homework_id}?student_id={student_id()}")
    assert answer.status == 200 and answer.json["submission"]["submission_text"] == "my own words"
    problem(parent.get(f"/academic/homework?student_id={student_id(1)}"), 403)
    problem(parent.get(f"/academic/homework/{homework_id}?student_id={student_id(1)}"), 403)
    problem(submit(parent, homework_id), 403)
    problem(student.get(f"/academic/homework?student_id={student_id(1)}"), 403)


def test_other_people_do_not(stack: TestStack, teacher: Client) -> None:
    made = teacher.multipart("POST", "/teacher/homework", homework_fields(), [("attachments", "a.pdf", "application/pdf", PDF)]).json
    homework_id, file_id = made["id"], made["attachments"][0]["id"]
    paths = ("", "/submissions", f"/attachments/{file_id}/download")
    for path in paths:
        problem(sign_in(stack, "teacher", 1).get(f"/teacher/homework/{homework_id}{path}"), 403)
        problem(sign_in(stack, "teacher", 0, SECOND).get(f"/teacher/homework/{homework_id}{path}"), 404)
    for other, status in ((sign_in(stack, "teacher", 1), 403), (sign_in(stack, "teacher", 0, SECOND), 404)):
        problem(other.put(f"/teacher/homework/{homework_id}", {"title": "mine"}), status)
        problem(other.delete(f"/teacher/homework/{homework_id}"), status)
        problem(grade(other, homework_id, 1), status)
    for other in (sign_in(stack, "student", 7), sign_in(stack, "student", 0, SECOND)):
        for path in ("", f"/attachments/{file_id}/view", f"/attachments/{file_id}/download"):
            problem(other.get(f"/academic/homework/{homework_id}{path}"), 404)
        problem(submit(other, homework_id), 404)
        assert of_student(other, homework_id) is None
    assert teacher.get(f"/teacher/homework/{homework_id}").json["title"] == made["title"]


# ---- again and again ----------------------------------------------------------------------------------------------------------------

def test_an_idempotency_key_replays(stack: TestStack, teacher: Client) -> None:
    """cache.md J1, with the two tests below and the degraded ones (test_degraded.py)."""
    key, fields = uuid.uuid4().hex, homework_fields()
    files = [("attachments", "a.pdf", "application/pdf", PDF)]
    first = teacher.multipart("POST", "/teacher/homework", fields, files, {"Idempotency-Key": key})
    again = teacher.multipart("POST", "/teacher/homework", fields, files, {"Idempotency-Key": key})
    assert first.status == again.status == 201 and "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert {name: value for name, value in again.json.items() if name != "sync"} == {name: value for name, value in first.json.items() if name != "sync"}
    assert again.json["sync"]["version"] == first.json["sync"]["version"]
    problem(teacher.multipart("POST", "/teacher/homework", {**fields, "title": "Another"}, files, {"Idempotency-Key": key}), 422)
    problem(teacher.multipart("POST", "/teacher/homework", fields, [("attachments", "a.pdf", "application/pdf", PDF + b"x")], {"Idempotency-Key": key}), 422)
    other = sign_in(stack, "teacher", 0, SECOND).multipart("POST", "/teacher/homework", homework_fields(
        class_id=class_id("A", SECOND), subject_id=subject_id("MAT", SECOND)), headers={"Idempotency-Key": key})
    assert other.status == 201 and other.json["id"] != first.json["id"], "a key is somebody's own"
    for wrong in ("x" * 256, 'a"b', "a b"):
        problem(teacher.multipart("POST", "/teacher/homework", fields, headers={"Idempotency-Key": wrong}), 400)
    assert mine(teacher, f"&search={urllib.parse.quote(fields['title'])}")["total"] >= 1 and count_records(stack, first.json["id"]) == 1


def test_a_submission_with_a_key_is_handed_in_once(teacher: Client, student: Client) -> None:
    homework_id, key = assign(teacher)["id"], f'"{uuid.uuid4()}"'
    first, again = (submit(student, homework_id, "once", **{"Idempotency-Key": key}) for _ in range(2))
    assert first.status == again.status == 200 and again.headers["idempotency-replayed"] == "true"
    assert not submission_of(teacher, homework_id).get("history")


def test_twins_make_one_row(stack: TestStack, teacher: Client) -> None:
    for _ in range(5):
        key, fields = uuid.uuid4().hex, homework_fields(title=f"Twins {uuid.uuid4().hex}")
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: teacher.multipart("POST", "/teacher/homework", fields, headers={"Idempotency-Key": key}), range(6)))
        made = [one for one in answers if one.status == 201]
        assert made and all(one.status in (201, 409) for one in answers), [str(one) for one in answers]
        assert len({one.json["id"] for one in made}) == 1 and sum("idempotency-replayed" not in one.headers for one in made) == 1
        assert mine(teacher, f"&search={fields['title'].split()[1]}")["total"] == 1


def test_the_same_without_a_key_is_two(teacher: Client) -> None:
    fields = homework_fields(title=f"Twice {uuid.uuid4().hex}")
    made = {teacher.multipart("POST", "/teacher/homework", fields).json["id"] for _ in range(2)}
    assert len(made) == 2


# ---- before and after the row exists --------------------------------------------------------------------------------------------------

def everything(teacher: Client, student: Client, homework_id: str) -> dict[str, Any]:
    """What people see of a homework, without where its row is."""
    one = teacher.get(f"/teacher/homework/{homework_id}").json
    one.pop("sync", None)
    own = student.get(f"/academic/homework/{homework_id}").json
    own.pop("sync", None)
    return {"one": one, "own": own, "list": next(x for x in mine(teacher)["homework"] if x["id"] == homework_id),
            "of student": of_student(student, homework_id), "submissions": submissions(teacher, homework_id)}


def test_people_see_the_same_before_and_after_the_flush(stack: TestStack, worker: None, teacher: Client, student: Client) -> None:
    made = teacher.multipart("POST", "/teacher/homework", homework_fields(description="ä\n\"x\"", close_date=(today() + datetime.timedelta(days=9)).isoformat()),
                             [("attachments", "a.pdf", "application/pdf", PDF)]).json
    assert submit(student, made["id"], "first").status == 200 and submit(student, made["id"], "second 😀").status == 200
    assert grade(teacher, made["id"], 12.25).status == 200
    before = everything(teacher, student, made["id"])
    assert before["one"]["submissions_count"] == before["list"]["submissions_count"] == 1
    total = mine(teacher)["total"]
    flush(stack)
    assert everything(teacher, student, made["id"]) == before and mine(teacher)["total"] == total
    assert "sync" not in teacher.get(f"/teacher/homework/{made['id']}").json
    found = row(stack, """SELECT h.title, h.school_id::text, s.submission_text, s.marks_obtained, jsonb_array_length(s.history), h.version
        FROM homework.homework AS h JOIN homework.homework_submissions AS s ON s.homework_id = h.id WHERE h.id = %s""", made["id"])
    assert found == (made["title"], teacher.user["school_id"], "second 😀", 1225, 1, made["sync"]["version"])
    audit = row(stack, "SELECT array_agg(action ORDER BY created_at) FROM homework.audit_logs WHERE entity_type = 'homework' AND entity_id = %s", made["id"])
    assert audit == (["create"],)
    # And changes of rows that are only in the table.
    assert teacher.put(f"/teacher/homework/{made['id']}", {"title": "After the flush"}).status == 200
    assert submit(student, made["id"], "third").status == 200
    changed = everything(teacher, student, made["id"])
    assert changed["list"]["title"] == "After the flush" and [one["submission_text"] for one in submission_of(teacher, made["id"])["history"]] == [
        "first", "second 😀"]
    assert mine(teacher)["total"] == total
    flush(stack)
    assert everything(teacher, student, made["id"]) == changed


def test_a_deletion_reaches_the_table(stack: TestStack, worker: None, teacher: Client, student: Client) -> None:
    flushed = assign(teacher)["id"]
    flush(stack)
    assert of_student(student, flushed)
    assert teacher.delete(f"/teacher/homework/{flushed}").status == 200
    unflushed = assign(teacher)["id"]
    assert teacher.delete(f"/teacher/homework/{unflushed}").status == 200
    for homework_id in (flushed, unflushed):
        assert of_student(student, homework_id) is None
    flush(stack)
    for homework_id in (flushed, unflushed):
        assert row(stack, "SELECT deleted_at IS NOT NULL FROM homework.homework WHERE id = %s", homework_id) == (True,)
        assert of_student(student, homework_id) is None
        problem(teacher.get(f"/teacher/homework/{homework_id}"), 404)


def test_who_prefers_to_wait_gets_the_row(stack: TestStack, worker: None, teacher: Client) -> None:
    started = time.monotonic()
    made = assign(teacher, headers={"Prefer": "wait=5"})
    assert made["sync"] == {**made["sync"], "state": "done", "durability": "database"}
    assert time.monotonic() - started < 5
    assert row(stack, "SELECT title FROM homework.homework WHERE id = %s", made["id"]) == (made["title"],)
    assert "sync" not in teacher.get(f"/teacher/homework/{made['id']}").json


def test_events_are_told_in_the_same_call(stack: TestStack, teacher: Client, student: Client) -> None:
    homework_id = assign(teacher)["id"]
    assert submit(student, homework_id).status == 200 and grade(teacher, homework_id, 1).status == 200
    assert teacher.put(f"/teacher/homework/{homework_id}", {"title": "x"}).status == 200
    assert teacher.delete(f"/teacher/homework/{homework_id}").status == 200
    entries = [json.loads(fields[b"e"]) for _, fields in stack.buffer.client().xrevrange("events:homework", count=50)]
    told = [one["type"].split(".", 2)[2] for one in reversed(entries) if homework_id in json.dumps(one)]
    assert told == ["homework.assigned.v1", "homework.submitted.v1", "homework.graded.v1", "homework.updated.v1", "homework.deleted.v1"]
    assert len({one["id"] for one in entries}) == len(entries)


def test_who_listens_is_told_what_has_changed_and_nothing_when_nothing_has(stack: TestStack, teacher: Client) -> None:
    """cache.md D3: one message with its scope, ids, tags, changes and time."""
    homework_id = assign(teacher)["id"]
    heard = stack.buffer.client().pubsub(ignore_subscribe_messages=True)
    heard.subscribe("homework:updated")
    try:
        heard.get_message(timeout=1)
        for title in ("told", "told", "told again"):
            assert teacher.put(f"/teacher/homework/{homework_id}", {"title": title, "max_marks": 20}).status == 200
        told = []
        until = time.monotonic() + 5
        while len(told) < 2 or time.monotonic() < until - 4:
            assert time.monotonic() < until, told
            if (message := heard.get_message(timeout=0.1)) and homework_id in message["data"].decode():
                told.append(json.loads(message["data"]))
    finally:
        heard.close()
    assert [(one["subject"], one["data"]["title"], one["data"]["changes"]) for one in told] == [
        (homework_id, "told", ["title"]), (homework_id, "told again", ["title"])]
    for one in told:
        assert one["data"]["class_id"] == class_id() and one["schoolid"] == identity("school", FIRST) and one["time"]
        assert f"homework:{homework_id}" in one["cachetags"].split()
