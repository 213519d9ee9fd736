"""The contracts of storages, on a real Redis."""

from __future__ import annotations

from typing import Any

from broker.storage.redis.storage import RedisStorage
from tests.storage import contract, records_contract, session_contract
from tests.storage.redis.places import SERVER, make_storage


class RedisContract(contract.StorageContract):
    def make(self) -> RedisStorage:
        if not hasattr(self, "prefix"):
            self.prefix = SERVER.prefix()
        return make_storage(self.prefix)


class RedisRecords(records_contract.RecordsContract):
    def make(self) -> RedisStorage:
        if not hasattr(self, "prefix"):
            self.prefix = SERVER.prefix()
        return make_storage(self.prefix)


class RedisSessions(session_contract.SessionJournalContract):
    def start(self) -> Any:
        if not hasattr(self, "prefix"):
            self.prefix = SERVER.prefix()
        self.storage = make_storage(self.prefix)
        self.journal = self.storage.sessions
        return self.storage.open()

    def stop(self) -> Any:
        return self.storage.close()
