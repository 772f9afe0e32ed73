#!/usr/bin/env python3
"""Whether what is said of metrics is so: a real Prometheus scrapes a real run.

    tests/tools/observe.py --binary target/release/crossfade

- docs/metrics.md has every family of the page, with its labels, and no other; its queries and those of README.md have answers.
- Rules, alerts and the dashboard ask for nothing that is not on the page, and Prometheus understands them.
- Every alert has a test, and a line in the document.
- The exemplars that Prometheus keeps have the id of a trace that was asked to be recorded, and that a collector got.

Needs prometheus and promtool (Debian's package `prometheus`), openssl and Python's yaml.
"""

import argparse
import concurrent.futures
import contextlib
import json
import pathlib
import re
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml

import stage

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/metrics.md"
# Those with queries.
DOCUMENTS = [DOCUMENT, ROOT / "README.md"]
RULES = ROOT / "docker/prometheus/rules.yml"
RULES_TEST = ROOT / "docker/prometheus/rules.test.yml"
DASHBOARD = ROOT / "docker/grafana/dashboards/crossfade.json"
SCRAPE_CONFIG = ROOT / "docker/prometheus.yml"

# Longer than anything here takes.
PATIENCE = 120

CONFIG = """\
threads: 1
listeners:
  - address: 127.0.0.1:{proxy}
  - address: 127.0.0.1:{secure}
    tls: {{ certificates: [{{ cert: cert.pem, key: key.pem }}] }}
admin:
  address: 127.0.0.1:{admin}
  audit: {{ file: audit.log }}
state: {{ directory: state }}
tracing: {{ otlp: "http://127.0.0.1:{collector}", sample: 0 }}
services:
  shop:
    pools:
      blue: {{ version: v1, weight: 50, backends: ["{blue}"] }}
      green: {{ version: v2, weight: 50, backends: ["{green}"] }}
    mirror: {{ to: green, share: 100% }}
    health_check: {{ path: /health/ready, interval: 1s, timeout: 1s }}
  named:
    pools:
      only: {{ version: v1, backends: ["dns:localhost:{port}"] }}
routes:
  - {{ name: named, match: {{ path_prefix: /named }}, service: named }}
  - {{ name: shop, match: {{ hosts: ["127.0.0.1"] }}, service: shop }}
"""

# Families of which nothing can be seen here: nobody issues certificates, no handshake has failed.
UNSEEN = {
    "crossfade_acme_orders_total", "crossfade_acme_failing", "crossfade_acme_next_order_timestamp_seconds",
    "crossfade_tls_handshake_failures_total",
}  # fmt: skip
# Families that are on the page only where they mean something.
SOMETIMES = {
    "crossfade_acme_orders_total", "crossfade_acme_failing", "crossfade_acme_next_order_timestamp_seconds",
}  # fmt: skip

# What Prometheus itself adds.
FROM_PROMETHEUS = {"instance", "job", "le"}

NAME = re.compile(r"\b(?:crossfade|process)_[a-z_]+\b|\b[a-z_]+(?::[a-z_0-9]+)+\b")
MATCHERS = re.compile(r"\{([^{}]*)\}")
MATCHER = re.compile(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
HISTOGRAM_ENDS = ("_bucket", "_sum", "_count")


def page(text: str) -> dict[str, set[str] | None]:
    """Each family with the labels of its samples; None: it has no samples."""
    families: dict[str, set[str] | None] = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            family = line.split()[2]
            families[family] = None
        elif line and not line.startswith("#"):
            labels = set(re.findall(r'([a-zA-Z_]\w*)="', line)) - {"le"}
            families[family] = (families[family] or set()) | labels
    return families


def documented(text: str) -> dict[str, set[str]]:
    rows = re.findall(r"^\| `((?:crossfade|process)_\w+)` \|([^|]*)\|", text, re.M)
    names = [name for name, _ in rows]
    if len(names) != len(set(names)):
        sys.exit(f"{DOCUMENT} has a family twice")
    return {name: {label.strip() for label in labels.split(",") if label.strip()} for name, labels in rows}


def document_problems(families: dict, described: dict):
    for name in sorted(set(families) - set(described)):
        yield f"{DOCUMENT.name} does not have {name}"
    for name in sorted(set(described) - set(families) - SOMETIMES):
        yield f"{DOCUMENT.name} has {name}, which is not on the page"
    for name, labels in described.items():
        seen = families.get(name)
        if seen is None:
            if name not in UNSEEN:
                yield f"nothing of {name} was seen, so its labels are not known to be right"
        elif seen != labels:
            yield f"{DOCUMENT.name} gives {name} the labels {sorted(labels)}, the page {sorted(seen)}"


def query_problems(where: str, query: str, described: dict, recorded: dict):
    """Whether a query asks for families and labels that there are."""
    plain = re.sub(r'"[^"]*"', '""', query)
    allowed = set(FROM_PROMETHEUS)
    for name in set(NAME.findall(MATCHERS.sub("", plain))):
        family = next((name.removesuffix(end) for end in HISTOGRAM_ENDS if name.removesuffix(end) in described), name)
        if family in described:
            allowed |= described[family]
        elif name in recorded:
            allowed |= recorded[name]
        else:
            yield f"{where}: there is no {name}"
    asked = {label for inside in MATCHERS.findall(plain) for label in MATCHER.findall(inside)}
    asked |= {label.strip() for inside in GROUPING.findall(plain) for label in inside.split(",") if label.strip()}
    for label in sorted(asked - allowed):
        yield f"{where}: nothing in it has the label {label}: {query}"


def dashboard_queries(dashboard: dict):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"dashboard, {panel['title']}", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"dashboard, {annotation['name']}", annotation["expr"]
    for variable in dashboard["templating"]["list"]:
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]) if variable["type"] == "query" else None
        if found:
            yield f"dashboard, ${variable['name']}", f"count by ({found[2]}) ({found[1]})"


