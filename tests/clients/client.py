"""What the tests ask of an MQTT client, and one that runs in a child process.

The child reads requests from its standard input and writes answers and messages to its standard output, a JSON object
a line. It holds as many clients as it is asked for, each under a name::

    > {"client": "a", "do": "connect", ...the fields of `Login`}
    < {"answer": code}
    > {"client": "a", "do": "subscribe", "filter": "t/#", "qos": 1}
    < {"answer": granted QoS or code}
    > {"client": "a", "do": "publish", ...the fields of `Message`}
    < {"answer": 0}                                     once it is acknowledged
    < {"client": "a", ...the fields of `Message`}       what it got
    > {"client": "a", "do": "disconnect"}
    < {"answer": 0}

Answers come in the order of the requests. The child ends with its standard input.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from queue import Queue
from typing import Any, Literal, NamedTuple, Protocol

from tests.real import PATIENCE

Transport = Literal["tcp", "tls", "ws", "wss"]

#: Protocol levels.
V311 = 4
V5 = 5
VERSIONS = (V311, V5)

#: paho, and so aiomqtt, gives the codes with which 3.1.1 refuses as those of 5.0 that mean the same.
PAHO_CODES = {0x86: 4, 0x87: 5}


class Message(NamedTuple):
    topic: str
    payload: str
    qos: int
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Login:
    """How a client connects. ``ca`` is the file of the certificate that it trusts, ``expiry`` the seconds (5.0) that
    its session outlives the connection if it is not ``clean``."""

    transport: Transport
    port: int
    version: int
    client_id: str
    user: str
    password: str
    ca: str
    clean: bool = True
    expiry: int = 300
    will: Message | None = None


class Client(Protocol):
    """Each call returns when the broker has answered."""

    def connect(self, login: Login) -> int:
        """The code of the broker's answer, 0 for success."""

    def subscribe(self, topic_filter: str, qos: int) -> int:
        """The QoS that is granted, or the code of the refusal."""

    def publish(self, message: Message) -> None: ...

    def next(self) -> Message:
        """The next message that the client got."""

    def disconnect(self) -> None: ...

    def drop(self) -> None:
        """End without saying so."""


class Child:
    """The process; see the module."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self._answers: Queue[int | None] = Queue()
        self._clients: dict[str, Queue[Message]] = {}
        self._said: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                found = json.loads(line)
            except ValueError:
                self._said.append(line)
                continue
            if "answer" in found:
                self._answers.put(found["answer"])
            else:
                self._clients[found.pop("client")].put(Message(**found))
        self._answers.put(None)

    def client(self) -> ChildClient:
        name = str(len(self._clients))
        self._clients[name] = Queue()
        return ChildClient(self, name, self._clients[name])

    def ask(self, **request: Any) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._answers.get(timeout=PATIENCE)
        if answer is None:
            raise AssertionError(f"the client ended at {request['do']}:\n{''.join(self._said)}")
        return answer

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait(PATIENCE)
        self._reading.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class ChildClient:
    """A `Client` in a child process."""

    def __init__(self, child: Child, name: str, messages: Queue[Message]) -> None:
        self._child = child
        self._name = name
        self._messages = messages

    def connect(self, login: Login) -> int:
        will = login.will and login.will._asdict()
        return self._child.ask(client=self._name, do="connect", **{**asdict(login), "will": will})

    def subscribe(self, topic_filter: str, qos: int) -> int:
        return self._child.ask(client=self._name, do="subscribe", filter=topic_filter, qos=qos)

    def publish(self, message: Message) -> None:
        self._child.ask(client=self._name, do="publish", **message._asdict())

    def next(self) -> Message:
        return self._messages.get(timeout=PATIENCE)

    def disconnect(self) -> None:
        self._child.ask(client=self._name, do="disconnect")

    def drop(self) -> None:
        """Takes the whole process along."""
        self._child.kill()
