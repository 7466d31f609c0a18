"""Where a text that a device chose may come to rest: the closed table of (kind, member) and the column that keeps it.

Whatever else a device writes is an enumerated word, a number, a moment, a hash or a proof of identity, or is refused.
A test plants a marker in every place of every message and finds it nowhere but here. Source: C10.
"""

SINKS: dict[tuple[str, str], tuple[str, ...]] = {
    ("hello", "agentVersion"): ("devices.agent_version",),
    ("info", "deviceInfo"): ("devices.device_info", "reports.body"),
}
"""All of them are printable ASCII of at most 128 characters; device info is a signed, closed object of such."""
TOLD: dict[tuple[str, str], tuple[str, ...]] = {
    ("enrolled", "deviceCode"): ("state", "said"),
    ("encryption", "domainUri"): ("state",),
}
"""The same for what a device is told: it may stand in its memory (``state``) or in its own words (``said``)."""
