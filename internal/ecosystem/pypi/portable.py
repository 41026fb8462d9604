"""Makes a wheel portable: auditwheel puts the libraries that it links into it.

Arguments: the folder with the wheel, the folders of libraries with colons between them,
the output folder. It runs inside the sandbox with packages that others wrote, so nothing
that it says is evidence of anything: what it leaves is compared with what it was given.
"""
import os
import shutil
import sys
import zipfile

WHEELS, LIBRARIES, OUT = sys.argv[1:4]


def native(path):
    """Tells whether a wheel has an ELF file: one that has none links nothing."""
    with zipfile.ZipFile(path) as z:
        for info in z.infolist():
            with z.open(info) as f:
                if f.read(4) == b"\x7fELF":
                    return True
    return False


def main():
    # What the interpreter put there is this file's folder.
    sys.path.pop(0)
    names = os.listdir(WHEELS)
    if len(names) != 1:
        sys.exit("there are %d files in %s: want one wheel" % (len(names), WHEELS))
    wheel = os.path.join(WHEELS, names[0])
    if not native(wheel):
        shutil.copyfile(wheel, os.path.join(OUT, names[0]))
        print("links nothing:", names[0])
        return
    # Where auditwheel looks before the loader's own configuration.
    os.environ["LD_LIBRARY_PATH"] = LIBRARIES
    from auditwheel.main import main as auditwheel

    del sys.argv[1:]
    sys.argv[0] = "auditwheel"
    sys.argv += ["-v", "repair", "--plat", "auto", "--wheel-dir", OUT, wheel]
    sys.exit(auditwheel())


main()
