"""Each alert fires when it should and not a minute before, as Prometheus' own tool sees it; each has a place in the runbook."""

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple

import pytest

from tests.monitoring.papers import ALERTS, DASHBOARD, RUNBOOK, alerts, expressions, panels

needs_promtool = pytest.mark.skipif(which("promtool") is None, reason="promtool comes with Debian's package prometheus")

KRAKEN = '{instance="c",exchange="kraken"}'


class Case(NamedTuple):
    """Samples each minute from minute 0 on, by series; the last minute at which the alert does not fire, and the first at
    which it does. Where it should never fire, the latter is None."""

    alert: str
    series: dict[str, str]
    silent: int
    fires: int | None


CASES = [
    Case("CollectorDown", {'up{job="collector",instance="c"}': "1+0x4 0+0x20"}, 6, 7),
    Case("CollectorDown", {'up{job="master",instance="m"}': "0+0x20"}, 20, None),
    Case("CollectorDegraded", {'collector_up{instance="c"}': "1+0x4 0+0x20"}, 9, 10),
    Case("CollectorDegraded", {'collector_up{instance="c"}': "0+0x4 1+0x4 0+0x4 1+0x10"}, 20, None),
    Case("WorkersRestart", {'collector_worker_restarts_total{instance="c"}': "0+0x9 1+1x20"}, 12, 14),
    Case("WorkersRestart", {'collector_worker_restarts_total{instance="c"}': "0+0x9 1+0x9 2+0x30"}, 40, None),
    Case(
        "ExchangeSilent",
        {
            'collector_events_total{instance="c",exchange="kraken",channel="trades"}': "0+9x5 45+0x20",
            'collector_events_total{instance="c",exchange="kraken",channel="tickers"}': "0+1x5 5+0x20",
        },
        11,
        12,
    ),
    Case(
        "ExchangeSilent",
        {
            'collector_events_total{instance="c",exchange="kraken",channel="trades"}': "0+0x30",
            'collector_events_total{instance="c",exchange="kraken",channel="tickers"}': "0+1x30",
        },
        30,
        None,
    ),
    Case("PairSilent", {f"collector_silent_pairs{KRAKEN}": "0+0x9 1+0x10"}, 11, 12),
    Case("PairRejected", {'collector_subscriptions{instance="c",exchange="kraken",state="rejected"}': "0+0x4 1+0x30"}, 19, 20),
    Case("PairRejected", {'collector_subscriptions{instance="c",exchange="kraken",state="quiet"}': "1+0x30"}, 30, None),
    Case("BookRecovering", {f"collector_recovering_seconds{KRAKEN}": "0 0 30 90 150 210 270"}, 3, 4),
    Case("BookRecovering", {f"collector_recovering_seconds{KRAKEN}": "0 30 59 0 30 59 0 30 59 0"}, 9, None),
    Case(
        "GapRate",
        {
            f"collector_gaps_total{KRAKEN}": "0+0x9 10+0x60",
            'collector_subscriptions{instance="c",exchange="kraken",state="live"}': "10+0x60",
            'collector_subscriptions{instance="c",exchange="kraken",state="quiet"}': "5+0x60",
            'collector_subscriptions{instance="c",exchange="kraken",state="rejected"}': "90+0x60",
        },
        14,
        15,
    ),
    Case(
        "GapRate",
        {
            f"collector_gaps_total{KRAKEN}": "0+0x9 4+0x60",
            'collector_subscriptions{instance="c",exchange="kraken",state="live"}': "10+0x60",
        },
        60,
        None,
    ),
    Case("LagHigh", {f"collector_lag_seconds{KRAKEN}": "0.1+0x4 3+0x20"}, 9, 10),
    Case("LagHigh", {f"collector_lag_seconds{KRAKEN}": "3 3 3 3 0.1 3 3 3 3 0.1 3 3 3"}, 12, None),
    Case("ClockWrong", {f"collector_lag_seconds{KRAKEN}": "0.1+0x4 -1+0x20"}, 9, 10),
    Case("SpoolGrowing", {'collector_room_used_ratio{instance="c"}': "0+0x9 0+0.01x40"}, 21, 22),
    Case("SpoolGrowing", {'collector_room_used_ratio{instance="c"}': "0.4-0.01x39"}, 39, None),
    Case("SpoolGrowing", {'collector_room_used_ratio{instance="c"}': "0.001+0.0001x60"}, 60, None),
    Case("SpoolFailing", {'collector_spools_failing{instance="c"}': "0+0x4 1+0x10"}, 5, 6),
    Case("DataDropped", {'collector_losses_total{instance="c",reason="dropped trades"}': "0+0x4 5+0x30"}, 4, 5),
    Case("DataDropped", {'collector_losses_total{instance="c",reason="conflated books"}': "0+5x30"}, 30, None),
    Case("MasterDown", {'up{job="master",instance="m"}': "1+0x4 0+0x20"}, 5, 6),
    Case("MasterNotStoring", {'master_up{instance="m"}': "1+0x4 0+0x20"}, 5, 6),
    Case("DiskLow", {'master_disk_free_bytes{instance="m"}': "4e9+0x4 3e9+0x20"}, 9, 10),
    Case("NotSealing", {'master_journal_segments{instance="m"}': "4+0x4 5+0x60"}, 34, 35),
]


