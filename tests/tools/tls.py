#!/usr/bin/env python3
"""TLS as other software sees it: OpenSSL and curl shake hands, certificates are renewed and weights moved under load
without a failed handshake or request, and idle connections stay small.

    tests/tools/tls.py --binary target/release/crossfade --renewals 20 --idle 1500
"""

import argparse
import contextlib
import json
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from stage import TOOLS, free_ports, run, verdict, wait_for

MAKE_CERTS = TOOLS.parent.parent / "config" / "make-certs.sh"
NAME = "shop.example.com"
LARGEST_IDLE_KIB = 16

CONFIG = """\
threads: 2
listeners:
  - address: 127.0.0.1:{edge}
    tls: {{ certificates: [{{ cert: edge.crt, key: edge.key }}] }}
  - address: 127.0.0.1:{partners}
    tls: {{ certificates: [{{ cert: edge.crt, key: edge.key }}], client_ca: ca.crt }}
  - address: 127.0.0.1:{modern}
    tls: {{ certificates: [{{ cert: edge.crt, key: edge.key }}], min_version: "1.3" }}
admin: {{ address: 127.0.0.1:{admin} }}
services:
  shop:
    pools:
      blue: {{ weight: 1, backends: [127.0.0.1:{backend}] }}
      green: {{ weight: 0, backends: [127.0.0.1:{backend}] }}
"""


