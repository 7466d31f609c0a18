"""The release repository: what exists, said by The Update Framework, whose offline keys no server holds.

``files`` reads and verifies a set, ``making`` makes one; ``shelf`` tells what is released; ``keys`` are the offline
folder's, ``signing`` is done beside it, ``publishing`` takes the result in; ``online`` keeps the two online roles
fresh, ``retained`` tells the set to the fleet, and ``artifacts`` serves the bytes. Source: S7, C7, C8; TUF 1.0.
"""
