"""Retirement: the order after which a device is nobody.

The command ``retire`` has no members: nothing but ``time``, ``status`` and its ``result`` leaves the device afterwards.
Source: C3, S6; protocol section 5 "Retirement".
"""

from datetime import timedelta

GRACE = timedelta(seconds=60)
"""Between the server's ``ack`` of the signed result and the end of the certificates: time to destroy the keys."""
