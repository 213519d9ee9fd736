"""The forms of ``storage.url`` for Redis."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from broker.storage.redis.address import RedisAddress, is_redis, parse_address

GOOD = (
    ("redis://h", RedisAddress(hosts=(("h", 6379),))),
    ("redis://h:1/", RedisAddress(hosts=(("h", 1),))),
    ("redis://h:1/15", RedisAddress(hosts=(("h", 1),), db=15)),
    ("redis://h?db=3", RedisAddress(hosts=(("h", 6379),), db=3)),
    ("redis://[::1]:7/2", RedisAddress(hosts=(("::1", 7),), db=2)),
    ("redis://:p%40ss@h", RedisAddress(hosts=(("h", 6379),), password="p@ss")),
    ("redis://me:a:b@h", RedisAddress(hosts=(("h", 6379),), username="me", password="a:b")),
    ("rediss://h", RedisAddress(hosts=(("h", 6379),), tls=True)),
    ("redis+unix:///run/redis.sock", RedisAddress(path="/run/redis.sock")),
    ("redis+unix://u:p@/run/a%20b?db=4", RedisAddress(path="/run/a b", db=4, username="u", password="p")),
    ("redis+sentinel://a,b:1/main", RedisAddress(hosts=(("a", 26379), ("b", 1)), service="main")),
    (
        "rediss+sentinel://:p@a/main/3",
        RedisAddress(hosts=(("a", 26379),), service="main", db=3, password="p", tls=True),
    ),
)
BAD = (
    ("redis:h", "must be redis://"),
    ("redis://", "must name a host"),
    ("redis:///3", "must name a host"),
    ("redis://h:0", "port"),
    ("redis://h:70000", "port"),
    ("redis://h:x", "must name a host"),
    ("redis://a,b/3", "must name a host"),
    ("redis://h/x", "number of a database"),
    ("redis://h/10000", "number of a database"),
    ("redis://h/1/2", "must be redis://"),
    ("redis://h/1?db=2", "must be redis://"),
    ("redis://h?timeout=2", "db is the only one"),
    ("redis://h#x", "must be redis://"),
    ("redis://[::1", "must be redis://"),
    ("redis+unix://host/path", "whole path"),
    ("redis+unix://", "whole path"),
    ("redis+unix:///", "whole path"),
    ("redis+sentinel://a", "must name the service"),
    ("redis+sentinel:///main", "must name a host"),
    ("http://h", "must be redis://"),
)


class AddressTests(SynchronousTestCase):
    def test_good(self) -> None:
        for url, expected in GOOD:
            self.assertEqual(parse_address(url), expected, url)
            self.assertTrue(is_redis(url))

    def test_bad(self) -> None:
        for url, why in BAD:
            with self.assertRaises(ValueError, msg=url) as caught:
                parse_address(url)
            self.assertIn(why, str(caught.exception), url)
            self.assertNotIn("\n", str(caught.exception))

    def test_secrets_are_not_shown(self) -> None:
        for url in ("redis://me:secret@h", "redis+unix://:secret@/s", "redis+sentinel://:secret@h/s"):
            address = parse_address(url)
            self.assertEqual(address.password, "secret")
            self.assertNotIn("secret", f"{address} {address!r}")
        with self.assertRaises(ValueError) as caught:
            parse_address("redis://me:secret@h/x")
        self.assertNotIn("secret", str(caught.exception))

    def test_others(self) -> None:
        for url in ("sqlite:", "sqlite:redis://h", "redis", "rediss", "redisx://h"):
            self.assertEqual(is_redis(url), url in ("redis", "rediss"), url)
