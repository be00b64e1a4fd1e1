#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A function marked SUSPENDS is called only from functions that are marked too. A fiber's entry function is marked as well, so there
are no other roots. Calls through pointers are not seen."""
import clex


def check(root):
    parsed, public = {}, set()
    for path in clex.sources(root):
        parsed[path] = clex.functions(clex.tokens(clex.read(root, path)))
        for f in parsed[path]:
            words = {t.text for t in f.head}
            if "SUSPENDS" in words and "static" not in words:
                public.add(f.name)
    for path, functions in parsed.items():
        statics = {f.name for f in functions if "static" in {t.text for t in f.head}}
        marked = {f.name for f in functions if "SUSPENDS" in {t.text for t in f.head}}
        # A static function hides a public one of the same name.
        suspending = (public - statics) | marked
        for f in functions:
            if f.body is None or f.name in suspending:
                continue
            for i, t in enumerate(f.body[:-1]):
                if t.kind == "id" and t.text in suspending and f.body[i + 1].text == "(" and (i == 0 or f.body[i - 1].text not in (".", "->")):
                    yield path, t.line, f"{f.name}() calls {t.text}(), which may suspend, but is not marked SUSPENDS"


if __name__ == "__main__":
    clex.run(check, __doc__)
