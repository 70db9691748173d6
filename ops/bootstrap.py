"""Make the virtual environment and put the locked packages into it.

    python3 ops/bootstrap.py .venv requirements.lock

Read by any Python 3, so that an old one gets a sentence and no traceback; standard library only.
"""

import os
import shutil
import subprocess
import sys

NEEDED = (3, 11)
NEWER = ("python3.13", "python3.12", "python3.11")


def fail(sentence):
    sys.exit("tenantry: " + sentence)


def use_a_newer_python():
    """Go on in a Python that is new enough, if there is one under its own name."""
    for name in NEWER:
        path = shutil.which(name)
        if path and subprocess.call([path, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(path, [path, *sys.argv])
    fail(
        "Python 3.11 or later is needed; {} is {}.{}. Install it (Debian 12: apt-get install python3 python3-venv), "
        "or name one: make PYTHON=/path/to/python3.11 ...".format(sys.executable, *sys.version_info[:2])
    )


def make_environment(folder):
    python = os.path.join(folder, "bin", "python")
    if os.path.exists(python) and subprocess.call([python, "-c", "import pip"], stderr=subprocess.DEVNULL) == 0:
        return python
    try:
        import ensurepip  # noqa: F401  Debian ships it apart
        import venv
    except ImportError:
        fail(
            "this Python has no venv or ensurepip. Install it (Debian, Ubuntu: apt-get install python{}.{}-venv) "
            "and run the same command again.".format(*sys.version_info[:2])
        )
    print("Making the virtual environment in {} ...".format(folder), flush=True)
    venv.create(folder, clear=True, symlinks=True, with_pip=True)
    return python


def install(python, lock):
    print("Installing the packages of {} ...".format(lock), flush=True)
    pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    steps = (
        [*pip, "--require-hashes", "-r", lock],
        [*pip, "--no-deps", "--no-build-isolation", "--editable", "."],
    )
    quiet = dict(os.environ, PYTHONWARNINGS="ignore")  # setuptools warns of what "editable" means
    for step in steps:
        if subprocess.call(step, env=quiet) != 0:
            fail("the packages could not be installed; the lines above say why. Is a package index reachable?")


def main():
    if sys.version_info < NEEDED:
        use_a_newer_python()
    folder, lock = sys.argv[1:]
    install(make_environment(folder), lock)


if __name__ == "__main__":
    main()
