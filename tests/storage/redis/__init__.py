"""Tests of broker.storage.redis. Real Redis servers, real sockets."""
