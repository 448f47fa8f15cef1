"""What is in deploy/ names only what there is: metrics, labels, commands, flags, settings, paths, ports and files."""

from __future__ import annotations

import argparse
import configparser
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scrapy.commands import crawl
from scrapy.settings import Settings

from scrapy_chunkdl.commands import chunkdl
from scrapy_chunkdl.dashboard import health
from scrapy_chunkdl.queue.metrics_table import METRICS
from scrapy_chunkdl.settings import values
from scrapy_chunkdl.settings.config import Config

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
HANDS_BACK_S = 30
"""Seconds a worker may take to hand back what is left, behind CHUNKDL_SHUTDOWN_GRACE."""


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deploy_generate", DEPLOY / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def manifests() -> list[tuple[str, dict[str, Any]]]:
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [(path.name, one) for path in files for one in yaml.safe_load_all(path.read_text("utf-8"))]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for _, manifest in manifests():
        spec = manifest.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield manifest["metadata"]["name"], spec["template"]["spec"]


def compose() -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return told


def commands() -> list[tuple[str, list[str]]]:
    """Return every command line of ours: where it stands, and its words behind ``scrapy``."""
    found = [(f"compose {name}", one["command"]) for name, one in compose()["services"].items() if "build" in one]
    found += [
        (f"kubernetes {name}", container["args"])
        for name, pod in pods()
        for container in pod["containers"]
        if container["image"] == "chunkdl"
    ]
    [start] = [line for line in unit().splitlines() if line.startswith("ExecStart=")]
    found.append(("systemd", shlex.split(start.partition("/scrapy ")[2])))
    [last] = re.findall(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    return [*found, ("Dockerfile", json.loads(last))]


def unit() -> str:
    return (DEPLOY / "systemd" / "chunkdl-worker@.service").read_text("utf-8")


def settings_of(words: list[str]) -> dict[str, str]:
    """Return what ``-s`` sets, as Scrapy's own parser reads it. Fails for a command or option that is not there."""
    command = chunkdl.Command() if words[0] == "chunkdl" else crawl.Command()
    command.settings = Settings()
    parser = argparse.ArgumentParser(conflict_handler="resolve", exit_on_error=False)
    command.add_options(parser)
    opts, rest = parser.parse_known_args(words[1:])
    assert not [word for word in rest if word.startswith("-")]
    return dict(one.split("=", 1) for one in opts.set)


# --- metrics


def test_what_is_written_from_the_list_of_metrics_is_up_to_date() -> None:
    module = generator()

    assert module.DASHBOARD.read_text("utf-8") == module.dashboard(), "run: make deploy"
    assert module.RULES.read_text("utf-8") == module.rules(), "run: make deploy"


def expressions() -> list[tuple[str, str]]:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))
    found = [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]
    panels = json.loads((DEPLOY / "grafana" / "chunkdl.json").read_text("utf-8"))["panels"]
    found += [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]
    found += [
        (name, trigger["metadata"]["query"])
        for name, one in manifests()
        if one["kind"] == "ScaledObject"
        for trigger in one["spec"]["triggers"]
    ]
    return found


@pytest.mark.parametrize(("place", "expression"), expressions())
def test_every_metric_and_label_that_is_named_exists(place: str, expression: str) -> None:
    series = {name: metric for metric in METRICS for name in metric.series}
    named = re.findall(r"\b(chunkdl_\w+)(?:\{([^}]*)\})?", expression)

    assert named
    for name, matchers in named:
        assert name in series, f"{place} names {name}"
        labels = {"spider", "le", *series[name].labels}
        assert set(re.findall(r"(\w+)(?:=|!)", matchers)) <= labels
    known = {"spider", "le"}.union(*(series[name].labels for name, _ in named))
    for by in re.findall(r"by \(([^)]*)\)", expression):
        assert {label.strip() for label in by.split(",")} <= known


def test_every_metric_has_a_panel() -> None:
    panels = json.loads((DEPLOY / "grafana" / "chunkdl.json").read_text("utf-8"))["panels"]

    assert [panel["title"] for panel in panels] == [metric.name for metric in METRICS]
    assert len({panel["id"] for panel in panels}) == len(panels)


