"""Every attack on every port at once."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.hostile import test_http, test_mqtt, test_novacloud, test_stream
from tests.hostile.crowds import EVERYWHERE
from tests.hostile.siege import SiegeCase


class EverythingTests(SiegeCase):
    def test_everything_at_once(self) -> Deferred[None]:
        modules = (test_novacloud, test_mqtt, test_http, test_stream)
        return self.besiege(*(attack for module in modules for attack in module.ATTACKS), *EVERYWHERE)
