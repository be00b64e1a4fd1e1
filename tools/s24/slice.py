# SPDX-License-Identifier: Apache-2.0
"""One homework from the browser's request to the database row, over HTTP: what `up` shows at its end, and a test repeats."""
from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

from .base import StackError
from .client import Answer, Client
from .seed import logins
from .stack import Stack

ATTACHMENT = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


def expect(answer: Answer, what: str, *statuses: int) -> Answer:
    if answer.status not in (statuses or (200, 201)):
        raise StackError(f"{what}: {answer}")
    return answer


def run_slice(stack: Stack, say: Callable[[str, float], None]) -> dict[str, str]:
    """Returns the ids of what it made. `say` hears each step with its seconds."""
    started = time.monotonic()

    def done(text: str) -> None:
        nonlocal started
        now = time.monotonic()
        say(text, now - started)
        started = now

    who = logins()
    teacher, student, platform = Client(stack.url), Client(stack.url), Client(stack.url)
    expect(teacher.login(who["teacher"]["email"], who["teacher"]["password"]), "the teacher's login")
    done("the teacher logs in")
    expect(student.login(who["student"]["email"], who["student"]["password"]), "the student's login")
    done("the student logs in")

    # A class and subject that this teacher teaches and this student is in: the seed has put the two together.
    options = expect(teacher.get("/teacher/homework/options"), "the teacher's classes and subjects").json["options"]
    if not options or not options[0]["subjects"]:
        raise StackError("the demo teacher has no class")
    mine = next((one for one in options if one["class_id"] == who["student"]["class_id"]), options[0])
    done("the teacher's classes and subjects")

    title = f"Photosynthesis {datetime.datetime.now():%Y-%m-%d %H:%M:%S}"
    due = (datetime.date.today() + datetime.timedelta(days=7)).isoformat()
    created = expect(teacher.multipart("POST", "/teacher/homework", {
        "title": title, "class_id": mine["class_id"], "subject_id": mine["subjects"][0]["subject_id"], "due_date": due,
        "description": "Read the sheet and answer its three questions.", "max_marks": "20",
    }, [("attachments", "sheet.pdf", "application/pdf", ATTACHMENT)]), "the new homework").json
    homework = created.get("homework", created)
    homework_id = homework["id"]
    done(f"the teacher assigns homework with an attachment ({created.get('sync', {}).get('durability', 'no sync state')})")

    listed = expect(student.get("/academic/homework?status=all"), "the student's homework").json["homework"]
    seen = next((one for one in listed if one["id"] == homework_id), None)
    if seen is None:
        raise StackError("the student does not see the homework, though it was acknowledged")
    done("the student sees it before its row exists")
    attachment = seen["attachment_details"][0]["id"]
    if expect(student.get(f"/academic/homework/{homework_id}/attachments/{attachment}/download"), "the attachment").body != ATTACHMENT:
        raise StackError("the attachment came back changed")
    done("the student opens the attachment")
    expect(student.post(f"/academic/homework/{homework_id}/submit", {"submission_text": "Light, water, carbon dioxide.", "attachments": []}), "the submission")
    done("the student submits")

    submissions = expect(teacher.get(f"/teacher/homework/{homework_id}/submissions"), "the submissions").json["submissions"]
    student_id = next(one["student_id"] for one in submissions if one.get("submitted_at"))
    expect(teacher.put(f"/teacher/homework/{homework_id}/submissions/{student_id}", {"marks_obtained": 18, "feedback": "Well observed."}), "the grade")
    done("the teacher grades it")

    expect(platform.login(who["super_admin"]["email"], who["super_admin"]["password"]), "the platform administrator's login")
    expect(platform.post("/sync/flush", {"reason": "the slice of ./s24 up"}), "the flush", 200, 202)
    row = wait_for_row(stack, homework_id)
    done("the worker flushes: the rows are in PostgreSQL")
    say(f"row: homework {homework_id}: {row[0]}, submission {row[1]}, {float(row[2]):g} marks, {row[3]} attachment(s)", 0)
    return {"homework_id": homework_id, "student_id": student_id}


def wait_for_row(stack: Stack, homework_id: str) -> tuple[Any, ...]:
    end = time.monotonic() + 30
    with stack.postgres.cursor() as cursor:
        while time.monotonic() < end:
            cursor.execute("""SELECT h.title, s.status, s.marks_obtained / 100.0, jsonb_array_length(h.attachments) FROM homework.homework h
                JOIN homework.homework_submissions s ON s.homework_id = h.id WHERE h.id = %s AND s.marks_obtained IS NOT NULL""", (homework_id,))
            row = cursor.fetchone()
            if row:
                return row
            time.sleep(0.02)
    raise StackError(f"homework {homework_id} is not in the database 30 s after the flush")
