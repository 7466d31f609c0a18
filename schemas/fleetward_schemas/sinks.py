"""Where what a device chose may come to rest: the closed table of (kind, member) and the column that keeps it.

Whatever else a device writes is an enumerated word, a number, a moment, a key or a proof of identity, or is refused.
Tests plant a marker in every place of every message, where it is refused and where it is taken, and find it nowhere
but here. Source: C10.
"""

SINKS: dict[tuple[str, str], tuple[str, ...]] = {
    ("hello", "agentVersion"): ("devices.agent_version",),
    ("hello", "nonce"): ("challenges.device_nonce", "answer"),
    ("time", "nonce"): ("answer",),
    ("status", "session"): ("devices.session",),
    ("info", "deviceInfo"): ("devices.device_info", "reports.body"),
}
"""Texts: printable ASCII of at most 128 characters; device info is a signed, closed object of such. A nonce is of 32
bytes, a session of 16. ``answer``: said to the same device again."""
TOLD: dict[tuple[str, str], tuple[str, ...]] = {
    ("enrolled", "deviceCode"): ("state", "said"),
    ("encryption", "domainUri"): ("state",),
}
"""The same for what a device is told: it may stand in its memory (``state``) or in its own words (``said``)."""
