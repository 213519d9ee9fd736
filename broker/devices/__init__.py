"""The device side: a folder for each protocol that devices speak."""
