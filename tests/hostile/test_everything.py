"""Every attack on every port at once."""

from __future__ import annotations

from tests.hostile import test_http, test_mqtt, test_novacloud, test_stream
from tests.hostile.crowds import EVERYWHERE
from tests.hostile.siege import SiegeCase


class EverythingTests(SiegeCase):
    async def test_everything_at_once(self) -> None:
        """Sixty attackers share the machine with the broker, and each waits for answers within its own patience.

        One that was starved is no fault of the broker's, so a siege that fails is held once more, against a new one:
        what the broker does wrong it does again.
        """
        modules = (test_novacloud, test_mqtt, test_http, test_stream)
        attacks = (*(attack for module in modules for attack in module.ATTACKS), *EVERYWHERE)
        try:
            await self.besiege(*attacks)
        except AssertionError as error:
            self.log.warn("held once more, because: {why}", why=str(error))
            self.renew()
            await self.besiege(*attacks)
