"""The guarded line: the MQTT link, the keys and certificates it rests on, the gate, and the embedded broker."""
