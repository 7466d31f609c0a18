"""The sandbox MOSIP: a server that answers as MOSIP's own services do, their codes and oddities included.

Written from what those services publish: partner management 1.1.5, masterdata 1.1.3, hotlist 1.2, keymanager, and the
text of the specification where nothing was ever built (``encryptioncertficates``). Source: S2, E1, E2.
"""
