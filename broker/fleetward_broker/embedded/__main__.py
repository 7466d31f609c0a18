"""``python -m fleetward_broker.embedded --config FILE``: run the embedded broker."""

import argparse
import sys
from pathlib import Path

from fleetward_broker.embedded.serve import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="fleetward_broker.embedded", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="TOML; paths in it start at FILE")
    sys.exit(main(parser.parse_args().config))
