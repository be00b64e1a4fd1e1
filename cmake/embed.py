"""Embeds SQL statements, Lua scripts and dictionaries as C objects: embed.py sql|lua|dicts OUT FILE..."""
import hashlib
import pathlib
import re
import sys


def literal(text: str) -> str:
    lines = []
    for line in text.splitlines():
        escaped = line.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'\t"{escaped}\\n"')
    return "\n".join(lines) or '\t""'


# What a statement's file declares in its head, behind its first line: tables that it reads, so that its rows can be kept, and tables that it writes.
DECLARED = re.compile(r"--\s*(tables|writes):\s*(.*)")
TABLE = re.compile(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*")
TABLES_MAX = 6  # QUERY_TABLES_MAX: two tags each


def declarations_of(file: str, text: str) -> str:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("--"):
            break
        if match := DECLARED.match(line):
            names = sorted({name.strip() for name in match[2].split(",")})
            if match[1] in found or not all(TABLE.fullmatch(name) for name in names):
                raise SystemExit(f"{file}: -- {match[1]}: is written once, as schema.table, schema.table")
            found[match[1]] = names
    if "tables" in found and len(found["tables"]) > TABLES_MAX:
        raise SystemExit(f"{file}: rows of more than {TABLES_MAX} tables are not kept")
    live = "\n\t.live = true," if re.search(r"_live_v\d", text) else ""
    return live + "".join(f"\n\t.{kind} = (const char *const[]){{{', '.join(chr(34) + name + chr(34) for name in names)}, NULL}}," for kind, names in sorted(found.items()))


def dicts(out: pathlib.Path, files: list[str]) -> None:
    """<entity>.<number>.zdict, as the table of common/svc/dicts.h: by entity, the newest last."""
    found = sorted((name.rsplit(".", 1)[0], int(name.rsplit(".", 1)[1]), file) for file in files for name in [pathlib.Path(file).stem])
    arrays, rows = [], []
    for at, (entity, number, file) in enumerate(found):
        if not 1 <= number <= 255:
            raise SystemExit(f"{file}: a dictionary's number is 1 to 255")
        arrays.append(f"static const unsigned char bytes_{at}[] = {{{','.join(map(str, pathlib.Path(file).read_bytes()))}}};")
        rows.append(f'\t{{"{entity}", {{.number = {number}, .bytes = {{(const char *)bytes_{at}, sizeof(bytes_{at})}}}}}},')
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".c").write_text("\n".join(['#include "svc/dicts.h"', *arrays, "struct dict dict_table[] = {", *rows, "\t{0},", "};", ""]), encoding="utf-8")


def main() -> None:
    kind, out, files = sys.argv[1], pathlib.Path(sys.argv[2]), sorted(sys.argv[3:])
    if kind == "dicts":
        dicts(out, files)
        return
    struct, header, prefix = {
        "sql": ("pg_stmt", "io/pg.h", "SQL_"),
        "lua": ("redis_script", "io/redis.h", "LUA_"),
    }[kind]
    guard = out.name.upper() + "_H"
    declarations, definitions = [], []
    for name in files:
        path = pathlib.Path(name)
        text = path.read_text(encoding="utf-8")
        symbol = prefix + path.stem.upper()
        declarations.append(f"extern const struct {struct} {symbol};")
        body = literal(text)
        if kind == "sql":
            fields = f'.name = "{path.stem}",{declarations_of(name, text)} .sql =\n{body}'
        else:
            # What is sent is the literal, so its hash is what counts.
            sent = "".join(line + "\n" for line in text.splitlines())
            sha = hashlib.sha1(sent.encode()).hexdigest()
            fields = f'.name = "{path.stem}", .sha = "{sha}", .text =\n{body}'
        definitions.append(f"const struct {struct} {symbol} = {{{fields}}};")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".h").write_text(
        f"#ifndef {guard}\n#define {guard}\n#include \"{header}\"\n" + "\n".join(declarations) + "\n#endif\n", encoding="utf-8")
    pragma = '#pragma GCC diagnostic ignored "-Woverlength-strings"\n'
    out.with_suffix(".c").write_text(f'#include "{out.name}.h"\n{pragma}' + "\n".join(definitions) + "\n", encoding="utf-8")


main()
