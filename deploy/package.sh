#!/bin/sh
# Build wheel and sdist, install each in an empty environment, and run what a newcomer would run first.
set -eu
python=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build -q --outdir "$work/dist" . >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }

try() { # name, requirement
    "$python" -m venv "$work/$1"
    "$work/$1/bin/python" -m pip install -q --disable-pip-version-check -c deploy/constraints.txt "$2" 2>&1 | grep -v WARNING || true
}

try agent "$(ls "$work"/dist/*.whl)"
"$work/agent/bin/fleetward-agent" --help >/dev/null
"$work/agent/bin/python" -m pip list --format=freeze | grep -qi '^sqlalchemy' && { echo "the agent's set holds SQLAlchemy"; exit 1; }
echo "wheel, base set (what a device gets): $("$work/agent/bin/python" -m pip list --format=freeze | wc -l) distributions"

try whole "$(ls "$work"/dist/*.tar.gz)[all]"
"$work/whole/bin/fleetward" --help >/dev/null
(cd "$work" && "$work/whole/bin/fleetward" init --dir "$work/provider" --json >/dev/null && "$work/whole/bin/fleetward" config check --dir "$work/provider" --json >/dev/null)
"$work/whole/bin/fleetward" schema export --out "$work/schema" --json >/dev/null
[ "$(ls "$work/schema" | wc -l)" -gt 10 ] || { echo "schema export wrote too little"; exit 1; }
echo "sdist, everything: $("$work/whole/bin/python" -m pip list --format=freeze | wc -l) distributions; init, config check, schema export ran"
