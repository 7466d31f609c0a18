"""Why a key cannot be had: said of a file, a token and a chip alike, and by what it means for whoever waits."""


class KeyUnavailable(Exception):  # noqa: N818 - says what is wrong with the key
    """A key could not be opened or used; the message names the key and what to do, never a secret."""


class TokenLost(KeyUnavailable):
    """The token is away; what needs it works again by itself when the token is back."""


class WrongPin(KeyUnavailable):
    """The token wants another PIN; it is not tried again before its source holds another one."""
