"""A real scrapyd in a throw-away folder, spoken to as its clients do: a project is an egg, there is no scrapy.cfg."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

from project import Project
from servers import free_port, wait_for, wait_for_port

PROJECT = "probe"

CONFIG = """
[scrapyd]
bind_address = 127.0.0.1
http_port = {port}
poll_interval = 0.2
max_proc = 4
"""


class Scrapyd:
    """Started in a ``with``; jobs run in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Scrapyd:
        self.folder.mkdir(parents=True)
        (self.folder / "scrapyd.conf").write_text(CONFIG.format(port=self._port))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SCRAPY")}
        with (self.folder / "scrapyd.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scrapyd"], cwd=self.folder, env=environment, stdout=log, stderr=log
            )
        wait_for_port(self._port, self._process)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()  # it ends its jobs, too
        self._process.wait()

    def deploy(self, project: Project) -> None:
        """Put a project there, as ``scrapyd-deploy`` does."""
        project.write()
        egg = io.BytesIO()
        with zipfile.ZipFile(egg, "w") as archive:
            for path in (project.folder / PROJECT).glob("*.py"):
                archive.write(path, f"{PROJECT}/{path.name}")
            archive.writestr("EGG-INFO/PKG-INFO", f"Metadata-Version: 1.0\nName: {PROJECT}\nVersion: 1\n")
            archive.writestr("EGG-INFO/entry_points.txt", f"[scrapy]\nsettings = {PROJECT}.settings\n")
        self._ask("addversion.json", {"project": PROJECT, "version": "1"}, egg.getvalue())

    def schedule(self, **settings: object) -> str:
        """Have the spider run with these settings, which come as text, and return the job."""
        words = [("project", PROJECT), ("spider", "files")]
        words += [("setting", f"{name}={value}") for name, value in settings.items()]
        return str(self._ask("schedule.json", words)["jobid"])

    def cancel(self, job: str) -> None:
        self._ask("cancel.json", {"project": PROJECT, "job": job})

    def log(self, job: str) -> str:
        """Return what the job's log has; "" where there is none."""
        path = self.folder / "logs" / PROJECT / "files" / f"{job}.log"
        return path.read_text() if path.exists() else ""

    def finished(self, job: str) -> str:
        """Wait until the job is listed as finished; return its log."""
        wait_for(lambda: job in self._jobs("finished"), f"the job does not end: {self.log(job)}")
        return self.log(job)

    def _jobs(self, state: str) -> set[str]:
        return {job["id"] for job in self._ask(f"listjobs.json?project={PROJECT}")[state]}

    def _ask(self, path: str, fields: Any = None, egg: bytes = b"") -> dict[str, Any]:
        headers = {}
        body = urllib.parse.urlencode(fields).encode() if fields is not None else None
        if egg:
            headers["Content-Type"] = "multipart/form-data; boundary=EGG"
            parts = [(f'name="{name}"', str(value).encode()) for name, value in fields.items()]
            parts.append(('name="egg"; filename="probe.egg"', egg))
            lines = (b"--EGG\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (n.encode(), v) for n, v in parts)
            body = b"".join(lines) + b"--EGG--\r\n"
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/{path}", body, headers)
        with urllib.request.urlopen(request) as response:
            answer: dict[str, Any] = json.loads(response.read())
        assert answer["status"] == "ok", answer
        return answer
