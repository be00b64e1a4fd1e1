#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Files of at most 600 lines, main.c of at most 25, functions of at most 80."""
import os

import clex

FILE_MAX, MAIN_MAX, FUNCTION_MAX = 600, 25, 80


def check(root):
    for path in clex.sources(root):
        text = clex.read(root, path)
        lines = text.count("\n")
        most = MAIN_MAX if os.path.basename(path) == "main.c" else FILE_MAX
        if lines > most:
            yield path, 1, f"{lines} lines; at most {most}"
        for f in clex.functions(clex.tokens(text)):
            if f.body is not None and f.end - f.line + 1 > FUNCTION_MAX:
                yield path, f.line, f"{f.name}() has {f.end - f.line + 1} lines; at most {FUNCTION_MAX}"


if __name__ == "__main__":
    clex.run(check, __doc__)
