"""What may be said, and what is lawful. Pure: no clock, network, disk or log in this room."""
