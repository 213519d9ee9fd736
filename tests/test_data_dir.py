"""The data folder, its lock and the token in it."""

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from broker.data_dir import DataDir, DataDirError, exposed


class DataDirTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "a" / "b"

    def open(self) -> DataDir:
        data_dir = DataDir(self.path)
        self.addCleanup(data_dir.close)
        return data_dir

    def test_made_for_us_alone(self) -> None:
        data_dir = self.open()
        self.assertTrue(data_dir.path.is_absolute())
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o700)

    def test_one_process_at_a_time(self) -> None:
        first = DataDir(self.path)
        error = self.assertRaises(DataDirError, DataDir, self.path)
        self.assertEqual(str(error), f"the data folder {first.path} is in use by another broker, process {os.getpid()}")
        first.close()
        self.open()

    def test_the_token_is_made_once(self) -> None:
        data_dir = self.open()
        token, file = data_dir.admin_token()
        self.assertGreaterEqual(len(token), 32)
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        self.assertEqual(data_dir.admin_token(), (token, file))

    def test_a_token_of_the_operator_and_an_empty_one(self) -> None:
        data_dir = self.open()
        file = data_dir.path / "admin.token"
        file.write_text("mine\n")
        self.assertEqual(data_dir.admin_token(), ("mine", file))
        file.write_text("\n")
        file.chmod(0o644)
        self.assertGreaterEqual(len(data_dir.admin_token()[0]), 32)
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)

    def test_what_cannot_be_used_is_one_line(self) -> None:
        self.path.parent.mkdir(parents=True)
        self.path.write_text("a file")
        error = self.assertRaises(DataDirError, DataDir, self.path)
        self.assertEqual(str(error), f"the data folder {self.path.absolute()}: cannot be used: File exists")

    def test_a_token_that_cannot_be_read(self) -> None:
        data_dir = self.open()
        (data_dir.path / "admin.token").mkdir()
        error = self.assertRaises(DataDirError, data_dir.admin_token)
        self.assertIn("admin.token cannot be used: Is a directory", str(error))


class ExposedTests(SynchronousTestCase):
    def test_what_others_may_read_or_change(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir(mode=0o700)
        key = folder / "key"
        key.touch(mode=0o600)
        missing = folder / "missing"
        self.assertEqual(exposed(folder, key, missing), [])
        for path, mode, told in (
            (key, 0o640, True),
            (key, 0o604, True),
            (key, 0o602, True),
            (key, 0o400, False),
            (folder, 0o755, True),
            (folder, 0o770, True),
            (folder, 0o711, False),
        ):
            before = path.stat().st_mode & 0o777
            path.chmod(mode)
            self.assertEqual(exposed(folder, key, missing), [(path, mode)] if told else [], oct(mode))
            path.chmod(before)
