"""What the API's own calls work with, besides their request."""

from __future__ import annotations

from dataclasses import dataclass

from broker.applications.http.auth import Logins
from broker.applications.http.sessions_across import SessionsAcross
from broker.applications.http.settings import HttpSettings
from broker.applications.http.sign_in import Sessions
from broker.applications.http.streams import Streams
from broker.web.routes import Call


@dataclass(slots=True)
class Api:
    """The parts that all calls share."""

    settings: HttpSettings
    logins: Logins
    streams: Streams
    sessions: Sessions
    across: SessionsAcross


def api_of(call: Call) -> Api:
    """The API that this call came to."""
    api: Api = call.home.api
    return api
