# SPDX-License-Identifier: Apache-2.0
"""What every route promises, asked of every route that a daemon describes: services that come later are asked too.

The daemons' own --print-openapi is the list; requests go to the daemons themselves, which must not rely on the gateway.
"""
from __future__ import annotations

import datetime
import http.client
import json
import subprocess
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from s24.services import existing
from scene import NOBODY, problem, sign_in

from harness import BUILD, Answer, Client, TestStack, raw_request

PEOPLE = ("super_admin", "admin", "teacher", "student", "staff", "parent")
JSON_MAX = 256 * 1024


@dataclass(frozen=True)
class Route:
    service: str
    method: str
    path: str
    operation: dict[str, Any]
    schemas: dict[str, Any]

    def __hash__(self) -> int:
        return hash((self.service, self.method, self.path))

    @property
    def name(self) -> str:
        return f"{self.service} {self.method} {self.path}"

    @property
    def roles(self) -> list[str]:
        return list(self.operation["x-roles"])

    @property
    def is_public(self) -> bool:
        return "anyone" in self.roles

    @property
    def parameters(self) -> list[str]:
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]

    @property
    def body(self) -> dict[str, Any] | None:
        content = self.operation.get("requestBody", {}).get("content", {})
        return self.resolve(content["application/json"]["schema"]) if "application/json" in content else None

    @property
    def body_needed(self) -> bool:
        return bool(self.operation.get("requestBody", {}).get("required"))

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.schemas[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
        return found

    def query(self, required_only: bool = True) -> dict[str, dict[str, Any]]:
        return {one["name"]: self.resolve(one["schema"]) for one in self.operation.get("parameters", [])
                if one.get("in") == "query" and (one.get("required") or not required_only)}

    def target(self, value: str = NOBODY, text: str = "no-such-thing") -> str:
        path = "/".join((value if part[1:-1].endswith("_id") else text) if part.startswith("{") else part for part in self.path.split("/"))
        query = {name: good(self, schema) for name, schema in self.query().items()}
        return path + ("?" + urllib.parse.urlencode(query) if query else "")


def described() -> Iterator[Route]:
    for binary in sorted(BUILD / "bin" / f"schools24-{name}" for name in (*existing(), "worker")):
        if not binary.exists():
            continue
        printed = subprocess.run([str(binary), "--print-openapi"], capture_output=True, text=True, check=True, timeout=30).stdout
        document = json.loads(printed)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                yield Route(binary.name.split("-", 1)[1], method.upper(), path, operation, document["components"]["schemas"])


ROUTES = list(described()) if (BUILD / "bin").is_dir() else []
OUTSIDE = [route for route in ROUTES if not route.path.startswith("/internal/")]
INSIDE = [route for route in ROUTES if route.path.startswith("/internal/")]
BODIES = [route for route in OUTSIDE if route.body is not None]


def each(routes: list[Route]) -> Any:
    return pytest.mark.parametrize("route", routes, ids=[route.name for route in routes])


# ---- values by schema ---------------------------------------------------------------------------------------------------------------

def type_of(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "")
    return next((one for one in kind if one != "null"), "") if isinstance(kind, list) else str(kind)


def good(route: Route, schema: dict[str, Any]) -> Any:
    schema, kind = route.resolve(schema), type_of(route.resolve(schema))
    if "enum" in schema:
        return next(one for one in schema["enum"] if one is not None)
    if kind == "string":
        day = datetime.date.today() + datetime.timedelta(days=7)
        made = {"uuid": NOBODY, "date": day.isoformat(), "date-time": f"{day}T10:00:00Z"}.get(schema.get("format", ""))
        return made or "x" * max(int(schema.get("minLength", 1)), 1)
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    if kind == "array":
        return []
    return {name: good(route, schema["properties"][name]) for name in schema.get("required", [])} if kind == "object" else "x"


def bad(route: Route, schema: dict[str, Any]) -> Any:
    """Of a wrong type; None: every value is right."""
    schema, kind = route.resolve(schema), type_of(route.resolve(schema))
    if "enum" in schema or schema.get("format") in ("uuid", "date", "date-time"):
        return "\u2603 is none of them"
    return {"string": {"x": 1}, "integer": "x", "number": "x", "boolean": "x", "array": "x", "object": "x"}.get(kind)


# ---- who asks -----------------------------------------------------------------------------------------------------------------------

class Crowd:
    """A session for each role; another one when the old has asked too much."""

    def __init__(self, stack: TestStack) -> None:
        self.stack = stack
        self.tokens: dict[str, str] = {}

    def token(self, role: str, fresh: bool = False) -> str:
        if fresh or role not in self.tokens:
            self.tokens[role] = sign_in(self.stack, role).token
        return self.tokens[role]

    def daemon(self, service: str) -> str:
        return self.stack.worker.url if service == "worker" else self.stack.services[service].url

    def ask(self, route: Route, role: str | None, target: str = "", *, method: str = "", body: object = None, kind: str = "application/json") -> Answer:
        def once(fresh: bool) -> Answer:
            client = Client(self.daemon(route.service), self.token(role, fresh) if role else "")
            headers = {"Content-Type": kind} if body is not None else {}
            return client.request(method or route.method, target or route.target(), body, headers, bare=True)

        answer = once(False)
        return once(True) if answer.status == 429 and role else answer

    def allowed(self, route: Route) -> str | None:
        return None if route.is_public else next(role for role in PEOPLE if role in route.roles)


@pytest.fixture(scope="module")
def crowd(stack: TestStack) -> Crowd:
    return Crowd(stack)


def promised(route: Route, answer: Answer) -> None:
    assert str(answer.status) in route.operation["responses"], f"{route.name} does not say that it answers {answer.status}"


# ---- the promises -------------------------------------------------------------------------------------------------------------------

def test_there_are_routes() -> None:
    assert {"auth", "homework"} <= {route.service for route in ROUTES}
    assert BODIES and INSIDE
    assert len({(route.method, route.path) for route in OUTSIDE}) == len(OUTSIDE), "a route belongs to one daemon"


@each(OUTSIDE)
def test_without_a_token_it_is_401(crowd: Crowd, route: Route) -> None:
    if route.is_public:
        assert crowd.ask(route, None).status not in (401, 403)
        return
    answer = crowd.ask(route, None)
    problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    promised(route, answer)


@each(OUTSIDE)
def test_the_wrong_role_is_403(crowd: Crowd, route: Route) -> None:
    for role in PEOPLE:
        if not route.is_public and role not in route.roles:
            answer = crowd.ask(route, role, body={} if route.body is not None else None)
            problem(answer, 403, "forbidden")
            promised(route, answer)


@each(INSIDE)
def test_internal_routes_are_for_daemons_alone(stack: TestStack, crowd: Crowd, route: Route) -> None:
    inside = stack.worker.admin_url if route.service == "worker" else stack.services[route.service].admin_url
    problem(Client(inside).request(route.method, route.target(), bare=True), 401)
    for role in PEOPLE:
        problem(Client(inside, crowd.token(role)).request(route.method, route.target(), bare=True), 401)
    problem(crowd.ask(route, "super_admin"), 404)
    assert Client(stack.url, crowd.token("super_admin")).request(route.method, route.target(), bare=True).status == 404


@each(BODIES)
def test_a_body_that_is_too_large_is_413(stack: TestStack, crowd: Crowd, route: Route) -> None:
    role = crowd.allowed(route)
    head = f"{route.method} {route.target()} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {crowd.token(role)}\r\n" if role else ""
    port = stack.worker.port if route.service == "worker" else stack.services[route.service].port
    declared = raw_request(port, f"{head}Content-Length: {JSON_MAX + 1}\r\n\r\n{{".encode(), 5)
    assert declared.startswith(b"HTTP/1.1 413 "), declared[:300]
    chunk = b"%x\r\n%s\r\n" % (65536, b" " * 65536)
    counted = raw_request(port, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 5 + b"0\r\n\r\n", 5)
    assert counted.startswith(b"HTTP/1.1 413 "), counted[:300]
    for text in (declared, counted):
        body = json.loads(text.split(b"\r\n\r\n", 1)[1])
        assert body["code"] == body["error"] == "too_large" and "message" not in body
    assert "413" in route.operation["responses"]


@each(BODIES)
def test_another_media_type_is_415(crowd: Crowd, route: Route) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application/xml"):
        answer = crowd.ask(route, crowd.allowed(route), body=b"{}", kind=kind)
        problem(answer, 415)
        promised(route, answer)


@each(BODIES)
def test_what_is_no_json_is_400(crowd: Crowd, route: Route) -> None:
    texts = [b'{"a":', b"{}{}", b"{'a': 1}", b'{"a": "\xff"}', b'{"a": "\x00"}', b'{"a": 01}', b'{"a": NaN}', b"[" * 40 + b"]" * 40, b'{"a":' * 40 + b"1" + b"}" * 40]
    for text in [*texts, *([b""] if route.body_needed else [])]:
        answer = crowd.ask(route, crowd.allowed(route), body=text)
        problem(answer, 400, "malformed")
        promised(route, answer)


@each(BODIES)
def test_every_wrong_field_is_named(crowd: Crowd, route: Route) -> None:
    assert route.body is not None
    wrong = {name: value for name, schema in route.body["properties"].items() if (value := bad(route, schema)) is not None}
    body = problem(crowd.ask(route, crowd.allowed(route), body=wrong), 422)
    assert {one["pointer"].split("/")[1] for one in body["errors"]} >= set(wrong), "each of them at once"
    assert all(one["code"] and one["message"] for one in body["errors"])


@each(BODIES)
def test_every_missing_field_is_named(crowd: Crowd, route: Route) -> None:
    assert route.body is not None
    required = set(route.body.get("required", []))
    if required:
        for sent in ({}, dict.fromkeys(required)):
            answer = crowd.ask(route, crowd.allowed(route), body=sent)
            assert {one["pointer"] for one in problem(answer, 422)["errors"]} == {f"/{name}" for name in required}
            promised(route, answer)


@each([route for route in OUTSIDE if route.query(required_only=False)])
def test_every_wrong_query_parameter_is_named(crowd: Crowd, route: Route) -> None:
    wrong = {name: value for name, schema in route.query(required_only=False).items() if isinstance(value := bad(route, schema), str)}
    if wrong:
        answer = crowd.ask(route, crowd.allowed(route), route.target().split("?")[0] + "?" + urllib.parse.urlencode(wrong),
                           body=good(route, route.body) if route.body is not None else None)
        assert {one["pointer"] for one in problem(answer, 422)["errors"]} >= {f"/{name}" for name in wrong}
        promised(route, answer)
    for broken in ("%", "%zz=1", "a=%ff"):
        problem(crowd.ask(route, crowd.allowed(route), route.target().split("?")[0] + "?" + broken,
                          body=good(route, route.body) if route.body is not None else None), 400)


@each([route for route in OUTSIDE if route.parameters and not route.is_public])
def test_an_unknown_id_is_404(crowd: Crowd, route: Route) -> None:
    body = good(route, route.body) if route.body is not None else None
    has_text = any(not name.endswith("_id") for name in route.parameters)
    for role in (role for role in PEOPLE if role in route.roles):
        answer = crowd.ask(route, role, body=body)
        assert answer.status == 404 or (has_text and answer.status in (400, 422)), str(answer)
        problem(answer, answer.status)
        if any(name.endswith("_id") for name in route.parameters):
            for value in ("x", "0", "%00", "..%2f..%2fetc%2fpasswd", NOBODY + "0", NOBODY.upper()[:-1] + "G"):
                answer = crowd.ask(route, role, route.target(value), body=body)
                assert answer.status in (400, 404), f"{value}: {answer}"
                problem(answer, answer.status)


@each(OUTSIDE)
def test_another_method_is_405(crowd: Crowd, route: Route) -> None:
    taken = {one.method for one in ROUTES if one.service == route.service and one.path == route.path}
    for method in ("PATCH", "PUT", "DELETE", "POST", "GET"):
        if method not in taken:
            answer = crowd.ask(route, crowd.allowed(route), method=method)
            # Another path of the same shape may take it: /x/{x_id} and /x/options.
            if answer.status != 405:
                assert any(one.method == method and one.path.count("/") == route.path.count("/") for one in ROUTES if one.service == route.service)
                continue
            problem(answer, 405)
            allowed = {one.strip() for one in answer.headers["allow"].split(",")}
            assert taken <= allowed and method not in allowed
    options = crowd.ask(route, None, method="OPTIONS")
    assert options.status == 204 and taken <= {one.strip() for one in options.headers["allow"].split(",")}


@each(OUTSIDE)
def test_an_unknown_path_is_404(crowd: Crowd, route: Route) -> None:
    for target in (route.target().split("?")[0] + "/no/such/path", "/api/v1/no-such-path", "/"):
        problem(crowd.ask(route, crowd.allowed(route), target), 404, "not_found")


def test_errors_of_the_gateway_have_the_same_shape(stack: TestStack) -> None:
    client = Client(stack.url)
    problem(client.request("GET", "/api/v1/no-such-path", bare=True), 404)
    problem(client.request("PATCH", "/api/v1/auth/login", bare=True), 405)
    problem(client.request("GET", "/api/v1/teacher/homework?search=" + "x" * 3000, bare=True), 414)
    answer = raw_request(stack.gateway.port, b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 300000\r\n\r\n{", 5)
    assert answer.startswith(b"HTTP/1.1 413 ") and b"application/problem+json" in answer


def test_the_description_is_served(stack: TestStack) -> None:
    for service in stack.daemons:
        connection = http.client.HTTPConnection("127.0.0.1", service.admin_port, timeout=5)
        connection.request("GET", "/openapi.json")
        answer = connection.getresponse()
        assert answer.status == 200 and json.loads(answer.read())["openapi"].startswith("3.1")
        connection.close()
