# SPDX-License-Identifier: Apache-2.0
"""The document store of a system: the program with which `./s24 up` proves it, over PostgreSQL and over a real MongoDB server."""
from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from s24.base import StackError
from s24.servers import Mongo
from s24.stack import MONGO_SCRIPT

from harness import BUILD, TestStack

PROGRAM = BUILD / "tests" / "prove_documents"


@pytest.fixture(name="with_mongo")
def stores_with_mongo() -> Iterator[TestStack]:
    stack = TestStack(names=[], mongo=True)
    if Mongo(MONGO_SCRIPT, stack.folder, 0).run("cached").returncode != 0:
        stack.close()
        pytest.skip("no MongoDB server that starts in seconds (tools/s24/mongo_server.sh cached says why)")
    try:
        stack.start_stores()
        stack.migrate()
        yield stack
    finally:
        stack.close()


def test_documents_are_in_postgresql(stores: TestStack) -> None:
    assert stores.env()["mongo_uri"] is None
    with stores.postgres.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM quiz.documents")
        before = cursor.fetchone()[0]
        assert stores.prove_documents(PROGRAM).startswith("documents in PostgreSQL: 3 put")
        cursor.execute("SELECT count(*) FROM quiz.documents")
        assert cursor.fetchone()[0] == before + 3


def test_documents_are_in_mongodb_and_stay_there(with_mongo: TestStack) -> None:
    assert with_mongo.env()["mongo_uri"].startswith("mongodb://")
    assert with_mongo.prove_documents(PROGRAM).startswith("documents in MongoDB: 3 put")
    with with_mongo.postgres.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM quiz.documents")
        assert cursor.fetchone()[0] == 0
    before = with_mongo.mongo.uri
    with_mongo.mongo.stop()
    assert with_mongo.mongo.pid is None
    with pytest.raises(StackError, match="MongoDB"):
        with_mongo.prove_documents(PROGRAM)
    assert with_mongo.mongo.start() == before, "the same user, password and port"
    assert with_mongo.prove_documents(PROGRAM).startswith("documents in MongoDB: 3 put")


def test_a_machine_without_one_says_so(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path_factory.mktemp("nothing")
    if any(os.access(f"{where}/mongod", os.X_OK) for where in os.environ["PATH"].split(":")):
        pytest.skip("mongod is installed")
    monkeypatch.setenv("S24_MONGO_CACHE", str(folder))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(StackError, match="no MongoDB server on this machine"):
        Mongo(MONGO_SCRIPT, folder / "data", 1).start()
    assert "no MongoDB here" in capfd.readouterr().err
