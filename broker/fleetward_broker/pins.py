"""Where a token's PIN is read: a file that only we can read, or the service manager's credential; never a URI.

Source: S6; RFC 7512 (pin-source); systemd.exec(5), LoadCredential=.
"""

import os
from pathlib import Path

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11_uri import CREDENTIAL


def read_pin(source: str) -> str:
    """Read the PIN anew from its file or systemd credential.

    Raises:
        KeyUnavailable: missing, empty, or a file that others may read.
    """
    if source.startswith(CREDENTIAL):
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder is None:
            raise KeyUnavailable(f"{source}: this process was given no credentials (systemd: LoadCredential=)")
        path = Path(folder) / source.removeprefix(CREDENTIAL)
    else:
        path = Path(source)
    try:
        # systemd guards its credentials by an access list, which shows in the mode as the group's.
        if path.stat().st_mode & 0o077 and not source.startswith(CREDENTIAL):
            raise KeyUnavailable(f"{path}: readable by others; run: chmod 600 {path}")
        pin = path.read_bytes().decode().removesuffix("\n")
    except OSError as error:
        raise KeyUnavailable(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyUnavailable(f"{path}: not UTF-8") from None
    if not pin:
        raise KeyUnavailable(f"{path}: holds no PIN")
    return pin
