"""Tests of broker.storage. Real threads and real files; no sockets."""
