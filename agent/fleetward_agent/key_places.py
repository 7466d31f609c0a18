"""Where a device's own keys are: in files, and as its configuration says the device key in a token, the other in a TPM.

A key stays where it was made until it is rotated: both words may be written into the configuration of a device at work.
"""

from pathlib import Path

from fleetward_agent.keys import DEVICE, TRANSPORT, FileKeys, Form
from fleetward_agent.ports import KeyStore
from fleetward_broker.signers import needing_hsm
from fleetward_schemas.jws import Alg, PrivateKey
from fleetward_schemas.topics import DeviceId

TPM = "tpm"
FILES = "file"
TRANSPORT_PLACES = (FILES, TPM)
WRAPPED = ".tss2.pem"


def key_store(folder: Path, device: str, transport: str, base: Path, device_id: DeviceId) -> KeyStore:
    """Return where a device's keys are. device: a token's URI; transport: one of TRANSPORT_PLACES.

    base: folder that a relative ``pin-source`` starts from.

    Raises:
        KeyUnavailable: the URI is wrong, or the part for tokens is missing.
    """
    places: dict[str, KeyStore] = {}
    if device:
        with needing_hsm():
            from fleetward_agent.token_keys import TokenKeys
            from fleetward_broker.pkcs11_uri import token_alone

            places[DEVICE] = TokenKeys(token_alone(device, base), device_id)
    if transport == TPM:
        from fleetward_broker.tss_keys import make_tss_key, open_tss_key

        places[TRANSPORT] = FileKeys(folder, Form(WRAPPED, make_tss_key, open_tss_key))
    files = FileKeys(folder)
    return SplitKeys(places, files) if places else files


class SplitKeys:
    """Keys in several places, by the beginnings of their names; what lies in a plain file is used from there."""

    def __init__(self, places: dict[str, KeyStore], files: KeyStore) -> None:
        """Hold all."""
        self._places, self._files = places, files

    def make(self, name: str, alg: Alg) -> PrivateKey:
        """See ``KeyStore``."""
        return self._holder(name).make(name, alg)

    def open(self, name: str) -> PrivateKey:
        """See ``KeyStore``."""
        return self._holder(name).open(name)

    def destroy(self, name: str) -> None:
        """See ``KeyStore``."""
        self._holder(name).destroy(name)

    def names(self) -> frozenset[str]:
        """See ``KeyStore``."""
        return self._files.names().union(*(place.names() for place in self._places.values()))

    def _holder(self, name: str) -> KeyStore:
        if name not in self._files.names():
            for beginning, place in self._places.items():
                if name.startswith(beginning):
                    return place
        return self._files
