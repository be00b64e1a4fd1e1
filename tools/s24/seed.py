# SPDX-License-Identifier: Apache-2.0
"""The demo schools: two schools, 1,000 students, 50 teachers, 32 classes, the same on every machine.

Written straight into the tables, as the superuser, before or while the daemons run; a school that is there already is left alone. The logins
have a known password, so a production configuration never runs this.
"""
from __future__ import annotations

import ctypes
import ctypes.util
import datetime
import hashlib
import itertools
import json
import random
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import psycopg2.extensions
import psycopg2.extras

from .base import StackError
from .servers import Postgres

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "demo.schools24.org")
PASSWORD = "schools24-demo"
SEED = 24
SCHOOLS = (
    {"slug": "sunrise", "name": "Sunrise Public School", "time_zone": "Asia/Kolkata", "grades": range(10, 0, -1), "teachers": 31, "year_start_month": 4},
    {"slug": "riverside", "name": "Riverside Academy", "time_zone": "Europe/London", "grades": range(6, 0, -1), "teachers": 19, "year_start_month": 4},
)
STUDENTS = 1000
SUBJECTS = (("Mathematics", "MAT"), ("English", "ENG"), ("Science", "SCI"), ("Social Studies", "SOC"), ("Second Language", "LAN"), ("Computer Science", "CSC"))
GIVEN = ("Aarav", "Diya", "Ishaan", "Anaya", "Vihaan", "Meera", "Kabir", "Saanvi", "Oliver", "Amelia", "Noah", "Freya", "Zoë", "François", "Łukasz",
         "Søren", "आरव", "अनन्या", "ईशान", "प्रिया", "محمد", "فاطمة", "يوسف", "小明", "美玲", "Дмитрий", "Анастасия", "தமிழ்", "அன்பு", "Ngọc", "Çağla", "Ólafur")
FAMILY = ("Sharma", "Patel", "Reddy", "Iyer", "Khan", "Das", "Singh", "Nair", "Smith", "Jones", "O'Brien", "Müller", "शर्मा", "वर्मा", "الحسن", "王", "李",
          "Иванова", "Nguyễn", "Yılmaz", "Jónsdóttir", "முருகன்")


def identity(*parts: object) -> str:
    """The same id for the same thing on every machine."""
    return str(uuid.uuid5(NAMESPACE, "\x1f".join(map(str, parts))))


def academic_year(today: datetime.date, start_month: int = 4) -> str:
    first = today.year if today.month >= start_month else today.year - 1
    return f"{first}-{first + 1}"


def classes_of(school: Mapping[str, Any]) -> list[tuple[int, str]]:
    return [(grade, section) for grade in school["grades"] for section in ("A", "B")]


def logins() -> dict[str, dict[str, Any]]:
    """Role to e-mail and password at the first school, with the second school's under `second_school`."""
    def of(role: str, school: Mapping[str, Any]) -> dict[str, Any]:
        login: dict[str, Any] = {"email": f"{role}@{school['slug']}.example", "password": PASSWORD, "school": school["name"],
                                 "school_id": identity("school", school["slug"])}
        if role in ("teacher", "student", "parent"):
            login["class_id"] = identity("class", school["slug"], *classes_of(school)[0])
        return login

    roles = ("admin", "teacher", "student", "parent", "staff")
    found = {role: {**of(role, SCHOOLS[0]), "second_school": of(role, SCHOOLS[1])} for role in roles}
    found["super_admin"] = of("super_admin", SCHOOLS[0])
    return found


def password_hash(password: str) -> str:
    """Argon2id with the parameters of common/io/crypto.h, by the library that the daemons use."""
    name = ctypes.util.find_library("sodium")
    if not name:
        raise StackError("libsodium is not installed (Debian package libsodium-dev)")
    sodium = ctypes.CDLL(name)
    if sodium.sodium_init() < 0:
        raise StackError("libsodium does not start")
    out = ctypes.create_string_buffer(128)
    text = password.encode()
    if sodium.crypto_pwhash_str(out, text, ctypes.c_ulonglong(len(text)), ctypes.c_ulonglong(2), ctypes.c_size_t(19 * 1024 * 1024)) != 0:
        raise StackError("not enough memory to hash a password")
    return out.value.decode()


