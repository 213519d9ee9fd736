"""The broker as a Twisted application: `twistd -ny broker.tac`.

The same service tree as `twistd -n broker --config FILE`. The configuration is the file that BROKER_CONFIG names,
else `broker.toml` in the current folder when there is one, else the defaults.
"""

import os

from twisted.application import service
from twisted.python import usage

from broker import tap

path = os.environ.get("BROKER_CONFIG") or ("broker.toml" if os.path.exists("broker.toml") else None)
options = tap.Options()
application = service.Application("broker")
try:
    options.parseOptions(["--config", path] if path else [])
    tap.makeService(options).setServiceParent(application)
except usage.UsageError as error:
    # twistd prints a traceback for any other exception in a .tac file
    raise SystemExit(f"broker: {error}") from None
