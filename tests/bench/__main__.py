"""``make bench``: figures, each beside a baseline of the same run, since machines differ and are shared."""

import importlib
import sys

NAMES = (
    "agent",
    "enrol",
    "ingest",
    "stampede",
    "rotation",
    "upgrade",
    "filters",
    "clock",
    "link",
    "bytes",
    "away",
    "storm",
    "catchup",
    "broker",
    "brokers",
    "hsm",
)


def main() -> int:
    """Run the benches named on the command line, or all."""
    for name in sys.argv[1:] or NAMES:
        print(f"== {name}", flush=True)
        importlib.import_module(f"tests.bench.bench_{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
