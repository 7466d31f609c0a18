"""MOSIP's end of the provider: registering devices there, and fetching what biometrics are encrypted for.

``queue`` says what is to be told and when, ``profiles`` how it is said, ``answers`` what a reply means, ``wire`` and
``tokens`` carry it, ``connector`` does one thing at a time, ``run`` is its process. Source: S2, E1, E2.
"""
