"""Ten thousand targets: how long signing, publishing and reading take, and that every file still fits on the wire."""

import time
from collections.abc import Callable

import pytest

from fleetward_schemas.upgrade import Custom
from fleetward_server.releases.files import MOST_BYTES
from fleetward_server.releases.request import Request, Wanted
from fleetward_server.releases.shelf import open_repository, open_shelf
from tests.server.releaser import Maker

MANY = 10_000


@pytest.mark.slow
def test_ten_thousand_targets_are_signed_published_and_read(maker: Maker, figure: Callable[[str], None]) -> None:
    sha256_hex, length = maker.exchange.bring(maker.file())
    wanted = [
        Wanted(
            path=f"fw/model-{number % 50}/fw-{number}.tar.zst",
            length=length,
            sha256=sha256_hex,
            custom=Custom(name="firmware", counter=number + 1, version=f"1.{number}", models=[f"Acme/m{number % 50}"]),
            url=f"https://cdn.example/{number}",
        )
        for number in range(MANY)
    ]
    maker.exchange.ask(Request(add=wanted), open_repository(maker.provider).files)
    took = {}
    for name, act in (("signed", maker.sign), ("published", maker.publish), ("read", lambda: open_shelf(maker.config))):
        began = time.monotonic()
        act()
        took[name] = time.monotonic() - began
    whole = open_repository(maker.provider)
    longest = max(map(len, whole.files.values()))
    assert len(open_shelf(maker.config).targets) == MANY
    assert longest <= MOST_BYTES
    assert maker.client().find("fw/model-7/fw-4007.tar.zst") is not None
    words = ", ".join(f"{name} in {seconds:.1f} s" for name, seconds in took.items())
    figure(f"releases, {MANY} targets: {words}; longest file {longest} bytes of {MOST_BYTES}")
