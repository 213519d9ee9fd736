"""amqtt with its file authentication and topic access list: amqtt_server.py PORT USER PASSWORD FOLDER.

It runs in amqtt's own environment, not in ours.
"""

import asyncio
import logging
import sys
from pathlib import Path

from amqtt.broker import Broker  # type: ignore[import-not-found]  # only in its own environment
from pwdlib.hashers.argon2 import Argon2Hasher  # type: ignore[import-not-found]  # as above


async def main(port: str, user: str, password: str, folder: str) -> None:
    passwords = Path(folder) / "passwords"
    cheap = Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)  # thousands of logins are not what is measured
    passwords.write_text(f"{user}:{cheap.hash(password)}\n")
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": 5000}},
            "plugins": {
                "amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(passwords)},
                "amqtt.plugins.topic_checking.TopicAccessControlListPlugin": {
                    "acl": {user: ["bench/#"]},
                    "publish_acl": {user: ["bench/#"]},
                },
            },
        }
    )
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(main(*sys.argv[1:]))
