"""Which report goes before which, and which gives way. Source: protocol section 4 "Reports"."""

URGENCY = ("result", "alert", "info", "telemetry")
"""Most urgent first; the last alone gives way when the outbox is full, and is sent from the newest back."""
TELEMETRY = URGENCY.index("telemetry")
EVERY = range(len(URGENCY))
ALWAYS = range(URGENCY.index("alert") + 1)
"""What leaves also when a metered link's budget is spent."""
