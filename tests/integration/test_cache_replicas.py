# SPDX-License-Identifier: Apache-2.0
"""Two replicas of auth and homework, two workers: nobody reads what is older than he may (D6, B12; a buffered write and its flush are both seen).

The short form of `./s24 soak cache`. The second half forgets raisings on purpose: it must be seen, and must not last (D1).
"""
from __future__ import annotations

from collections.abc import Iterator

import pytest
from s24.seed import seed
from s24.soak import SETTINGS, Replicas, Soak

from harness import BUILD, TestStack

pytestmark = pytest.mark.skipif(not (BUILD / "bin" / "schools24-worker").exists(), reason=f"no daemons in {BUILD}/bin (S24_BUILD)")


@pytest.fixture(scope="module")
def replicas() -> Iterator[Replicas]:
    # Under sanitizers a round trip takes its time; what is asked here is what is read, not how fast.
    stack = TestStack(settings=SETTINGS)
    pair: Replicas | None = None
    try:
        stack.start(on_database=lambda own: seed(own.postgres, small=True))
        pair = Replicas(stack)
        pair.start()
        yield pair
    finally:
        if pair:
            pair.stop()
        stack.close()
    reports = {one.name: one.process.crashes() for one in pair.more}
    assert not any(reports.values()), reports


def test_nobody_reads_what_is_too_old(replicas: Replicas) -> None:
    soak = Soak(replicas, readers=4, pause_s=0.05)
    result = soak.run(7)
    soak.close()
    assert result["passed"], (result, soak.examples)
    assert result["reads"] > 50 and result["writes"] > 20 and result["hit_percent"] > 5, result


def test_a_forgotten_raising_is_seen_and_does_not_last(replicas: Replicas) -> None:
    replicas.restart("cache.before_raise=err:0.5")
    soak = Soak(replicas, readers=4, pause_s=0.05)
    result = soak.run(4)
    soak.close()
    replicas.restart("")
    assert result["own_stale"] > 0 and not result["passed"], result
    # Raised again out of the stream: two looks of half a second, and a second of the outbox's relay; the rest is for the sanitizers.
    assert result["repeated_tags"] > 0 and result["worst_ms"] < 5000, (result, soak.examples)