def promtool(*words: str, cwd: Path) -> str:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(["promtool", *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", "alerts.yml", cwd=DEPLOY / "prometheus")


def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    for path in (DEPLOY / "prometheus").iterdir():
        text = path.read_text("utf-8").replace("/etc/prometheus/token", str(tmp_path / "token"))
        (tmp_path / path.name).write_text(text)
    (tmp_path / "token").write_text("secret")

    assert "SUCCESS" in promtool("check", "config", "prometheus.yml", cwd=tmp_path)


CASES: list[tuple[str, dict[str, str], str | None]] = [
    ("ChunkdlRedisAway", {"chunkdl_redis_up": "0x60"}, ""),
    ("ChunkdlRedisAway", {"chunkdl_redis_up": "1x60"}, None),
    (
        "ChunkdlNobodyWorks",
        {'chunkdl_backlog_items{spider="s"}': "5x60", 'chunkdl_workers{spider="s",state="claiming"}': "0x60"},
        "s",
    ),
    ("ChunkdlNobodyWorks", {'chunkdl_backlog_items{spider="s"}': "5x60"}, "s"),
    (
        "ChunkdlNobodyWorks",
        {'chunkdl_backlog_items{spider="s"}': "5x60", 'chunkdl_workers{spider="s",state="claiming"}': "2x60"},
        None,
    ),
    (
        "ChunkdlManyGivenUp",
        {
            'chunkdl_files_total{spider="s",outcome="failed"}': "0+3x60",
            'chunkdl_files_total{spider="s",outcome="downloaded"}': "0+7x60",
        },
        "s",
    ),
    (
        "ChunkdlManyGivenUp",
        {
            'chunkdl_files_total{spider="s",outcome="failed"}': "0+1x60",
            'chunkdl_files_total{spider="s",outcome="downloaded"}': "0+9x60",
        },
        None,
    ),
    ("ChunkdlLeasesLost", {'chunkdl_lease_losses_total{spider="s"}': "0+1x60"}, "s"),
    ("ChunkdlDeadItems", {'chunkdl_items{spider="s",state="dead"}': "1x60"}, "s"),
    (
        "ChunkdlStandsStill",
        {
            'chunkdl_backlog_items{spider="s"}': "5x60",
            'chunkdl_paused{spider="s"}': "0x60",
            'chunkdl_received_bytes_total{spider="s"}': "100x60",
            'chunkdl_files_total{spider="s",outcome="failed"}': "4x60",
        },
        "s",
    ),
]


@pytest.mark.parametrize(("alert", "series", "spider"), CASES)
def test_alerts_fire_when_they_should(tmp_path: Path, alert: str, series: dict[str, str], spider: str | None) -> None:
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", tmp_path)
    rule = next(rule for rule in generator().ALERTS if rule.name == alert)
    expected = []
    if spider is not None:
        labels = {"severity": rule.severity, **({"spider": spider} if spider else {})}
        summary = rule.summary.replace("{{ $labels.spider }}", spider)
        told = rule.what_to_do.replace("{{ $labels.spider }}", spider)
        expected = [{"exp_labels": labels, "exp_annotations": {"summary": summary, "description": told}}]
    test = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": numbers} for name, numbers in series.items()],
                "alert_rule_test": [{"eval_time": "55m", "alertname": alert, "exp_alerts": expected}],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))

    promtool("test", "rules", "test.yml", cwd=tmp_path)


# --- commands, probes, grace


@pytest.mark.parametrize(("place", "words"), commands())
def test_every_command_flag_and_setting_exists(place: str, words: list[str]) -> None:
    assert words[0] in ("crawl", "chunkdl"), place

    Config.read(settings_of(words))


def probes() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for name, pod in pods():
        for container in pod["containers"]:
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                if "httpGet" in container.get(kind, {}):
                    yield f"{name} {kind}", container, container[kind]["httpGet"]


@pytest.mark.parametrize(("place", "container", "asked"), list(probes()))
def test_probes_ask_for_what_is_served_where_it_is_served(
    place: str, container: dict[str, Any], asked: dict[str, Any]
) -> None:
    port = next(one["containerPort"] for one in container["ports"] if one["name"] == asked["port"])
    words = container["args"]
    served = int(words[words.index("--port") + 1]) if "--port" in words else None
    if served is None:
        host, served = values.address_of(Config.read(settings_of(words)).health)
        assert host == "0.0.0.0", "what asks is outside of the pod"

    assert asked["path"].strip("/") in health.PATHS, place
    assert port == served


def test_the_image_looks_at_a_port_that_compose_opens() -> None:
    [port] = re.findall(r"127\.0\.0\.1:(\d+)/healthz", (DEPLOY / "Dockerfile").read_text("utf-8"))
    services = compose()["services"]

    for name in ("crawl", "worker"):
        assert settings_of(services[name]["command"])["CHUNKDL_HEALTH"] == f"127.0.0.1:{port}"
    assert "healthz" in str(services["page"]["healthcheck"])


