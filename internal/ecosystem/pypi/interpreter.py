"""Checks that the interpreter is the one that the plan was made for, then runs the driver.

Arguments: what the plan names, such as cpython-3.11.2; the driver and its arguments.
A plan's markers and tags rest on that version, and its packages run on that
interpreter: another one, the seed's say, must not build them.
"""
import platform
import runpy
import sys
import sysconfig

want, driver = sys.argv[1:3]
have = "%s-%s" % (sys.implementation.name, platform.python_version())
if have != want:
    sys.exit("the interpreter is %s, the plan was made for %s" % (have, want))
soabi, tag = sysconfig.get_config_var("SOABI") or "", "cpython-%d%d-" % sys.version_info[:2]
if not soabi.startswith(tag):
    sys.exit("the interpreter's modules are called %r, the plan was made for %s…" % (soabi, tag))
del sys.argv[:2]
runpy.run_path(driver, run_name="__main__")
