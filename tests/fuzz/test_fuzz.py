"""A short form of the fuzzers: the corpus, and some hundred inputs for each target. Longer: `make fuzz`."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import CORPUS
from tests.fuzz import __main__ as command
from tests.fuzz.clients import CLIENTS
from tests.fuzz.corpus import inputs, seeds
from tests.fuzz.listeners import CUT, WAIT, chunks_of
from tests.fuzz.mutation import LONGEST, mutated
from tests.fuzz.targets import TARGETS, Target

#: Inputs for each target: by mutation, and by Hypothesis, which shortens what fails.
MUTATED = 60
EXAMPLES = 15


def share(count: int, target: str) -> int:
    """Half of it where an input is the whole life of a broker (10 ms)."""
    return count // 2 if target in CLIENTS else count


def near(target: str) -> st.SearchStrategy[bytes]:
    """Pieces of what is in the corpus, among others."""
    known = st.sampled_from([data for _, data in inputs(target)])
    cuts = st.tuples(known, st.floats(0, 1), st.floats(0, 1)).map(
        lambda one: one[0][int(len(one[0]) * one[1]) : int(len(one[0]) * one[2]) + 1]
    )
    pieces = known | cuts | st.binary(max_size=40) | st.sampled_from([CUT, WAIT])
    return st.lists(pieces, max_size=6).map(b"".join)


class CorpusTests(SynchronousTestCase):
    def test_every_target_has_one_and_nothing_in_it_fails(self) -> None:
        self.assertEqual({path.name for path in CORPUS.iterdir()}, set(TARGETS))
        for name, target in TARGETS.items():
            self.assertTrue(inputs(name), name)
            for file, data in inputs(name):
                self.assertIsNone(command.failure(target, data), f"tests/corpus/{name}/{file}")

    def test_seeds_are_written_down(self) -> None:
        """`python -m tests.fuzz.corpus` would change nothing; what is compressed may differ with zlib's version."""
        for name, known in seeds().items():
            kept = [data for file, data in inputs(name) if file.startswith("seed-")]
            self.assertEqual(len(kept), len(known), name)
            if "gateway88" not in name:
                self.assertEqual(kept, known, name)


class TargetTests(SynchronousTestCase):
    def test_the_manual_has_all_of_them(self) -> None:
        page = (CORPUS.parent.parent / "docs" / "threat-model.md").read_text("utf-8")
        rows = page.partition("| as a decoder |")[2].partition("\n\n")[0]
        self.assertEqual(set(re.findall(r"`([^`]+)`", rows)), {*TARGETS})

    def test_nearly_right(self) -> None:
        for name, target in TARGETS.items():
            random = Random(f"7 {name}")
            known = [data for _, data in inputs(name)]
            for _ in range(share(MUTATED, name)):
                data = mutated(random, known)
                self.assertIsNone(command.failure(target, data), f"{name}: {data.hex()}")

    def test_pieces_of_what_is_right(self) -> None:
        for name, target in TARGETS.items():

            @settings(
                max_examples=share(EXAMPLES, name),
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            )
            @given(st.just(target.run), near(name))
            def fed(run: Callable[[bytes], None], data: bytes) -> None:
                run(data)

            fed()


class FindingTests(SynchronousTestCase):
    """What is found is shown, made short, kept, and can be repeated."""

    def setUp(self) -> None:
        def run(data: bytes) -> None:
            if b"\x80" in data and len(data) > 3:
                raise ZeroDivisionError("found")

        self.target = Target("json", run)
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def said(self, *arguments: str) -> tuple[int, str]:
        out = StringIO()
        with redirect_stdout(out):
            status = command.main(arguments)
        return status, out.getvalue()

    def test_the_input_and_the_command(self) -> None:
        out = StringIO()
        with redirect_stdout(out):
            status = command.fuzz([self.target], 30.0, 1, self.folder)
        (kept,) = self.folder.iterdir()
        data = kept.read_bytes()
        self.assertEqual((status, len(data)), (1, 4))
        self.assertIn("ZeroDivisionError: found", out.getvalue())
        self.assertIn(f"python -m tests.fuzz --target json --input {kept}", out.getvalue())
        self.assertIn("tests/corpus/json/", out.getvalue())

    def test_again(self) -> None:
        file = self.folder / "x"
        file.write_bytes(b"{}")
        self.assertEqual(self.said("--target", "json", "--input", str(file))[0], 0)
        self.patch(command, "TARGETS", {"json": self.target})
        file.write_bytes(b"\x80\x80\x80\x80")
        status, said = self.said("--target", "json", "--input", str(file))
        self.assertEqual(status, 1)
        self.assertIn("ZeroDivisionError", said)

    def test_nothing_found(self) -> None:
        status, said = self.said("--plain", "--target", "json", "--minutes", "0.001", "--seed", "5")
        self.assertEqual(status, 0)
        self.assertRegex(said, r"\d+ inputs for 1 targets, seed 5: nothing found")

    def test_the_same_seed_gives_the_same_inputs(self) -> None:
        known = [b'{"a": 12}', b"abc"]
        first, second = ([mutated(random, known) for _ in range(200)] for random in (Random(3), Random(3)))
        self.assertEqual(first, second)
        self.assertGreater(len(set(first)), 150)
        self.assertLessEqual(max(map(len, first)), LONGEST)

    def test_chunks(self) -> None:
        self.assertEqual(chunks_of(b"a" + CUT + b"b" + WAIT + b"c" + CUT), [b"a", b"b", b"", b"c"])
