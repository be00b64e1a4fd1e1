#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Includes go downwards only: base <- io <- cache <- svc <- services and worker; library headers stay in common/io; no SQL text in C."""
import os
import re

import clex

LIBC = set(
    """assert ctype errno fcntl inttypes limits math signal stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib string time
    unistd poll pthread netdb semaphore dirent sched locale float getopt termios pwd grp syslog glob fnmatch strings wchar search
    malloc spawn ucontext dlfcn ifaddrs execinfo link elf""".split()
)
LIBC_FOLDERS = ("sys/", "netinet/", "arpa/", "linux/", "net/", "sanitizer/")
GENERATED = re.compile(r"^(?:[a-z_]+_sql|[a-z]+_lua)\.h$")
LAYERS = {"base": ("base",), "io": ("base", "io"), "cache": ("base", "io", "cache"), "svc": ("base", "io", "cache", "svc")}

# SELECT alone is also a Redis command; a statement goes on. Lower case counts where it cannot be prose.
SQL = re.compile(
    r"\bSELECT\s+\S|\bINSERT\s+INTO\b|\bUPDATE\s+\S|\bDELETE\s+FROM\b"
    r"|(?i:^\s*select\s.*\sfrom\s|\binsert\s+into\s+\w|\bdelete\s+from\s+\w|^\s*update\s+[\w.]+\s+set\s)"
)


def is_libc(header):
    if header.startswith(LIBC_FOLDERS) or header.endswith("intrin.h"):
        return True
    return header.endswith(".h") and header[:-2] in LIBC


def place(path):
    """("base" | "io" | "svc" | "service", folder of the service)"""
    parts = path.split("/")
    if parts[0] == "common":
        return parts[1], None
    return "service", "worker" if parts[0] == "worker" else "/".join(parts[:2])


def literals(toks):
    """String literals, neighbours joined as the compiler joins them."""
    text, line = None, 0
    for t in toks:
        if t.kind == "str":
            piece = t.text[t.text.index('"') + 1 : -1].replace("\\n", " ").replace("\\t", " ")
            text, line = (piece, t.line) if text is None else (text + piece, line)
        elif t.kind != "comment" and text is not None:
            yield text, line
            text = None
    if text is not None:
        yield text, line


def impure_ports(root):
    """io headers that services may not see: internal ones, and those that pull a library header in, directly or not."""
    includes = {}
    for path in clex.sources(root, ("common/io",), (".h",)):
        includes["io/" + os.path.relpath(path, "common/io")] = [
            t.text for t in clex.tokens(clex.read(root, path)) if t.kind == "include"
        ]
    bad = {h for h, inc in includes.items() if h.endswith("_internal.h") or any(i[0] == "<" and not is_libc(i[1:-1]) for i in inc)}
    while True:
        more = {h for h, inc in includes.items() if h not in bad and any(i[1:-1] in bad for i in inc)}
        if not more:
            return bad
        bad |= more


def check_include(root, path, include, bad_ports):
    """What is wrong with it, or None."""
    layer, folder = place(path)
    header = include[1:-1]
    if include[0] == "<":
        if is_libc(header) or layer == "io" or (header == "jansson.h" and layer in ("svc", "service")):
            return None
        return f"library header <{header}> in {'common/' + layer if folder is None else folder}"
    if GENERATED.match(header):
        return None if layer != "base" else f"{header} in common/base"
    top = header.split("/")[0]
    if layer != "service":
        if "/" in header and top in LAYERS[layer]:
            return f"{header} is internal to common/io" if layer == "svc" and top == "io" and header.endswith("_internal.h") else None
        return f"{header} from common/{layer}, which may include only {', '.join(x + '/' for x in LAYERS[layer])}"
    if "/" not in header:
        if os.path.exists(os.path.join(root, folder, header)):
            return None
        return f"{header} is not a header of {folder}"
    if top not in LAYERS["svc"]:
        return f"{header} belongs to another component"
    return f"{header} is not a port: it is internal or pulls in a library" if header in bad_ports else None


def check(root):
    bad_ports = impure_ports(root)
    for path in clex.sources(root):
        toks = clex.tokens(clex.read(root, path))
        if place(path)[0] not in (*LAYERS, "service"):
            yield path, 1, "a fifth layer: common/ has base, io, cache and svc"
            continue
        for t in toks:
            if t.kind == "include":
                wrong = check_include(root, path, t.text, bad_ports)
                if wrong:
                    yield path, t.line, wrong
        for text, line in literals(toks):
            if SQL.search(text):
                yield path, line, f'SQL text in C: "{text[:60]}" belongs into a sql/*.sql file'


if __name__ == "__main__":
    clex.run(check, __doc__)
