"""Bytes in place asked for once more, by a request of their own, to be compared. Knows sources by their protocol."""

from __future__ import annotations

from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.errors import RangeIgnored
from scrapy_chunkdl.download.model import Progress
from scrapy_chunkdl.download.plan.plan import Span
from scrapy_chunkdl.download.plan.watch import Look
from scrapy_chunkdl.download.source import Seen, Wanted
from scrapy_chunkdl.download.sources import Sources


async def compare_again(sources: Sources, part: PartFile, seen: Seen, progress: Progress, span: Span) -> None:
    """Raise SourceChanged unless what is sent for ``span`` now is what is in place, RangeIgnored if nothing tells."""
    source, size = sources.next(), span.remaining
    wanted = Wanted(span, seen, 0, 0, lambda: None)
    theirs = bytearray()

    def take(data: bytes | memoryview) -> bool:
        theirs.extend(data)
        progress.fetched += len(data)
        progress.moved()
        return len(theirs) < skip + size

    async with sources.slot(source):
        answer = await source.read(wanted)
        try:
            got = answer.bytes_for(wanted)
            if got is None:
                raise RangeIgnored(f"{answer.url} ignores ranges")
            skip = span.start - got[0]
            await answer.read(take)
        finally:
            answer.close()
    Look(part, span.stop, size, answer.url).compare(bytes(theirs[skip : skip + size]), size)
