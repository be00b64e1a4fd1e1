# SPDX-License-Identifier: Apache-2.0
"""tools/new-service makes a folder that builds without a warning, prints its tables, and whose migration follows from its descriptor."""
import json
import os
import pathlib
import shutil
import subprocess

import harness.stack
import pytest
import s24.stack
from harness import BUILD, TestStack
from s24.seed import seed
from scene import NOBODY, flush, problem, row, sign_in

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHAPE = {"CMakeLists.txt", "README.md", "fee.h", "main.c", "routes.c", "entities.c", "events.c", "handlers.c", "sql"}


def run(*words, **more):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=900, **more)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The checkout by links, with services and migrations of its own."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("CMakeLists.txt", "CMakePresets.json", "common", "cmake", "tests", "worker"):
        (root / name).symlink_to(ROOT / name)
    (root / "services").mkdir()
    shutil.copytree(ROOT / "db" / "migrations", root / "db" / "migrations")
    for file in (root / "db" / "migrations").glob("*_fee.sql"):
        file.unlink()
    made = run(ROOT / "tools" / "new-service", "--root", root, "--documents", "fee", "demand")
    assert made.returncode == 0, made.stderr
    make_calendar(root)
    return root


# Behind the first row a second: two bases to find, in one turn.
TWO_ROWS = """	if (e == OK) {
		struct event *second = row_dup(&event_schema, row, req->arena);
		struct change *c = change_new(req);

		row->title = ((const struct event_in *)req->in)->title;
		FIELD_MARK(row, event, title);
		FIELD_PUT(second, event, title, STR("the second"));
		change_put(c, &event_entity, row);
		change_put(c, &event_entity, second);
		e = change_commit(c);
	}
	return e;
"""


def make_calendar(root):
    """Another service, whose rows have natural ids and are written whole, two in a change."""
    for file in (root / "db" / "migrations").glob("*_calendar.sql"):
        file.unlink()
    made = run(ROOT / "tools" / "new-service", "--root", root, "calendar", "event")
    assert made.returncode == 0, made.stderr
    folder = root / "services" / "calendar"
    for file, old, new in (
            (folder / "calendar.h", ".flags = REQUIRED)", ".flags = NATURAL) "),
            (folder / "routes.c", ".handler = event_create", ".flags = ROUTE_FULL_STATE, .creates = &event_entity, .handler = event_create"),
            (folder / "handlers.c", "	return e != OK ? e : entity_put(req, &event_entity, row);\n", TWO_ROWS),
            (next((root / "db" / "migrations").glob("*_calendar.sql")), "'buffer')", "'buffer', full_state => true)")):
        text = file.read_text()
        assert old in text, file
        file.write_text(text.replace(old, new, 1))


@pytest.fixture(scope="module")
def built(tree):
    launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    build = tree / "build"
    made = run("cmake", "--preset", "dev", "-S", tree, "-B", build, "-DS24_TESTS=OFF", "-DS24_WERROR=OFF", *launcher, cwd=tree)
    assert made.returncode == 0, made.stderr
    made = run("ninja", "-C", build, "schools24-fee", "schools24-calendar", "schools24-worker")
    assert made.returncode == 0, made.stdout[-3000:]
    assert not [line for line in made.stdout.splitlines() if "services/fee" in line and "warning:" in line], made.stdout[-3000:]
    return build


def test_the_folder_has_the_shape_of_every_service(tree):
    assert {file.name for file in (tree / "services" / "fee").iterdir()} == SHAPE
    assert len((tree / "services" / "fee" / "main.c").read_text().splitlines()) <= 25


def test_a_folder_that_exists_is_left_alone(tree):
    assert run(ROOT / "tools" / "new-service", "--root", tree, "fee").returncode == 2
    assert run(ROOT / "tools" / "new-service", "--root", tree, "canteen").returncode == 2
    assert run(ROOT / "tools" / "new-service", "--root", tree, "report", "Big-Noun").returncode == 2
    assert not (tree / "services" / "report").exists()


def test_it_is_formatted_as_the_rest(tree):
    if not shutil.which("clang-format"):
        pytest.skip("clang-format is not installed")
    for file in (tree / "services" / "fee").glob("*.[ch]"):
        checked = run("clang-format", f"--style=file:{ROOT / '.clang-format'}", "--dry-run", "-Werror", file)
        assert checked.returncode == 0, checked.stderr


