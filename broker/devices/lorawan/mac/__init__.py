"""MAC commands (LoRaWAN 1.0.2 to 1.0.4, chapter 5): their bytes, what motes are asked, what they have said yes to."""
