# SPDX-License-Identifier: Apache-2.0
"""Makes the gateway's nginx configuration out of the daemons' route tables.

A daemon's --print-routes gives a line for each route, columns by tabs: method, path template, roles, object rule, body limit in bytes,
flags, cache policy. Here only the path, the body limit and that policy count: where one daemon owns everything below a path, that prefix is its location,
so that unknown paths, methods and tokens are answered by the daemon; a route with a larger body gets a location of its own that
passes the body on while it arrives, and so has one whose answers shared caches may keep (policy cdn), where the gateway keeps them.
"""
from __future__ import annotations

import pathlib
import re
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .base import HOST, ROOT, StackError

PREFIX = "/api/v1"
BODY_LIMIT = 256 * 1024
# Every daemon has these; they are for probes and operators.
PRIVATE = ("/health", "/ready", "/metrics", "/openapi.json", "/internal", "/debug")

# nginx's own errors in the words of common/base/err.h: status of nginx, status for the client, code, title.
PROBLEMS = (
    (400, 400, "malformed", "The request cannot be read"),
    (401, 401, "unauthenticated", "Not authenticated"),
    (403, 403, "forbidden", "Forbidden"),
    (404, 404, "not_found", "Not found"),
    (405, 405, "method_not_allowed", "Method not allowed"),
    (408, 408, "timeout", "Timed out"),
    (411, 411, "malformed", "The request cannot be read"),
    (412, 412, "precondition_failed", "Precondition failed"),
    (413, 413, "too_large", "The request is too large"),
    (414, 414, "uri_too_long", "The address is too long"),
    (415, 415, "unsupported_media_type", "Unsupported media type"),
    (416, 416, "range_not_satisfiable", "The range cannot be satisfied"),
    (421, 421, "malformed", "The request cannot be read"),
    (429, 429, "rate_limited", "Too many requests"),
    (494, 431, "headers_too_large", "The headers are too large"),
    (495, 400, "malformed", "The request cannot be read"),
    (496, 400, "malformed", "The request cannot be read"),
    (497, 400, "malformed", "The request cannot be read"),
    (500, 500, "internal", "Internal error"),
    (501, 501, "not_implemented", "Not implemented"),
    (502, 502, "service_unavailable", "Another service is away"),
    (503, 503, "service_unavailable", "Another service is away"),
    (504, 504, "timeout", "Timed out"),
    (505, 505, "malformed", "The request cannot be read"),
)


@dataclass(frozen=True)
class Route:
    service: str
    method: str
    path: str
    body_limit: int = BODY_LIMIT
    shared: bool = False  # its answers are the same for everyone


@dataclass
class Node:
    """A segment of the paths; {} stands for every parameter."""

    children: dict[str, Node] = field(default_factory=dict)
    services: set[str] = field(default_factory=set)  # of the whole subtree
    here: set[str] = field(default_factory=set)  # of routes that end here


def parse_routes(service: str, text: str) -> list[Route]:
    """The public routes in the output of --print-routes."""
    routes = []
    for line in text.splitlines():
        columns = line.split("\t")
        if line.startswith("#") or len(columns) < 2 or not re.fullmatch(r"[A-Z]+", columns[0]):
            continue
        path = columns[1]
        if path.startswith(PRIVATE) or path.startswith(PREFIX + "/internal"):
            continue
        if not re.fullmatch(r"(/[A-Za-z0-9._~{}-]+)+", path):
            raise StackError(f"{service}: the gateway cannot route the path {path!r}")
        if not path.startswith((PREFIX + "/", "/.well-known/")):
            path = PREFIX + path
        limit = int(columns[4]) if len(columns) > 4 and columns[4].isdigit() else BODY_LIMIT
        policy = columns[6] if len(columns) > 6 else "-"
        routes.append(Route(service, columns[0], path, limit, shared=policy == "cdn" or (policy == "full" and columns[2] == "anyone")))
    return routes


def tree(routes: Sequence[Route]) -> Node:
    root = Node()
    for route in routes:
        node = root
        node.services.add(route.service)
        for segment in route.path.strip("/").split("/"):
            node = node.children.setdefault("{}" if "{" in segment else segment, Node())
            node.services.add(route.service)
        node.here.add(route.service)
    return root


def pattern(path: str) -> str:
    """The path template as a regular expression of nginx."""
    return "^" + "/".join("[^/]+" if "{" in segment else re.escape(segment) for segment in path.split("/")) + "$"


def location(match: str, service: str, upload: int = 0, inner: Sequence[str] = (), indent: int = 2, shared: bool = False) -> list[str]:
    tab = "\t" * indent
    lines = [f"{tab}location {match} {{"]
    if upload:
        lines += [f"{tab}\tclient_max_body_size {upload};", f"{tab}\tclient_body_timeout 60s;", f"{tab}\tproxy_send_timeout 60s;",
                  f"{tab}\tproxy_request_buffering off;"]
    if shared:
        lines += [f"{tab}\tset $s24_edge 1;", f"{tab}\tproxy_cache edge;"]
    return [*lines, f"{tab}\tproxy_pass http://{service};", *inner, f"{tab}}}"]


