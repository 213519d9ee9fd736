"""Whether a Redis is one that the broker's promises hold on (DESIGN §10): asked of each new connection."""

from __future__ import annotations

from typing import Final

from broker.model.errors import Unavailable
from broker.storage.redis.connection import Call
from broker.storage.redis.replies import Refused, Unfit, text_of

#: Scripts say in their first line what they may do since then, and a full Redis refuses them as a whole.
OLDEST: Final = (7, 0)
HINT: Final = "or set storage.allow_volatile = true"


async def check_fitness(call: Call, allow_volatile: bool) -> str:
    """What an operator should know although it works, or "". Raises Unfit, and Unavailable for what may pass."""
    try:
        info = parse_info(text_of(await call("INFO")))
    except Refused as error:
        raise Unfit(error.message) from error
    version = info.get("redis_version", "?")
    if _numbers(version) < OLDEST:
        raise Unfit(f"it is version {version}, and {'.'.join(map(str, OLDEST))} is the oldest that will do")
    if info.get("cluster_enabled") == "1":
        raise Unfit("it is a Redis Cluster, which is not supported: use Sentinel")
    if info.get("loading") == "1":
        raise Unavailable("it is still loading its data")
    if info.get("role") != "master":
        raise Unavailable("it is a replica and takes no writes")
    if not allow_volatile:
        _check_durable(info)
    return await _caution(call, info)


def _check_durable(info: dict[str, str]) -> None:
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory", "0") != "0" and policy != "noeviction":
        raise Unfit(f"it throws keys away when it is full (maxmemory-policy {policy}): set noeviction, {HINT}")
    if info.get("aof_enabled") != "1":
        raise Unfit(f"it does not keep what it has answered (appendonly no): set appendonly yes, {HINT}")


async def _caution(call: Call, info: dict[str, str]) -> str:
    if info.get("aof_enabled") != "1":
        return "Redis does not keep what it has answered (appendonly no): a crash of it loses what was acknowledged"
    try:
        reply = await call("CONFIG", "GET", "appendfsync", "aof-load-truncated")
    except Refused:
        # Many who run Redis for others do not let one ask.
        return ""
    words = [text_of(word) for word in reply] if isinstance(reply, list) else []
    settings = dict(zip(words[::2], words[1::2], strict=True))
    cautions = []
    policy = settings.get("appendfsync")
    if policy in ("everysec", "no"):
        lost = "the last second" if policy == "everysec" else "what the system had not written yet"
        cautions.append(f"appendfsync {policy}: a crash of its machine may lose {lost}")
    if settings.get("aof-load-truncated") == "yes":
        cautions.append("aof-load-truncated yes: after a full disk it may carry out half a change (docs/redis.md)")
    return f"Redis runs with {', and with '.join(cautions)}" if cautions else ""


def parse_info(text: str) -> dict[str, str]:
    """The lines of INFO."""
    pairs = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {key: value for key, _, value in pairs}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(one) for one in version.split(".")[:2] if one.isdigit())
