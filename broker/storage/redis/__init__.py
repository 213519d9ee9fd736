"""Redis as the storage, and as what broker processes meet on (DESIGN §11).

``connection`` is the wrapper around txredisapi that everything here and in `broker.cluster` uses; txredisapi installs
a reactor when it is imported, so that is done late.
"""
