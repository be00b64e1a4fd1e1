# SPDX-License-Identifier: Apache-2.0
"""`./s24 bench morning` in small: a morning of a class of five in seconds, and how much of it comes out of the caches."""
from __future__ import annotations

import collections

from harness import TestStack
from s24.bench_morning import GOAL_PERCENT, Day, Outcome, Person, people_of, plan, play, settings
from s24.seed import seed

# Faster than the measurement, so lifetimes are longer beside it (none is below a second), and everybody looks as often as there.
DAY = Day(hours=5, speed=1500, classes=1)


def test_a_school_morning_comes_out_of_the_caches() -> None:
    stack = TestStack(names=["auth", "homework"], settings=settings(DAY))
    try:
        stack.start(on_database=lambda own: seed(own.postgres, small=True))
        people = people_of(stack, DAY)
        assert collections.Counter(person.role for person in people) == {"pupil": 5, "parent": 3, "teacher": 3}
        outcome = play(stack, DAY)
    finally:
        stack.close()
    report = "\n".join(outcome.lines())
    assert not outcome.failures, report
    assert sum(sum(counts.values()) for counts in outcome.routes.values()) > 2000 and outcome.writes > 10, report
    assert outcome.hit_percent >= GOAL_PERCENT, report
    hits, reads = outcome.looked_up["directory"]
    assert hits >= reads * GOAL_PERCENT / 100, report


def test_the_same_seed_is_the_same_morning() -> None:
    people = [Person("pupil", "a", "1", "c"), Person("parent", "b", "1", "c"), Person("teacher", "d", teaches=[("c", "s")])]
    mornings = [[(step.at_s, step.person.email, step.what, step.rng.random()) for step in plan(people, DAY, number)] for number in (1, 1, 2)]
    assert mornings[0] == mornings[1] != mornings[2]
    assert mornings[0] == sorted(mornings[0], key=lambda step: step[0]) and {step[2].split()[0] for step in mornings[0]} == {"look", "assign", "hand", "mark"}


def test_what_is_stale_counts_as_kept_and_what_is_read_does_not() -> None:
    counts = {"/a": collections.Counter({"HIT": 90, "STALE": 5, "MISS": 4, "BYPASS": 1})}
    outcome = Outcome(counts, {"directory": (9, 10)}, 3, collections.Counter(), 0.0)
    assert outcome.hit_percent == 95
    assert any(line.split() == ["/a", "100", "90", "5", "4", "1", "95.0"] for line in outcome.lines())
