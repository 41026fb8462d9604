"""Calls one PEP 517 hook of the source in /build/src.

Arguments: hook, build-backend, backend-path as a JSON list, output folder,
config settings as JSON. It runs inside the sandbox with the source's own
backend, so nothing that it says is evidence of anything.
"""
import importlib
import json
import os
import sys

HOOK, BACKEND, BACKEND_PATH, OUT, SETTINGS = sys.argv[1:6]
SRC = "/build/src"


def load():
    """PEP 517, "Build backend": the object, found on backend-path first."""
    paths = [os.path.join(SRC, p) for p in json.loads(BACKEND_PATH)]
    sys.path[:0] = paths
    module, _, attributes = BACKEND.partition(":")
    backend = importlib.import_module(module)
    if paths:
        # PEP 517, "In-tree build backends": it must come from backend-path.
        origin = os.path.realpath(getattr(backend, "__file__", None) or "")
        if not any(origin.startswith(os.path.realpath(p) + os.sep) for p in paths):
            sys.exit("backend %s was loaded from %s, not from its backend-path" % (module, origin))
    for name in filter(None, attributes.split(".")):
        backend = getattr(backend, name)
    return backend


def main():
    # What the interpreter put there is this file's folder, which is not the source's business.
    sys.path.pop(0)
    settings = json.loads(SETTINGS)
    del sys.argv[1:]
    os.chdir(SRC)
    backend = load()
    if HOOK == "query":
        answer = {"requires": []}
        if hasattr(backend, "get_requires_for_build_wheel"):
            answer["requires"] = list(backend.get_requires_for_build_wheel(settings) or [])
        with open(os.path.join(OUT, "query.json"), "w", encoding="utf-8") as f:
            json.dump(answer, f)
    elif HOOK == "metadata":
        folder = os.path.join("/tmp", "metadata")
        os.makedirs(folder)
        if hasattr(backend, "prepare_metadata_for_build_wheel"):
            info = backend.prepare_metadata_for_build_wheel(folder, settings)
            with open(os.path.join(folder, info, "METADATA"), "rb") as f:
                data = f.read()
        else:
            import zipfile

            wheel = zipfile.ZipFile(os.path.join(folder, backend.build_wheel(folder, settings)))
            name = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1][0]
            data = wheel.read(name)
        with open(os.path.join(OUT, "METADATA"), "wb") as f:
            f.write(data)
    elif HOOK == "build_wheel":
        print("built", backend.build_wheel(OUT, settings))
    else:
        sys.exit("unknown hook %r" % HOOK)


main()