def filled(query: str) -> str:
    """As Grafana asks it, for all services."""
    for name, value in [("$__rate_interval", "1m"), ("$__interval", "1m"), ("$service", ".*")]:
        query = query.replace(name, value)
    if "$" in query:
        sys.exit(f"a variable that is not known here: {query}")
    return query


class Collector:
    """Takes spans by OTLP over HTTP."""

    def __init__(self, stack: contextlib.ExitStack):
        self.taken: list[bytes] = []
        self.port = stage.receiver(lambda _, body: self.taken.append(body), stack)

    def has(self, trace: str) -> bool:
        """Ids are written as they are (opentelemetry/proto/trace/v1/trace.proto)."""
        return any(bytes.fromhex(trace) in body for body in self.taken)


class Prometheus:
    def __init__(self, url: str):
        self.url = url

    def ask(self, query: str):
        """The vector, or a scalar; raises ValueError with what Prometheus says."""
        data = urllib.parse.urlencode({"query": query}).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query", data, timeout=30) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from error

    def get(self, path: str):
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)["data"]

    def exemplars(self, query: str, since: float) -> list[dict]:
        asked = urllib.parse.urlencode({"query": query, "start": since, "end": time.time() + 60})
        return self.get(f"/api/v1/query_exemplars?{asked}")


def until(what: str, holds) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"never: {what}")
        time.sleep(0.2)


def get(url: str, method: str = "GET", body: object = None) -> int:
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"} if body is not None else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
            return len(answer.read())
    except urllib.error.HTTPError as error:
        return len(error.read())


def visit(proxy: str) -> None:
    """Of all kinds a few, on both versions."""
    with concurrent.futures.ThreadPoolExecutor(8) as people:
        paths = ["/", "/status/503", "/status/404", "/bytes/1000", "/reset", "/", "/", "/named"]
        list(people.map(lambda path: get(proxy + path), paths * 4))


def act(proxy: str, admin: str) -> None:
    """So that every family has something to say."""
    get(f"{admin}/v1/services/shop/rollout", "POST", {"to": "green", "from": "blue", "first_touch": None, "force": True})
    get(f"{admin}/v1/services/shop/rollout/abort", "POST", {})
    get(f"{admin}/v1/services/shop/weights", "PUT", {"weights": {"blue": 50, "green": 50}})
    get(f"{admin}/v1/services/none/cutover", "POST", {"to": "green"})
    visit(proxy)


def trace_problems(proxy: str, since: float, prometheus: Prometheus, collector: Collector) -> list[str]:
    """From a request that belongs to a recorded trace to the bucket that leads to it."""
    recorded, silent = secrets.token_hex(16), secrets.token_hex(16)
    for trace, flags in ((recorded, "01"), (silent, "00")):
        parent = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-{flags}"}
        with urllib.request.urlopen(urllib.request.Request(f"{proxy}/bytes/7", headers=parent), timeout=30):
            pass
    query = 'crossfade_request_duration_seconds_bucket{service="shop"}'

    def kept() -> dict[str, dict]:
        found = prometheus.exemplars(query, since)
        return {exemplar["labels"].get("trace_id"): entry["seriesLabels"] for entry in found for exemplar in entry["exemplars"]}

    until("Prometheus has an exemplar of the request", lambda: recorded in kept())
    until("the collector has its spans", lambda: collector.has(recorded))
    problems = []
    series = kept()[recorded]
    if series.get("version") not in ("v1", "v2") or "le" not in series:
        problems.append(f"the exemplar is not at a bucket of a version: {series}")
    if set(kept()) != {recorded}:
        problems.append(f"exemplars of requests that nobody asked to record: {set(kept()) - {recorded}}")
    if collector.has(silent):
        problems.append("the collector has a trace that was not to be recorded")
    return problems


def check_tools(problems: list[str]) -> None:
    for command in (["check", "config", SCRAPE_CONFIG], ["test", "rules", RULES_TEST]):
        done = subprocess.run(["promtool", *map(str, command)], capture_output=True, text=True)
        if done.returncode:
            problems.append(f"promtool: {done.stdout}{done.stderr}")