def graces() -> list[tuple[str, list[str], float]]:
    found = [
        (name, container["args"], float(pod["terminationGracePeriodSeconds"]))
        for name, pod in pods()
        for container in pod["containers"]
        if container["image"] == "chunkdl"
    ]
    services = compose()["services"]
    found += [
        (name, services[name]["command"], float(services[name]["stop_grace_period"].removesuffix("s")))
        for name in ("crawl", "worker")
    ]
    [start], [stop] = (re.findall(rf"^{name}=(.*)$", unit(), re.MULTILINE) for name in ("ExecStart", "TimeoutStopSec"))
    return [*found, ("systemd", shlex.split(start.partition("/scrapy ")[2]), float(stop))]


@pytest.mark.parametrize(("place", "words", "grace_s"), graces())
def test_what_is_stopped_gets_the_time_it_needs(place: str, words: list[str], grace_s: float) -> None:
    files_get = 0.0 if "dashboard" in words else Config.read(settings_of(words)).shutdown_grace

    assert grace_s >= files_get + HANDS_BACK_S, place


# --- manifests


def test_manifests_are_what_kubernetes_takes() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    native = [one for _, one in manifests() if "keda" not in one["apiVersion"] and one["kind"] != "Kustomization"]

    for manifest in native:
        validate.validate(manifest, validate.latest_version(), strict=True)
    assert len(native) >= 8


def test_the_scaler_scales_a_deployment_that_is_there() -> None:
    [scaler] = [one for _, one in manifests() if one["kind"] == "ScaledObject"]
    spec = scaler["spec"]

    deployments = {one["metadata"]["name"] for _, one in manifests() if one["kind"] == "Deployment"}
    assert spec["scaleTargetRef"]["name"] in deployments
    assert 0 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    [trigger] = spec["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"].keys() == {"serverAddress", "query", "threshold"}
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert "chunkdl_backlog_items" in trigger["metadata"]["query"]


def test_all_manifests_are_applied() -> None:
    [kustomization] = [one for _, one in manifests() if one["kind"] == "Kustomization"]

    assert sorted(kustomization["resources"]) == sorted({name for name, _ in manifests()} - {"kustomization.yaml"})
    if shutil.which("kubectl") is not None:
        subprocess.run(["kubectl", "kustomize", DEPLOY / "kubernetes"], check=True, capture_output=True)


@pytest.mark.parametrize(("name", "pod"), list(pods()), ids=[name for name, _ in pods()])
def test_pods_run_as_nobody_and_write_only_where_they_must(name: str, pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    claims = {volume["name"] for volume in pod.get("volumes", ())} | {"data"}
    for container in pod["containers"]:
        contained = container["securityContext"]
        assert contained["readOnlyRootFilesystem"] is True
        assert contained["allowPrivilegeEscalation"] is False
        assert contained["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= claims


# --- compose and image


def test_compose_serves_on_this_machine_alone_and_mounts_what_is_there() -> None:
    told = compose()

    for name, service in told["services"].items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in told["volumes"], mount
        for other in service.get("depends_on", {}):
            assert other in told["services"]
        assert ":" in service["image"] or service["image"] == "chunkdl", "a version is named"
        if "build" in service or name == "valkey":
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
    [target] = [
        target
        for one in yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
        for static in one["static_configs"]
        for target in static["targets"]
    ]
    assert target.split(":")[0] in told["services"]


def test_the_image_copies_what_is_there_and_runs_as_nobody() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")

    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for source in line.split():
            path = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], source)
            assert (ROOT / path).exists()
            assert any(fnmatch(path.split("/")[0], one[1:]) for one in ignored if one.startswith("!")), path
    assert set(arguments["EXTRAS"].split(",")) <= set(setup["options.extras_require"])
    assert text.count("\nFROM ") == 2
    assert re.search(r"^USER (?!0)\d+:\d+$", text, re.MULTILINE)
    assert text.index("\nUSER ") < text.index("\nENTRYPOINT ")


def test_what_the_readme_puts_into_settings_is_accepted() -> None:
    [block] = re.findall(r"```python\n(.*?)```", (DEPLOY / "README.md").read_text("utf-8"), re.DOTALL)
    found: dict[str, Any] = {}
    exec(block, found)

    config = Config.read({name: value for name, value in found.items() if name.isupper()})

    for folder in (config.store, config.work_folder):
        assert str(folder).startswith("/downloads/"), "the rest of the image may be read-only"


# --- systemd


def test_systemd_takes_the_unit_and_finds_it_safe() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    path = DEPLOY / "systemd" / "chunkdl-worker@.service"

    verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", path],
        capture_output=True,
        text=True,
        check=False,
    )

    wrong = [line for line in verified.stderr.splitlines() if "chunkdl" in line and "is not executable" not in line]
    assert wrong == []
    assert judged.returncode == 0, judged.stdout[-300:]
