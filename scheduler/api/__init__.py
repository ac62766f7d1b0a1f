"""The control API: HTTP on the daemon's own loop, over a Unix socket. Knows the daemon as a ``Control``."""
