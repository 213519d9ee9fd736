"""Random secrets: different each time, recognised again, and nothing else recognised."""

from twisted.trial.unittest import SynchronousTestCase

from broker.model import secrets
from broker.model.secrets import hash_secret, make_secret, same_text, verify_secret


class SecretTests(SynchronousTestCase):
    def test_made_of_hex_digits(self) -> None:
        self.assertEqual(len(make_secret()), 64)
        self.assertEqual(len(make_secret(16)), 32)
        self.assertTrue(set(make_secret()) <= set("0123456789abcdef"))
        self.assertNotEqual(make_secret(), make_secret())

    def test_recognised(self) -> None:
        for secret in ("", "a", make_secret(), "密码", "$", "a$b", "\ud800", "x" * 10_000):
            stored = hash_secret(secret)
            self.assertTrue(verify_secret(secret, stored))
            self.assertFalse(verify_secret(secret + "x", stored))

    def test_hash_shows_nothing_and_is_salted(self) -> None:
        one, two = hash_secret("secret"), hash_secret("secret")
        self.assertNotEqual(one, two)
        self.assertNotIn("secret", one)
        self.assertRegex(one, r"\Asha256\$[0-9a-f]{16}\$[0-9a-f]{64}\Z")

    def test_wrong_storage_is_never_right(self) -> None:
        digest = hash_secret("a").rpartition("$")[2]
        for stored in ("", "$", "$$", "sha256", "sha256$", "sha256$$", f"md5$x${digest}", "sha256$x$é", "a"):
            self.assertFalse(verify_secret("a", stored), stored)
            self.assertFalse(verify_secret("", stored), stored)

    def test_an_unknown_identity_costs_the_same_work(self) -> None:
        hashed: list[str] = []
        digest = secrets._digest

        def count(salt: str, secret: str) -> str:
            hashed.append(secret)
            return digest(salt, secret)

        self.patch(secrets, "_digest", count)
        verify_secret("a", "")
        self.assertEqual(hashed, ["a"])

    def test_same_text(self) -> None:
        self.assertTrue(same_text("é\ud800", "é\ud800"))
        self.assertFalse(same_text("a", "b"))
        self.assertFalse(same_text("a", ""))