class Edge:
    def __init__(self, arguments: argparse.Namespace, folder: pathlib.Path, stack: contextlib.ExitStack):
        self.folder = folder
        self.edge, self.partners, self.modern, self.admin, backend = free_ports(5)
        self.make_certs()
        run([sys.executable, TOOLS / "origin.py", f"v1=127.0.0.1:{backend}"], folder / "origin.log", stack)
        wait_for(f"http://127.0.0.1:{backend}/", folder / "origin.log")
        ports = {name: getattr(self, name) for name in ("edge", "partners", "modern", "admin")}
        (folder / "crossfade.yaml").write_text(CONFIG.format(backend=backend, **ports))
        log = folder / "crossfade.log"
        self.process = run([arguments.binary.resolve(), "serve", folder / "crossfade.yaml"], log, stack)
        wait_for(f"http://127.0.0.1:{self.admin}/readyz", log)

    def make_certs(self) -> None:
        subprocess.run([MAKE_CERTS, self.folder], check=True, capture_output=True)

    def client(self, shown: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.folder / "ca.crt")
        if shown:
            context.load_cert_chain(self.folder / "client.crt", self.folder / "client.key")
        return context

    def metric(self, start: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))

    def cut_over(self, pool: str) -> None:
        url = f"http://127.0.0.1:{self.admin}/v1/services/shop/cutover"
        body = json.dumps({"to": pool}).encode()
        request = urllib.request.Request(url, body, {"content-type": "application/json"}, method="POST")
        urllib.request.urlopen(request, timeout=20).close()

    def resident_kib(self) -> int:
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def ask(context: ssl.SSLContext, port: int, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """A connection after one request; it stays open."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    stream = context.wrap_socket(plain, server_hostname=NAME, session=session)
    stream.sendall(f"GET / HTTP/1.1\r\nhost: {NAME}\r\n\r\n".encode())
    answer = stream.recv(65536)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise OSError(f"answered {answer[:80]!r}")
    return stream


def openssl(edge: Edge, port: int, *options: str, request: str = "") -> str:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", NAME, "-CAfile"]
    command += [str(edge.folder / "ca.crt"), *options]
    ended = subprocess.run(command, input=request, capture_output=True, text=True, timeout=30)
    return ended.stdout + ended.stderr


def with_openssl(edge: Edge) -> list[str]:
    problems = []

    def expect(what: str, said: str, *wanted: str) -> None:
        problems.extend(f"openssl, {what}: no {word!r} in {said[-600:]!r}" for word in wanted if word not in said)

    one = f"GET / HTTP/1.0\r\nhost: {NAME}\r\n\r\n"
    for version, words in [("-tls1_2", "Protocol  : TLSv1.2"), ("-tls1_3", "New, TLSv1.3")]:
        said = openssl(edge, edge.edge, version, "-ign_eof", request=one)
        expect(version, said, words, "Verify return code: 0 (ok)", "HTTP/1.1 200 ", "closed")
        if "unexpected eof" in said:
            problems.append(f"openssl {version}: the connection ended without close_notify")
    expect("h2", openssl(edge, edge.edge, "-alpn", "h2,http/1.1"), "ALPN protocol: h2")
    expect("an old client", openssl(edge, edge.modern, "-tls1_2"), "alert protocol version")
    expect("TLS 1.1", openssl(edge, edge.edge, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"), "alert handshake failure")
    expect("no renegotiation", openssl(edge, edge.edge, "-tls1_2"), "Secure Renegotiation IS supported")
    said = openssl(edge, edge.edge, "-tls1_2", "-reconnect")
    if said.count("Reused, TLSv1.2") != 5:
        problems.append(f"openssl: {said.count('Reused, TLSv1.2')} of 5 sessions were resumed")
    expect("no certificate", openssl(edge, edge.partners, "-tls1_2"), "alert")
    shown = ["-cert", str(edge.folder / "client.crt"), "-key", str(edge.folder / "client.key")]
    expect("a certificate", openssl(edge, edge.partners, *shown, "-ign_eof", request=one), "HTTP/1.1 200 ")
    return problems


def with_curl(edge: Edge) -> list[str]:
    problems = []

    def curl(port: int, *options: str) -> tuple[int, str]:
        command = ["curl", "-sS", "-m", "20", "--cacert", edge.folder / "ca.crt", "--connect-to", f"::127.0.0.1:{port}"]
        command += ["-o", "-", "-w", " %{http_version} %{http_code}", *options, f"https://{NAME}/"]
        ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=30)
        return ended.returncode, ended.stdout.split("\n")[-1].strip() + ended.stderr

    shown = ["--cert", edge.folder / "client.crt", "--key", edge.folder / "client.key"]
    for what, port, options, wanted in [
        ("HTTP/1.1", edge.edge, ["--http1.1"], (0, "1.1 200")),
        ("HTTP/2", edge.edge, ["--http2"], (0, "2 200")),
        ("TLS 1.2", edge.edge, ["--tls-max", "1.2", "--http1.1"], (0, "1.1 200")),
        ("another host", edge.edge, ["--http1.1", "-H", "host: other.example"], (0, "1.1 421")),
        ("another host by HTTP/2", edge.edge, ["--http2", "-H", "host: other.example"], (0, "2 421")),
        ("a certificate", edge.partners, ["--http1.1", *shown], (0, "1.1 200")),
    ]:
        code, said = curl(port, *options)
        if (code, said) != wanted:
            problems.append(f"curl, {what}: {code} {said!r} instead of {wanted}")
    if curl(edge.partners, "--http1.1")[0] == 0:
        problems.append("curl was let in without a certificate")
    return problems


def renewals(edge: Edge, count: int) -> list[str]:
    """Clients shake hands all the time while the certificate is renewed and all weight moves."""
    problems, shaken, serials = [], [0], set()
    done = threading.Event()

    def keep_shaking(resuming: bool) -> None:
        context, session = edge.client(), None
        while not done.is_set():
            try:
                stream = ask(context, edge.edge, session if resuming else None)
                session = stream.session
                serials.add(stream.getpeercert()["serialNumber"])
                stream.close()
                shaken[0] += 1
            except OSError as error:
                problems.append(f"a handshake or request failed: {error}")
                return

    clients = [threading.Thread(target=keep_shaking, args=[number % 2 == 0]) for number in range(6)]
    for client in clients:
        client.start()
    for number in range(count):
        known = len(serials)
        edge.make_certs()
        edge.cut_over("blue" if number % 2 else "green")
        deadline = time.monotonic() + 20
        while len(serials) == known and not problems:
            if time.monotonic() > deadline:
                problems.append("a renewed certificate was never shown")
            time.sleep(0.02)
    done.set()
    for client in clients:
        client.join()
    resumed = edge.metric(f'crossfade_tls_handshakes_total{{listener="127.0.0.1:{edge.edge}",resumed="true"')
    print(f"{count} renewals and cutovers, {len(serials)} certificates seen, {shaken[0]} handshakes, {resumed:.0f} resumed")
    return problems


def idle(edge: Edge, count: int) -> list[str]:
    context = edge.client()
    warm = [ask(context, edge.edge) for _ in range(100)]
    before = edge.resident_kib()
    held = [ask(context, edge.edge) for _ in range(count)]
    each = (edge.resident_kib() - before) / count
    print(f"{count} idle connections: {each:.1f} KiB each")
    for stream in warm + held:
        stream.close()
    return [f"an idle connection holds {each:.1f} KiB, more than {LARGEST_IDLE_KIB}"] if each > LARGEST_IDLE_KIB else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True, help="the crossfade to start")
    parser.add_argument("--renewals", type=int, default=20)
    parser.add_argument("--idle", type=int, default=1500, help="idle connections to measure")
    arguments = parser.parse_args()
    for tool in ("openssl", "curl"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is needed")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        edge = Edge(arguments, pathlib.Path(name), stack)
        problems = with_openssl(edge) + with_curl(edge) + renewals(edge, arguments.renewals)
        problems += idle(edge, arguments.idle)
    return verdict(problems)


if __name__ == "__main__":
    sys.exit(main())
