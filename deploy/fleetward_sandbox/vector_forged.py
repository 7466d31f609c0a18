"""Hostile envelopes, by what is wrong with the token: algorithms, headers, encodings, JSON.

Source: RFC 8725 (JWT best practices) sections 2 and 3; protocol section 3 "Checks".
"""

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleetward_broker import profiles
from fleetward_sandbox.vector_cases import Case, Signing, Spoiler, dumps, sealed, signer
from fleetward_sandbox.vector_good import too_large
from fleetward_sandbox.vector_pki import PROVIDER, Cast, der
from fleetward_schemas.certificates import spki
from fleetward_schemas.errors import Code
from fleetward_schemas.jws import PrivateKey
from fleetward_schemas.strict import b64url, show_der

BAD_ALG, MALFORMED = Code.BAD_ALG, Code.MALFORMED


def algorithms(good: dict[str, Case], cast: Cast) -> Iterator[Case]:
    """Spoil the algorithm: everything but RS256 by an RSA key and EdDSA by an Ed25519 key."""
    rs256, eddsa, hello = (Spoiler(good[name]) for name in ("up-telemetry", "up-telemetry-eddsa", "up-f-hello"))
    public = cast.device_a.key.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ec_key = cast.ring.p256("attacker-p256")
    yield rs256.header("alg-none", "alg none, no signature", BAD_ALG, lambda _: b"", alg="none")
    yield rs256.header("alg-none-signed", "alg none over a real signature", BAD_ALG, alg="none")
    yield rs256.header("alg-none-capitals", "alg nOnE", BAD_ALG, lambda _: b"", alg="nOnE")
    yield rs256.header("alg-hs256-pem", "HMAC with the public key's PEM as secret", BAD_ALG, _hs256(pem), alg="HS256")
    yield rs256.header("alg-hs256-der", "HMAC with the public key's DER", BAD_ALG, _hs256(spki(public)), alg="HS256")
    yield rs256.header("alg-ps256", "RSASSA-PSS by the right key", BAD_ALG, _pss(cast.device_a.key), alg="PS256")
    yield rs256.header("alg-rs512", "RS512 by the right key", BAD_ALG, _rs512(cast.device_a.key), alg="RS512")
    yield rs256.header("alg-rs256-small", "alg in small letters", BAD_ALG, alg="rs256")
    yield rs256.header("alg-es256", "ES256 by a P-256 key", BAD_ALG, _es256(ec_key), alg="ES256")
    yield rs256.header("alg-eddsa-for-rsa", "EdDSA named, an RSA key known", BAD_ALG, alg="EdDSA")
    yield eddsa.header("alg-rs256-for-ed25519", "RS256 named, an Ed25519 key known", BAD_ALG, alg="RS256")
    yield rs256.header("alg-number", "alg is a number", MALFORMED, alg=256)
    yield rs256.header("alg-missing", "no alg", MALFORMED, alg=...)
    yield hello.header("x5c-alg-differs", "RS256 named, an Ed25519 certificate in x5c", BAD_ALG, alg="RS256")
    yield from _weak_leaves(hello, cast)


def _weak_leaves(hello: Spoiler, cast: Cast) -> Iterator[Case]:
    """Put keys that are not approved into an otherwise rightful factory certificate."""
    small = cast.ring.rsa("attacker-rsa-1024", 1024)
    ec_key = cast.ring.p256("attacker-p256")
    name = f"f-{cast.id_b}"
    subject = profiles.Subject(name, PROVIDER)
    for title, key, alg, signing in (
        ("rsa-1024", small, "RS256", signer(small)),
        ("p-256", ec_key, "ES256", _es256(ec_key)),
        ("p-256-as-rs256", ec_key, "RS256", _es256(ec_key)),
    ):
        public = key.public_key()
        made = cast.ring.certificate(
            f"factory-b-{title}",
            lambda public=public: profiles.issue(  # type: ignore[misc]
                profiles.FACTORY,
                subject,
                public,
                cast.pki.factory,
                start=cast.pki.root.certificate.not_valid_before_utc,
            ),
        )
        x5c = [show_der(der(made)), show_der(cast.factory_b.chain[1])]
        yield hello.header(f"key-{title}", f"a {title} key in x5c", BAD_ALG, signing, alg=alg, x5c=x5c)


def _hs256(secret: bytes) -> Signing:
    return lambda data: hmac.new(secret, data, hashlib.sha256).digest()


def _pss(key: PrivateKey) -> Signing:
    """Sign with PSS and an empty salt, which makes the same bytes each time."""
    return lambda data: key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 0), hashes.SHA256())  # type: ignore[call-arg]


def _rs512(key: PrivateKey) -> Signing:
    return lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA512())  # type: ignore[call-arg]


def _es256(key: ec.EllipticCurvePrivateKey) -> Signing:
    def signing(data: bytes) -> bytes:
        der_signature = key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = utils.decode_dss_signature(der_signature)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return signing


