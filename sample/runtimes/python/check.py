"""Does something real with every library of the runtime, without a network."""

import bz2
import ctypes
import http.server
import lzma
import os
import readline
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import zlib

import lxml.etree
import requests
import sqlalchemy
import yaml

text = b"from source down to the system level " * 1000
for module in (bz2, lzma, zlib):
    packed = module.compress(text)
    assert len(packed) < len(text) and module.decompress(packed) == text, module
    print(module.__name__, len(text), "to", len(packed), "bytes and back")

assert ctypes.CDLL(None).strlen(b"seven  ") == 7
print("ctypes calls the C library")

readline.parse_and_bind("tab: complete")
print("readline", readline._READLINE_LIBRARY_VERSION)

assert sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,)
print("sqlite3", sqlite3.sqlite_version)

engine = sqlalchemy.create_engine("sqlite://")
with engine.connect() as db:
    assert db.execute(sqlalchemy.text("select sum(x) from (select 1 as x union select 2)")).scalar() == 3
import sqlalchemy.util  # noqa: E402  what of it is compiled is told

print("sqlalchemy", sqlalchemy.__version__, "compiled" if sqlalchemy.util.has_compiled_ext() else "pure")

sheet = lxml.etree.XSLT(lxml.etree.XML(
    '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">'
    '<xsl:template match="/a"><b><xsl:value-of select="count(c)"/></b></xsl:template></xsl:stylesheet>'))
assert sheet(lxml.etree.XML("<a><c/><c/></a>")).getroot().text == "2"
print("lxml with libxml2", ".".join(map(str, lxml.etree.LIBXML_VERSION)), "and libxslt", ".".join(map(str, lxml.etree.LIBXSLT_VERSION)))

assert yaml.load("a: [1, 2]", Loader=yaml.CSafeLoader) == {"a": [1, 2]}
print("yaml with libyaml", ".".join(map(str, yaml._yaml.get_version())))


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello over " + self.request.version().encode())

    def log_message(self, *args):
        pass


with tempfile.TemporaryDirectory() as folder:
    key, cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
                   check=True, stderr=subprocess.DEVNULL)
    server = http.server.HTTPServer(("127.0.0.1", 0), Hello)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://localhost:{server.server_port}/"
    session = requests.Session()
    session.trust_env = False
    answer = session.get(url, verify=cert, timeout=20)
    assert answer.text.startswith("hello over TLSv1."), answer.text
    try:
        session.get(url, timeout=20)
        sys.exit("a certificate that nobody vouches for was believed")
    except requests.exceptions.SSLError:
        pass
    server.shutdown()
print(answer.text, "by", ssl.OPENSSL_VERSION)
