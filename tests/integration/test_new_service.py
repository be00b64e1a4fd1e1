# SPDX-License-Identifier: Apache-2.0
"""tools/new-service makes a folder that builds without a warning, prints its tables, and whose migration follows from its descriptor."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHAPE = {"CMakeLists.txt", "README.md", "fee.h", "main.c", "routes.c", "entities.c", "events.c", "handlers.c", "sql"}


def run(*words, **more):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=900, **more)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The checkout by links, with services and migrations of its own."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("CMakeLists.txt", "CMakePresets.json", "common", "cmake", "tests"):
        (root / name).symlink_to(ROOT / name)
    (root / "services").mkdir()
    shutil.copytree(ROOT / "db" / "migrations", root / "db" / "migrations")
    for file in (root / "db" / "migrations").glob("*_fee.sql"):
        file.unlink()
    made = run(ROOT / "tools" / "new-service", "--root", root, "--documents", "fee", "demand")
    assert made.returncode == 0, made.stderr
    return root


@pytest.fixture(scope="module")
def built(tree):
    launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    build = tree / "build"
    made = run("cmake", "--preset", "dev", "-S", tree, "-B", build, "-DS24_TESTS=OFF", "-DS24_WERROR=OFF", *launcher, cwd=tree)
    assert made.returncode == 0, made.stderr
    made = run("ninja", "-C", build, "schools24-fee")
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
    assert len(routes) == 5
    assert routes[0].split("\t")[:4] == ["GET", "/api/v1/fee/demands", "admin,teacher", "school"]
    assert json.loads(run(binary, "--print-entities").stdout)["entities"][0]["table"] == "fee.demands"
    assert "/api/v1/fee/demands/{demand_id}" in json.loads(run(binary, "--print-openapi").stdout)["paths"]
    unconfigured = run(binary, env={"PATH": os.environ["PATH"]})
    assert unconfigured.returncode == 2
    assert "DATABASE_URL" in unconfigured.stderr


def test_the_migration_follows_from_the_descriptor(tree, built):
    migration = next((tree / "db" / "migrations").glob("*_fee.sql")).read_text()
    assert (built / "sql" / "fee" / "live.sql").read_text().strip() in migration
