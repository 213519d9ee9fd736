"""What the source says of fields: own, shared and inherited comments."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from broker.model.comments import field_comments


class Box(msgspec.Struct, kw_only=True):
    """Something with sides. ``colour: str`` is no field here."""

    #: Longest side, metres.
    width: float
    height: float = 1.0

    depth: float = 1.0
    # Of no interest outside.
    weight: float = 0.0
    #: What is in it,
    #: as people say.
    content: dict[str, str] = msgspec.field(
        name="in",
        default_factory=dict,
    )
    after: int = 0

    def volume(self) -> float:
        #: No field.
        volume: float = self.width * self.height * self.depth
        return volume


class Crate(Box, kw_only=True):
    """A box of wood."""

    #: Of pine or oak.
    wood: str = ""

    width: float = 2.0
    #: Another one.
    height: float = 2.0


class Bare(msgspec.Struct):
    """Nothing in it."""


class CommentTests(SynchronousTestCase):
    def test_own_and_shared(self) -> None:
        self.assertEqual(
            field_comments(Box),
            {
                "width": "Longest side, metres.",
                "height": "Longest side, metres.",
                "depth": "",
                "weight": "",
                "content": "What is in it, as people say.",
                "after": "What is in it, as people say.",
            },
        )
        self.assertEqual(field_comments(Bare), {})

    def test_inherited_and_set_anew(self) -> None:
        found = field_comments(Crate)
        self.assertEqual(list(found), ["width", "height", "depth", "weight", "content", "after", "wood"])
        self.assertEqual(found["width"], "Longest side, metres.")
        self.assertEqual(found["height"], "Another one.")
        self.assertEqual(found["wood"], "Of pine or oak.")

    def test_without_source(self) -> None:
        """As of a class that was made in some other way, or whose file is not there."""
        self.assertEqual(field_comments(msgspec.defstruct("Made", [("one", int)], module=__name__)), {})
        path = Path(self.mktemp()).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import msgspec\nclass Gone(msgspec.Struct):\n    #: One.\n    one: int\n", "utf-8")
        spec = util.spec_from_file_location("tests_model_gone", path)
        assert spec is not None
        assert spec.loader is not None
        module = util.module_from_spec(spec)
        sys.modules[spec.name] = module
        self.addCleanup(sys.modules.pop, spec.name)
        spec.loader.exec_module(module)
        path.unlink()
        self.assertEqual(field_comments(module.Gone), {})