def test_it_prints_its_tables_and_refuses_to_start_unconfigured(built):
    binary = built / "bin" / "schools24-fee"
    routes = run(binary, "--print-routes").stdout.splitlines()
    assert len([line for line in routes if "\t/internal/" not in line]) == 5
    assert any("\t/internal/cache/stats\t" in line for line in routes), "the kit's own, which every daemon has"
    assert routes[0].split("\t")[:4] == ["GET", "/api/v1/fee/demands", "admin,teacher", "school"]
    assert json.loads(run(binary, "--print-entities").stdout)["entities"][0]["table"] == "fee.demands"
    assert "/api/v1/fee/demands/{demand_id}" in json.loads(run(binary, "--print-openapi").stdout)["paths"]
    unconfigured = run(binary, env={"PATH": os.environ["PATH"]})
    assert unconfigured.returncode == 2
    assert "DATABASE_URL" in unconfigured.stderr


def test_the_migration_follows_from_the_descriptor(tree, built):
    migration = next((tree / "db" / "migrations").glob("*_fee.sql")).read_text()
    assert (built / "sql" / "fee" / "live.sql").read_text().strip() in migration


@pytest.fixture(scope="module")
def stack(tree, built, tmp_path_factory):
    """The made daemon beside auth, and a worker that knows its entities."""
    everything = tmp_path_factory.mktemp("build")
    (everything / "bin").mkdir()
    for binary in (BUILD / "bin" / "schools24-auth", built / "bin" / "schools24-worker", built / "bin" / "schools24-fee",
                   built / "bin" / "schools24-calendar"):
        (everything / "bin" / binary.name).symlink_to(binary)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.stack, "BUILD", everything)
        patch.setattr(s24.stack, "MIGRATIONS", tree / "db" / "migrations")
        system = TestStack(names=["auth", "fee", "calendar"])
        try:
            system.start(on_database=lambda own: seed(own.postgres, small=True))
            yield system
        finally:
            system.close()


def test_its_noun_works_from_request_to_row(stack):
    admin, teacher = sign_in(stack, "admin"), sign_in(stack, "teacher")
    made = admin.post("/fee/demands", {"title": "50% of it", "notes": ""})
    assert made.status == 201, str(made)
    demand = f"/fee/demands/{made.json['id']}"
    assert made.json["sync"]["state"] == "pending" and made.json["notes"] is None
    assert teacher.get(demand).json["title"] == "50% of it"
    assert [one["id"] for one in teacher.get("/fee/demands").json["demands"]] == [made.json["id"]], "a list shows it before it is a row"
    flush(stack)
    changed = admin.put(demand, {"title": "All of it"})
    assert changed.status == 200, str(changed)
    assert [one["title"] for one in teacher.get("/fee/demands").json["demands"]] == ["All of it"], "of two versions the later"
    assert teacher.get("/fee/demands?search=all%20OF").json["total"] == 1
    assert teacher.get("/fee/demands?search=%25").json["total"] == 0, "a search is no pattern"
    flush(stack)
    assert row(stack, "SELECT title FROM fee.demands WHERE id = %s", made.json["id"]) == ("All of it",)
    assert admin.delete(demand).status == 200
    problem(teacher.get(demand), 404)
    assert teacher.get("/fee/demands").json["demands"] == []


def test_its_noun_is_the_schools_own(stack):
    made = sign_in(stack, "admin").post("/fee/demands", {"title": "Ours"}).json
    stranger = sign_in(stack, "admin", school="riverside")
    for path in (made["id"], NOBODY):
        problem(stranger.get(f"/fee/demands/{path}"), 404)
        problem(stranger.put(f"/fee/demands/{path}", {"title": "Theirs"}), 404)
    assert stranger.get("/fee/demands").json["total"] == 0
    problem(sign_in(stack, "teacher").post("/fee/demands", {"title": "No"}), 403)
    assert problem(sign_in(stack, "admin").post("/fee/demands", {"notes": 7}), 422)["errors"][0]["pointer"] == "/notes"


def test_rows_with_natural_ids_are_written_again_and_keep_their_birthday(stack):
    admin = sign_in(stack, "admin")

    def write(notes):
        answer = admin.post("/calendar/events", {"title": "the first", "notes": notes})
        assert answer.status == 201, str(answer)
        rows = {one["title"]: one for one in admin.get("/calendar/events").json["events"]}
        assert sorted(rows) == ["the first", "the second"] and {one["notes"] for one in rows.values()} == {notes}
        return answer.json["sync"], {(one["id"], one["created_at"]) for one in rows.values()}

    _, born = write("new")
    assert write("both in the buffer")[1] == born
    flush(stack)
    assert write("both in the table")[1] == born
    flush(stack)
    audited = row(stack, "SELECT count(*), count(*) FILTER (WHERE action = 'create') FROM calendar.audit_logs")
    assert audited == (6, 2), "each write knew what it replaced"
    stack.buffer.stop()
    try:
        sync, rows = write("past the buffer")
    finally:
        stack.buffer.start()
    assert sync["durability"] == "database" and rows == born
