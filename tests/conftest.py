"""How hard the properties are tried (`HYPOTHESIS_PROFILE=soak` tries for hours what the suite tries for seconds), and what all
tests share."""

import gc
import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.ports import kept_port

settings.register_profile(
    "fast",
    max_examples=25,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("soak", max_examples=2000, stateful_step_count=100, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(scope="session", autouse=True)
def as_users_have_it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs that tests start do not find what only tests need: PyArrow takes half a second for NumPy and pandas."""
    absent = tmp_path_factory.mktemp("absent")
    for name in ("numpy", "pandas"):
        (absent / f"{name}.py").write_text('raise ImportError("only tests have it")\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(absent))
        yield


@pytest.fixture
def port() -> Iterator[int]:
    """For a server that comes late, or ends and comes back."""
    with kept_port() as port:
        yield port


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Five thousand tests are no garbage: to look through them all, again and again, took a fifth of each worker's time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
