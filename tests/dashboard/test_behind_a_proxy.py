"""The page in a folder of another server, a real nginx, that keeps Host and speaks TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pages import Dashboard, OpenPage, cell
from playwright.sync_api import Browser, expect
from project import Project
from web_servers import Kind, nginx, running

TOKEN = "open sesame"
LOCATIONS = {
    "slash": "location /chunkdl/ { proxy_pass http://127.0.0.1:PORT/; KEPT }",
    "no slash": "location /chunkdl { proxy_pass http://127.0.0.1:PORT/; KEPT }",
    "rewritten": "location /chunkdl { rewrite ^/chunkdl/?(.*)$ /$1 break; proxy_pass http://127.0.0.1:PORT; KEPT }",
    "root": "location / { proxy_pass http://127.0.0.1:PORT; KEPT }",
}
KEPT, KEPT_OTHER = "proxy_set_header Host $http_host;", "proxy_set_header Host queue.example;"


@pytest.fixture(scope="module")
def dashboard(browser: Browser, _valkey: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    settings = {"REDIS_URL": _valkey, "CHUNKDL_DASHBOARD_TOKEN": TOKEN}
    with Dashboard(Project(tmp_path_factory.mktemp("behind"), settings)) as dashboard:
        yield dashboard


@pytest.mark.long
@pytest.mark.parametrize(
    ("location", "path", "tls", "more"),
    [
        ("slash", "/chunkdl", False, ""),
        ("slash", "/chunkdl/?spider=files", True, ""),
        ("no slash", "/chunkdl", True, "proxy_set_header X-Forwarded-Proto $scheme;"),
        ("no slash", "/chunkdl/", False, ""),
        ("rewritten", "/chunkdl?spider=files", False, ""),
        ("root", "/", True, ""),
    ],
)
def test_the_page_works_in_a_folder_of_another_server(
    dashboard: Dashboard, client: redis.Redis, open_page: OpenPage, location: str, path: str, tls: bool, more: str
) -> None:
    client.flushall()
    directives = LOCATIONS[location].replace("PORT", str(dashboard.port)).replace("KEPT", KEPT + more)
    with running(Kind("proxy", ("nginx",), nginx(server=directives, tls=tls), tls=tls)) as proxy:
        scheme = "https" if tls else "http"
        page = open_page(f"{scheme}://localhost:{proxy.port}{path}", ignore_https_errors=True)

        page.locator("input[name=token]").fill(TOKEN)
        page.locator("input[name=token]").press("Enter")
        page.get_by_role("button", name="Pause claiming").click()
        expect(page.locator("#chosen-paused")).to_be_visible()

        [cookie] = page.context.cookies()
        assert (cookie["secure"], cookie["httpOnly"]) == (tls, True)
        assert cookie["expires"] > 0
        assert client.hgetall("{files:items}:control") == {b"paused": b"1"}
        expect(cell(page, "spiders", "Spider")).to_have_text("files")


def test_without_a_token_the_page_says_how_to_come_through_a_proxy(
    browser: Browser, redis_url: str, tmp_path: Path, open_page: OpenPage
) -> None:
    with Dashboard(Project(tmp_path, {"REDIS_URL": redis_url})) as dashboard:
        directives = (
            LOCATIONS["slash"].replace("PORT", str(dashboard.port)).replace("KEPT", "proxy_set_header Host me;")
        )
        with running(Kind("proxy", ("nginx",), nginx(server=directives))) as proxy:
            page = open_page(f"http://localhost:{proxy.port}/chunkdl/")

            expect(page.locator("body")).to_contain_text("behind a reverse proxy set CHUNKDL_DASHBOARD_TOKEN")
