"""What is in deploy/ fits together: each name, port, path and label that a file asks for is what another one gives."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from scrapy_chunkdl.dashboard import health
from scrapy_chunkdl.dashboard.routes import ROUTES

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

DEPLOY = Path(__file__).parent.parent / "deploy"


def read(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text("utf-8"))


def manifests(kind: str) -> list[dict[str, Any]]:
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [one for path in files for one in yaml.safe_load_all(path.read_text("utf-8")) if one["kind"] == kind]


def workloads() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Give name, spec and template of all that starts pods."""
    for kind in ("Deployment", "StatefulSet", "CronJob"):
        for one in manifests(kind):
            spec = one["spec"].get("jobTemplate", {}).get("spec", one["spec"])
            yield one["metadata"]["name"], spec, spec["template"]


def containers() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Give name, pod and container of each."""
    for name, _, template in workloads():
        for container in template["spec"]["containers"]:
            yield name, template["spec"], container


def named(list_of_dicts: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(one for one in list_of_dicts if one["name"] == name)


OURS = [one for one in containers() if one[2]["image"] == "chunkdl"]
READ = set(re.findall(r'os\.environ(?:\.get)?[(\[]"(\w+)"', (DEPLOY / "README.md").read_text("utf-8")))
"""The variables that the project's settings read, as the README has them."""


@pytest.mark.parametrize(("name", "pod", "container"), OURS, ids=[one[0] for one in OURS])
def test_a_container_is_told_what_the_settings_read(name: str, pod: dict[str, Any], container: dict[str, Any]) -> None:
    variables = {one["name"]: one for one in container["env"]}
    [secret] = manifests("Secret")
    refs = [one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one]

    assert variables.keys() == READ
    for ref in refs:
        assert ref["name"] == secret["metadata"]["name"]
        assert ref["key"] in secret["stringData"]
    address = urlsplit(variables["REDIS_URL"]["value"])
    service = next(one for one in manifests("Service") if one["metadata"]["name"] == address.hostname)
    assert address.port in [port["port"] for port in service["spec"]["ports"]]


def test_services_lead_to_pods_and_ports_that_are_there() -> None:
    for service in manifests("Service"):
        chosen = service["spec"]["selector"].items()
        [template] = [one for _, _, one in workloads() if chosen <= one["metadata"]["labels"].items()]
        ports = [port for container in template["spec"]["containers"] for port in container["ports"]]
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            assert target in {one.get("name") for one in ports} | {one["containerPort"] for one in ports}


def test_what_selects_pods_selects_its_own() -> None:
    for name, spec, template in workloads():
        if "selector" in spec:
            assert spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items(), name


def test_volumes_that_are_claimed_and_mounted_are_there() -> None:
    claims = {one["metadata"]["name"] for one in manifests("PersistentVolumeClaim")}
    for name, pod, container in containers():
        for volume in pod.get("volumes", ()):
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims, name
        mounted = {one["name"] for one in container["volumeMounts"]}
        assert {volume["name"] for volume in pod.get("volumes", ())} <= mounted, name


def test_the_scaler_counts_what_its_deployment_works_off() -> None:
    [scaler] = manifests("ScaledObject")
    [query] = [trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"]]
    [worker] = [one for name, _, one in OURS if name == scaler["spec"]["scaleTargetRef"]["name"]]

    [spider] = re.findall(r'spider="(\w+)"', query)
    assert spider in worker["args"]


def test_prometheus_asks_the_page_for_its_metrics_with_its_token() -> None:
    [job] = read("prometheus/prometheus.yml")["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    services = read("compose.yaml")["services"]
    host, _, port = target.partition(":")

    assert job["metrics_path"].strip("/") in {path for method, path, _ in ROUTES if method == "GET"}
    command = services[host]["command"]
    assert command[command.index("--port") + 1] == port
    [told] = [
        one for one in services["prometheus"]["configs"] if one["target"] == job["authorization"]["credentials_file"]
    ]
    variable = read("compose.yaml")["configs"][told["source"]]["environment"]
    assert variable in services[host]["environment"]
    page = next(container for name, _, container in OURS if name == "page")
    assert page["args"][page["args"].index("--port") + 1] == port


def test_compose_tells_what_the_settings_read_and_opens_what_is_served() -> None:
    services = read("compose.yaml")["services"]
    for name, service in services.items():
        if "build" not in service:
            continue
        assert service["environment"].keys() == READ, name
        assert urlsplit(service["environment"]["REDIS_URL"])[1] == "valkey:6379"
        for port in service.get("ports", ()):
            assert port.rpartition(":")[2] == service["command"][service["command"].index("--port") + 1]
    asked = re.search(r"http://127\.0\.0\.1:(\d+)/(\w+)", json.dumps(services["page"]["healthcheck"]))
    assert asked is not None
    assert asked[1] == services["page"]["command"][services["page"]["command"].index("--port") + 1]
    assert asked[2] in health.PATHS
    assert set(re.findall(r"127\.0\.0\.1:\d+/(\w+)", (DEPLOY / "Dockerfile").read_text())) <= set(health.PATHS)


def test_grafana_finds_its_dashboard_and_prometheus() -> None:
    services = read("compose.yaml")["services"]
    mounts = [mount.split(":")[1] for mount in services["grafana"]["volumes"]]
    [provider] = read("grafana/provisioning/dashboards/chunkdl.yml")["providers"]
    [source] = read("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    address = urlsplit(source["url"])

    assert any(Path(mount).parent == Path(provider["options"]["path"]) for mount in mounts)
    assert address.hostname in services
    assert f"127.0.0.1:{address.port}:{address.port}" in services[address.hostname]["ports"]
