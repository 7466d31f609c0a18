"""The embedded broker: MQTT 3.1.1 over mutual TLS, one process, every topic decided by ``fleetward_broker.gate``.

From bytes to rule: ``door`` (TLS) -> ``connection`` (reading, writing, time limits) -> ``dialogue`` (packets, no I/O)
-> ``router`` (sessions, subscriptions, retained messages) -> ``store``. Source: MQTT 3.1.1.
"""
