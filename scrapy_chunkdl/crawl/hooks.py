"""What a project overrides of ``ChunkDownloadPipeline``: called as FilesPipeline calls it, and judged by name.

One object, built once from the pipeline and given to the lifecycle before the spider opens. Knows the names of hooks
and what they may return; nothing of downloads, Redis or of when a hook is due. Called by the intake
(``before_queueing``, ``item_completed``) and by ``FileRequests`` (the others).
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scrapy import Request
from scrapy.utils.misc import arg_to_iter

from scrapy_chunkdl.crawl.hook_requests import as_attachment
from scrapy_chunkdl.items.as_text import short_repr
from scrapy_chunkdl.items.attachments import Attachment
from scrapy_chunkdl.settings.config import ConfigError

logger = logging.getLogger(__name__)

HOOKS = ("before_queueing", "get_media_requests", "file_path", "item_completed", "renew_url")

_MAY_AWAIT = ("before_queueing", "renew_url")

_SIGNALS = (
    "connect to the signals attachment_downloaded and attachment_failed, or look at the results in item_completed"
)
_BEHIND = "work on the files in a pipeline behind"

UNUSED: Mapping[str, str] = {
    "media_to_download": "leave a file out in get_media_requests; CHUNKDL_EXPIRES says how long one is not asked for",
    "media_downloaded": f"there is no response: {_SIGNALS}",
    "media_failed": f"there is no response: {_SIGNALS}",
    "file_downloaded": f"files are written as they come: {_SIGNALS}; CHUNKDL_STORES takes a store of your own",
    "image_downloaded": f"images are files like others: {_BEHIND}",
    "get_images": f"images are files like others: {_BEHIND}",
    "convert_image": f"images are files like others: {_BEHIND}",
    "thumb_path": f"images are files like others: {_BEHIND}",
    "inc_stats": "files are counted in chunkdl/files/…",
    "handle_httpstatus_list": "statuses worth a retry are in CHUNKDL_RETRY_HTTP_CODES",
    "allow_redirects": "redirects are always followed",
    "LOG_FAILED_RESULTS": "a file that is given up is told in one line",
    "MEDIA_NAME": "nothing is called by it",
    "EXPIRES": "set CHUNKDL_EXPIRES, or FILES_EXPIRES",
    "expires": "set CHUNKDL_EXPIRES, or FILES_EXPIRES",
    "FILES_URLS_FIELD": "set CHUNKDL_ATTACHMENTS",
    "DEFAULT_FILES_URLS_FIELD": "set CHUNKDL_ATTACHMENTS",
    "files_urls_field": "set CHUNKDL_ATTACHMENTS",
    "FILES_RESULT_FIELD": "set CHUNKDL_FILES_FIELD",
    "DEFAULT_FILES_RESULT_FIELD": "set CHUNKDL_FILES_FIELD",
    "files_result_field": "set CHUNKDL_FILES_FIELD",
    "IMAGES_URLS_FIELD": "set CHUNKDL_ATTACHMENTS",
    "IMAGES_RESULT_FIELD": "set CHUNKDL_FILES_FIELD",
    "STORE_SCHEMES": "set CHUNKDL_STORES",
    "store": "set CHUNKDL_STORE, or CHUNKDL_STORES",
    "from_settings": "override from_crawler",
    "check_gzip": "nothing is unpacked",
}
"""FilesPipeline's and ImagesPipeline's names that are never called or read here, and what to do instead."""


class Hooks:
    """The hooks of one pipeline, which is of class ``base`` or derived from it. Without a pipeline there are none."""

    def __init__(self, pipeline: Any = None, base: type = object, info: Any = None) -> None:
        self._pipeline = type(pipeline).__qualname__
        self._info = info
        overridden = {name: getattr(pipeline, name) for name in HOOKS if _is_overridden(type(pipeline), base, name)}
        for name, hook in overridden.items():
            if name not in _MAY_AWAIT and _awaits(hook):
                raise ConfigError(
                    f"{self._pipeline}.{name} is async, and is called without await: make it a plain def."
                )
        self._before_queueing = overridden.get("before_queueing")
        self._get_media_requests = overridden.get("get_media_requests")
        self._file_path = _fitting(overridden.get("file_path"))
        self._renew_url = _fitting(overridden.get("renew_url"))
        self._item_completed = getattr(pipeline, "item_completed", None)
        self.fills_fields_itself = "item_completed" in overridden
        self.queues_in_front = pipeline is not None and not _is_overridden(type(pipeline), base, "process_item")

    @property
    def names_files(self) -> bool:
        """Whether the project says where files go."""
        return self._file_path is not None

    @property
    def renews(self) -> bool:
        """Whether the project brings fresh links."""
        return self._renew_url is not None

    @property
    def selects(self) -> bool:
        """Whether the project says what is fetched."""
        return self._get_media_requests is not None

    async def before_queueing(self, item: Any) -> Any:
        """Return the item to be downloaded, before it waits. Raises what the hook raises, TypeError for None."""
        if self._before_queueing is None:
            return item
        made = self._before_queueing(item, self._info)
        if inspect.isawaitable(made):
            made = await made
        return self._checked("before_queueing", made, made is not None, "an item (raise DropItem to drop it)")

    def selected(self, item: Any) -> list[Attachment]:
        """Return what the project wants fetched for an item. Raises what the hook raises, TypeError for no requests."""
        assert self._get_media_requests is not None
        made = self._get_media_requests(item, self._info)
        self._checked("get_media_requests", made, not inspect.isawaitable(made), "requests")
        return [as_attachment(request) for request in arg_to_iter(made)]

    def path_of(self, request: Request, item: Any) -> str:
        """Return where a file goes, relative to the store. Raises what the hook raises, TypeError for no path."""
        assert self._file_path is not None
        made = self._file_path(request, response=None, info=self._info, item=item)
        is_path = isinstance(made, (str, os.PathLike)) and isinstance(os.fspath(made), str)
        return str(os.fspath(self._checked("file_path", made, is_path, "a path inside CHUNKDL_STORE")))

    async def renewed(self, request: Request, item: Any) -> str | Request | None:
        """Return a fresh link, or a request for it. Raises what the hook raises, TypeError for anything else."""
        assert self._renew_url is not None
        made = self._renew_url(request, info=self._info, item=item)
        if inspect.isawaitable(made):
            made = await made
        fits = made is None or isinstance(made, (str, Request))
        fresh: str | Request | None = self._checked("renew_url", made, fits, "a URL, a scrapy.Request or None")
        return fresh

    def completed(self, results: list[Any], item: Any) -> Any:
        """Return the item for the pipelines behind. Raises what the hook raises, TypeError for no item."""
        assert self._item_completed is not None
        made = self._item_completed(results, item, self._info)
        fits = made is item or (made is not None and not inspect.isawaitable(made))
        return self._checked("item_completed", made, fits, "an item (raise DropItem to drop it)")

    def _checked(self, hook: str, made: Any, fits: bool, wanted: str) -> Any:
        if not fits:
            raise TypeError(f"{hook} gave {short_repr(made)}, not {wanted}")
        return made


def warn_of_unused(pipeline: type, base: type, *, mode: str) -> None:
    """Name what of FilesPipeline's a subclass overrides or sets and does nothing here, and what to do instead."""
    for name, instead in UNUSED.items():
        if _is_overridden(pipeline, base, name):
            logger.warning(
                "%s.%s does nothing here, as it would in FilesPipeline: %s.", pipeline.__qualname__, name, instead
            )
    if mode == "queue" and _is_overridden(pipeline, base, "process_item"):
        logger.warning(
            "%s.process_item runs twice for an item in queue mode: when it is scraped, and when it comes back with its "
            "files. before_queueing runs at the first, item_completed at the second.",
            pipeline.__qualname__,
        )
    if "file_path" in _names_read_in(pipeline, base, "file_path"):
        logger.info(
            "%s.file_path calls super().file_path(): it gives a folder made of the URL and a name, where "
            "FilesPipeline's gives full/<SHA-1 of the URL>.<extension>.",
            pipeline.__qualname__,
        )


def _of_the_project(pipeline: type, base: type) -> Iterable[type]:
    return (cls for cls in pipeline.__mro__ if not issubclass(base, cls) and not cls.__module__.startswith("scrapy."))


def _is_overridden(pipeline: type, base: type, name: str) -> bool:
    return any(name in vars(cls) for cls in _of_the_project(pipeline, base))


def _names_read_in(pipeline: type, base: type, method: str) -> Iterable[str]:
    for cls in _of_the_project(pipeline, base):
        yield from getattr(getattr(vars(cls).get(method), "__code__", None), "co_names", ())


def _awaits(hook: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(hook) or inspect.isasyncgenfunction(hook)


def _fitting(hook: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Return a hook that is called with those keywords alone that it takes: older ones know no ``item``."""
    if hook is None:
        return None
    try:
        parameters = inspect.signature(hook).parameters
    except (TypeError, ValueError):
        return hook
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return hook
    known = {name for name, parameter in parameters.items() if parameter.kind is not parameter.POSITIONAL_ONLY}

    def fitting(request: Request, **keywords: Any) -> Any:
        return hook(request, **{name: value for name, value in keywords.items() if name in known})

    return fitting
