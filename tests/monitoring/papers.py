"""What docs/monitoring holds, as tests need it."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "docs" / "monitoring" / "alerts.yml"
DASHBOARD = ROOT / "docs" / "monitoring" / "grafana.json"
RUNBOOK = ROOT / "docs" / "operations.md"

_METRIC = re.compile(r"\b((?:collector|master)_[a-z_]+)\b")
_MATCHED = re.compile(r"\b((?:collector|master)_[a-z_]+)\{(\w+)=")
_GROUPED = re.compile(r"by \(([^)]*)\) ?\(.*?\b((?:collector|master)_[a-z_]+)")


def alerts() -> dict[str, str]:
    """Each alert and the lines that make it."""
    found = ALERTS.read_text().split("- alert: ")[1:]
    return {name: rest for name, _, rest in (each.partition("\n") for each in found)}


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.read_text())["panels"])


def expressions() -> list[str]:
    """Every query of the dashboard, with a span of time in the place of Grafana's own word for it."""
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [query.replace("$__rate_interval", "5m") for query in queries]


def metrics_in(text: str) -> set[str]:
    return set(_METRIC.findall(text))


def labels_in(text: str) -> set[tuple[str, str]]:
    """Metric and label, where a label of it is matched or grouped by."""
    grouped = {(metric, label) for labels, metric in _GROUPED.findall(text) for label in labels.split(", ")}
    return {*_MATCHED.findall(text), *grouped}
