"""A part file filled with a file's bytes, and these checked: by ranges where that is safe, else in one stream.

Knows both ways, and what to do when one does not work; nothing of names, records of earlier runs, or stores.

Rules that keep wrong bytes out:

- A file is split only where parts can be told to be of one version (``Remote.can_be_split``); every part's answer must
  agree in total size and validators, and If-Range is sent. Else one response brings the whole file.
- On a 200 to a range with If-Range it is asked once without, and the 206's own validators decide: some CDNs honour
  If-Range only with a date, others give each backend its own ETag.
- A change of version starts the file afresh, once; when versions keep disagreeing, one stream brings it.
- Bytes are counted here. A body is complete when its count is, whatever the client library thinks
  (aiohttp #13348), and nothing is written past the end of a span.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from scrapy_chunkdl.download.concurrency import in_thread
from scrapy_chunkdl.download.disk.checksum import hashing, told_first
from scrapy_chunkdl.download.disk.file_identity import FileIdentity
from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.download.disk.sums import PieceSums, Sums
from scrapy_chunkdl.download.errors import Permanent, RangeIgnored, RangeMismatch, Remeasured, SourceChanged, Transient
from scrapy_chunkdl.download.http import plausible
from scrapy_chunkdl.download.plan.mending import Mending, NotInParts
from scrapy_chunkdl.download.plan.ranged import RangedFetch
from scrapy_chunkdl.download.plan.streamed import StreamedFetch
from scrapy_chunkdl.download.plausibility import Plausibility
from scrapy_chunkdl.download.progress import Doing
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.download.source import FileContext, Measured, Opening
from scrapy_chunkdl.download.sources import Sources
from scrapy_chunkdl.text.masking import shown_url

_MOST_RESTARTS = 3

_ANSWERED_BY: dict[int | None, str] = {200: "range_ignored", 206: "range_mismatch"}
"""Why one stream, by the status that ranges were answered with."""


class Filling:
    """Brings the bytes of one file into its part file.

    ``got`` is what it turned out to be, ``one_stream`` why it came in one (:data:`.remote.ONE_STREAM`), if it did.
    """

    def __init__(
        self, context: FileContext, sources: Sources, identity: FileIdentity, plausibility: Plausibility
    ) -> None:
        self._request = context.request
        self._options = context.options
        self._progress = context.progress
        self._evidence = context.evidence
        self._expected = context.evidence.expected
        self._sources = sources
        self._identity = identity
        self._plausibility = plausibility
        self.got: Remote | None = None
        self.one_stream = ""

    async def run(self, part: PartFile, measured: Measured) -> Published:
        """Bring all bytes into the part file and check them; a wrong checksum makes them come again, once."""
        part.sums = Sums()
        for last_try in (False, True):
            remote, size = await self._fill_with_the_file(part, measured)
            self.got = remote
            wanted = dict(remote.digests)
            if self._expected is not None:
                wanted[self._expected[0]] = self._expected[1]
            if self._evidence.pieces is not None and not wanted:
                await self._mended(part, remote, size)
            found, wrong = await self._checked(part, size, wanted)
            if wrong and await self._mended(part, remote, size):
                found, wrong = await self._checked(part, size, wanted)
            if not wrong:
                return self._record(remote, size, found)
            if last_try:
                first = part.read(0, plausible.FIRST_BYTES)
                await in_thread(part.discard)
                undone = f", after its {remote.coding} form was undone" if remote.coding else ""
                instead = self._plausibility.why_not(first, size, remote)
                raise Permanent(
                    f"wrong checksum, twice{undone}{f' ({instead})' if instead else ''}: {'; '.join(wrong)}",
                    reason="checksum",
                )
            self._progress.retried("checksum")
            self._sources.distrust()
            measured.remote = remote
            await self._reset(part, remote)
        raise AssertionError("unreachable")

    def _record(self, remote: Remote, size: int, found: Mapping[str, str]) -> Published:
        reported = self._options.checksum or (self._expected[0] if self._expected else told_first(found))
        checksums = {name: f"{name}:{digest}" for name, digest in sorted(found.items())}
        checksum = checksums.pop(reported) if reported else None
        validator = remote.validator
        return Published(
            self._identity.recorded,
            size,
            validator.etag,
            validator.last_modified,
            checksum,
            date_is_strong=validator.date_is_strong,
            more_checksums=" ".join(checksums.values()) or None,
        )

    async def _checked(self, part: PartFile, size: int, wanted: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
        """Return the checksums of what is in the part file, and what is wrong with it."""
        if self._evidence.size_bytes not in (None, size):
            return {}, [f"size: expected {self._evidence.size_bytes} bytes, got {size}"]
        found = await self._digests(part, size, wanted)
        return found, [
            f"{name}: expected {wanted[name]}, got {digest}"
            for name, digest in found.items()
            if wanted.get(name, digest) != digest
        ]

    async def _mended(self, part: PartFile, remote: Remote, size: int) -> bool:
        """Have the file's pieces be right, where it has hashes of them; False where it has to come again as a whole."""
        pieces, sums = self._evidence.pieces, part.sums
        assert sums is not None
        if pieces is None or self._evidence.size_bytes not in (None, size):
            return False
        if not pieces.fit(size):
            text = f"{len(pieces.digests)} pieces of {pieces.length} bytes are not those of a file of {size} bytes"
            raise Permanent(text, reason="checksum")
        try:
            await Mending(self._sources, self._options, self._progress, part, pieces).run(
                remote, size, sums.pieces or PieceSums(pieces)
            )
        except NotInParts:
            return False
        return True

    async def _digests(self, part: PartFile, size: int, told: Collection[str]) -> dict[str, str]:
        """Return the checksums of what is in the part file: those asked for, and those of ``told`` that check it.

        Most are known as soon as the last byte is there. Where one of them checks the file, no other one that the
        server tells is worth reading it. What has to be read may take an hour: it is all safe before that begins.
        """
        sums, to_compute, progress = part.sums, self._asked_for(), self._progress
        assert sums is not None
        at_hand = sums.at_hand(size)
        is_checked = to_compute <= at_hand and not at_hand.isdisjoint(told)
        to_compute |= at_hand.intersection(told) if is_checked else set(told)
        sums.want(to_compute)
        if to_read := sums.to_read(size, to_compute):
            with progress.during(Doing.CHECKING, lambda: max(progress.moved_at, hashing.moved_at)):
                if part.is_resumable:
                    await in_thread(part.checkpoint, [(0, size)])
                await hashing.feed(part.read, to_read, sums.was_read, progress.moved)
        return sums.digests(to_compute)

    def _asked_for(self) -> set[str]:
        """Return the algorithms that are computed whatever the server tells."""
        expected = self._expected[0] if self._expected is not None else None
        return {name for name in (expected, self._options.checksum) if name}

    async def _fill_with_the_file(self, part: PartFile, measured: Measured) -> tuple[Remote, int]:
        """Bring all bytes into the part file; what is a page in its place is asked for anew. Raises ``wrong_type``.

        Where the item gives a checksum, that decides.
        """
        while True:
            remote, size = await self._fill(part, measured)
            if self._evidence.is_checked:
                return remote, size
            first = part.read(0, plausible.FIRST_BYTES)
            instead = self._plausibility.why_not(first, size, remote)
            if instead is None:
                return remote, size
            text = f"{shown_url(self._sources.first.led_to)} brought {instead}"
            error = Permanent(f"{text}, which begins {plausible.shown(first)}" if first else text, reason="wrong_type")
            if not await self._sources.begin_anew(error):
                await in_thread(part.discard)
                raise error
            again = await self._sources.measure()
            measured.remote, measured.opening = remote, _ = again.remote, again.opening
            self._options.refuse_too_large(remote.size)
            await self._reset(part, remote)

    async def _fill(self, part: PartFile, measured: Measured) -> tuple[Remote, int]:
        """Bring all bytes into the part file, by ranges where that is safe; return what it turned out to be."""
        changes, by_ranges = 0, measured.remote.can_be_split or part.done.total > 0
        while True:
            remote = measured.remote
            if part.sums is not None:
                algorithms = {*self._asked_for(), *remote.digests}
                part.sums.want(algorithms, self._evidence.pieces if not remote.digests else None)
            opening, measured.opening = measured.opening, None  # whoever gets it ends it
            try:
                if by_ranges:
                    assert remote.size is not None
                    fetch = RangedFetch(self._sources, self._options, self._progress, part, remote)
                    measured.opening = await fetch.run(opening)
                    if measured.opening is None:
                        self.one_stream = "range_refused" if fetch.is_refused else ""
                        return remote, remote.size
                    is_silent = fetch.is_silent
                    by_ranges = (
                        changes == 0 and not is_silent and await self._may_split(measured, measured.opening, part)
                    )
                    changes += by_ranges
                    self.one_stream = "range_refused" if is_silent else "range_ignored"
                    continue
                self.one_stream = self.one_stream or remote.one_stream or "keeps_changing"
                return await StreamedFetch(self._sources, self._options, self._progress, part, part.done).run(opening)
            except (RangeIgnored, RangeMismatch) as error:
                by_ranges = False
                self.one_stream = _ANSWERED_BY.get(error.status, "range_refused")
                if part.done.total:
                    continue
            except Remeasured as error:
                changes += 1
                self._sources.forget()
                # Told less, there may be more: the whole answer decides. Told more, the parts will show it.
                ranges = remote.ranges and error.total > (remote.size or 0)
                measured.remote = remote = remote._replace(size=error.total, ranges=ranges, confirmed=True)
                self._options.refuse_too_large(remote.size)
                by_ranges = remote.can_be_split
            except SourceChanged:
                changes += 1
                self._sources.forget()
                again = await self._sources.measure(by_hint=False)
                measured.remote, measured.opening = remote, _ = again.remote, again.opening
                self._options.refuse_too_large(remote.size)
                by_ranges = remote.can_be_split and changes == 1
                if not by_ranges and measured.opening is not None and measured.opening.answer.is_part:
                    await measured.close()
            if changes > _MOST_RESTARTS:
                raise Transient(f"{self._request.url} keeps changing", reason="source_changed")
            await self._reset(part, remote)

    async def _may_split(self, measured: Measured, opening: Opening, part: PartFile) -> bool:
        """Whether what a plain GET said the file is allows for ranges: then that answer brings the first of them."""
        told = opening.answer.told
        if not (opening.answer.is_plain and told.can_be_split):
            return False
        self._options.refuse_too_large(told.size)
        measured.remote, self._sources.evidence.known = told, told.known
        await self._reset(part, told)
        return True

    async def _reset(self, part: PartFile, remote: Remote) -> None:
        self._progress.done = 0
        worth_it = remote.can_be_split and (remote.size or 0) > self._options.chunk_size
        url = self._identity.recorded if worth_it else None
        await in_thread(part.reset, remote.size, remote.validator, url)
