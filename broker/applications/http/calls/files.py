"""Files that the administrator hands in, firmware above all: ``/files/{name}`` is what is known of one, and
``/files/{name}/content`` its bytes. A protocol's calls name a file by its name or by its id; the id is another one
after the file was replaced.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from broker.applications.http.calls.devices import Limit
from broker.applications.http.shapes import FilePage, FileShape, file_shape
from broker.model.errors import NotFound
from broker.storage.files import UPLOADS, FileInfo
from broker.web.answers import Answer
from broker.web.files import FileAnswer
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, Call, Route

OCTETS = "application/octet-stream"

Name = Annotated[str, Meta(max_length=255)]


class FileFilter(msgspec.Struct, kw_only=True):
    """Which files, and which page."""

    #: Only files whose names begin with this.
    prefix: Name = ""
    #: Entries of one page at most.
    limit: Limit = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Name | None = None


class FilePath(msgspec.Struct):
    """Which file."""

    #: The name of the file, at most 255 bytes of UTF-8; where it is there, its id finds it, too.
    name: str


async def list_files(call: Call) -> Any:
    """Files by name."""
    wish: FileFilter = call.query
    files = await call.core.files.list(UPLOADS, wish.prefix, wish.limit + 1, wish.cursor)
    shown = [file_shape(info) for info in files[: wish.limit]]
    return FilePage(shown, shown[-1].name if len(files) > wish.limit else None)


async def put_file(call: Call) -> Any:
    """Hand in a file, as the body or as the first file of a form; it takes the place of one of the same name."""
    name = call.path["name"]
    replaced = await call.core.files.get(UPLOADS, name) is not None
    info = await call.core.files.create(UPLOADS, name).take(call.upload)
    return Answer(200 if replaced else 201, file_shape(info))


async def get_file(call: Call) -> Any:
    """What is known of a file."""
    return file_shape(await _file(call))


async def get_file_content(call: Call) -> Any:
    """The bytes of a file, whole or a range of them."""
    info = await _file(call)
    # Never as what it may claim to be: a page of somebody else's must not run as one of ours.
    fields = ((b"Content-Disposition", b"attachment"), (b"X-Content-Type-Options", b"nosniff"))
    return FileAnswer(call.core.files.path(info), info.size, OCTETS, fields, info.sha256)


async def delete_file(call: Call) -> Any:
    """Delete a file."""
    await call.core.files.remove(await _file(call))


async def _file(call: Call) -> FileInfo:
    name = call.path["name"]
    info: FileInfo | None = await call.core.files.get(UPLOADS, name)
    if info is None:
        raise NotFound(f"no file {name!r}"[:300])
    return info


ROUTES = (
    Route("GET", f"{API}/files", list_files, ADMIN, query=FileFilter, answers=FilePage),
    Route(
        "PUT",
        f"{API}/files/{{name}}",
        put_file,
        ADMIN,
        upload=True,
        answers=FileShape,
        status=201,
        also={200: (FileShape, "It replaced another one"), 413: (Problem, "Longer than max_upload")},
        path_shape=FilePath,
    ),
    Route("GET", f"{API}/files/{{name}}", get_file, ADMIN, answers=FileShape, path_shape=FilePath),
    Route(
        "GET",
        f"{API}/files/{{name}}/content",
        get_file_content,
        ADMIN,
        answers=str,
        content_type=OCTETS,
        also={416: (Problem, "No such range")},
        path_shape=FilePath,
    ),
    Route("DELETE", f"{API}/files/{{name}}", delete_file, ADMIN, status=204, path_shape=FilePath),
)
