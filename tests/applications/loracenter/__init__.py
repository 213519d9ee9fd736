"""LoRaCenter customer servers."""
