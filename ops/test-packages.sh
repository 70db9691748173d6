#!/bin/sh
# Install the Debian packages that the tests need and that are missing. No service of theirs is started.
# Where that cannot be done, the tests that need them are skipped (and fail in CI); pytest says which.
set -eu
cd "$(dirname "$0")"
command -v dpkg-query >/dev/null || { echo "No Debian here: install the programs of ops/debian-test-packages.txt by hand."; exit 0; }

missing=
for package in $(sed 's/#.*//' debian-test-packages.txt); do
    state=$(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    [ "$state" = "ii " ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root="sudo -n"
else
    echo "Missing Debian packages:$missing. As root: apt-get install$missing"
    exit 0
fi

# policy-rc.d answers "no" (101) to whoever wants to start a service while these packages are set up.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    trap '$as_root rm -f "$policy"' EXIT
    $as_root chmod 755 "$policy"
fi
echo "Installing Debian packages:$missing"
install() {
    $as_root apt-get update -qq
    # shellcheck disable=SC2086  one word for each package
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing </dev/null
}
install || echo "They could not be installed; the lines above say why. Going on without them."
