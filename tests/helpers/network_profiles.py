"""Networks as people have them, by name: faults of the origin that make it one. Tests and benchmarks share them.

``fault`` of :meth:`origin.Origin.url`. Bytes per second are those of one connection. Knows the origin's words only.
"""

from __future__ import annotations

PROFILES = {
    "none": "",
    "50 ms": "delay:0.05",
    "mixed": "delay:0.2@get@10%;delay:0.03;rate:300000@get@10%;rate:2000000@get@40%",
    "stragglers": "delay:0.05;rate:60000@get@5%;rate:2000000",
    "stalls": "delay:0.05;stall:0.3@get@3%;rate:2000000",
}
"""``none``: the loopback as it is. ``50 ms``: to the first byte of each answer. ``mixed``: answers after 30 ms, one in
ten after 200 ms, at 300 KB/s, 2 MB/s or as fast as they go. ``stragglers``: one answer in twenty at 60 KB/s, the others
at 2 MB/s. ``stalls``: three in a hundred end in silence after 30 %."""
