"""The table [listeners.files]."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from broker.listening.settings import Limits, Seconds, Size
from broker.web.settings import WebSettings


class FilesSettings(WebSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Firmware and backups: what gateways fetch and post."""

    bind: tuple[str, ...] = ("tls:8443",)
    limits: Limits = Limits(max_message_size=65_536, max_message_rate=100, message_burst=1_000)
    #: Bytes of a backup.
    max_upload: Size = 67_108_864
    #: What the URLs begin with that gateways are given, such as ``https://files.example:8443``. Empty: the interface of
    #: the first ``tls:`` binding and its port; for a binding of every interface, the address at which the gateway
    #: itself has reached the broker.
    public_url: str = ""
    #: URLs are ``http://``, of the first ``tcp:`` binding: firmware and backups can be read and changed on their way.
    plain_http: bool = False
    #: ``firmware_md5`` and ``recovery_md5`` are URLs of the digits, as the document's examples have it, not the digits.
    digest_urls: bool = False
    #: Seconds for which a URL is good after it was given to a gateway.
    url_lifetime: Seconds = 3_600.0
    #: Backups of one gateway that are kept; the oldest go when a new one has arrived.
    keep_backups: Annotated[int, Meta(ge=1, le=1_000)] = 10

    def __post_init__(self) -> None:
        if not self.public_url:
            return
        url = urlsplit(self.public_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
            raise ValueError("public_url must be empty or https://HOST, with :PORT and /PATH where they are needed")
        if url.scheme == "http" and not self.plain_http:
            raise ValueError("public_url is http://, which needs plain_http = true")
