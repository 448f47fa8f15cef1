"""Whatever a server does, the outcome is the right file or an error, never wrong bytes, never a hang.

Faults are drawn in combinations; after a failure the server mends its ways, and what was left behind must lead to the
right file.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from fetching import CHUNK, QUICK, Client
from hypothesis import HealthCheck, Phase, event, given
from hypothesis import strategies as st
from origin import Origin

from examples import examples

HASTY = replace(QUICK, retry_times=2, stall_timeout=0.1, connect_timeout=1.0, backoff_max=0.004, retry_after_max=0.01)
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 6 * CHUNK + 123]
MOST_REQUESTS = 1000
"""Far above what the retry settings allow for these sizes, and far below for ever."""

_amounts = st.sampled_from([1, 100, CHUNK // 2, CHUNK, 3 * CHUNK])
_places = st.sampled_from(["0", "1", "0.3", "0.9", str(CHUNK)])
_counts = st.sampled_from(["", "@1", "@2", "@2-2", "@3-4", "@2-", "@5-", "@30%", "@70%"])
_methods = st.sampled_from(["", "@head", "@get", "@range", "@plain"])
_statuses = st.sampled_from([401, 403, 404, 408, 410, 416, 429, 451, 500, 502, 503, 504])


def _words(*parts: st.SearchStrategy[object] | str) -> st.SearchStrategy[str]:
    return st.tuples(*(st.just(part) if isinstance(part, str) else part for part in parts)).map(
        lambda words: ":".join(map(str, words))
    )


_kinds = st.one_of(
    _words("status", _statuses),
    _words("status", st.sampled_from([429, 503]), st.sampled_from(["0", "1", "date+1", "soon"])),
    st.sampled_from(["hang", "reset", "close", "garbage", "change", "extra:10", "bighead:100000"]),
    _words("encode", st.sampled_from(["gzip", "deflate", "br", "mislabel"])),
    st.sampled_from(
        ["page", "page:70000", "void", "clock:none", "crowd:1:rst", "crowd:1:403", "crowd:2:503", "crowd:1:404"]
    ),
    _words("code", st.sampled_from([201, 203, 218])),
    _words("etag", st.sampled_from(["none", "weak", "backend", "per-request", "bare", "empty", "fixed"])),
    _words("date", st.sampled_from(["none", "now", "backend", "epoch", "fixed"])),
    _words("ifrange", st.sampled_from(["date", "never", "ignored", "412", "501", "500"])),
    _words("ranges", st.sampled_from(["none", "ignored", "silent", "multipart", "unbounded", "416", "416:none"])),
    _words("ranges", st.sampled_from(["unlabelled", "invalid", "empty", "total:*", "whole", "as200", "as200:bare"])),
    _words("ranges", "mislabelled", st.sampled_from([1, 1000])),
    _words("ranges", st.sampled_from(["shift", "shorter", "longer", "earlier"]), _amounts),
    _words("framing", st.sampled_from(["chunked", "close", "http10"])),
    _words(st.sampled_from(["cut", "rst", "stall"]), _places),
    _words("digest", st.sampled_from(["repr", "digest", "md5", "goog"])),
    _words("splice", _amounts),
)


def _now_and_then(fault: str) -> st.SearchStrategy[str]:
    return _counts.map(lambda count: f"{fault}{count}" if fault else "")


_lies_of_head = _words("length", st.sampled_from(["none", "0", "-1", "+1", "10", f"+{CHUNK}"])).map("{}@head".format)
_faults = st.one_of(st.tuples(_kinds, _methods, _counts).map("".join), _lies_of_head)


@dataclass(frozen=True)
class Case:
    """A server and how it is asked."""

    size: int
    faults: tuple[str, ...]
    lead: str
    probe: str
    is_known: bool
    connections: int
    seed: int

    @property
    def can_be_told(self) -> bool:
        """Whether the right bytes can be told from wrong ones at all, by anybody."""
        text = ";".join(self.faults)
        spliced = "splice" in text
        checked = any(fault.startswith("digest:") and "@" not in fault for fault in self.faults)
        # A body that ends with its connection, and is cut, looks whole; what follows it looks like more of it.
        endless = "framing:close" in text or "framing:http10" in text
        if endless and any(word in text for word in ("cut", "extra", "splice")):
            return False
        # No digest counts where the coded form is sent; one of the whole is all that shows a spliced body.
        return not spliced or (checked and "encode" not in text and "digest:md5" not in text)


cases = st.builds(
    Case,
    size=st.sampled_from(SIZES),
    faults=st.lists(_faults, min_size=1, max_size=5).map(tuple),
    lead=st.sampled_from(["direct", "direct", "redirect", "signed"]),
    probe=st.sampled_from(["head", "range", "auto"]),
    is_known=st.booleans(),
    connections=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
).filter(lambda case: case.can_be_told)


_changing = st.builds(
    Case,
    size=st.sampled_from([3 * CHUNK, 6 * CHUNK + 123]),
    faults=st.tuples(
        st.sampled_from(["change@2-", "change@3-", "change@4-", "change@5-", "change@3-4", "change@50%"]),
        _words("etag", st.sampled_from(["none", "weak", "backend", "per-request", "bare"])).flatmap(_now_and_then),
        _words("date", st.sampled_from(["none", "now", "backend", "epoch"])).flatmap(_now_and_then),
        st.sampled_from(["", "ifrange:date", "ifrange:never", "ifrange:ignored", "ifrange:412"]).flatmap(_now_and_then),
        st.sampled_from(["", f"cut:{CHUNK}@range", "cut:0.5@3", "status:503@30%", "ranges:ignored@range@40%"]),
    ),
    lead=st.just("direct"),
    probe=st.sampled_from(["head", "range", "auto"]),
    is_known=st.booleans(),
    connections=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)

_settings = examples(
    80,
    database=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)


@_settings
@given(case=cases)
async def test_right_file_or_an_error_whatever_the_faults(origin: Origin, case: Case) -> None:
    await _hold_to_it(origin, case)


@_settings
@given(case=_changing)
async def test_versions_never_mix_whatever_the_validators(origin: Origin, case: Case) -> None:
    await _hold_to_it(origin, case)


async def _hold_to_it(origin: Origin, case: Case) -> None:
    origin.reset()
    with tempfile.TemporaryDirectory() as folder:
        options = replace(HASTY, probe=case.probe, chunks_per_file=case.connections)
        client = Client(Path(folder), origin, options, size=case.size, is_known=case.is_known)
        url = client.url(";".join(case.faults), seed=case.seed)
        if case.lead == "redirect":
            url = origin.redirect("r", url, hops=2)
        elif case.lead == "signed":
            url = origin.signed("s", url, uses=4)
        outcome = await client.right_or_fails(url, versions=(1, 2), size=case.size)
        assert origin.stats("file.bin").requests <= MOST_REQUESTS
        event(outcome.reason if isinstance(outcome, Exception) else "right")  # type: ignore[attr-defined]
        origin.set_faults("file.bin", "")
        await client.right(url, size=case.size)