def insert(cursor: psycopg2.extensions.cursor, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    listed = list(rows)
    if listed:
        columns = list(listed[0])
        psycopg2.extras.execute_values(cursor, f"INSERT INTO {table} ({', '.join(columns)}) VALUES %s ON CONFLICT DO NOTHING",
                                       [tuple(row[column] for column in columns) for row in listed], page_size=500)


def choose_buffer(buffers: Sequence[str], school_id: str) -> str:
    """Where a new school goes, as `schools24-auth --choose-buffer` says it: the name that weighs most for it."""
    return max(sorted(buffers), key=lambda name: hashlib.sha256(f"{name}\n{school_id}".encode()).digest()[:8])


def seed(postgres: Postgres, small: bool = False, buffers: Sequence[str] = ("main",)) -> bool:
    """`small`: two classes a school and five students each, for tests. `buffers`: the write buffers that there are. False: the schools were there."""
    with postgres.cursor() as cursor:
        cursor.execute("SELECT to_regclass('auth.users')")
        if cursor.fetchone()[0] is None:
            return False
        cursor.execute("SELECT count(*) FROM auth.schools WHERE id = ANY(%s::uuid[])", ([identity("school", one["slug"]) for one in SCHOOLS],))
        if cursor.fetchone()[0] == len(SCHOOLS):
            return False
        cursor.execute("BEGIN")
        try:
            rng = random.Random(SEED)
            hashed = password_hash(PASSWORD)
            sizes: Iterator[int] = itertools.cycle([5]) if small else iter([32] * 8 + [31] * 24)
            assert small or 32 * 8 + 31 * 24 == STUDENTS
            for school in SCHOOLS:
                seed_school(cursor, {**school, "buffer": choose_buffer(buffers, identity("school", school["slug"]))}, rng, hashed, sizes, small)
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
    return True


def seed_school(cursor: psycopg2.extensions.cursor, school: Mapping[str, Any], rng: random.Random, hashed: str, sizes: Iterator[int], small: bool) -> None:
    slug, school_id = school["slug"], identity("school", school["slug"])
    year = academic_year(datetime.date.today(), school["year_start_month"])
    settings = {"time_zone": school["time_zone"], "academic_year": year, "year_start_month": school["year_start_month"]}
    insert(cursor, "auth.schools", [{"id": school_id, "school_id": school_id, "name": school["name"], "slug": slug, "buffer": school["buffer"],
                                     "settings": json.dumps(settings)}])

    users: list[dict[str, Any]] = []

    def person(role: str, number: int) -> tuple[str, str]:
        """A user; the first of each role has the known address."""
        user_id = identity("user", slug, role, number)
        name = f"{rng.choice(GIVEN)} {rng.choice(FAMILY)}"
        email = f"{role}@{slug}.example" if number == 0 else f"{role}{number}@{slug}.example"
        users.append({"id": user_id, "school_id": school_id, "email": email, "password_hash": hashed, "role": role, "full_name": name,
                      "phone": f"+91{rng.randrange(6 * 10**9, 10**10)}", "is_active": True, "email_verified": True})
        return user_id, name

    person("admin", 0)
    if slug == SCHOOLS[0]["slug"]:
        person("super_admin", 0)
    staff = [person("staff", number)[0] for number in range(1 if small else 6)]
    teachers = [{"id": identity("teacher", slug, number), "school_id": school_id, "user_id": person("teacher", number)[0],
                 "employee_id": f"T{number + 1:03}", "department": SUBJECTS[number % len(SUBJECTS)][0], "designation": "Teacher",
                 "experience_years": rng.randrange(1, 30), "hire_date": datetime.date(2015 + number % 10, 6, 1), "status": "active"}
                for number in range(3 if small else school["teachers"])]
    classes: list[Any] = []
    students: list[Any] = []
    enrolments: list[Any] = []
    parents: list[Any] = []
    for index, (grade, section) in enumerate(classes_of(school)[:2] if small else classes_of(school)):
        class_id = identity("class", slug, grade, section)
        classes.append({"id": class_id, "school_id": school_id, "name": f"Class {grade}", "grade": grade, "section": section,
                        "class_teacher_id": teachers[index % len(teachers)]["id"], "academic_year": year, "room_number": str(100 + index),
                        "sort_order": grade * 10 + (section == "B")})
        for roll in range(1, next(sizes) + 1):
            number = len(students)
            user_id, name = person("student", number)
            student_id = identity("student", slug, number)
            students.append({"id": student_id, "school_id": school_id, "user_id": user_id, "admission_number": f"{slug[:2].upper()}{number + 1:05}",
                             "roll_number": str(roll), "class_id": class_id, "section": section,
                             "date_of_birth": datetime.date(2021 - grade, 1 + number % 12, 1 + number % 28), "gender": rng.choice(("male", "female")),
                             "admission_date": datetime.date(2024, 4, 1), "academic_year": year,
                             "parent_name": f"{rng.choice(GIVEN)} {name.split()[-1]}"})
            enrolments.append({"id": identity("enrolment", slug, number), "school_id": school_id, "student_id": student_id, "class_id": class_id,
                               "academic_year": year, "roll_number": str(roll), '"from"': datetime.date(int(year[:4]), 4, 1)})
    parents.append({"id": identity("guardian", slug, 0), "school_id": school_id, "user_id": person("parent", 0)[0], "student_id": students[0]["id"],
                    "relation": "mother", "since": datetime.date(2024, 4, 1)})
    subjects = [{"id": identity("subject", slug, code), "school_id": school_id, "name": name, "code": code, "grade_levels": [one["grade"] for one in classes],
                 "credits": 4, "is_optional": False} for name, code in SUBJECTS]

    insert(cursor, "auth.users", users)
    insert(cursor, "auth.subjects", subjects)
    insert(cursor, "auth.teachers", teachers)
    insert(cursor, "auth.staff", [{"id": identity("staff", slug, number), "school_id": school_id, "user_id": user_id, "employee_id": f"S{number + 1:03}",
                                   "designation": "Office", "department": "Administration"} for number, user_id in enumerate(staff)])
    insert(cursor, "auth.classes", classes)
    insert(cursor, "auth.class_subjects", [{"id": identity("class_subject", one["id"], subject["id"]), "school_id": school_id, "class_id": one["id"],
                                            "subject_id": subject["id"]} for one in classes for subject in subjects])
    insert(cursor, "auth.students", students)
    insert(cursor, "auth.enrolments", enrolments)
    insert(cursor, "auth.guardians", parents)
    insert(cursor, "auth.teacher_assignments", assignments(slug, school_id, year, classes, subjects, teachers))


def assignments(slug: str, school_id: str, year: str, classes: Sequence[Mapping[str, Any]], subjects: Sequence[Mapping[str, Any]],
                teachers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every class has a teacher for each subject; the first teacher, whose login is known, has the first class."""
    rows = []
    for index, one in enumerate(classes):
        for at, subject in enumerate(subjects):
            teacher = teachers[0] if index == 0 and at == 0 else teachers[(index + at) % len(teachers)]
            rows.append({"id": identity("assignment", slug, one["id"], subject["id"]), "school_id": school_id, "teacher_id": teacher["id"],
                         "class_id": one["id"], "subject_id": subject["id"], "is_class_teacher": one["class_teacher_id"] == teacher["id"],
                         "academic_year": year})
    return rows