def headers(good: dict[str, Case], cast: Cast) -> Iterator[Case]:
    """Spoil the header: it has three members, and nothing in it is ever followed."""
    telemetry, hello, beacon = (Spoiler(good[name]) for name in ("up-telemetry", "up-f-hello", "fleet-beacon"))
    leaf = show_der(cast.factory_b.chain[0])
    strangers: dict[str, Any] = {
        "jku": "https://attacker.example/keys",
        "jwk": {"kty": "OKP", "crv": "Ed25519", "x": b64url(bytes(32))},
        "kid": "../../dev/null",
        "x5u": "https://attacker.example/chain",
        "crit": ["exp"],
        "zip": "DEF",
        "b64": False,
        "x5t": b64url(bytes(20)),
        "note": "",
    }
    for member, value in strangers.items():
        yield telemetry.header(f"header-{member}", f"a header member {member}", MALFORMED, **{member: value})
    yield telemetry.header("header-both", "x5c and x5t#S256 both", MALFORMED, x5c=[leaf])
    yield telemetry.header("header-neither", "neither x5c nor x5t#S256", MALFORMED, x5t__S256=...)
    yield telemetry.header("header-typ-jwt", "typ JWT: a token made for something else", MALFORMED, typ="JWT")
    yield telemetry.header("header-typ-missing", "no typ", MALFORMED, typ=...)
    yield telemetry.header("header-x5t-short", "a thumbprint of 20 bytes", MALFORMED, x5t__S256=b64url(bytes(20)))
    padded = str(telemetry.base.header()["x5t#S256"]) + "="
    yield telemetry.header("header-x5t-padded", "a padded thumbprint", MALFORMED, x5t__S256=padded)
    yield telemetry.header("header-x5t-null", "x5t#S256 is null", MALFORMED, x5t__S256=None)
    chain: dict[str, Any] = {"x5t__S256": ..., "x5c": [show_der(one) for one in cast.device_a.chain]}
    yield telemetry.header("device-by-chain", "a device brings its chain", MALFORMED, **chain)
    print_b = telemetry.base.header()["x5t#S256"]
    yield hello.header(
        "factory-by-thumbprint", "a factory principal names a thumbprint", MALFORMED, x5c=..., x5t__S256=print_b
    )
    yield beacon.header("server-by-thumbprint", "the server names a thumbprint", MALFORMED, x5c=..., x5t__S256=print_b)
    yield from _chains(hello, leaf, cast)
    yield from _header_texts(telemetry)


def _chains(hello: Spoiler, leaf: str, cast: Cast) -> Iterator[Case]:
    authority = show_der(cast.factory_b.chain[1])
    root = show_der(der(cast.pki.root.certificate))
    yield hello.header("x5c-empty", "an empty x5c", MALFORMED, x5c=[])
    yield hello.header("x5c-text", "x5c is a text", MALFORMED, x5c=leaf)
    yield hello.header("x5c-four", "four certificates", MALFORMED, x5c=[leaf, authority, root, root])
    yield hello.header(
        "x5c-base64url", "base64url in x5c", MALFORMED, x5c=[leaf.replace("+", "-").replace("/", "_"), authority]
    )
    yield hello.header(
        "x5c-line-break", "a line break in x5c", MALFORMED, x5c=[leaf[:64] + "\n" + leaf[64:], authority]
    )
    yield hello.header("x5c-no-certificate", "x5c holds other DER", MALFORMED, x5c=[show_der(b"\x30\x00"), authority])
    yield hello.header(
        "x5c-authority-no-certificate", "no certificate above the leaf", MALFORMED, x5c=[leaf, show_der(b"\x30\x00")]
    )
    yield hello.header("x5c-number", "a number in x5c", MALFORMED, x5c=[leaf, 7])


def _header_texts(telemetry: Spoiler) -> Iterator[Case]:
    text = dumps(telemetry.base.header())
    yield telemetry.header_text(
        "header-twice", "alg stands twice: the first is none", MALFORMED, '{"alg":"none",' + text[1:]
    )
    escaped = '{"\\u0061lg":"none",' + text[1:]
    yield telemetry.header_text("header-twice-escaped", "alg stands twice, once escaped", MALFORMED, escaped)
    yield telemetry.header_text("header-array", "the header is an array", MALFORMED, f"[{text}]")
    yield telemetry.header_text("header-no-json", "the header is no JSON", MALFORMED, "alg=RS256")
    yield telemetry.header_text("header-bom", "a byte order mark", MALFORMED, "\ufeff" + text)
    yield telemetry.header_text("header-long", "a header over 12288 characters", MALFORMED, text + " " * 9216)


