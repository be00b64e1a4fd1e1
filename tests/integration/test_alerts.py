# SPDX-License-Identifier: Apache-2.0
"""Alert rules: well formed, calling at their limits and not before, about metrics that the daemons really have. cache.md H5, H6; write-path.md 8."""
from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import requests
from s24.base import ROOT, StackError

from harness import TestStack, wait_for
from scene import assign, flush, sign_in

RULES = ROOT / "deploy" / "observability"
DOCUMENTS_NAMES = ("redis_cache_hit_rate", "redis_compression_ratio", "batch_processor_success_rate", "batch_processor_duration", "db_write_latency")
PROMETHEUS_OWN = {"up"}

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: tools/s24/install.sh test")


def promtool(*words: str) -> str:
    result = subprocess.run(["promtool", *words], cwd=RULES, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@needs_promtool
def test_the_rules_are_well_formed() -> None:
    assert "SUCCESS" in promtool("check", "rules", "alerts.yml")


@needs_promtool
def test_each_rule_calls_behind_its_limit_and_not_before() -> None:
    promtool("test", "rules", "alerts_test.yml")


def alerts(text: str) -> list[dict[str, str]]:
    found = []
    for block in text.split("- alert: ")[1:]:
        found.append({"name": block.split("\n", 1)[0], **dict(re.findall(r"^\s+(expr|severity|summary|description|runbook_url): (.+)$", block, re.M))})
    return found


def test_each_alert_says_how_bad_it_is_and_where_to_read_on() -> None:
    for alert in alerts((RULES / "alerts.yml").read_text()):
        assert alert["severity"] in ("warning", "critical") and alert["summary"] and alert["description"], alert
        page, anchor = alert["runbook_url"].strip('"').split("#")
        assert f"## {anchor.capitalize()}\n" in (ROOT / page).read_text(), alert
        assert alert["name"] in (ROOT / page).read_text(), f"{alert['name']} is not in {page}"


def test_every_rule_has_a_test_in_which_it_calls() -> None:
    tested = re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n", (RULES / "alerts_test.yml").read_text())
    assert {alert["name"] for alert in alerts((RULES / "alerts.yml").read_text())} <= set(tested)


def names_in_rules() -> set[str]:
    """Metrics that some expression reads and no rule records."""
    text = (RULES / "alerts.yml").read_text()
    expressions = " ".join(re.findall(r"^\s+expr: (.+)$", text, re.M))
    expressions = re.sub(r"\{[^}]*\}|\b(by|on|group_left) \([^)]*\)", " ", expressions)
    words = set(re.findall(r"(?<![\w.$])([a-z][a-z0-9_:]+)\b(?!\s*\()", expressions))
    return {word for word in words if ":" not in word} - {"and", "sum", "rate"} - PROMETHEUS_OWN


def metrics_of(stack: TestStack) -> dict[str, str]:
    return {name: requests.get(f"{service.admin_url}/metrics", timeout=10).text for name, service in stack.services.items()} | {
        "worker": requests.get(f"{stack.worker.admin_url}/metrics", timeout=10).text}


def test_the_daemons_have_every_metric_that_the_rules_read(stack: TestStack) -> None:
    teacher = sign_in(stack, "teacher")
    teacher.get("/teacher/homework")
    teacher.get("/teacher/homework")
    assign(teacher)
    flush(stack)
    wanted = names_in_rules() | set(DOCUMENTS_NAMES)
    assert len(wanted) > 30, wanted

    def missing() -> set[str]:
        pages = metrics_of(stack)
        return wanted - {re.split(r"[{ ]", line, maxsplit=1)[0] for page in pages.values() for line in page.splitlines() if not line.startswith("#")}

    try:
        wait_for("every metric", lambda: not missing(), 30)  # the worker's duties begin some seconds after it
    except StackError:
        raise AssertionError(f"rules read what nobody exports: {sorted(missing())}") from None


def sample(page: str, name: str, **labels: str) -> float:
    total, found = 0.0, False
    for line in page.splitlines():
        if not re.match(re.escape(name) + r"[{ ]", line) or any(f'{key}="{value}"' not in line for key, value in labels.items()):
            continue
        total, found = total + float(line.rsplit(" ", 1)[1]), True
    assert found, f"no {name}{labels}"
    return total


def test_the_documents_figures_are_of_what_has_happened(stack: TestStack) -> None:
    teacher = sign_in(stack, "teacher")
    assign(teacher)
    flush(stack)
    for _ in range(3):
        teacher.get("/teacher/homework")
    pages = metrics_of(stack)
    worker, homework = pages["worker"], pages["homework"]
    assert 0 < sample(worker, "batch_processor_success_rate") <= 1
    assert sample(worker, "batch_processor_duration") > 0
    assert 0 < sample(worker, "db_write_latency") < 5
    assert sample(worker, "schools24_sync_write_duration_seconds_count") > 0
    assert sample(homework, "schools24_cache_requests_total", result="hit") > 0
    assert sample(homework, "schools24_cache_requests_total", result="miss") > 0
    assert sample(homework, "schools24_cache_invalidations_total", namespace="teacher") > 0
    assert sample(homework, "schools24_cache_circuit_open") == 0


@needs_promtool
def test_what_the_daemons_export_is_well_formed(stack: TestStack) -> None:
    for name, page in metrics_of(stack).items():
        result = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False)
        assert result.returncode in (0, 3), f"{name}: {result.stderr}"  # 3: names that conventions would have otherwise
