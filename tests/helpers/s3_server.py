"""S3 for the tests: moto's server in a process of its own, behind a gate that can hold, refuse and count requests.

Also a program, which prints its port. Google's XML API is near enough to S3's that the same server does for ``gs://``:
the gate translates the names of its metadata headers.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlencode

from patience import HANG

BUCKET = "files"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "secret", "region_name": "us-east-1"}


class S3:
    """The running server, with an empty bucket. Requests are named by method and, where they have one, part number."""

    def __enter__(self) -> S3:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def reset(self) -> None:
        """Forget all objects, uploads, counts and orders; the bucket is there and empty."""
        self._order("reset")
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")).close()
        self.client().create_bucket(Bucket=BUCKET)
        self._order("forget")

    def client(self) -> Any:
        """Return a boto3 client."""
        import boto3

        return boto3.client("s3", endpoint_url=self.url, **KEYS)

    def settings(self) -> dict[str, Any]:
        """Return what a Scrapy project needs to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEYS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"],
        }

    def hold(self, part: int) -> None:
        """Leave requests for that part without an answer until :meth:`release`."""
        self._order("hold", part=part)

    def wait_until_held(self) -> None:
        """Return once a request is held."""
        self._order("wait")

    def let_others_pass(self) -> None:
        """Hold no more requests than are held already."""
        self._order("pass")

    def release(self) -> None:
        """Answer what is held, and hold no more."""
        self._order("release")

    def refuse(self, method: str, status: int, part: int = 0, code: str = "AccessDenied") -> None:
        """Answer such requests with an error from now on; ``part`` 0 is for all."""
        self._order("refuse", method=method, status=status, part=part, code=code)

    def accept(self) -> None:
        """Refuse nothing any more, and forget what was counted."""
        self._order("forget")

    def requests(self) -> list[str]:
        """Return all requests since the reset, as ``METHOD /path?query``."""
        return list(json.loads(self._order("log")))

    def keys(self) -> list[str]:
        """Return the keys of all objects."""
        return [entry["Key"] for entry in self.client().list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def read(self, key: str) -> bytes:
        """Return an object's bytes."""
        return bytes(self.client().get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def unfinished(self) -> list[str]:
        """Return the keys of multipart uploads that are neither completed nor aborted."""
        return [entry["Key"] for entry in self.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]

    def _order(self, verb: str, **words: object) -> bytes:
        with urllib.request.urlopen(f"{self.url}/~{verb}?{urlencode(words)}", timeout=HANG) as answer:
            return bytes(answer.read())


Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Gate:
    """What stands before moto. Orders come as requests for ``/~verb``."""

    def __init__(self, inner: Wsgi) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._log: list[str] = []
        self._held_part = ""
        self._refused: list[tuple[str, str, str, str]] = []
        self._is_held = threading.Event()
        self._released = threading.Event()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
        words = {name: values[0] for name, values in parse_qs(query).items()}
        if path.startswith("/~"):
            start("200 OK", [("Content-Type", "application/json")])
            return [self._obey(path[2:], words)]
        method, part = environ["REQUEST_METHOD"], words.get("partNumber", "")
        with self._lock:
            self._log.append(f"{method} {path}{'?' if query else ''}{query}")
        if part and part == self._held_part:
            self._is_held.set()
            self._released.wait(HANG)
        for refused, status, of_part, code in self._refused:
            if refused == method and of_part in ("0", part):
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start(f"{status} Refused", [("Content-Type", "application/xml")])
                return [f"<Error><Code>{code}</Code></Error>".encode()]
        return self._inner(_as_amazon(environ), _as_google(start))

    def _obey(self, verb: str, words: dict[str, str]) -> bytes:
        if verb == "hold":
            self._held_part = words["part"]
        elif verb == "wait":
            self._is_held.wait(HANG)
        elif verb == "pass":
            self._held_part = ""
        elif verb == "release":
            self._held_part = ""
            self._released.set()
        elif verb == "refuse":
            self._refused.append((words["method"], words["status"], words["part"], words["code"]))
        elif verb in ("reset", "forget"):
            self._released.set()
            self._forget()
        return json.dumps(self._log).encode()


def _as_amazon(environ: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("HTTP_X_GOOG_META_", "HTTP_X_AMZ_META_"): value for name, value in environ.items()}


def _as_google(start: Callable[..., Any]) -> Callable[..., Any]:
    def both(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        prefix = "x-amz-meta-"
        ours = [(f"x-goog-meta-{k[len(prefix) :]}", v) for k, v in headers if k.lower().startswith(prefix)]
        return start(status, headers + ours, *more)

    return both


def main() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, Gate(DomainDispatcherApplication(create_backend_app)), threaded=True)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
