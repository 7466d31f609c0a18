"""Root and release keys in one token, the server's two in another: no key of the repository is a file anywhere."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_sandbox.softhsm import SoftToken
from fleetward_server.config import load
from fleetward_server.init import Wish as ProviderWish
from fleetward_server.init import make_provider
from fleetward_server.releases import online
from fleetward_server.releases.init import Wish
from fleetward_server.releases.rotating import Wish as RootWish
from fleetward_server.releases.rotating import rotate
from tests.server.releaser import Maker

pytestmark = [pytest.mark.live, pytest.mark.part]


def test_a_repository_of_tokens_is_read_by_python_tuf(tokens: Callable[[str], SoftToken], tmp_path: Path) -> None:
    online_token, offline_token = tokens("release-online"), tokens("release-offline")
    make_provider(tmp_path / "p", ProviderWish(port=0, hsm=online_token.uri), datetime.now(UTC))
    maker = Maker(tmp_path / "maker", tmp_path / "p")
    maker.operator.make_repository(Wish(maker.keys_folder, hsm=offline_token.uri))
    config = load(maker.provider)
    assert config.releases.snapshot_key.startswith("pkcs11:token=release-online;object=release-snapshot")
    assert not list(maker.keys_folder.rglob("*.pem"))
    assert {path.name for path in maker.provider.rglob("*.key.pem")} == {"broker.key.pem", "server.key.pem"}
    pins = [one.pin.read_text().strip() for one in (online_token, offline_token)]
    texts = [path.read_text() for path in (maker.provider / "fleetward.toml", maker.keys_folder / "keys.json")]
    assert not any(pin in text for pin in pins for text in texts)

    client = maker.client()
    path = maker.release(7)
    found = client.find(path)
    assert found is not None
    found.verify_length_and_hashes(b"firmware")
    root: Metadata[Root] = Metadata.from_bytes(client.root)
    assert {key.scheme for key in root.signed.keys.values()} == {"rsa-pkcs1v15-sha256"}

    maker.now += timedelta(hours=13)
    assert online.renew(config, maker.now)
    maker.operator.ask_renewal(maker.exchange, new_online_keys=True)
    done = rotate(RootWish((maker.keys,), ("release-root-1", "release")), maker.exchange, maker.now)
    assert (len(done.gone), len(done.come)) == (4, 4)
    maker.publish()
    assert load(maker.provider).releases.timestamp_key.partition(";object=")[2].startswith("release-timestamp-v2")
    assert client.find(path) is not None
    assert maker.client("new").find(maker.release(8)) is not None


def test_keys_of_a_token_are_never_made_over(tokens: Callable[[str], SoftToken], tmp_path: Path) -> None:
    token = tokens("release-taken")
    make_provider(tmp_path / "p", ProviderWish(port=0), datetime.now(UTC))
    maker = Maker(tmp_path / "maker", tmp_path / "p")
    maker.operator.make_repository(Wish(maker.keys_folder, hsm=token.uri))
    make_provider(tmp_path / "q", ProviderWish(port=0), datetime.now(UTC))
    other = Maker(tmp_path / "other", tmp_path / "q")
    with pytest.raises(KeyUnavailable, match="release-root-1, release-root-2"):
        other.operator.make_repository(Wish(tmp_path / "K2", root_keys=4, hsm=token.uri))
    assert not (tmp_path / "K2").exists()
    assert maker.client().find(maker.release(7)) is not None
