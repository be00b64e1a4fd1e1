# SPDX-License-Identifier: Apache-2.0
"""A small C reader for the lints: tokens with lines, top-level functions with their bodies. It knows no types and no macros."""
import argparse
import os
import re
import sys
from collections import namedtuple

Token = namedtuple("Token", "kind text line")  # kinds: id num str chr op comment include
Function = namedtuple("Function", "name line head body end")  # head: tokens before the name; body: None for a declaration

TOKEN = re.compile(
    r"""(?P<comment>/\*.*?\*/|//[^\n]*)
      |(?P<str>(?:u8|[LuU])?"(?:\\.|[^"\\\n])*")
      |(?P<chr>[LuU]?'(?:\\.|[^'\\\n])*')
      |(?P<id>[A-Za-z_]\w*)
      |(?P<num>\.?\d(?:[eEpP][+-]|[\w.])*)
      |(?P<op>->|\+\+|--|<<|>>|[<>=!]=|&&|\|\||\.\.\.|[^\s\w])
      |(?P<space>\s+)""",
    re.S | re.X,
)
DIRECTIVE = re.compile(r"[ \t]*#[ \t]*(\w*)")
INCLUDE = re.compile(r'[ \t]*#[ \t]*include[ \t]*([<"][^>"]*[>"])')


def tokens(text):
    """All tokens but those of preprocessor directives; an #include becomes one token, comments stay."""
    out, pos, line, fresh = [], 0, 1, True
    while pos < len(text):
        if fresh and DIRECTIVE.match(text, pos):
            include = INCLUDE.match(text, pos)
            if include:
                out.append(Token("include", include.group(1), line))
            end = pos
            while True:
                stop = text.find("\n", end)
                if stop < 0:
                    stop = len(text)
                comment = text.find("/*", end, stop)
                if comment >= 0 and text.find("*/", comment, stop) < 0:
                    stop = text.find("*/", comment)
                    stop = len(text) if stop < 0 else stop + 2
                    end = stop
                    continue
                if text[stop - 1] != "\\" or stop == len(text):
                    break
                end = stop + 1
            # Comments inside a directive are kept for the lints that look at comments.
            line += text.count("\n", pos, stop)
            pos = stop
            fresh = False
            continue
        m = TOKEN.match(text, pos)
        if m is None:  # an unfinished literal: skip one character
            pos += 1
            continue
        kind, piece = m.lastgroup, m.group()
        if kind != "space":
            out.append(Token(kind, piece, line))
        fresh = "\n" in piece if kind == "space" else (fresh and kind == "comment")
        line += piece.count("\n")
        pos = m.end()
    return out


# Words that take parentheses in front of a function's name and are not it.
NOT_NAMES = {"__attribute__", "PRINTF", "_Alignas", "alignas", "__typeof__", "typeof", "_cleanup_"}


def closing(toks, at):
    """Index of the token that closes the bracket at `at`."""
    pairs = {"(": ")", "{": "}", "[": "]"}
    opened, depth = toks[at].text, 0
    for i in range(at, len(toks)):
        if toks[i].kind == "op":
            if toks[i].text == opened:
                depth += 1
            elif toks[i].text == pairs[opened]:
                depth -= 1
                if depth == 0:
                    return i
    return len(toks) - 1


def functions(toks):
    """Top-level function declarations and definitions."""
    toks = [t for t in toks if t.kind not in ("comment", "include")]
    out, start, at, name = [], 0, 0, None
    while at < len(toks):
        t = toks[at]
        if t.text == ";":
            if name is not None:
                out.append(Function(toks[name].text, toks[name].line, toks[start:name], None, t.line))
            start, name, at = at + 1, None, at + 1
        elif t.text == "{":
            end = closing(toks, at)
            assigned = any(x.text == "=" for x in toks[start:at])
            if name is not None and not assigned:
                out.append(Function(toks[name].text, toks[name].line, toks[start:name], toks[at + 1 : end], toks[end].line))
                start, name = end + 1, None
            at = end + 1
        elif t.text == "(":
            before = toks[at - 1] if at > start else None
            if name is None and before is not None and before.kind == "id" and before.text not in NOT_NAMES:
                if not any(x.text == "=" for x in toks[start:at]):
                    name = at - 1
            at = closing(toks, at) + 1
        else:
            at += 1
    return out


def sources(root, folders=("common", "services", "worker"), ext=(".c", ".h")):
    """Paths below root, relative, sorted."""
    for folder in folders:
        for path, dirs, names in os.walk(os.path.join(root, folder)):
            dirs.sort()
            for name in sorted(names):
                if name.endswith(ext):
                    yield os.path.relpath(os.path.join(path, name), root)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return f.read()


def run(check, doc):
    """The main of every lint: prints `path:line: message`, ends with 1 when there was any."""
    here = os.path.dirname(os.path.abspath(__file__))
    args = argparse.ArgumentParser(description=doc)
    args.add_argument("--root", default=os.path.dirname(os.path.dirname(here)))
    found = list(check(args.parse_args().root))
    for path, line, message in found:
        print(f"{path}:{line}: {message}")
    sys.exit(1 if found else 0)
