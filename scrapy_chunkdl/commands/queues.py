"""The queues of a project's spiders, found by the settings a crawl of each would have; no crawl is started.

Knows settings, spider classes and the client; nothing of what is done with a queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scrapy import Spider
from scrapy.addons import AddonManager
from scrapy.settings import BaseSettings
from scrapy.utils.conf import build_component_list
from scrapy.utils.misc import load_object

from scrapy_chunkdl.addon import Addon
from scrapy_chunkdl.commands.console import CommandError, no_such_spider
from scrapy_chunkdl.crawl.embedded_redis import embedded_folder
from scrapy_chunkdl.queue import embedded
from scrapy_chunkdl.queue.client import describe, make_client
from scrapy_chunkdl.queue.errors import REDIS_ERRORS, Way, explain
from scrapy_chunkdl.queue.item_queue import ItemQueue, key_prefix
from scrapy_chunkdl.queue.lists import check_lists
from scrapy_chunkdl.settings.config import Config, ConfigError, attributes_of


@dataclass(frozen=True, slots=True)
class SpiderQueue:
    """Where the items of a spider wait."""

    spider: str
    key: str
    config: Config
    client: Any

    @property
    def above(self) -> tuple[str, ...]:
        """Return the lists that are claimed before it."""
        return self.config.lists_of(self.spider)[:-1]

    @property
    def place(self) -> str:
        """Return the list and the server, for a person."""
        return f"{', '.join([*self.above, self.key])} on {describe(self.client)}"

    def open(self) -> ItemQueue:
        """Return the queue, to look at it."""
        return ItemQueue(self.client, self.key, above=self.above)


@contextmanager
def opened(settings: BaseSettings, spider: str | None) -> Iterator[list[SpiderQueue]]:
    """Give the queue of a spider, or without a name those of all spiders that have one. Clients are closed afterwards.

    Raises :class:`CommandError` if there is no such spider or it has no queue, and for what Redis says inside.
    """
    settings = settings.copy()
    AddonManager.load_pre_crawler_settings(settings)
    loader = load_object(settings["SPIDER_LOADER_CLASS"]).from_settings(settings.frozencopy())
    if spider is not None and spider not in loader.list():
        raise CommandError(no_such_spider(spider, loader.list()))
    clients: dict[str, Any] = {}
    with ExitStack() as stack:
        try:
            queues = []
            for name in [spider] if spider is not None else sorted(loader.list()):
                merged, config = _settings_of(loader.load(name), settings)
                if config.enabled and config.mode == "queue":
                    client = _client(merged, clients, stack)
                    queues.append(SpiderQueue(name, _key(name, config, client), config, client))
                elif spider is not None:
                    raise CommandError(_no_queue(config))
            yield queues
        except embedded.EmbeddedError as error:
            raise CommandError(str(error)) from error
        except REDIS_ERRORS as error:
            raise CommandError(explain(error, Way.of(settings))) from error


def _settings_of(spidercls: type[Spider], settings: BaseSettings) -> tuple[BaseSettings, Config]:
    merged = settings.copy()
    spidercls.update_settings(merged)
    try:
        return merged, Config.read(merged, attributes_of(spidercls))
    except ConfigError as error:
        raise CommandError(f"spider {spidercls.name}: {error}") from error


def _key(spider: str, config: Config, client: Any) -> str:
    *above, key = config.lists_of(spider)
    try:
        key_prefix(key)
        check_lists(client, key, above)
    except ValueError as error:
        raise CommandError(str(error)) from error
    return key


def _client(settings: BaseSettings, clients: dict[str, Any], stack: ExitStack) -> Any:
    """Return a client, the same for spiders whose settings name the same server, and start the embedded one for it."""
    if folder := _embedded_folder(settings):
        settings.set("REDIS_URL", embedded.url_for(folder), priority="addon")  # as the add-on does
    server = repr({name: settings.get(name) for name in settings if str(name).startswith("REDIS_")})
    if server not in clients:
        if folder:
            stack.enter_context(embedded.EmbeddedServer(folder))
        try:
            clients[server] = make_client(settings)
        except ValueError as error:
            raise CommandError(f"Redis cannot be reached: {error}") from error
        stack.callback(clients[server].close)
    return clients[server]


def _embedded_folder(settings: BaseSettings) -> Path | None:
    if any(load_object(addon) is Addon for addon in build_component_list(settings.getdict("ADDONS"))):
        return embedded_folder(settings)
    return None


def _no_queue(config: Config) -> str:
    if not config.enabled:
        return "CHUNKDL_ENABLED is off for this spider: it has no queue."
    return f'CHUNKDL_MODE = "{config.mode}" for this spider: nothing of it waits in Redis.'