def check(families: dict, text: str, prometheus: Prometheus) -> list[str]:
    problems: list[str] = []
    document = DOCUMENT.read_text()
    described = documented(document)
    problems += document_problems(families, described)

    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    recorded = {rule["record"]: {"service", "pool", "version"} for rule in rules if "record" in rule}
    queries = [(f"rules, {rule.get('record') or rule['alert']}", rule["expr"]) for rule in rules]
    queries += dashboard_queries(json.loads(DASHBOARD.read_text()))
    examples = []
    for path in DOCUMENTS:
        shown = re.findall(r"^```promql\n(.*?)^```", path.read_text(), re.M | re.S)
        examples += [(f"{path.name}, query {number}", query) for number, query in enumerate(shown, 1)]
    queries += examples
    if len(queries) < 50 or len(examples) < 10:
        problems.append(f"only {len(queries)} queries and {len(examples)} examples were found")
    for where, query in queries:
        wanted = (where, query) in examples or where.startswith("rules, service")
        query = filled(query)
        problems += query_problems(where, query, described | {"up": set()}, recorded)
        try:
            answer = prometheus.ask(query)
        except ValueError as error:
            problems.append(f"{where}: {error}: {query}")
            continue
        numbers = [float(sample["value"][1]) for sample in answer]
        if wanted and not any(number == number for number in numbers):
            problems.append(f"{where}: no answer: {query}")

    alerts = {rule["alert"] for rule in rules if "alert" in rule}
    tested = {
        test["alertname"]
        for case in yaml.safe_load(RULES_TEST.read_text())["tests"]
        for test in case.get("alert_rule_test", [])
        if test.get("exp_alerts")
    }
    listed = set(re.findall(r"^\| `(Crossfade\w+)` \|", document, re.M))
    problems += [f"no test raises {alert}" for alert in sorted(alerts - tested)]
    if listed != alerts:
        problems.append(f"{DOCUMENT.name} and the rules differ in {sorted(listed ^ alerts)}")
    loaded = {rule["name"]: rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]}
    problems += [f"rule {name}: {rule['lastError']}" for name, rule in loaded.items() if rule.get("lastError")]
    problems += [f"{name} is raised, though all is well" for name, rule in loaded.items() if rule.get("state") == "firing"]
    print(f"{len(families)} families, {len(queries)} queries, {len(alerts)} alerts, {len(text.splitlines())} lines")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        proxy, secure, admin, blue, green, web = stage.free_ports(6)
        origins = [f"v1=127.0.0.1:{blue}", f"v2=127.0.0.1:{green}"]
        stage.run(stage.origin_command(origins, None), folder / "origin.log", stack)
        for port in (blue, green):
            stage.wait_for(f"http://127.0.0.1:{port}/", folder / "origin.log")
        key = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90"]
        key += ["-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example"]
        subprocess.run([*key, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
        config = folder / "crossfade.yaml"
        addresses = {"blue": f"127.0.0.1:{blue}", "green": f"127.0.0.1:{green}", "port": blue}
        collector = Collector(stack)
        addresses["collector"] = collector.port
        config.write_text(CONFIG.format(proxy=proxy, secure=secure, admin=admin, **addresses))
        log = folder / "crossfade.log"
        stage.run([arguments.binary.resolve(), "serve", config], log, stack)
        admin_url, proxy_url = f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{proxy}"
        stage.wait_for(f"{admin_url}/readyz", log)

        text = SCRAPE_CONFIG.read_text().replace("127.0.0.1:9900", f"127.0.0.1:{admin}").replace(": 5s", ": 1s")
        scraper = folder / "prometheus.yml"
        scraper.write_text(text.replace("prometheus/rules.yml", str(RULES)))
        flags = [f"--config.file={scraper}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{web}"]
        stage.run(["prometheus", "--enable-feature=exemplar-storage", *flags], folder / "prometheus.log", stack)
        url = f"http://127.0.0.1:{web}"
        stage.wait_for(f"{url}/-/ready", folder / "prometheus.log")
        prometheus, began = Prometheus(url), time.time()
        act(proxy_url, admin_url)

        def has_rates() -> bool:
            # A counter is known from two scrapes on, and one that began between them has not risen yet.
            visit(proxy_url)
            # The newest are the recorded ones, which are made of the others.
            newest = "service_pool_version:crossfade_request_duration_seconds:p50_rate5m"
            failing = 'sum(rate(crossfade_requests_total{version="v2", code=~"5.."}[1m])) > 0'
            found = [sample["metric"] for sample in prometheus.ask(newest) if sample["value"][1] != "NaN"]
            return {"v1", "v2"} <= {metric["version"] for metric in found} and bool(prometheus.ask(failing))

        until("there are rates of both versions", has_rates)
        with urllib.request.urlopen(f"{admin_url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        problems = check(page(text), text, prometheus)
        problems += trace_problems(proxy_url, began, prometheus, collector)
        check_tools(problems)
        return stage.verdict(problems)


if __name__ == "__main__":
    sys.exit(main())
