"""What every listener shares: settings and limits, the connection's life, the binding of ports."""
