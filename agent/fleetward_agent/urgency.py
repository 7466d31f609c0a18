"""Which report goes before which, and which gives way. Source: protocol section 4 "Reports"."""

URGENCY = {"result": 0, "progress": 0, "alert": 1, "info": 2, "telemetry": 3}
"""Most urgent is least; the last alone gives way when the outbox is full, and is sent from the newest back.

The numbers stand in outboxes on disk: a new kind takes the number of one that is there."""
TELEMETRY = URGENCY["telemetry"]
EVERY = range(TELEMETRY + 1)
ALWAYS = range(URGENCY["alert"] + 1)
"""What leaves also when a metered link's budget is spent."""
