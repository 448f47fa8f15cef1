"""What Redis, or what stands in front of it, said: what it means for a person, whether waiting helps, what to do.

One table, asked by everything that talks to Redis: courier, heartbeat, share keeper, page and commands. Its rows are
words of Redis' own source (5.0 to 8, Valkey), of redis-py, of OpenSSL, and of services that bound what they take. Knows
errors and how a client connects; nothing of who waits, or for how long.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from redis import exceptions
from redis.cluster import RedisCluster
from redis.sentinel import MasterNotFoundError

from scrapy_chunkdl.queue.address import redis_params

REDIS_ERRORS: tuple[type[Exception], ...] = (exceptions.RedisError, exceptions.RedisClusterException)
"""What a call to Redis raises. A cluster without any node that answers raises no RedisError in redis-py."""

LARGE_BYTES = 64 << 10
"""Bytes from which on a request may be too large for what stands in front of Redis. Nothing known refuses less."""

_LONGEST_TEXT = 130


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error means.

    ``waiting_helps``: somebody else may cure it, Redis itself, a failover or an operator; else only other settings do.
    ``is_stale``: the connection leads to the wrong server, so that new ones have to be made. ``is_too_large``: the
    request is larger than is taken. ``is_broken``: the connection ended, which a request that is too large does, too.
    ``is_full``: there is no room for more, which what makes room need not wait for.
    """

    sentence: str
    waiting_helps: bool = True
    is_stale: bool = False
    is_too_large: bool = False
    is_broken: bool = False
    is_full: bool = False


class WrongType(exceptions.ResponseError):
    """A key is something else than it is to be. ``setting`` names it; a key that is derived has none."""

    def __init__(self, setting: str | None, key: str, found: str, wanted: str = "list") -> None:
        named = f"{setting} = {key!r}" if setting else f"The key {key!r}"
        super().__init__(f"{named} is a {found} in Redis, not a {wanted}: name another key, or delete it")


class TlsTimeout(exceptions.RedisError):
    """No connection with TLS in time. A port without TLS may wait for the end of a line, and say nothing.

    No TimeoutError, which redis-py would answer with another try.
    """


@dataclass(frozen=True, slots=True)
class Way:
    """How Redis is connected to, for what is said. ``is_default``: nothing was set, so it is localhost:6379."""

    is_default: bool = False
    is_tls: bool = False

    @classmethod
    def of(cls, settings: Mapping[Any, Any]) -> Way:
        """Read scrapy-redis' settings as :func:`.client.make_client` does."""
        given = redis_params(settings)
        url = str(settings.get("REDIS_URL") or given.get("url") or "")
        named = url or settings.get("REDIS_HOST") or given.get("host") or given.get("redis_cls")
        is_tls = url.startswith("rediss:") or bool(given.get("ssl"))
        return cls(is_default=not named and not settings.get("REDIS_PORT"), is_tls=is_tls)


def explain(error: Exception, way: Way = Way()) -> str:
    """Return one sentence a person can act on, for any of :data:`REDIS_ERRORS`."""
    return judge(error, way).sentence


def judge(error: Exception, way: Way = Way()) -> Verdict:
    """Return what any of :data:`REDIS_ERRORS` means."""
    text = " ".join(str(error).split()).rstrip(".")
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT] + "…"
    for row in _ROWS:
        if row.fits(error, text):
            return _filled(row.verdict, text)
    if isinstance(error, exceptions.ConnectionError):
        return _unreachable(error, text, way)
    if isinstance(error, exceptions.TimeoutError | TlsTimeout):
        is_tls = way.is_tls or isinstance(error, TlsTimeout)
        doubt = "is that port without TLS, so that REDIS_URL should begin with redis://?" if is_tls else _SLOW
        return Verdict(f"Redis does not answer in time: {doubt}", is_broken=True)
    return Verdict(f"Redis refuses: {text}.", waiting_helps=False)


def drop_connections(client: Any) -> None:
    """Have ``client`` make new connections: behind one address another server may answer by now (a failover)."""
    if isinstance(client, RedisCluster):
        client.disconnect_connection_pools()  # type: ignore[no-untyped-call]
    else:
        client.connection_pool.disconnect(inuse_connections=False)


