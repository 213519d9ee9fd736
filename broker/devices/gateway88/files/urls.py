"""The URLs that gateways are given: unguessable, for one command and one purpose, good for a while.

::

    https://HOST:PORT/backups/<id of the command>/<token>
                                                  └ <expiry, hexadecimal>.<HMAC-SHA256 of purpose, id and expiry>

A token is not kept anywhere: the key is, in the broker's storage, so every URL stays good over a restart and for every
process with the same storage. Whether a URL was used before is seen from what it was given for (`backups`).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from hmac import digest
from ipaddress import IPv6Address, ip_address
from secrets import token_bytes
from typing import Any, Final

import msgspec

from broker.core import Core
from broker.devices.gateway88.files.settings import FilesSettings
from broker.listening.binding import Bind, parse_bind
from broker.model.errors import Conflict, Invalid, NotFound
from broker.model.messages import Command
from broker.model.secrets import same_text
from broker.storage.deferred import deferred
from broker.storage.records import Records

NAME: Final = "files"
KEY: Final = "key"
KEY_BYTES: Final = 32
#: Bytes of the HMAC that stand in a token: nobody finds one of 2**192.
PROOF_BYTES: Final = 24

_TOKEN: Final = re.compile(r"([0-9a-f]{1,12})\.([A-Za-z0-9_-]{32})", re.ASCII)
_EVERYWHERE: Final = ("", "0.0.0.0", "::")  # nosec B104 # what operators write


class Secret(msgspec.Struct):
    """What tokens are made with."""

    key: bytes

    def __repr__(self) -> str:
        return "<Secret>"


class Urls:
    """``settings`` is asked for each URL, as SIGHUP may change them."""

    def __init__(self, core: Core, settings: Callable[[], FilesSettings]) -> None:
        self._core = core
        self._settings = settings
        self._records = Records(core.storage, "gateway88_files", Secret)
        self._key = b""

    @deferred
    async def open(self) -> None:
        """Read the key, or make it at the first start. Raises Unavailable."""
        secret = await self._records.get(KEY)
        if secret is None:
            secret = Secret(token_bytes(KEY_BYTES))
            try:
                await self._records.add(KEY, secret)
            except Conflict:  # another process was faster
                secret = await self._records.get(KEY)
                assert secret is not None
        self._key = secret.key

    def make(self, purpose: str, command: Command) -> str:
        """The URL for a command, good from now on. Raises Invalid when there is nothing that could serve it."""
        expires = f"{int(self._core.clock() + self._settings().url_lifetime):x}"
        return f"{self._base(command)}/{purpose}/{command.id}/{expires}.{self._proof(purpose, command.id, expires)}"

    def check(self, purpose: str, command_id: str, token: str) -> None:
        """Raises NotFound for a token that is not this command's or whose time is over."""
        found = _TOKEN.fullmatch(token)
        if found is None or not same_text(self._proof(purpose, command_id, found[1]), found[2]):
            raise NotFound("no such address")
        if int(found[1], 16) <= self._core.clock():
            raise NotFound("the time of this address is over")

    def _proof(self, purpose: str, command_id: str, expires: str) -> str:
        text = f"{purpose}/{command_id}/{expires}"
        return urlsafe_b64encode(digest(self._key, text.encode("utf-8", "replace"), sha256)[:PROOF_BYTES]).decode()

    # -- where we are ----------------------------------------------------------------------------------------------

    def _base(self, command: Command) -> str:
        settings = self._settings()
        if settings.public_url:
            return settings.public_url.rstrip("/")
        scheme, kind = ("http", "tcp") if settings.plain_http else ("https", "tls")
        port = next((number for bound, number in self._core.ports(NAME) if bound == kind), None)
        binds = [bind for bind in map(parse_bind, settings.bind) if bind.kind == kind]
        if port is None or not binds:
            raise Invalid(f"[listeners.files] has neither a {kind}: binding nor a public_url")
        return f"{scheme}://{self._host(binds[0], command)}:{port}"

    def _host(self, bind: Bind, command: Command) -> str:
        if bind.interface not in _EVERYWHERE:
            return in_url(bind.interface)
        live = self._core.devices.get(command.device)
        link: Any = None if live is None else live.link
        host = getattr(link.transport.getHost(), "host", "") if link is not None else ""
        if not host:
            raise Invalid("listeners.files.public_url is needed: it is not known where the gateway reaches the broker")
        return in_url(host)


def in_url(host: str) -> str:
    """An address as URLs have it."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped) if address.ipv4_mapped is not None else f"[{address}]"
    return str(address)
