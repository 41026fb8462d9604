"""Answers questions about Python's packaging formats with the packaging library.

Reads a JSON list of questions on stdin, writes one of answers; null means that
the library refuses the text.
"""
import json
import re
import sys

from packaging.markers import InvalidMarker, Marker, UndefinedComparison
from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import (
    InvalidName,
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version


def version(q):
    v = Version(q["text"])
    return [str(v), v.public, v.is_prerelease, v.is_postrelease]


def order(q):
    a, b = Version(q["text"]), Version(q["more"][0])
    return (a > b) - (a < b)


def specifiers(q):
    s = SpecifierSet(q["text"])
    return [s.contains(Version(v), prereleases=True) for v in q.get("tries", [])]


def filter_(q):
    return list(SpecifierSet(q["text"]).filter(q.get("tries", [])))


def evaluate(marker, env, extras):
    answers = []
    for x in extras:
        try:
            answers.append(marker.evaluate({**env, "extra": x}))
        except UndefinedComparison:
            answers.append("undefined")
    return answers


def requirement(q):
    r = Requirement(q["text"])
    if r.url:
        return "address"
    return {
        "name": canonicalize_name(r.name),
        "extras": sorted({canonicalize_name(x) for x in r.extras}),
        "holds": [r.specifier.contains(Version(v), prereleases=True) for v in q.get("tries", [])],
        "marker": None if r.marker is None else evaluate(r.marker, q["env"], q["more"]),
    }


def marker(q):
    return evaluate(Marker(q["text"]), q["env"], q["more"])


def wheel(q):
    name, ver, build, tags = parse_wheel_filename(q["text"])
    return [name, str(ver), "".join(str(b) for b in build), sorted(str(t) for t in tags)]


def sdist(q):
    name, ver = parse_sdist_filename(q["text"])
    return [name, str(ver)] if [name] == q["more"] else None


def tags(q):
    version, platforms = tuple(int(x) for x in q["text"].split(".")), q["more"]
    interpreter = "cp" + "".join(map(str, version))
    return [str(t) for t in cpython_tags(version, [interpreter], platforms)] + [
        str(t) for t in compatible_tags(version, interpreter, platforms)
    ]


def unfold(text):
    return re.sub(r"[ \t]*\r?\n[ \t]+", " ", text).strip()


def metadata(q):
    raw, _ = parse_email(q["text"].encode("utf-8", "surrogateescape"))
    # The email package leaves folds and white space at the end to its callers.
    raw = {k: [unfold(x) for x in v] if isinstance(v, list) else unfold(v) for k, v in raw.items() if k != "project_urls"}
    name = canonicalize_name(raw["name"], validate=True)
    python = raw.get("requires_python")
    if python == "":
        python = None
    if python is not None:
        try:
            python = [SpecifierSet(python).contains(Version(v), prereleases=True) for v in q["tries"]]
        except InvalidSpecifier:
            python = "invalid"
    return {
        "version": raw.get("metadata_version", ""),
        "name": name,
        "of": str(Version(raw["version"])),
        "requires": [canonicalize_name(Requirement(r).name) for r in raw.get("requires_dist", [])],
        "python": python,
        "extras": sorted({canonicalize_name(x) for x in raw.get("provides_extra", [])}),
        "dynamic": sorted({x.lower() for x in raw.get("dynamic", [])}),
    }


OPS = {
    "version": version, "order": order, "specifiers": specifiers, "filter": filter_, "requirement": requirement,
    "marker": marker, "wheel": wheel, "sdist": sdist, "tags": tags, "metadata": metadata,
}
REFUSED = (InvalidVersion, InvalidSpecifier, InvalidRequirement, InvalidMarker, InvalidWheelFilename, InvalidSdistFilename, InvalidName)


def answer(q):
    try:
        return OPS[q["op"]](q)
    except REFUSED:
        return None
    except KeyError:
        if q["op"] != "metadata":
            raise
        return None  # no name or no version


json.dump([answer(q) for q in json.load(sys.stdin)], sys.stdout)
