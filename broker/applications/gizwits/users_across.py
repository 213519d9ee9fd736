"""Changes of users, told to all processes in one order once they are in storage: an app may be at any of them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from broker.applications.gizwits.users import UserChange, Users
from broker.model.interfaces import IBackplane

_encode = msgspec.msgpack.Encoder().encode
_change = msgspec.msgpack.Decoder(UserChange).decode


class UsersAcross:
    """``heard`` is told of each change that another process has made."""

    def __init__(self, backplane: IBackplane, users: Users, heard: Callable[[UserChange], object]) -> None:
        self._backplane = backplane
        self._heard_of = heard
        if not backplane.alone:
            users.on_change.append(self._changed)
            backplane.hear("giz.user", self._heard)

    def _changed(self, change: UserChange) -> None:
        if self._backplane.node:
            self._backplane.tell("giz.user", _encode(change))

    def _heard(self, node: str, body: bytes) -> None:
        if node != self._backplane.node:
            self._heard_of(_change(body))
