"""python -m tools.reference [--check]: write the pages of the manual that come from the code, or name stale ones."""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.real import PATIENCE, RealBroker
from tools.reference.calls import calls_page
from tools.reference.contents import unknown_pages, with_contents
from tools.reference.figures import figures_page
from tools.reference.settings import settings_page

DOCS: Final = Path(__file__).resolve().parent.parent.parent / "docs"


def pages() -> dict[str, str]:
    """File name -> text, as they should be. Starts a broker and asks it."""
    document, exposition = _asked()
    return {
        "configuration.md": settings_page(),
        "http-api.md": calls_page(document),
        "metrics.md": figures_page(exposition),
        "index.md": with_contents(DOCS),
    }


def stale(written: dict[str, str]) -> list[str]:
    """Which files are not as they should be."""
    return [name for name, text in written.items() if not _is(DOCS / name, text)]


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == text


def _asked() -> tuple[dict[str, object], str]:
    """What a broker with every protocol says at `/openapi.json` and `/metrics`."""
    with TemporaryDirectory() as folder:
        tls = '["tls:0:interface=127.0.0.1"]'
        broker = RealBroker(Path(folder), {"listeners.gateway88.bind": tls, "listeners.files.bind": tls})
        broker.start()
        try:
            document = broker.call("GET", "/openapi.json")[1]
            connection = http.client.HTTPConnection("127.0.0.1", broker.ports["http"], timeout=PATIENCE)
            try:
                connection.request("GET", "/metrics")
                exposition = connection.getresponse().read().decode()
            finally:
                connection.close()
        finally:
            broker.stop()
    return json.loads(json.dumps(document)), exposition


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__)
        return 2
    if unknown := unknown_pages(DOCS):
        print(f"no chapter of tools/reference/contents.py has: {', '.join(unknown)}")
        return 1
    if arguments:
        behind = stale(pages())
        if behind:
            print(f"stale: {', '.join(behind)}; python -m tools.reference writes them")
        return 1 if behind else 0
    # The contents have the titles of pages that are written here.
    for _ in range(2):
        written = pages()
        for name in stale(written):
            (DOCS / name).write_text(written[name], "utf-8")
            print(f"written: docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
