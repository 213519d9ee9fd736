"""What a call is given to work with, besides its request."""

from __future__ import annotations

from dataclasses import dataclass

from broker.applications.http.auth import Logins
from broker.applications.http.settings import HttpSettings
from broker.applications.http.streams import Streams
from broker.core import Core


@dataclass(slots=True)
class Api:
    """The parts that all calls share. ``document`` is the OpenAPI text of the calls themselves."""

    core: Core
    settings: HttpSettings
    logins: Logins
    streams: Streams
    document: bytes
