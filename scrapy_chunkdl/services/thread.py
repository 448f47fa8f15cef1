"""A thread that is a :class:`~scrapy_chunkdl.services.contract.Service`. Knows nothing of what it is for."""

from __future__ import annotations

import threading


class ServiceThread(threading.Thread):
    """Runs ``run()`` until it returns, which it has to do soon once :attr:`stopping` is set.

    Daemonic: nothing that runs beside a crawl may keep the process alive. What it owns is given back in
    :meth:`release`, which is called once, when the thread that was started has ended, or was given up.
    """

    ends_within_s = 5.0

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()
        self._is_released = False

    def start(self) -> None:
        """Begin, unless :meth:`stop` came before. Raises RuntimeError the second time."""
        if not self.stopping.is_set():
            super().start()

    def stop(self) -> None:
        """Have the thread end, and wait for that, for :attr:`ends_within_s` seconds at most."""
        self.stopping.set()
        if self.ident is None:
            return
        self.wake()
        self.await_end()
        if not self._is_released:
            self._is_released = True
            self.release()

    def await_end(self) -> None:
        """Wait for the thread."""
        self.join(self.ends_within_s)

    def wake(self) -> None:
        """Have ``run()`` look at :attr:`stopping` now, where it waits for something else."""

    def release(self) -> None:
        """Give back what the thread used."""
