#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Functions and words that the tree does not use, each with what to use instead and the few files that may."""
from fnmatch import fnmatch

import clex

RULES = [
    # names, what instead, files that may
    ("strcpy strcat strncat sprintf vsprintf gets stpcpy", "buf_* or arena_printf", ()),
    ("strtok strtok_r", "str_split", ()),
    ("gmtime localtime gmtime_r localtime_r ctime asctime strftime mktime timegm", "base/timefmt.h or io/tz.h", ("common/io/tz*.c",)),
    ("time", "the loop's clock", ()),
    ("atoi atol atoll atof", "str_to_i64", ()),
    ("rand srand random srandom drand48 rand_r", "random_bytes", ()),
    ("system popen", "no shell from a daemon", ()),
    ("alloca", "the arena: a fiber's stack is small", ()),
    ("malloc calloc realloc reallocarray strdup strndup asprintf vasprintf aligned_alloc posix_memalign", "mem_* or the arena", ("common/base/arena.c",)),
    ("setjmp longjmp", "an error code", ()),
    ("PQexec PQexecParams PQexecPrepared PQprepare", "pg_query: these block the loop", ("common/io/pg_sync*.c",)),
    ("PQgetvalue PQgetlength PQgetisnull", "typed results", ("common/io/pg*.c",)),
    ("redisCommand redisvCommand redisCommandArgv redisGetReply redisConnect redisConnectWithTimeout redisConnectUnix", "redis_*: these block the loop",
     ("common/io/redis_sync*.c",)),
    ("usleep sleep nanosleep", "the loop's timers", ("common/io/*_sync*.c", "common/io/work*.c")),
]
WORDS = {"thread_local": "a fiber moves on between waits", "_Thread_local": "a fiber moves on between waits", "__thread": "a fiber moves on between waits"}
UNFINISHED = ("TODO", "FIXME", "XXX")

BANNED = {name: (instead, files) for names, instead, files in RULES for name in names.split()}


def check(root):
    for path in clex.sources(root):
        toks = clex.tokens(clex.read(root, path))
        for t in toks:
            if t.kind != "comment":
                continue
            if t.text.startswith("//") and "clang-format" not in t.text:
                yield path, t.line, "// comments are not committed: /* why */ or nothing"
            for word in UNFINISHED:
                if word in t.text:
                    yield path, t.line, f"unfinished: {word}"
        code = [t for t in toks if t.kind != "comment"]
        for i, t in enumerate(code):
            if t.kind != "id":
                continue
            if t.text in WORDS:
                yield path, t.line, f"{t.text}: {WORDS[t.text]}"
            # A member of the same name is somebody's own function pointer.
            called = i + 1 < len(code) and code[i + 1].text == "(" and (i == 0 or code[i - 1].text not in (".", "->"))
            if called and t.text in BANNED:
                instead, files = BANNED[t.text]
                if not any(fnmatch(path, f) for f in files):
                    yield path, t.line, f"{t.text}() is banned: use {instead}"


if __name__ == "__main__":
    clex.run(check, __doc__)
