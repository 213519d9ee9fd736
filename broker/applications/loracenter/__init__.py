"""LoRaCenter customer servers: NUL-delimited JSON over TCP 6666."""
