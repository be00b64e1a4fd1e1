#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The reference pages that the programs themselves know: docs/api/NAME.md and docs/configuration.md.

    tools/docs.py [--bin FOLDER]            writes them
    tools/docs.py --check [--bin FOLDER]    says what differs; exit code 1

FOLDER holds the built daemons; without it, the preset below build/ whose daemons were built last.
"""
from __future__ import annotations

import argparse
import difflib
import json
import pathlib
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRESETS = ("asan", "dev", "release", "clang", "tsan", "lint")
HEAD = "<!-- Written by tools/docs.py from the programs' tables. Change those, then run it again. -->\n"


def names() -> list[str]:
    """The daemons of this tree, the worker last."""
    found = sorted(path.parent.name for path in ROOT.glob("services/*/CMakeLists.txt"))
    return found + (["worker"] if (ROOT / "worker" / "CMakeLists.txt").exists() else [])


def newest(wanted: list[str]) -> pathlib.Path:
    folders = [ROOT / "build" / preset / "bin" for preset in PRESETS]
    complete = [folder for folder in folders if all((folder / f"schools24-{name}").exists() for name in wanted)]
    if not complete:
        raise SystemExit("docs: no preset below build/ has every daemon; build one, or say --bin FOLDER")
    return max(complete, key=lambda folder: min((folder / f"schools24-{name}").stat().st_mtime for name in wanted))


def ask(folder: pathlib.Path, name: str, option: str) -> str:
    done = subprocess.run([str(folder / f"schools24-{name}"), option], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"docs: schools24-{name} {option} failed: {done.stderr.strip()}")
    return done.stdout


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# ---- docs/api/NAME.md ----------------------------------------------------------------------------------------------------------


def type_of(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    """One schema in a few words: "string, uuid", "list of string"."""
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[1]
    kind = schema.get("type")
    if kind is None:
        return schema.get("description", "any JSON value")
    kinds = [k for k in (kind if isinstance(kind, list) else [kind]) if k != "null"]
    word = " or ".join(kinds)
    if kinds == ["array"]:
        word = "list of " + type_of(schema.get("items", {}), schemas)
    if "enum" in schema:
        word = " ".join(f"`{value}`" for value in schema["enum"] if value is not None)
    elif "format" in schema:
        word = {"date-time": "time", "uuid": "UUID", "date": "date"}.get(schema["format"], f"{word}, {schema['format']}")
    return word


def bounds_of(schema: dict[str, Any]) -> str:
    """What is smaller or larger is a 422."""
    words = []
    for low, high, unit in (("minimum", "maximum", ""), ("exclusiveMinimum", "exclusiveMaximum", ""), ("minLength", "maxLength", " characters"),
                            ("minItems", "maxItems", " items")):
        if low in schema and high in schema:
            words.append(f"{schema[low]} to {schema[high]}{unit}")
        elif low in schema:
            words.append(f"at least {schema[low]}{unit}")
        elif high in schema:
            words.append(f"at most {schema[high]}{unit}")
    if "maxLength" in schema.get("items", {}):
        words.append(f"each at most {schema['items']['maxLength']} characters")
    return ", ".join(words)


def is_nullable(schema: dict[str, Any]) -> bool:
    kind = schema.get("type")
    return isinstance(kind, list) and "null" in kind


def fields(schema: dict[str, Any], schemas: dict[str, Any], is_input: bool) -> list[str]:
    required = set(schema.get("required", ()))
    lines = ["| field | type |" + (" bounds | |" if is_input else ""), "|---|---|" + ("---|---|" if is_input else "")]
    for name, part in schema.get("properties", {}).items():
        line = f"| `{name}` | {cell(type_of(part, schemas))} |"
        if is_input:
            line += f" {cell(bounds_of(part))} | {'required' if name in required else 'may be null' if is_nullable(part) else ''} |"
        lines.append(line)
    return lines


def body_of(operation: dict[str, Any]) -> tuple[str, str]:
    """Name of the body's schema, and what a multipart form adds."""
    content = operation.get("requestBody", {}).get("content", {})
    ref = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    return ref.rsplit("/", 1)[-1], content.get("multipart/form-data", {}).get("schema", {}).get("description", "")


def answer_of(operation: dict[str, Any]) -> str:
    for answer in operation.get("responses", {}).values():
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        ref = schema.get("$ref") or schema.get("x-holds", {}).get("$ref")
        if ref:
            return str(ref.rsplit("/", 1)[1])
    return ""


def size_text(size: int) -> str:
    return f"{size // 1024} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"


