"""docs/exchanges.md says what the adapters do."""

import re
import runpy
from pathlib import Path

import pytest

from adapters import registry

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "exchanges.py"))
EVIDENCE = re.compile(r"^- Recorded traffic.*\n", re.MULTILINE)


@pytest.fixture
def page() -> str:
    return (ROOT / "docs" / "exchanges.md").read_text()


def test_the_page_is_what_the_facts_make(page: str) -> None:
    assert EVIDENCE.sub("", page) == SCRIPT["markdown"]() + "\n", "run scripts/exchanges.py > docs/exchanges.md"


@pytest.mark.skipif(not SCRIPT["CAPTURES"].is_dir(), reason="no captures beside the project")
def test_the_page_names_the_recorded_traffic_that_is_there(page: str) -> None:
    assert EVIDENCE.findall(page) == EVIDENCE.findall(SCRIPT["markdown"](SCRIPT["CAPTURES"]))


def test_it_has_a_row_and_a_section_for_every_exchange(page: str) -> None:
    for name in registry.NAMES:
        assert f"| [{name}](#{name}) |" in page
        assert f"\n## {name}\n" in page
