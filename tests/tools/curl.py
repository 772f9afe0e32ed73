#!/usr/bin/env python3
"""curl with every option that matters to a proxy, in the clear and over TLS, with nginx and origin.py as backends.

    tests/tools/curl.py --binary target/release/crossfade
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

from stage import NGINX, TOOLS, free_ports, run, verdict, wait_for

MAKE_CERTS = TOOLS.parent.parent / "config" / "make-certs.sh"
NAME = "shop.example.com"
TEXT = "All work and no play makes a dull proxy. " * 5000
BLOB = random.Random(1).randbytes(3 << 20)

CONFIG = """\
threads: 2
listeners:
  - address: 127.0.0.1:{clear}
  - address: 127.0.0.1:{secure}
    tls: {{ certificates: [{{ cert: edge.crt, key: edge.key }}] }}
  - address: 127.0.0.1:{partners}
    tls: {{ certificates: [{{ cert: edge.crt, key: edge.key }}], client_ca: ca.crt }}
  - {{ address: 127.0.0.1:{away}, redirect_https: true }}
  - {{ address: 127.0.0.1:{behind}, proxy_protocol: require, trusted_proxies: [127.0.0.1] }}
  - address: 127.0.0.1:{secure_behind}
    proxy_protocol: require
    trusted_proxies: [127.0.0.1]
    tls: {{ certificates: [{{ cert: edge.crt, key: edge.key }}] }}
admin: {{ address: unix:admin.sock }}
services:
  origin: {{ pools: {{ blue: {{ backends: [127.0.0.1:{origin}] }} }} }}
  files: {{ pools: {{ blue: {{ backends: [127.0.0.1:{nginx}] }} }} }}
routes:
  - {{ match: {{ path_prefix: /files }}, service: files }}
  - {{ service: origin }}