def route_lines(row: list[str], operation: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    method, path, roles, rule, limit, flags, cache = row
    body, files = body_of(operation)
    queries = [p for p in operation.get("parameters", ()) if p.get("in") == "query"]
    answer = answer_of(operation)
    lines = [f"## {method} {path}", ""]
    if operation.get("summary"):
        lines += [operation["summary"] + ".", ""]
    lines += ["| | |", "|---|---|", f"| who | {cell(roles.replace(',', ', '))} |", f"| may | `{rule}` |"]
    if body:
        lines.append(f"| body | [{body}](#{body}), at most {size_text(int(limit))}" + (f"; JSON or a form with {files}" if files else "") + " |")
    if answer:
        lines.append(f"| answer | holds [{answer}](#{answer}) |")
    if flags != "-":
        lines.append(f"| flags | {', '.join(f'`{flag}`' for flag in flags.split(','))} |")
    if cache != "-":
        lines.append(f"| cache | {cell(cache)} |")
    lines.append("")
    if queries:
        lines += ["| query | type | bounds | |", "|---|---|---|---|"]
        for p in queries:
            schema = p.get("schema", {})
            lines.append(f"| `{p['name']}` | {cell(type_of(schema, schemas))} | {cell(bounds_of(schema))} | {'required' if p.get('required') else ''} |")
        lines.append("")
    return lines


def api_page(folder: pathlib.Path, name: str) -> str:
    rows = [line.split("\t") for line in ask(folder, name, "--print-routes").splitlines() if line]
    api = json.loads(ask(folder, name, "--print-openapi"))
    schemas: dict[str, Any] = api.get("components", {}).get("schemas", {})
    lines = [HEAD, f"# {name}: routes", "",
             "What holds for every route (errors, keys, versions, `sync`, limits) is in [docs/api.md](../api.md); rules and flags are explained in", "`common/svc/route.h`.", ""]
    inputs, outputs = [], []
    for row in rows:
        row += ["-"] * (7 - len(row))
        operation = api.get("paths", {}).get(row[1], {}).get(row[0].lower(), {})
        lines += route_lines(row, operation, schemas)
        if body_of(operation)[0]:
            inputs.append(body_of(operation)[0])
        if answer_of(operation):
            outputs.append(answer_of(operation))
    for title, wanted, is_input in (("Bodies", inputs, True), ("Answers", outputs, False)):
        if wanted:
            lines += [f"# {title}", ""]
        for schema in dict.fromkeys(wanted):
            lines += [f"## {schema}", "", *fields(schemas.get(schema, {}), schemas, is_input), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


# ---- docs/configuration.md -----------------------------------------------------------------------------------------------------


def settings(folder: pathlib.Path, name: str) -> list[tuple[str, str, str, str]]:
    found = []
    for line in ask(folder, name, "--help").splitlines():
        cells = [part.strip() for part in line.strip().strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 4:
            found.append((cells[0], cells[1], cells[2], cells[3]))
    return found


def configuration_page(folder: pathlib.Path, everybody: list[str]) -> str:
    of = {name: settings(folder, name) for name in everybody}
    services = [name for name in everybody if name != "worker"]
    common = [row for row in of[services[0]] if all(row in of[name] for name in services)]
    lines = [HEAD, "# Settings", "",
             "Each daemon reads one flat YAML file (`--config FILE`, names in lower case), then the environment (names as written), which wins. `NAME_FILE`",
             "names a file that holds the value: secrets are given that way. An unknown name in the file is an error; `--check-config` says so without",
             "starting. Settings of `./s24` itself are in [operations.md](operations.md).", "",
             "## Every daemon", "", "| name | default | bounds | meaning |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in common]
    for name in everybody:
        own = [row for row in of[name] if row not in common]
        if own:
            more = f"And those of every daemon, except {', '.join(row[0] for row in common if row not in of[name])}." if set(common) - set(of[name]) else ""
            lines += ["", f"## {name}", ""]
            if more and name == "worker":
                lines += [more, ""]
            lines += ["| name | default | bounds | meaning |", "|---|---|---|---|"]
            lines += ["| " + " | ".join(row) + " |" for row in own]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--bin", type=pathlib.Path)
    arguments = parser.parse_args()
    everybody = names()
    folder = arguments.bin or newest(everybody)
    pages = {ROOT / "docs" / "api" / f"{name}.md": api_page(folder, name) for name in everybody}
    pages[ROOT / "docs" / "configuration.md"] = configuration_page(folder, everybody)
    stale = [path for path in (ROOT / "docs" / "api").glob("*.md") if path not in pages]
    different = False
    for path, text in pages.items():
        old = path.read_text() if path.exists() else ""
        if old == text:
            continue
        if arguments.check:
            different = True
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), str(path.relative_to(ROOT)), "what the programs say", n=1))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for path in stale:
        different = True
        if arguments.check:
            print(f"{path.relative_to(ROOT)}: there is no such daemon")
        else:
            path.unlink()
    if arguments.check and different:
        print("docs: run tools/docs.py")
    return 1 if arguments.check and different else 0


if __name__ == "__main__":
    sys.exit(main())
