"""The pages of the manual that are written from the code.

`python -m tools.reference` writes them, `--check` says which are stale; a test does the latter.

settings.py   docs/configuration.md   the Structs of the tables, with the ``#:`` comments of their fields
calls.py      docs/http-api.md        the OpenAPI document that a broker serves
figures.py    docs/metrics.md         what `/metrics` of a broker has, and the catalogues of names
contents.py   docs/index.md           the table of contents below its mark, from the pages that there are
"""
