"""The sub-commands of ``python -m broker.simulate``, a file each: their options, and what they do until Ctrl-C."""