def _unreachable(error: Exception, text: str, way: Way) -> Verdict:
    if way.is_default:
        return Verdict(
            f"Redis cannot be reached ({text}), and no REDIS_URL is set: set it, or CHUNKDL_EMBEDDED_REDIS = True for "
            'a server of the project\'s own, or CHUNKDL_MODE = "inline" to do without.',
            is_broken=True,
        )
    hint = "is it running, and is REDIS_URL right?"
    if way.is_tls and re.search("No such file|Permission denied|PEM|no certificate or crl found|KEY_VALUES", text):
        hint = "of ssl_ca_certs, ssl_certfile and ssl_keyfile in REDIS_PARAMS, one names no file of its kind."
        return Verdict(f"Redis cannot be reached ({text}): {hint}", waiting_helps=False)
    if re.search("closed by server|reset by peer|EOF occurred", text):
        hint = "is it running? " + (
            "It may want a client certificate: ssl_certfile and ssl_keyfile in REDIS_PARAMS."
            if way.is_tls
            else "Where that port wants TLS, REDIS_URL begins with rediss://."
        )
    return Verdict(f"Redis cannot be reached ({text}): {hint}", is_broken=True)


@dataclass(frozen=True, slots=True)
class _Row:
    """Fits errors of ``kinds``, or whose text has ``pattern``. redis-py takes the first word, such as READONLY, off."""

    verdict: Verdict
    kinds: tuple[type[Exception], ...] = ()
    pattern: str = ""

    def fits(self, error: Exception, text: str) -> bool:
        return isinstance(error, self.kinds) or bool(self.pattern and re.search(self.pattern, text))


def _filled(verdict: Verdict, text: str) -> Verdict:
    return replace(verdict, sentence=verdict.sentence.replace("{text}", text))


def _settings_alone(sentence: str) -> Verdict:
    return Verdict(sentence, waiting_helps=False)


_SLOW = "is it overloaded, or a firewall in between?"

