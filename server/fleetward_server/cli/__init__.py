"""The provider's command line, ``fleetward``: data on stdout, everything else on stderr, one table of exit codes."""