def judged(folder: Path, rules: Path = ALERTS) -> tuple[int, str]:
    """Exit code and words of `promtool test rules`: all cases in one run, each as an instance of its own. JSON is YAML."""
    series: list[dict[str, str]] = []
    asked: list[dict[str, Any]] = []
    for number, case in enumerate(CASES):
        own = f'instance="{number}"'
        series += [{"series": re.sub(r'instance="\w"', own, name), "values": values} for name, values in case.series.items()]
        query = f'count(ALERTS{{alertname="{case.alert}",alertstate="firing",{own}}})'
        asked.append({"expr": query, "eval_time": f"{case.silent}m", "exp_samples": []})
        if case.fires is not None:
            asked.append({"expr": query, "eval_time": f"{case.fires}m", "exp_samples": [{"labels": "{}", "value": 1}]})
    test = {"interval": "1m", "input_series": series, "promql_expr_test": asked}
    file = folder / "tests.yml"
    file.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}))
    return promtool("test", "rules", str(file))


def promtool(*arguments: str) -> tuple[int, str]:
    ended = subprocess.run(("promtool", *arguments), capture_output=True, text=True, check=False, timeout=60)
    return ended.returncode, ended.stdout + ended.stderr


@needs_promtool
def test_each_alert_fires_in_its_time(tmp_path: Path) -> None:
    assert {case.alert for case in CASES if case.fires is not None} == set(alerts())
    code, said = judged(tmp_path)
    assert code == 0, said


@needs_promtool
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("< 3 * 2^30", "< 2 * 2^30"), ("collector_silent_pairs > 0", "collector_silent_pairs > 1"), ("for: 30m", "for: 29m")],
)
def test_a_rule_that_is_wrong_is_found(right: str, wrong: str, tmp_path: Path) -> None:
    """So that the cases above prove something."""
    rules = tmp_path / "wrong.yml"
    rules.write_text(ALERTS.read_text().replace(right, wrong))
    assert rules.read_text() != ALERTS.read_text()
    assert judged(tmp_path, rules)[0] == 1


def test_each_alert_says_what_to_do() -> None:
    headings = {line.removeprefix("### ").lower() for line in RUNBOOK.read_text().splitlines() if line.startswith("### ")}
    for name, text in alerts().items():
        assert re.search(r"severity: (critical|warning)\b", text), name
        assert "summary: " in text, name
        assert "description: " in text, name
        anchor = f"runbook: docs/operations.md#{name.lower()}"
        assert anchor in text, name
        assert name.lower() in headings, f"docs/operations.md has nothing about {name}"


@needs_promtool
def test_the_dashboard_asks_what_prometheus_understands(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(expressions())]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    code, said = promtool("check", "rules", str(file))
    assert code == 0, said


@needs_promtool
def test_the_example_configuration_is_one() -> None:
    code, said = promtool("check", "config", str(ALERTS.with_name("prometheus.yml")))
    assert code == 0, said


def test_the_dashboard_is_whole() -> None:
    """What Grafana would mend or refuse in silence: double ids, panels over each other, a data source of another house."""
    dashboard = json.loads(DASHBOARD.read_text())
    (source,) = dashboard["templating"]["list"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert len({panel["id"] for panel in panels()}) == len(panels())
    fields: Counter[tuple[int, int]] = Counter()
    for panel in panels():
        assert panel["type"] in ("stat", "timeseries")
        assert panel["datasource"] == {"type": "prometheus", "uid": f"${{{source['name']}}}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        place = panel["gridPos"]
        across, down = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        assert across[-1] < 24
        fields.update((x, y) for x in across for y in down)
    assert max(fields.values()) == 1