_ROWS: tuple[_Row, ...] = (
    _Row(
        _settings_alone(
            "The keys are in different cluster slots: CHUNKDL_DONE_KEY needs the hash tag of the items key, and lists "
            "in CHUNKDL_ITEMS_KEY need one and the same, such as '{reports}:urgent' and '{reports}:items'."
        ),
        (exceptions.ClusterCrossSlotError,),
        r"same key slot|\bCROSSSLOT\b",  # redis-py finds it out itself, and raises that the cluster is not there
    ),
    _Row(_settings_alone("Redis refuses: {text}."), (WrongType,)),
    _Row(
        Verdict(
            "This Redis is a read-only replica: point REDIS_URL at the primary, or wait for the failover.",
            is_stale=True,
        ),
        (exceptions.ReadOnlyError,),
        r"\bREADONLY\b",
    ),
    _Row(
        Verdict("The Redis replica has lost its primary.", is_stale=True),
        (exceptions.MasterDownError,),
        r"\bMASTERDOWN\b",
    ),
    _Row(Verdict("Redis is still loading its data.", is_stale=True), (exceptions.BusyLoadingError,), r"\bLOADING\b"),
    _Row(
        _settings_alone(
            "This Redis is a node of a cluster ({text}) and the client is not made for one: set REDIS_PARAMS = "
            '{"redis_cls": "redis.cluster.RedisCluster"}.'
        ),
        (exceptions.MovedError, exceptions.AskError),
        r"^(MOVED|ASK) \d+ ",
    ),
    _Row(
        Verdict("The Redis cluster moves the slot of these keys at this moment.", is_stale=True),
        (exceptions.TryAgainError,),
        r"\bTRYAGAIN\b",
    ),
    _Row(
        Verdict("The Redis cluster is down: some of its slots have no node.", is_stale=True),
        (exceptions.ClusterDownError,),
        r"\bCLUSTERDOWN\b|slot is not served",
    ),
    _Row(Verdict("The sentinels know no primary that is up ({text}): is service_name right?"), (MasterNotFoundError,)),
    _Row(
        Verdict(
            "Redis is out of memory (maxmemory): make room or raise it; the policy should be noeviction.", is_full=True
        ),
        (exceptions.OutOfMemoryError,),
        r"\bOOM\b|used memory > 'maxmemory'",
    ),
    _Row(
        Verdict("Redis cannot write its data to disk and refuses changes: look at its log and disk space."),
        pattern=r"\bMISCONF\b",
    ),
    _Row(
        Verdict(
            "Redis refuses changes while it has too few replicas (min-replicas-to-write): start them.", is_stale=True
        ),
        pattern=r"\bNOREPLICAS\b|Not enough good replicas",
    ),
    _Row(
        Verdict("max_connections in REDIS_PARAMS is fewer than a crawl uses at once: leave it out, or set 8."),
        pattern=r"^Too many connections",
    ),
    _Row(
        Verdict("Redis takes no more clients (maxclients): raise it, or run fewer processes."),
        pattern=r"max number of clients|max(imum)? (number of )?connections",
    ),
    _Row(
        Verdict("Redis is busy with a script or a module of somebody's: look for it with SLOWLOG or CLIENT LIST."),
        pattern=r"^BUSY |busy running a script|\bUNKILLABLE\b",
    ),
    _Row(
        _settings_alone(
            "Redis wants a password: put it into REDIS_URL (redis://:password@host:port) or REDIS_PARAMS."
        ),  # the last where the first command is a long one
        pattern=r"\bNOAUTH\b|Authentication required|unauthenticated (multi)?bulk length|before AUTH",
    ),
    _Row(
        _settings_alone("Redis refuses the user name or password of REDIS_URL or REDIS_PARAMS."),
        (exceptions.AuthenticationError,),
        r"\bWRONGPASS\b|invalid password|invalid username-password|without any password configured",
    ),
    _Row(
        _settings_alone(
            "The Redis user may not do this ({text}): its ACL needs +@read +@write +@scripting +time on the queue's "
            "keys, such as ~*:items* and ~{chunkdl}:*."
        ),
        (exceptions.NoPermissionError,),
        r"\bNOPERM\b|ACL failure|user executing the script",
    ),
    _Row(
        _settings_alone("This Redis is older than 6 and knows no HELLO: set protocol 2 in REDIS_PARAMS."),
        pattern=r"\bHELLO\b|\bNOPROTO\b",
    ),
    _Row(
        Verdict(
            "Redis, or what stands before it, does not take a request of this size ({text}).", False, is_too_large=True
        ),
        pattern=r"(?i)max(imum)? request size|request (is )?too (large|big)|payload too large|value too large"
        r"|too big (m?bulk|inline|multi)|invalid (multi)?bulk length|exceeds (the )?(max|limit)|proto-max-bulk-len"
        r"|string exceeds maximum",
    ),
    _Row(
        _settings_alone(
            "Redis, or what stands before it, does not know a command ({text}): a proxy or service without scripts "
            "cannot carry the queue."
        ),
        pattern=r"(?i)unknown (redis )?command|command is not (allowed|supported|available)|not supported command",
    ),
    _Row(
        _settings_alone(
            "A key of the queue is of another type ({text}): somebody else uses it; set CHUNKDL_ITEMS_KEY or "
            "CHUNKDL_DONE_KEY to another."
        ),
        pattern=r"\bWRONGTYPE\b",
    ),
    _Row(
        _settings_alone("There is no such database ({text}): look at REDIS_DB, or the number at the end of REDIS_URL."),
        pattern=r"DB index|SELECT is not allowed",
    ),
    _Row(
        _settings_alone("Redis is in protected mode and takes no clients of other machines: give it a password."),
        pattern=r"\bDENIED\b|protected mode",
    ),
    _Row(
        _settings_alone(
            "The TLS certificate of Redis does not verify ({text}): name its authority in REDIS_PARAMS = "
            '{"ssl_ca_certs": "/path/ca.pem"}, and in REDIS_URL the host it was made for.'
        ),
        (ssl.SSLCertVerificationError,),
        r"(?i)certificate verify failed|hostname mismatch|self.signed certificate",
    ),
    _Row(
        _settings_alone("Redis wants a client certificate ({text}): set ssl_certfile and ssl_keyfile in REDIS_PARAMS."),
        pattern=r"(?i)certificate required|alert (bad|unknown) certificate|tlsv1\d? alert|alert handshake failure"
        r"|peer did not return a certificate",
    ),
    _Row(
        _settings_alone("That port of Redis is without TLS ({text}): REDIS_URL should begin with redis://."),
        pattern=r"(?i)wrong.version.number|record layer failure|unknown protocol|packet length too long",
    ),
    _Row(
        _settings_alone("That port wants TLS: REDIS_URL should begin with rediss://, with two s."),
        pattern=r"(?i)Protocol Error.*x15|invalid response.*x15",
    ),
    _Row(
        Verdict("The Redis cluster cannot be reached ({text}): are its nodes running?", is_stale=True),
        (exceptions.RedisClusterException, exceptions.ClusterError),
    ),
    _Row(
        Verdict("What stands before Redis cannot reach it ({text}).", is_stale=True),
        pattern=r"(?i)upstream|backend|no (available|healthy)|unavailable|temporar|try again|timed out|daily request",
    ),
)
"""The first row that fits decides."""