def encodings(good: dict[str, Case], _: Cast) -> Iterator[Case]:
    """Spoil the spelling of the token itself."""
    telemetry = Spoiler(good["up-telemetry"])
    raw = telemetry.base.raw
    head, payload, signature = raw.split(".")
    yield telemetry.raw("token-empty", "nothing", MALFORMED, "")
    yield telemetry.raw("token-two-parts", "no signature part", MALFORMED, f"{head}.{payload}")
    yield telemetry.raw("token-four-parts", "a fourth part", MALFORMED, raw + ".")
    yield telemetry.raw("token-no-header", "an empty header part", MALFORMED, f".{payload}.{signature}")
    yield telemetry.raw(
        "token-no-payload", "an empty payload part: detached content", MALFORMED, f"{head}..{signature}"
    )
    yield telemetry.raw("token-padded", "a padded signature part", MALFORMED, raw + "==")
    yield telemetry.raw("token-newline", "a line feed at the end", MALFORMED, raw + "\n")
    yield telemetry.raw("token-space", "a space before", MALFORMED, " " + raw)
    yield telemetry.raw(
        "token-wrapped",
        "a line break inside the payload part",
        MALFORMED,
        f"{head}.{payload[:76]}\r\n{payload[76:]}.{signature}",
    )
    yield telemetry.raw(
        "token-standard-base64", "the standard alphabet", MALFORMED, raw.replace("-", "+").replace("_", "/")
    )
    yield telemetry.raw(
        "token-not-canonical", "unused bits set in the last character", MALFORMED, raw[:-1] + _next(raw[-1])
    )
    yield telemetry.raw(
        "token-json",
        "JWS JSON serialisation",
        MALFORMED,
        dumps({"payload": payload, "protected": head, "signature": signature}),
    )
    yield telemetry.raw("token-too-large", "48 KiB and one", Code.TOO_LARGE, too_large(telemetry.base))
    yield telemetry.raw("signature-empty", "an empty signature", Code.BAD_SIGNATURE, f"{head}.{payload}.")
    yield telemetry.raw(
        "signature-short", "a signature of 32 bytes", Code.BAD_SIGNATURE, f"{head}.{payload}.{b64url(bytes(32))}"
    )
    other = good["up-status-online"].raw.split(".")[2]
    yield telemetry.raw(
        "signature-other", "the signature of another message", Code.BAD_SIGNATURE, f"{head}.{payload}.{other}"
    )


def _next(letter: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(letter) + 1]


def json_texts(good: dict[str, Case], _: Cast) -> Iterator[Case]:
    """Spoil the JSON of the payload; every one is rightly signed."""
    telemetry = Spoiler(good["up-telemetry"])
    text = dumps(telemetry.base.payload())
    seq = f'"seq":{telemetry.base.payload()["seq"]}'
    put = {
        "twice": ("kind stands twice", '{"kind":"status",' + text[1:]),
        "twice-inside": ("a metric stands twice", text.replace('"uptimeS":', '"uptimeS":1,"uptimeS":')),
        "nan": ("NaN", text.replace("31.5", "NaN")),
        "infinity": ("Infinity", text.replace("31.5", "Infinity")),
        "overflow": ("a number that is infinite once read", text.replace("31.5", "1e999")),
        "long-number": ("a number of 25 characters", text.replace("31.5", "31.5" + "0" * 21)),
        "huge-seq": ("seq is 2^53", text.replace(seq, '"seq":9007199254740992')),
        "very-huge-seq": ("seq has 5000 digits", text.replace(seq, '"seq":' + "9" * 5000)),
        "float-seq": ("seq is 1.0", text.replace(seq, '"seq":1.0')),
        "negative-seq": ("seq is negative", text.replace(seq, '"seq":-1')),
        "text-seq": ("seq is a text", text.replace(seq, f'"seq":"{telemetry.base.payload()["seq"]}"')),
        "true-seq": ("seq is true", text.replace(seq, '"seq":true')),
        "surrogate": ("a lone surrogate", text.replace('"kind":"', '"kind":"\\ud800')),
        "surrogate-raw": ("a lone surrogate in raw bytes", text.replace('"kind":"', '"kind":"\ud800')),
        "bom": ("a byte order mark", "\ufeff" + text),
        "control": ("a raw control character", text.replace('"kind":"', '"kind":"\x01')),
        "trailing": ("something after the object", text + "{}"),
        "array": ("an array around the object", f"[{text}]"),
        "comment": ("a comment", "/**/" + text),
        "deep": ("nine levels deep", text.replace('"body":{', '"body":{"a":[[[[[[[]]]]]]],')),
        "wide": ("over 600 arrays", text.replace('"body":{', '"body":{"a":[' + ",".join(["[]"] * 600) + "],")),
    }
    for name, (note, payload) in put.items():
        yield telemetry.text(f"json-{name}", note, MALFORMED, payload)
    yield telemetry.text(
        "json-not-utf-8", "a byte that is not UTF-8", MALFORMED, text.encode().replace(b'"kind":"', b'"kind":"\xff')
    )
    yield telemetry.text("json-utf-16", "UTF-16", MALFORMED, text.encode("utf-16"))
    # The same bytes under another header: what was signed is the text of both.
    spaced = sealed(dumps(telemetry.base.header()) + " ", text, lambda _: b"")
    yield telemetry.raw(
        "header-respelled",
        "the header spelled anew under the old signature",
        Code.BAD_SIGNATURE,
        spaced + telemetry.base.raw.split(".")[2],
    )
