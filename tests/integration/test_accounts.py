# SPDX-License-Identifier: Apache-2.0
"""Signing in, staying signed in, and the end of it, on the whole system."""
from __future__ import annotations

import base64
import http.client
import json
import shutil
import statistics
import subprocess
import time
from typing import Any

import pytest
from s24.soak import another
from scene import FIRST, NOBODY, PASSWORD, SECOND, assign, email, problem, row, sign_in, student_id

from harness import Answer, Client, TestStack, wait_for


def payload(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


def sessions(client: Client) -> list[dict[str, Any]]:
    answer = client.get("/auth/sessions")
    assert answer.status == 200, str(answer)
    found: list[dict[str, Any]] = answer.json["sessions"]
    return found


def refresh(stack: TestStack, token: str, device: str = "test device") -> Answer:
    return Client(stack.url).post("/auth/refresh", {"refresh_token": token}, **{"User-Agent": device})


def with_refresh(stack: TestStack, number: int, device: str = "test device") -> dict[str, Any]:
    answer = Client(stack.url).post("/auth/login", {"email": email("student", number), "password": PASSWORD, "refresh": True}, **{"User-Agent": device})
    assert answer.status == 200, str(answer)
    found: dict[str, Any] = answer.json
    return found


# ---- login ------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("school", [FIRST, SECOND])
@pytest.mark.parametrize("role", ["admin", "teacher", "student", "parent", "staff"])
def test_everybody_signs_in(stack: TestStack, role: str, school: str) -> None:
    client = Client(stack.url)
    answer = client.login(email(role, school=school).upper(), PASSWORD)
    assert answer.status == 200, str(answer)
    assert answer.headers["cache-control"] == "no-store"
    body, claims = answer.json, payload(answer.json["access_token"])
    assert body["token_type"] == "Bearer" and "refresh_token" not in body
    assert body["user"]["role"] == claims["role"] == role and claims["sub"] == claims["user_id"] == body["user"]["id"]
    assert {"email", "full_name", "school_id", "sid", "iss", "aud", "iat", "exp"} <= set(claims)
    assert 86000 < body["expires_in"] <= 86400 and abs(claims["exp"] - claims["iat"] - body["expires_in"]) <= 1
    assert "password" not in json.dumps(body), "no hash leaves the daemon"
    assert client.get("/auth/verify").status == 200


def test_remember_me_lasts_thirty_days(stack: TestStack) -> None:
    answer = Client(stack.url).post("/auth/login", {"email": email("student"), "password": PASSWORD, "remember_me": True})
    assert abs(answer.json["expires_in"] - 30 * 86400) < 60


def test_a_wrong_password_and_an_unknown_address_are_one_answer(stack: TestStack) -> None:
    known = Client(stack.url).login(email("student", 1), "wrong password")
    unknown = Client(stack.url).login("nobody@sunrise.example", "wrong password")
    for answer in (known, unknown):
        problem(answer, 401, "invalid_credentials")
    assert {key: value for key, value in known.json.items() if key != "instance"} == {
        key: value for key, value in unknown.json.items() if key != "instance"}


def test_an_unknown_address_costs_the_time_of_a_wrong_password(stack: TestStack) -> None:
    """Loosely: a whole Argon2 hash more or less would be a factor of three and above."""
    def seconds(address: str) -> float:
        started = time.monotonic()
        assert Client(stack.url).login(address, "wrong password").status == 401
        return time.monotonic() - started

    known, unknown = [], []
    for number in range(5, 10):
        for turn in range(2):
            known.append(seconds(email("student", number)))
            unknown.append(seconds(f"ghost{number}{turn}@sunrise.example"))
    ratio = statistics.median(known) / statistics.median(unknown)
    assert 0.5 < ratio < 2, f"known/unknown {ratio:.2f}"


def test_guessing_is_slowed_down_and_the_owner_gets_in_afterwards(stack: TestStack) -> None:
    address = email("student", 2, SECOND)
    statuses = [Client(stack.url).login(address, f"guess {number}").status for number in range(4)]
    assert statuses == [401, 401, 401, 429]
    refused = Client(stack.url).login(address, PASSWORD)
    problem(refused, 429)
    assert int(refused.headers["retry-after"]) == 1
    assert Client(stack.url).login(email("student", 3, SECOND), PASSWORD).status == 200, "others are not slowed down"
    time.sleep(1.1)
    assert Client(stack.url).login(address, PASSWORD).status == 200
    assert [Client(stack.url).login(address, "guess").status for _ in range(3)] == [401] * 3, "a right password forgets the wrong ones"


def test_a_suspended_user_cannot_sign_in(stack: TestStack) -> None:
    address = email("student", 4, SECOND)
    with stack.postgres.cursor() as cursor:
        cursor.execute("UPDATE auth.users SET is_suspended = true WHERE email = %s", (address,))
    problem(Client(stack.url).login(address, PASSWORD), 401, "invalid_credentials")
    with stack.postgres.cursor() as cursor:
        cursor.execute("UPDATE auth.users SET is_suspended = false WHERE email = %s", (address,))
    assert Client(stack.url).login(address, PASSWORD).status == 200


def test_a_login_leaves_its_audit_record(stack: TestStack) -> None:
    client = sign_in(stack, "parent")
    found = row(stack, "SELECT action, actor::text, ip FROM auth.audit_logs WHERE entity_type = 'session' AND entity_id = %s", payload(client.token)["sid"])
    assert found == ("login", client.user["id"], "127.0.0.1")


# ---- /auth/me -----------------------------------------------------------------------------------------------------------------------

def test_me_is_read_and_changed(stack: TestStack) -> None:
    client = sign_in(stack, "teacher", 2)
    before = client.get("/auth/me")
    assert before.status == 200 and before.json["user"]["email"] == email("teacher", 2)
    assert client.get("/auth/me", **{"If-None-Match": before.headers["etag"]}).status == 304
    changed = client.put("/auth/me", {"full_name": "Zoë Ж. O'Brien", "phone": "", "profile_picture_url": "https://example.org/z.png"})
    assert changed.status == 200, str(changed)
    assert changed.json["user"]["full_name"] == "Zoë Ж. O'Brien"
    after = client.get("/auth/me").json["user"]
    assert after["profile_picture_url"] == "https://example.org/z.png" and not after.get("phone")
    assert client.get("/auth/me", **{"If-None-Match": before.headers["etag"]}).status == 200
    old, new = row(stack, "SELECT old_values, new_values FROM auth.audit_logs WHERE action = 'update' AND entity_id = %s ORDER BY created_at DESC LIMIT 1",
                   client.user["id"]) or ({}, {})
    assert old["full_name"] == before.json["user"]["full_name"] and new["full_name"] == "Zoë Ж. O'Brien"
    back = client.put("/auth/me", {"full_name": before.json["user"]["full_name"]})
    assert back.status == 200


def test_me_refuses_what_is_too_long(stack: TestStack) -> None:
    client = sign_in(stack, "student")
    body = problem(client.put("/auth/me", {"full_name": "x" * 201, "phone": 5}), 422)
    assert {"/full_name", "/phone"} <= {one["pointer"] for one in body["errors"]}


def test_a_changed_name_is_seen_by_the_other_daemons(stack: TestStack) -> None:
    student, parent = sign_in(stack, "student"), sign_in(stack, "parent")
    teacher = sign_in(stack, "teacher")
    name = student.get("/auth/me").json["user"]["full_name"]
    made = assign(teacher)

    def roster_name() -> str:
        listed = teacher.get(f"/teacher/homework/{made['id']}/submissions").json["submissions"]
        return next(str(one["student_name"]) for one in listed if one["student_id"] == student_id())

    assert roster_name() == name
    try:
        assert student.put("/auth/me", {"full_name": "Renamed Student"}).status == 200
        deadline = time.monotonic() + 3
        while roster_name() != "Renamed Student" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert roster_name() == "Renamed Student", "homework's directory has heard of it"
    finally:
        assert student.put("/auth/me", {"full_name": name}).status == 200
    assert parent.get("/auth/me").status == 200


# ---- sessions -------------------------------------------------------------------------------------------------------------------------

def test_an_ended_session_is_refused_everywhere_within_a_second(stack: TestStack) -> None:
    keeps, ends = sign_in(stack, "student", 1), sign_in(stack, "student", 1)
    assert ends.get("/academic/homework").status == 200, "homework remembers the session now"
    listed = sessions(keeps)
    assert [one["is_current"] for one in listed].count(True) == 1
    victim = payload(ends.token)["sid"]
    assert victim in {one["id"] for one in listed}
    assert keeps.delete(f"/auth/sessions/{victim}").status == 200
    problem(ends.get("/auth/me"), 401)
    time.sleep(1)
    problem(ends.get("/academic/homework"), 401)
    assert victim not in {one["id"] for one in sessions(keeps)}
    assert keeps.get("/academic/homework").status == 200
    problem(keeps.delete(f"/auth/sessions/{victim}"), 404)


def test_nobody_ends_another_ones_session(stack: TestStack) -> None:
    mine, other = sign_in(stack, "student", 1), sign_in(stack, "student", 2)
    problem(mine.delete(f"/auth/sessions/{payload(other.token)['sid']}"), 404)
    problem(mine.delete(f"/auth/sessions/{NOBODY}"), 404)
    assert other.get("/auth/me").status == 200


def test_logout_ends_the_session(stack: TestStack) -> None:
    client = sign_in(stack, "parent")
    answer = client.post("/auth/logout")
    assert answer.status == 200 and answer.json["message"]
    problem(client.get("/auth/me"), 401)
    time.sleep(1)
    problem(client.get("/academic/homework"), 401)


def test_an_ended_session_does_not_come_back_through_a_late_answer(stack: TestStack) -> None:
    """A daemon that asked auth just before the end must not put the session into Redis just after it."""
    client = sign_in(stack, "student", 3)
    sid = payload(client.token)["sid"]
    assert client.post("/auth/logout").status == 200
    kept = stack.buffer.client().get(f"session:{sid}")
    assert kept is not None and len(kept) == 0, "what stands there makes a late SET NX fail"
    assert 0 < stack.buffer.client().ttl(f"session:{sid}") <= 120
    problem(client.get("/auth/me"), 401)


def test_a_session_without_its_key_is_asked_for_at_auth(stack: TestStack) -> None:
    client = sign_in(stack, "student", 3)
    sid = payload(client.token)["sid"]
    assert stack.buffer.client().delete(f"session:{sid}") == 1
    assert client.get("/academic/homework").status == 200
    assert stack.buffer.client().get(f"session:{sid}"), "auth has put it back"


# ---- passwords --------------------------------------------------------------------------------------------------------------------------

def test_a_new_password_ends_the_other_sessions(stack: TestStack) -> None:
    mine, other = sign_in(stack, "staff"), sign_in(stack, "staff")
    assert other.get("/classes").status == 200
    problem(mine.post("/auth/change-password", {"current_password": "wrong one", "new_password": "a better password"}), 400, "invalid_password")
    assert other.get("/auth/me").status == 200, "nothing has ended yet"
    for weak in ("short", "Password123", email("staff"), "iloveyou"):
        problem(mine.post("/auth/change-password", {"current_password": PASSWORD, "new_password": weak}), 422, "weak_password")
    answer = mine.post("/auth/change-password", {"current_password": PASSWORD, "new_password": "  a better pässword "})
    assert answer.status == 200, str(answer)
    problem(other.get("/auth/me"), 401)
    assert mine.get("/auth/me").status == 200
    problem(Client(stack.url).login(email("staff"), PASSWORD), 401)
    again = Client(stack.url)
    assert again.login(email("staff"), "  a better pässword ").status == 200, "spaces belong to a password"
    assert again.post("/auth/change-password", {"current_password": "  a better pässword ", "new_password": PASSWORD}).status == 200


def test_a_key_replays_what_is_committed_at_once(stack: TestStack) -> None:
    client, key = sign_in(stack, "admin"), "a-key-of-the-client"
    change = {"current_password": PASSWORD, "new_password": "another password"}
    first, again = (client.post("/auth/change-password", change, **{"Idempotency-Key": key}) for _ in range(2))
    assert first.status == again.status == 200 and first.json == again.json, f"{first} {again}"
    assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
    problem(client.post("/auth/change-password", {**change, "new_password": "a third password"}, **{"Idempotency-Key": key}), 422)
    assert client.post("/auth/change-password", {"current_password": "another password", "new_password": PASSWORD}).status == 200


# ---- refresh tokens ---------------------------------------------------------------------------------------------------------------------

def test_refresh_rotates(stack: TestStack) -> None:
    first = with_refresh(stack, 1)
    assert first["expires_in"] <= 600
    second = refresh(stack, first["refresh_token"])
    assert second.status == 200, str(second)
    assert second.json["refresh_token"] != first["refresh_token"] and second.json["access_token"] != first["access_token"]
    assert payload(second.json["access_token"])["sid"] == payload(first["access_token"])["sid"]
    assert Client(stack.url, second.json["access_token"]).get("/auth/me").status == 200
    assert refresh(stack, second.json["refresh_token"]).status == 200
    problem(refresh(stack, "no such token"), 401)


def test_a_lost_answer_may_be_asked_for_again_by_the_same_device(stack: TestStack) -> None:
    first = with_refresh(stack, 1)
    assert refresh(stack, first["refresh_token"]).status == 200
    again = refresh(stack, first["refresh_token"])
    assert again.status == 200, str(again)
    assert Client(stack.url, again.json["access_token"]).get("/auth/me").status == 200


def test_a_daemon_that_dies_behind_the_rotation_costs_nobody_the_session(stack: TestStack) -> None:
    first, replica = with_refresh(stack, 3), another(stack, stack.services["auth"])
    replica.environment["S24_FAILPOINTS"] = "refresh.after_rotate_before_reply=kill:1:1"
    replica.start()
    try:
        with pytest.raises((OSError, http.client.HTTPException)):
            Client(replica.url).post("/auth/refresh", {"refresh_token": first["refresh_token"]}, **{"User-Agent": "test device"})
        wait_for("it has died", lambda: replica.process.pid is None, 5)
    finally:
        replica.process.kill()
    again = refresh(stack, first["refresh_token"])
    assert again.status == 200, str(again)
    assert Client(stack.url, again.json["access_token"]).get("/auth/me").status == 200


def test_reuse_by_another_device_ends_the_family(stack: TestStack) -> None:
    first = with_refresh(stack, 2)
    second = refresh(stack, first["refresh_token"]).json
    assert Client(stack.url, second["access_token"]).get("/academic/homework").status == 200
    problem(refresh(stack, first["refresh_token"], "the thief's device"), 401, "refresh_token_reused")
    problem(Client(stack.url, second["access_token"]).get("/auth/me"), 401)
    problem(refresh(stack, second["refresh_token"]), 401)
    time.sleep(1)
    problem(Client(stack.url, second["access_token"]).get("/academic/homework"), 401)


def test_late_reuse_ends_the_family_on_any_device(stack: TestStack) -> None:
    first = with_refresh(stack, 2)
    second = refresh(stack, first["refresh_token"]).json
    with stack.postgres.cursor() as cursor:
        cursor.execute("UPDATE auth.refresh_tokens SET used_at = used_at - interval '1 minute' WHERE session_id = %s", (payload(first["access_token"])["sid"],))
    problem(refresh(stack, first["refresh_token"]), 401, "refresh_token_reused")
    problem(Client(stack.url, second["access_token"]).get("/auth/me"), 401)
    reused = row(stack, "SELECT count(*) FROM auth.audit_logs WHERE action = 'refresh_token_reused' AND entity_id = %s", payload(first["access_token"])["sid"])
    assert reused == (1,)


def test_refresh_of_an_ended_session_is_refused(stack: TestStack) -> None:
    first = with_refresh(stack, 2)
    assert Client(stack.url, first["access_token"]).post("/auth/logout").status == 200
    problem(refresh(stack, first["refresh_token"]), 401)


# ---- tokens -------------------------------------------------------------------------------------------------------------------------------

NODE = """const crypto = require("crypto"), [jwks, token] = process.argv.slice(1);
const [head, body, signature] = token.split("."), header = JSON.parse(Buffer.from(head, "base64url"));
const jwk = JSON.parse(jwks).keys.find(key => key.kid === header.kid);
const good = crypto.verify(null, Buffer.from(`${head}.${body}`), crypto.createPublicKey({key: jwk, format: "jwk"}), Buffer.from(signature, "base64url"));
console.log(good, header.alg, jwk.use ?? "sig");"""


def test_somebody_elses_library_verifies_a_token_with_the_published_key(stack: TestStack) -> None:
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    published = Client(stack.url).request("GET", "/.well-known/jwks.json", bare=True)
    assert published.status == 200 and "max-age" in published.headers["cache-control"]
    assert all("d" not in key for key in published.json["keys"]), "the private part stays private"
    token = sign_in(stack, "student").token

    def verify(text: str) -> str:
        return subprocess.run(["node", "-e", NODE, "--", published.body.decode(), text], capture_output=True, text=True, check=True).stdout.strip()

    assert verify(token) == "true EdDSA sig"
    head, body, signature = token.split(".")
    forged = base64.urlsafe_b64encode(json.dumps(payload(token) | {"role": "admin"}).encode()).decode().rstrip("=")
    assert verify(f"{head}.{forged}.{signature}") == "false EdDSA sig"
    assert body != forged


def test_forged_tokens_are_refused(stack: TestStack) -> None:
    token = sign_in(stack, "student").token
    head, body, signature = token.split(".")

    def encoded(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    flipped = ("A" if signature[5] != "A" else "B").join((signature[:5], signature[6:]))
    for forged in (f"{head}.{encoded(payload(token) | {'role': 'admin'})}.{signature}", f"{head}.{body}.{flipped}", f"{head}.{body}.", f"{head}.{body}", "x", "..",
                   f"{encoded(header | {'alg': 'none'})}.{body}.", f"{encoded(header | {'alg': 'HS256'})}.{body}.{signature}", f"{token}.{token}", "é" * 40,
                   "A" * 5000):
        for path in ("/auth/me", "/academic/homework"):
            problem(Client(stack.url).request("GET", path, headers={"Authorization": f"Bearer {forged}".encode("utf-8").decode("latin-1")}), 401)
    for header_value in ("", "Bearer", f"Basic {token}", token):
        problem(Client(stack.url).request("GET", "/auth/me", headers={"Authorization": header_value}), 401)
    assert Client(stack.url).request("GET", "/auth/me", headers={"Authorization": f"bearer {token}"}).status == 200


def test_the_internal_routes_are_not_for_people(stack: TestStack) -> None:
    client = sign_in(stack, "admin")
    assert client.request("GET", f"/internal/sessions/{NOBODY}", bare=True).status == 404, "the gateway knows no such path"
    inside = Client(stack.services["auth"].admin_url, client.token)
    problem(inside.request("GET", f"/internal/sessions/{NOBODY}", bare=True), 401)
    outside = Client(stack.services["auth"].url, client.token)
    problem(outside.request("GET", f"/internal/sessions/{NOBODY}", bare=True), 404)


# ---- the directory as people see it ------------------------------------------------------------------------------------------------------

def test_teachers_see_their_classes_and_their_students(stack: TestStack) -> None:
    teacher = sign_in(stack, "teacher")
    classes = teacher.get("/teacher/classes").json["classes"]
    assert classes and {"id", "class_name", "is_class_teacher", "subject_id", "subject_name"} <= set(classes[0])
    students = teacher.get(f"/teacher/classes/{classes[0]['id']}/students").json["students"]
    assert [one["roll_number"] for one in students] == ["1", "2", "3", "4", "5"]
    problem(sign_in(stack, "teacher", 0, SECOND).get(f"/teacher/classes/{classes[0]['id']}/students"), 404)


def test_the_other_school_has_other_classes(stack: TestStack) -> None:
    first = {one["id"] for one in sign_in(stack, "student").get("/classes").json["classes"]}
    second = {one["id"] for one in sign_in(stack, "student", 0, SECOND).get("/classes").json["classes"]}
    assert len(first) == len(second) == 2 and not first & second