def locations(routes: Sequence[Route]) -> str:
    """Exact and prefix locations, the longest prefix wins; uploads and what is kept here are exact, or nested where the path has a parameter."""
    own: dict[str, tuple[str, int, bool]] = {}
    for route in routes:
        if route.body_limit > BODY_LIMIT or route.shared:
            _, limit, shared = own.get(route.path, ("", 0, False))
            own[route.path] = (route.service, max(limit, route.body_limit if route.body_limit > BODY_LIMIT else 0), shared or route.shared)
    exact: dict[str, str] = {}
    prefixes: dict[str, str] = {}

    def walk(node: Node, path: str) -> None:
        if len(node.here) > 1:
            raise StackError(f"{path}: several daemons say that it is theirs: {', '.join(sorted(node.here))}")
        if len(node.services) == 1 and path.startswith((PREFIX + "/", "/.well-known")):
            service = next(iter(node.services))
            exact[path] = service
            if node.children:
                prefixes[path] = service
            return
        for service in node.here:
            exact[path] = service
        for segment, child in sorted(node.children.items()):
            if segment != "{}":
                walk(child, f"{path}/{segment}")
            elif len(child.services) == 1:
                prefixes[path] = next(iter(child.services))
            else:
                raise StackError(f"{path}/{{…}}: the daemons behind a parameter must be one, not {', '.join(sorted(child.services))}")

    walk(tree(routes), "")
    lines: list[str] = []
    for path, (service, _, _) in own.items():
        if "{" not in path:
            exact[path] = service
    for path, service in sorted(exact.items()):
        _, limit, shared = own.get(path, ("", 0, False))
        lines += location(f"= {path}", service, limit, shared=shared)
    for path, service in sorted(prefixes.items()):
        inner: list[str] = []
        for template, (_, limit, shared) in sorted(own.items()):
            home = max((prefix for prefix in prefixes if template.startswith(prefix + "/")), key=len, default="")
            if "{" in template and home == path:
                inner += location(f'~ "{pattern(template)}"', service, limit, indent=3, shared=shared)
        lines += location(f"^~ {path}/", service, inner=inner)
    return "\n".join(lines)


def error_pages() -> tuple[str, str]:
    pages = "\n".join(f"\t\terror_page {own} ={status} /.problem/{own};" if own != status else f"\t\terror_page {own} /.problem/{own};"
                      for own, status, _, _ in PROBLEMS)
    lines = []
    for own, status, code, title in PROBLEMS:
        body = (f'{{"type":"https://schools24.org/problems/{code}","title":"{title}","status":{status},'
                f'"instance":"/requests/$s24_id","code":"{code}","error":"{code}"}}')
        lines += [f"\t\tlocation = /.problem/{own} {{", "\t\t\tinternal;", "\t\t\tclient_max_body_size 0;", "\t\t\tdefault_type application/problem+json;",
                  f"\t\t\treturn {status} '{body}';", "\t\t}"]
    return pages, "\n".join(lines)


def render(routes: Sequence[Route], upstreams: Mapping[str, int | str], listen: str, access_log: str, *, workers: str = "auto",
           certificate: str = "", key: str = "", connections_per_address: int = 2000) -> str:
    """`upstreams`: daemon to its port on this machine, or its address."""
    used = sorted({route.service for route in routes})
    missing = [name for name in used if name not in upstreams]
    if missing:
        raise StackError(f"the gateway has no address of {', '.join(missing)}")
    blocks, documents = [], []
    for name in used:
        address = upstreams[name]
        # Idle connections end here before they end in the daemon (30 s), so that no request meets a closing one.
        blocks.append(f"\tupstream {name} {{\n\t\tserver {address if isinstance(address, str) else f'{HOST}:{address}'} max_fails=0;\n"
                      "\t\tkeepalive 64;\n\t\tkeepalive_requests 9000;\n\t\tkeepalive_timeout 25s;\n\t}")
        documents.append(f"\t\tlocation = {PREFIX}/openapi/{name}.json {{\n\t\t\tproxy_pass http://{name}/openapi.json;\n\t\t}}")
    pages, problems = error_pages()
    tls = ""
    if certificate:
        listen += " ssl http2"
        tls = (f"\t\tssl_certificate {certificate};\n\t\tssl_certificate_key {key};\n\t\tssl_protocols TLSv1.2 TLSv1.3;\n"
               "\t\tssl_session_cache shared:tls:10m;\n\t\tssl_session_tickets off;\n")
    text = (ROOT / "deploy" / "gateway" / "nginx.conf.in").read_text(encoding="utf-8")
    values = {
        "WORKERS": workers, "WORKER_CONNECTIONS": str(min(16384, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 64)),
        "ACCESS_LOG": access_log, "CONNECTIONS_PER_ADDRESS": str(connections_per_address),
        "UPSTREAMS": "\n".join(blocks), "LISTEN": listen, "TLS": tls,
        "HSTS": '\t\tadd_header Strict-Transport-Security "max-age=31536000" always;' if certificate else "",
        "ERROR_PAGES": pages, "LOCATIONS": "\n".join([locations(routes), *documents]), "PROBLEMS": problems,
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return re.sub(r"\n{3,}", "\n\n", text)


def write_temp_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return [folder / "temp"] + [folder / "temp" / name for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi", "edge")]