"""

SERVER = (
    "server {{ listen 127.0.0.1:{port}; root {folder}; default_type text/plain;"
    " gzip on; gzip_types text/plain; gzip_min_length 100; }}"
)


@dataclasses.dataclass
class Said:
    code: int
    status: int
    version: str
    connects: str
    body: bytes
    head: str
    errors: str

    def json(self) -> dict:
        return json.loads(self.body)

    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.json()["headers"]}


class Place:
    def __init__(self, binary: pathlib.Path, folder: pathlib.Path, stack: contextlib.ExitStack):
        self.folder = folder
        names = ["clear", "secure", "partners", "away", "behind", "secure_behind", "origin", "nginx"]
        self.ports = dict(zip(names, free_ports(len(names))))
        subprocess.run([MAKE_CERTS, folder], check=True, capture_output=True)
        (folder / "files").mkdir()
        (folder / "files/text").write_text(TEXT)
        (folder / "files/blob").write_bytes(BLOB)
        origin, nginx = (f"127.0.0.1:{self.ports[name]}" for name in ("origin", "nginx"))
        run([sys.executable, TOOLS / "origin.py", f"v1={origin}"], folder / "origin.log", stack)
        server = SERVER.format(port=self.ports["nginx"], folder=folder)
        # Its workers are another user's, and may read what is in here.
        folder.chmod(0o755)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, servers=server))
        found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or sys.exit("nginx is needed")
        run([found, "-c", folder / "nginx.conf", "-p", folder], folder / "nginx.log", stack)
        wait_for(f"http://{origin}/", folder / "origin.log")
        wait_for(f"http://{nginx}/files/text", folder / "nginx.log")
        (folder / "crossfade.yaml").write_text(CONFIG.format(**self.ports))
        log = folder / "crossfade.log"
        run([binary.resolve(), "serve", folder / "crossfade.yaml"], log, stack)
        wait_for(f"http://127.0.0.1:{self.ports['clear']}/", log)

    def curl(self, listener: str, target: str, *options: str, scheme: str | None = None, stdin: bytes = b"") -> Said:
        """One URL, on a listener; `target` without a slash first is one as it stands."""
        scheme = scheme or ("https" if "secure" in listener or listener == "partners" else "http")
        url = f"{scheme}://{NAME}{target}" if target.startswith("/") else target
        format_ = r"\n%{http_code} %{http_version} %{num_connects}"
        command = ["curl", "-sS", "-m", "30", "--cacert", "ca.crt", "-D", "head", "-w", format_]
        command += ["--connect-to", f"{NAME}:80:127.0.0.1:{self.ports[listener]}"]
        command += ["--connect-to", f"{NAME}:443:127.0.0.1:{self.ports['secure' if listener == 'away' else listener]}"]
        (self.folder / "head").unlink(missing_ok=True)
        ended = subprocess.run([*command, *options, url], input=stdin, capture_output=True, timeout=60, cwd=self.folder)
        body, _, end = ended.stdout.rpartition(b"\n")
        status, version, connects = end.decode().split(" ")
        head = self.folder / "head"
        text = head.read_text() if head.exists() else ""
        return Said(ended.returncode, int(status), version, connects, body, text, ended.stderr.decode())


def is_sent(said: Said, body: bytes) -> bool:
    return said.json()["sha256"] == hashlib.sha256(body).hexdigest() and said.json()["received"] == len(body)


# What it is about, listener, target, options, and what must hold beside an exit code of 0.
Case = tuple[str, str, str, list[str], Callable[[Said], bool]]

UPLOAD = ["-X", "POST", "-T", "blob"]


def both() -> list[Case]:
    """The same in each version of HTTP, with TLS and without."""
    cases: list[Case] = []
    for listener, option, version in [
        ("clear", "--http1.1", "1.1"),
        ("clear", "--http2-prior-knowledge", "2"),
        ("secure", "--http1.1", "1.1"),
        ("secure", "--http2", "2"),
    ]:

        def case(what: str, target: str, options: list[str], holds: Callable[[Said], bool]) -> None:
            def all_holds(said: Said, version: str = version) -> bool:
                return said.version == version and holds(said)

            cases.append((f"{what}, {listener} {option}", listener, target, [option, *options], all_holds))

        part = BLOB[100:200]
        case("GET", "/files/blob", [], lambda said: said.status == 200 and said.body == BLOB)
        case("--head", "/files/blob", ["--head"], lambda said: f"content-length: {len(BLOB)}" in said.head.lower())
        case("--range", "/files/blob", ["--range", "100-199"], lambda said: said.status == 206 and said.body == part)
        case("--range, the end", "/files/blob", ["-r", "-7"], lambda said: said.body == BLOB[-7:])
        case("--range, none", "/files/blob", ["-r", "9999999-"], lambda said: said.status == 416)
        case("--compressed", "/files/text", ["--compressed"], lambda said: said.body.decode() == TEXT)
        case("not compressed", "/files/text", [], lambda said: said.body.decode() == TEXT)
        case("a condition", "/files/text", ["-z", "files/text"], lambda said: said.status == 304)
        case("--upload-file", "/", UPLOAD, lambda said: is_sent(said, BLOB))
        case("--expect100-timeout", "/", [*UPLOAD, "--expect100-timeout", "20", "-H", "Expect: 100-continue"],
             lambda said: is_sent(said, BLOB))
        case("no Expect", "/", [*UPLOAD, "-H", "Expect:"], lambda said: is_sent(said, BLOB))
        case("--data", "/", ["--data", "a=b"], lambda said: is_sent(said, b"a=b"))
        case("--form", "/echo", ["-F", "file=@files/text"], lambda said: len(said.json()["body"]) > len(TEXT))
        case("--get", "/echo", ["-G", "--data-urlencode", "a=b/c"],
             lambda said: said.json()["target"].lower() == "/echo?a=b%2fc")
        case("trailers", "/chunked?pieces=3", ["-H", "TE: trailers"], lambda said: "x-pieces: 3" in said.head.lower())
        case("--path-as-is", "/a/../b", ["--path-as-is"], lambda said: said.status == 400)
        case("OPTIONS", "/echo", ["-X", "OPTIONS"], lambda said: said.json()["method"] == "OPTIONS")
        case("a long URL", "/echo?" + "a" * 8000, [], lambda said: said.status == 200)
        # curl 7.88 does not get along with itself here, whatever server it asks.
        if option != "--http2-prior-knowledge":
            again = f"{'https' if listener == 'secure' else 'http'}://{NAME}/"
            case("one connection", "/", [again], lambda said: said.connects == "0")
        case("--user", "/echo", ["-u", "me:secret"], lambda said: said.headers()["authorization"].startswith("Basic "))
        case("--cookie", "/echo", ["-b", "a=1; b=2"], lambda said: said.headers()["cookie"] == "a=1; b=2")
        case("forwarded", "/echo", ["-H", "x-forwarded-for: 6.6.6.6"],
             lambda said: said.headers()["x-forwarded-for"] == "127.0.0.1")
    return cases


def others(place: Place) -> list[Case]:
    shown = ["--cert", "client.crt", "--key", "client.key"]
    port = place.ports["secure"]
    return [
        ("--http1.0", "clear", "/files/text", ["--http1.0"], lambda said: said.body.decode() == TEXT),
        ("--http1.0 to a chunked answer", "clear", "/chunked?pieces=3", ["-0"], lambda said: said.status == 200),
        ("an upgrade to h2c is not taken", "clear", "/", ["--http2"], lambda said: said.version == "1.1"),
        ("an upload of unknown length", "clear", "/", ["-X", "POST", "-T", "-"], lambda said: is_sent(said, BLOB)),
        ("the same by HTTP/2", "secure", "/", ["-X", "POST", "-T", "-"], lambda said: is_sent(said, BLOB)),
        ("--request-target in absolute form", "clear", "/", ["--request-target", f"http://{NAME}/echo"],
         lambda said: said.json()["target"] == "/echo"),
        ("the same for another host", "clear", "/", ["--request-target", "http://other.example/echo"],
         lambda said: said.headers()["host"] == "other.example"),
        ("OPTIONS *", "clear", "/", ["-X", "OPTIONS", "--request-target", "*"], lambda said: said.status in (200, 404)),
        ("--tlsv1.2", "secure", "/", ["--tlsv1.2", "--tls-max", "1.2"], lambda said: said.status == 200),
        ("--tlsv1.3", "secure", "/", ["--tlsv1.3"], lambda said: said.status == 200),
        ("--no-alpn", "secure", "/", ["--no-alpn"], lambda said: said.version == "1.1"),
        ("--curves", "secure", "/", ["--curves", "X25519"], lambda said: said.status == 200),
        ("--resolve", "secure", f"https://{NAME}:{port}/", ["--resolve", f"{NAME}:{port}:127.0.0.1"],
         lambda said: said.status == 200),
        ("another host by TLS", "secure", "/", ["-H", "host: other.example"], lambda said: said.status == 421),
        ("--cert", "partners", "/echo", shown, lambda said: "Subject=" in said.headers()["x-forwarded-client-cert"]),
        ("--haproxy-protocol", "behind", "/echo", ["--haproxy-protocol"],
         lambda said: said.headers()["x-forwarded-for"] == "127.0.0.1"),
        ("--haproxy-protocol and TLS", "secure_behind", "/echo", ["--haproxy-protocol"],
         lambda said: said.version == "2" and said.headers()["x-forwarded-proto"] == "https"),
        ("--location", "away", "/echo?a=b", ["--location"],
         lambda said: said.json()["target"] == "/echo?a=b" and said.headers()["x-forwarded-proto"] == "https"),
        ("--unix-socket", "clear", "http://localhost/v1/status", ["--unix-socket", "admin.sock"],
         lambda said: said.json()["revision"] == 1),
        ("--parallel", "secure", "/", ["--parallel", *[f"https://{NAME}/bytes/1000"] * 50], lambda said: True),
    ]


# What curl must not succeed with: its exit code.
REFUSED = [
    ("--tls-max 1.1", "secure", ["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"], {35}),
    ("a cipher without forward secrecy", "secure", ["--tls-max", "1.2", "--ciphers", "AES128-GCM-SHA256"], {35}),
    ("a cipher of CBC", "secure", ["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES128-SHA"], {35}),
    ("no certificate", "partners", ["--http1.1"], {56}),
    ("no PROXY header", "behind", [], {52, 56}),
    ("a target with a space", "clear", ["--http0.9", "--request-target", "/ a"], {0}),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True, help="the crossfade to start")
    arguments = parser.parse_args()
    if not shutil.which("curl"):
        sys.exit("curl is needed")
    problems = []
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        (folder / "blob").write_bytes(BLOB)
        place = Place(arguments.binary, folder, stack)
        cases = both() + others(place)
        for what, listener, target, options, holds in cases:
            said = place.curl(listener, target, *options, stdin=BLOB if options[-1:] == ["-"] else b"")
            try:
                good = said.code == 0 and holds(said)
            except (ValueError, KeyError) as error:
                said.errors += repr(error)
                good = False
            if not good:
                shown = f"{said.code} {said.status} {said.version} {said.body[:200]!r} {said.head[:300]!r}"
                problems.append(f"{what}: {shown} {said.errors}")
        for what, listener, options, codes in REFUSED:
            said = place.curl(listener, "/", *options)
            if said.code not in codes or said.status == 200:
                problems.append(f"{what}: curl ended with {said.code}, status {said.status}: {said.errors}")
        print(f"{len(cases) + len(REFUSED)} ways to ask")
    return verdict(problems)


if __name__ == "__main__":
    sys.exit(main())
