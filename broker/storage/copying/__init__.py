"""Everything that a storage keeps, copied into another one: `python -m broker.storage copy` (docs/redis.md)."""
