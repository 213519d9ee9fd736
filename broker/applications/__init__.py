"""The application side: what programs and people use to read and command devices, a folder or file a kind."""
