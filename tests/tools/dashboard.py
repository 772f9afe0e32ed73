#!/usr/bin/env python3
"""The dashboard in a real Chromium, as somebody uses it: a rollout is started, watched, paused, resumed, promoted and
undone, another one aborted; weights are moved by slider and keyboard; a backend drains; the file is mistaken; a tab is in the
background for an hour; crossfade is restarted under the open page; tokens are asked for once there are any, and a viewer can
do nothing. Exits 1 when any of it is not as it should be, when there is an
error in the console, when something breaks the page's policy, when axe finds anything serious, or when a page of another
origin can read or steer.

    tests/tools/dashboard.py --binary target/release/crossfade --screenshots /tmp/shots

It needs chromium, and `pip install playwright==1.65.2 axe-playwright-python==0.1.8`.
"""

import argparse
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, Page, expect, sync_playwright

from floods import fixed_ports
from stage import origin_command, run, verdict, wait_for

TOKENS = {"ci": ("operator", "the-token-of-an-operator"), "eye": ("viewer", "the-token-of-a-viewer")}
CONFIG = """\
threads: 1
listeners: [{{ address: 127.0.0.1:{proxy} }}]
admin: {{ address: 127.0.0.1:{admin}{tokens} }}
state: {{ directory: state }}
services:
  shop:
    pools:
      blue: {{ version: v1.0, weight: 95, backends: ["127.0.0.1:{blue}", "127.0.0.1:{spare}"] }}
      green: {{ version: v2.0, weight: 5, backends: ["127.0.0.1:{green}"] }}
    health_check: {{ path: /health/ready, interval: 1s, healthy_after: 1 }}
    rollout:
      steps: [{{ share: 25, bake: 10m }}, {{ share: 50, bake: 2s }}, {{ pause: {{}} }}, {{ share: 100, bake: 10m }}]
      first_touch: off
      holdback: 0
      min_requests: 20
      warm_up: 0s
      gates: {{ regression: off }}
      keep_stable: 10m
  search:
    pools:
      one: {{ version: v7, weight: 1, backends: ["127.0.0.1:{blue}"] }}
  {large}:
    pools:
{pools}
routes:
  - {{ name: search, match: {{ path_prefix: /search }}, service: search }}
  - {{ name: large, match: {{ path_prefix: /large }}, service: {large} }}
  - {{ name: shop, match: {{ path_prefix: / }}, service: shop }}
"""
# Nothing here is as short as people who draw pages like it.
LARGE = "everything-that-is-for-sale-in-all-of-the-shops-of-the-house"
COMMIT = "3f786850e387550fdab836ed7e6dc881de23001b"
PATH = "/run/nobody/" + "a-folder-within-another/" * 3 + "backend.sock"
POOLS = {f"since-the-year-of-{1990 + at}": (at, ["127.0.0.1:{blue}"]) for at in range(11)}
POOLS["the-one-that-is-to-be-released-before-the-winter"] = (3, [f"unix:{PATH}", *(f"127.0.0.{at}:9" for at in range(2, 20))])
# A script cannot put a tab into the background, so the page is told that it is there.
HIDE = """\
let hides = false;
Object.defineProperty(document, "hidden", { get: () => hides });
addEventListener("hide", event => { hides = event.detail; document.dispatchEvent(new Event("visibilitychange")); });
"""
# What a page of another origin can try. Whatever it comes to is put into its title.
EVIL = """\
<!doctype html><title>trying</title><script src="ADMIN/assets/api.js"></script><iframe src="ADMIN/"></iframe><script>
const told = {};
const json = { "content-type": "application/json" };
const tries = {
    read: () => fetch("ADMIN/v1/status").then(answer => answer.text()),
    page: () => fetch("ADMIN/").then(answer => answer.text()),
    weights: () => fetch("ADMIN/v1/services/shop/weights", { method: "PUT", headers: json, body: '{"weights": {"green": 50}}' }),
    blind: () => fetch("ADMIN/v1/undo", { method: "POST", mode: "no-cors", body: "{}" }).then(answer => { if (answer.type === "opaque") throw "sees nothing"; }),
    cutover: () => fetch("ADMIN/v1/services/shop/cutover", { method: "POST", headers: json, body: '{"to": "green"}' }),
    events: () => new Promise((done, fail) => {
        const source = new EventSource("ADMIN/v1/events?live=true");
        source.onmessage = done; source.onopen = done; source.onerror = fail;
    }),
    form: () => new Promise((_, fail) => {
        const form = document.createElement("form");
        Object.assign(form, { method: "post", action: "ADMIN/v1/undo", enctype: "text/plain", target: "into" });
        const frame = document.createElement("iframe");
        frame.name = "into";
        document.body.append(frame, form);
        frame.onload = () => { try { frame.contentDocument.title; } catch { fail("sees nothing"); } };
        form.submit();
    }),
};
addEventListener("load", async () => {
    for (const [name, attempt] of Object.entries(tries)) {
        await Promise.race([attempt(), new Promise((_, fail) => setTimeout(fail, 3000))]).then(() => { told[name] = "done"; }, () => { told[name] = "refused"; });
    }
    told.frame = frames[0].length === 0 && (() => { try { return frames[0].document.title; } catch { return "refused"; } })();
    document.title = JSON.stringify(told);
});
</script>
"""
SIZES = [(1280, 900), (390, 844)]
# An action of the page takes effect within this time, on a machine that does much else.
PATIENCE = 40_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--screenshots", type=pathlib.Path, help="a folder for them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        return verdict(Play(arguments, pathlib.Path(name), stack).all())


class Proxy:
    """crossfade, its backends, and visitors, for as long as the stack is there."""

    def __init__(self, binary: pathlib.Path, folder: pathlib.Path, stack: contextlib.ExitStack):
        self.binary, self.folder = binary.resolve(), folder
        names = ("proxy", "admin", "blue", "green", "spare", "evil")
        self.ports = dict(zip(names, fixed_ports(len(names)), strict=True))
        self.url = f"http://127.0.0.1:{self.ports['admin']}"
        listeners = [f"{version}=127.0.0.1:{self.ports[name]}" for name, version in
                     (("blue", "v1.0"), ("green", "v2.0"), ("spare", "v1.0"))]
        run(origin_command(listeners, None), folder / "origin.log", stack)
        for name in ("blue", "green", "spare"):
            wait_for(f"http://127.0.0.1:{self.ports[name]}/", folder / "origin.log")
        for name, (_, token) in TOKENS.items():
            (folder / f"{name}.token").write_text(token)
            (folder / f"{name}.token").chmod(0o600)
        self.write(tokens=False)
        self.running = contextlib.ExitStack()
        stack.callback(self.running.close)
        self.start()
        self.over = threading.Event()
        visitors = [threading.Thread(target=self.visit, args=(path,), daemon=True) for path in ("/", "/", "/search", "/large")]
        for visitor in visitors:
            visitor.start()
        stack.callback(lambda: [self.over.set(), *(visitor.join() for visitor in visitors)])

    def write(self, tokens: bool, mistake: tuple[str, str] = ("", "")) -> None:
        pools = "\n".join(f"      {name}: {{ version: {COMMIT}, weight: {weight}, backends: {json.dumps(backends)} }}"
                          for name, (weight, backends) in POOLS.items()).replace("{blue}", str(self.ports["blue"]))
        listed = ", ".join(f"{{ name: {name}, file: {name}.token, role: {role} }}" for name, (role, _) in TOKENS.items())
        text = CONFIG.format(tokens=f", tokens: [{listed}]" if tokens else "", large=LARGE, pools=pools, **self.ports).replace(*mistake)
        fresh = self.folder / "crossfade.new"
        fresh.write_text(text)
        fresh.rename(self.folder / "crossfade.yaml")

    def start(self) -> None:
        log = self.folder / "crossfade.log"
        run([self.binary, "serve", self.folder / "crossfade.yaml"], log, self.running)
        wait_for(f"{self.url}/readyz", log)

    def stop(self) -> None:
        self.running.close()

    def visit(self, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["proxy"], timeout=10)
        while not self.over.wait(0.02):
            try:
                connection.request("GET", path)
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()

    def ask(self, method: str, path: str, value: object = None, token: str | None = None) -> dict | list:
        body = None if value is None else json.dumps(value).encode()
        fields = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(self.url + path, body, fields, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def weights(self, token: str | None = None) -> dict[str, int]:
        return {pool["name"]: pool["weight"] for pool in self.ask("GET", "/v1/services/shop", token=token)["pools"]}

    def revision(self) -> int:
        return self.ask("GET", "/v1/status")["revision"]


class Play:
    def __init__(self, arguments: argparse.Namespace, folder: pathlib.Path, stack: contextlib.ExitStack):
        self.shots = arguments.screenshots
        if self.shots:
            self.shots.mkdir(parents=True, exist_ok=True)
        self.proxy = Proxy(arguments.binary, folder, stack)
        browser = stack.enter_context(sync_playwright()).chromium
        rules = "--host-resolver-rules=MAP rebound.example 127.0.0.1"
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        self.browser = browser.launch(executable_path=arguments.chromium, args=[rules, *sandbox])
        stack.callback(self.browser.close)
        self.axe = Axe()
        self.problems: list[str] = []
        # What the browser itself says while crossfade is away, asks for a token, or refuses what is out of date.
        self.forgiven = re.compile(r"Failed to load resource: (net::ERR_CONNECTION_REFUSED|the server responded with a status of (401|412))|net::ERR_INCOMPLETE_CHUNKED_ENCODING")

    def all(self) -> list[str]:
        page = self.open(1280, 900, "light")
        acts = [
            self.rollout, self.pictures, self.promoted, self.undone, self.aborted, self.slider, self.keyboard, self.drained,
            self.services, self.large, self.mistaken, self.background, self.foreign, self.restarted, self.locked,
        ]
        for act in acts:
            began = time.monotonic()
            try:
                act(page)
            except (AssertionError, Error) as error:
                self.problems.append(f"{act.__name__}: {error}")
                if self.shots:
                    page.screenshot(path=self.shots / f"failed-{act.__name__}.png")
                break
            print(f"{act.__name__}: {time.monotonic() - began:.1f} s", flush=True)
        return self.problems

    def open(self, width: int, height: int, scheme: str, prepare: Callable[[Page], None] | None = None) -> Page:
        context = self.browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page = context.new_page()
        page.on("console", self.heard)
        page.on("pageerror", lambda error: self.problems.append(f"an error in the page: {error}"))
        page.expose_function("violated", lambda what: self.problems.append(f"against the policy: {what}"))
        page.add_init_script("addEventListener('securitypolicyviolation', it => violated(`${it.violatedDirective} ${it.blockedURI} ${it.sample}`))")
        page.on("request", lambda request: None if request.url.startswith((self.proxy.url, "data:")) else
                self.problems.append(f"asks elsewhere: {request.url}"))
        if prepare:
            prepare(page)
        page.goto(self.proxy.url)
        return page

    def heard(self, message) -> None:
        if message.type in ("error", "warning") and not self.forgiven.search(message.text):
            self.problems.append(f"in the console: {message.text} ({message.location.get('url')})")

    def look(self, page: Page, what: str) -> None:
        """Nothing serious for who uses a keyboard, a screen reader, or sees little contrast."""
        found = self.axe.run(page).response["violations"]
        for violation in found:
            if violation["impact"] in ("serious", "critical"):
                nodes = "; ".join(node["html"][:120] for node in violation["nodes"][:3])
                self.problems.append(f"axe, {what}: {violation['id']}: {nodes}")

    def act(self, page: Page, button: str, confirm: str, receipt: str | re.Pattern = "Done.", cause: str | None = None) -> None:
        """One click, one question, one receipt."""
        page.get_by_role("button", name=button, exact=True).first.click()
        self.confirm(page, confirm, receipt, cause)

    def confirm(self, page: Page, confirm: str, receipt: str | re.Pattern = "Done.", cause: str | None = None) -> None:
        dialog = page.get_by_role("dialog")
        if cause:
            dialog.get_by_label("Why").fill(cause)
        expect(dialog.get_by_text("Would change")).to_be_visible()
        dialog.get_by_role("button", name=confirm, exact=True).click()
        expect(dialog.get_by_text(receipt).first).to_be_visible()
        dialog.get_by_role("button", name="Close").click()
        expect(dialog).to_have_count(0)

    # What is done, one after the other.

    def rollout(self, page: Page) -> None:
        expect(page.get_by_role("heading", level=1, name="shop")).to_be_visible()
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        self.look(page, "at rest")
        page.get_by_role("button", name="Start rollout…").click()
        expect(page.get_by_role("dialog").get_by_label("To", exact=True)).to_have_value("green")
        self.look(page, "a dialog")
        self.confirm(page, "Start", cause="release 2.0")
        panel = page.get_by_role("region", name="Rollout")
        expect(panel.get_by_text("running", exact=True)).to_be_visible()
        expect(panel.get_by_role("listitem").and_(page.locator("[aria-current=step]"))).to_contain_text("25 %")
        expect(panel.get_by_text("release 2.0").first).to_be_visible()
        self.act(page, "Pause…", "Pause")
        expect(panel.get_by_text("Paused by a person")).to_be_visible()
        assert self.proxy.ask("GET", "/v1/services/shop/rollout")["state"] == "paused"
        self.act(page, "Resume…", "Resume")
        expect(panel.get_by_text("running", exact=True)).to_be_visible()
        self.act(page, "Promote…", "Promote")
        # From there it goes on by itself, as far as the plan lets it.
        expect(panel.get_by_text("Paused, as the plan says")).to_be_visible()
        expect(page.get_by_role("list", name="Steps").get_by_text("50 %")).to_be_visible()
        assert self.proxy.weights() == {"blue": 50, "green": 50}

    def pictures(self, page: Page) -> None:
        for width, height in SIZES:
            for scheme in ("light", "dark"):
                other = self.open(width, height, scheme)
                expect(other.get_by_role("region", name="Rollout")).to_be_visible()
                expect(other.get_by_role("region", name="History").get_by_text("release 2.0").first).to_be_visible()
                expect(other.locator("canvas")).to_have_count(3)
                expect(other.locator("canvas").first).to_have_attribute("aria-label", re.compile("green v2.0"))
                self.look(other, f"{width} px, {scheme}")
                wide = other.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{width} px: {wide} px wide"
                if self.shots:
                    other.screenshot(path=self.shots / f"{width}-{scheme}.png", full_page=True)
                    if (width, scheme) in ((1280, "light"), (390, "dark")):
                        other.get_by_role("button", name="Weights…").click()
                        other.get_by_label("Weight of green").fill("70")
                        expect(other.get_by_text("requests of the last hour")).to_be_visible()
                        other.screenshot(path=self.shots / f"dialog-{width}-{scheme}.png")
                other.context.close()

    def promoted(self, page: Page) -> None:
        panel = page.get_by_role("region", name="Rollout")
        self.act(page, "Promote…", "Promote")
        expect(panel.locator("[aria-current=step]")).to_contain_text("100 %")
        self.act(page, "Promote…", "Promote")
        expect(panel.get_by_text("promoted", exact=True).first).to_be_visible()
        assert self.proxy.weights() == {"blue": 0, "green": 100}
        events = page.get_by_role("region", name="Events")
        for word in ("started", "paused", "resumed", "step", "promoted"):
            expect(events.get_by_text(word, exact=True).first).to_be_visible()

    def undone(self, page: Page) -> None:
        history = page.get_by_role("region", name="History")
        history.get_by_role("button", name=re.compile("^Undo revision")).click()
        expect(page.get_by_role("dialog").get_by_label("Why")).to_have_value(re.compile("^undo of revision [0-9]+$"))
        self.confirm(page, "Undo", cause="not yet")
        expect(history.get_by_text("not yet")).to_be_visible()
        assert self.proxy.weights() == {"blue": 95, "green": 5}, self.proxy.weights()
        history.get_by_role("button", name=re.compile("^What differs between revision 2 ")).click()
        expect(page.get_by_role("dialog").get_by_text("values differ")).to_be_visible()
        page.keyboard.press("Escape")

    def aborted(self, page: Page) -> None:
        self.proxy.ask("POST", "/v1/services/shop/rollout", {"to": "green", "cause": "once more"})
        panel = page.get_by_role("region", name="Rollout")
        expect(panel.get_by_text("running", exact=True)).to_be_visible()
        self.act(page, "Abort…", "Abort", cause="seen enough")
        expect(panel.get_by_text("aborted", exact=True).first).to_be_visible()
        # How far it came, and why it ended, once.
        expect(panel.get_by_role("list", name="Steps").get_by_role("listitem").first).to_contain_text("25 %, aborted here")
        expect(panel.get_by_role("listitem").filter(has_text="seen enough")).to_have_text(re.compile("^(?!.*seen enough.*seen enough)", re.S))
        assert self.proxy.weights() == {"blue": 100, "green": 0}
        self.proxy.ask("POST", "/v1/undo", {"service": "shop"})

    def slider(self, page: Page) -> None:
        page.get_by_role("button", name="Weights…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Weight of green").fill("40")
        expect(dialog.get_by_text("services.shop.pools.green.weight")).to_be_visible()
        # Of this service's requests, not of everybody's.
        expect(dialog.get_by_text(re.compile(r"requests of the last hour to shop 35\s% would go elsewhere and 0\s% nowhere"))).to_be_visible()
        assert self.proxy.weights() == {"blue": 95, "green": 5}, "a preview has changed it"
        # Somebody else is faster.
        self.proxy.ask("PUT", "/v1/services/shop/weights", {"weights": {"green": 6}})
        dialog.get_by_role("button", name="Set the weights").click()
        try:
            expect(dialog.get_by_text("Something was changed since")).to_be_visible()
        finally:
            assert self.proxy.weights()["green"] == 6, "what somebody else has changed is overwritten"
        dialog.get_by_role("button", name="Look again").click()
        self.confirm(page, "Set the weights")
        assert self.proxy.weights() == {"blue": 60, "green": 40}
        expect(page.get_by_role("region", name="Drift").get_by_text("services.shop.pools.green.weight")).to_be_visible()

    def keyboard(self, page: Page) -> None:
        button = page.get_by_role("button", name="Cut over…")
        button.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_label("To", exact=True)).to_be_visible()
        for _ in range(12):
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement === document.body || document.querySelector('dialog').contains(document.activeElement)")
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(button).to_be_focused()
        page.keyboard.press("Enter")
        dialog.get_by_label("Why").focus()
        expect(dialog.get_by_text("Would change")).to_be_visible()
        page.keyboard.press("Enter")
        expect(dialog.get_by_text("Done.")).to_be_visible()
        page.keyboard.press("Escape")
        assert sorted(self.proxy.weights().values()) == [0, 100], self.proxy.weights()
        if self.proxy.weights()["blue"] == 0:
            self.act(page, "Cut over to blue…", "Cut over")

    def drained(self, page: Page) -> None:
        # Some of them are at the backend that is drained.
        with contextlib.ExitStack() as clients:
            for _ in range(6):
                client = clients.enter_context(socket.create_connection(("127.0.0.1", self.proxy.ports["proxy"])))
                client.sendall(b"GET /slow?seconds=60 HTTP/1.1\r\nhost: shop\r\n\r\n")
                client.recv(1)
            self.act(page, f"Drain 127.0.0.1:{self.proxy.ports['spare']}", "Drain")
            drains = page.get_by_role("region", name="Drains")
            expect(drains.get_by_text("in flight on blue/")).to_be_visible()
        expect(drains.get_by_text("none")).to_be_visible()
        self.act(page, f"Undrain 127.0.0.1:{self.proxy.ports['spare']}", "Undrain")
        expect(page.get_by_role("button", name=f"Drain 127.0.0.1:{self.proxy.ports['spare']}", exact=True)).to_be_visible()

    def services(self, page: Page) -> None:
        page.get_by_role("navigation", name="Services").get_by_role("link", name="search").click()
        expect(page.get_by_role("heading", level=1, name="search")).to_be_visible()
        expect(page.get_by_text("v7").first).to_be_visible()
        page.go_back()
        expect(page.get_by_role("heading", level=1, name="shop")).to_be_visible()
        page.get_by_text("In numbers").click()
        expect(page.get_by_role("cell", name="requests/s").first).to_be_visible()

    def large(self, page: Page) -> None:
        for width, height in SIZES:
            other = self.open(width, height, "light")
            other.get_by_role("navigation", name="Services").get_by_role("link", name=LARGE).click()
            expect(other.get_by_role("heading", level=1, name=LARGE)).to_be_visible()
            expect(other.get_by_role("article")).to_have_count(len(POOLS))
            wide = other.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{LARGE}, {width} px: {wide} px wide"
            self.look(other, f"many pools, {width} px")
            other.get_by_role("button", name="Start rollout…").click()
            dialog = other.get_by_role("dialog")
            expect(dialog.get_by_label("From", exact=True)).to_have_value("since-the-year-of-2000")
            dialog.get_by_label("To", exact=True).select_option("since-the-year-of-1995")
            expect(dialog.get_by_text("Would change")).to_be_visible()
            dialog.get_by_label("Steps in percent").fill("5, soon")
            expect(dialog.get_by_role("alert")).to_contain_text("soon is no step")
            expect(dialog.get_by_role("button", name="Start")).to_be_disabled()
            other.keyboard.press("Escape")
            other.get_by_role("button", name="Weights…").click()
            dialog.get_by_label("Weight of since-the-year-of-1995").fill("50")
            # What adding up shares leaves over is no request that goes nowhere.
            expect(dialog.get_by_text(re.compile(rf"to {LARGE} .* would go elsewhere and 0\s% nowhere"))).to_be_visible()
            expect(dialog.get_by_text("GET ")).to_have_count(0)
            expect(dialog.get_by_role("button", name="Set the weights")).to_be_in_viewport(ratio=1)
            if self.shots:
                other.screenshot(path=self.shots / f"large-{width}.png")
            other.context.close()

    def mistaken(self, page: Page) -> None:
        self.proxy.write(tokens=False, mistake=("weight", "weihgt"))
        page.get_by_role("link", name="file not loaded").click()
        drift = page.get_by_role("region", name="Drift")
        expect(drift.get_by_text("cannot be loaded")).to_be_visible()
        expect(drift.get_by_role("listitem").filter(has_text="weihgt is unknown").first).to_be_visible()
        drift.locator("summary").first.click()
        assert drift.locator(".mistakes > li").count() >= 10, "each mistake in a line of its own"
        self.proxy.write(tokens=False)
        expect(page.get_by_role("link", name="file not loaded")).to_have_count(0)

    def background(self, page: Page) -> None:
        def prepare(other: Page) -> None:
            other.add_init_script(HIDE)
            other.clock.install()

        def hide(hides: bool) -> None:
            other.evaluate("hides => dispatchEvent(new CustomEvent('hide', { detail: hides }))", hides)

        other = self.open(1280, 900, "light", prepare)
        expect(other.get_by_text("live", exact=True)).to_be_visible()
        hide(True)
        other.clock.fast_forward(5_000)
        other.clock.fast_forward(65_000)
        expect(other.get_by_text("asleep", exact=True)).to_be_visible()
        self.proxy.ask("PUT", "/v1/services/shop/weights", {"weights": {"green": 7}, "cause": "while nobody looked"})
        other.clock.fast_forward(3_600_000)
        expect(other.get_by_text("asleep", exact=True)).to_be_visible()
        expect(other).to_have_title("crossfade")
        hide(False)
        expect(other.get_by_text("live", exact=True)).to_be_visible()
        for region in ("History", "Events"):
            expect(other.get_by_role("region", name=region).get_by_text("while nobody looked")).to_be_visible()
        expect(other.get_by_role("article", name="green")).to_contain_text("weight 7")
        self.proxy.ask("POST", "/v1/undo", {"service": "shop"})
        other.context.close()

    def foreign(self, page: Page) -> None:
        before = self.proxy.revision()
        text = EVIL.replace("ADMIN", self.proxy.url).encode()

        class Evil(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", self.proxy.ports["evil"]), Evil) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            # Of the same site, another port; and of another site.
            for host in ("127.0.0.1", "localhost"):
                other = self.browser.new_context().new_page()
                other.goto(f"http://{host}:{self.proxy.ports['evil']}/")
                other.wait_for_function("document.title.startsWith('{')", timeout=PATIENCE)
                told = json.loads(other.title())
                wrong = {name: what for name, what in told.items() if what != "refused"}
                assert not wrong and len(told) == 8, f"from {host}: {told}"
                other.context.close()
            server.shutdown()
        rebound = self.browser.new_context().new_page()
        answer = rebound.goto(f"http://rebound.example:{self.proxy.ports['admin']}/")
        assert answer.status == 421, answer.status
        rebound.context.close()
        assert self.proxy.revision() == before, "another origin has changed something"

    def restarted(self, page: Page) -> None:
        self.proxy.stop()
        expect(page.get_by_text("No connection.")).to_be_visible()
        expect(page.get_by_text(re.compile("The next try is in"))).to_be_visible()
        if self.shots:
            page.screenshot(path=self.shots / "restart.png")
        self.look(page, "without a connection")
        page.get_by_role("button", name="Drain green…").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("No preview.")).to_be_visible()
        expect(dialog.get_by_role("button", name="Drain")).to_be_disabled()
        self.proxy.start()
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        dialog.get_by_role("button", name="Look again").click()
        expect(dialog.get_by_text("Would change")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_text("No connection.")).to_have_count(0)
        expect(page.get_by_role("region", name="Events").get_by_text("restart", exact=True)).to_be_visible()
        self.act(page, "Drain green…", "Drain")
        self.act(page, "Undrain green…", "Undrain")

    def locked(self, page: Page) -> None:
        self.proxy.write(tokens=True)
        expect(page.get_by_role("heading", name="Who are you?")).to_be_visible()
        self.look(page, "the door")
        if self.shots:
            page.screenshot(path=self.shots / "door.png")
        field, enter = page.get_by_label("Token"), page.get_by_role("button", name="Enter")
        field.fill("not-a-token-of-anybody")
        enter.click()
        expect(page.get_by_role("alert")).to_contain_text("not one of admin.tokens")
        field.fill(TOKENS["eye"][1])
        enter.click()
        expect(page.get_by_text("eye · viewer")).to_be_visible()
        expect(page.get_by_role("region", name="Pools")).to_be_visible()
        acting = page.get_by_role("button", name=re.compile("Weights|Cut over|Drain|Undo|Back to|rollout|Retry|Promote|Pause|Abort"))
        expect(acting).to_have_count(0)
        page.get_by_role("button", name="Forget the token").click()
        page.get_by_label("Token").fill(TOKENS["ci"][1])
        page.get_by_role("button", name="Enter").click()
        expect(page.get_by_text("ci · operator")).to_be_visible()
        self.act(page, "Cut over to green…", "Cut over", cause="with a token")
        newest = self.proxy.ask("GET", "/v1/revisions?limit=1", token=TOKENS["ci"][1])[0]
        assert (newest["author"], newest["cause"]) == ("ci", "with a token"), newest
        kept = page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]")
        assert kept == [0, "", 1], kept


if __name__ == "__main__":
    sys.exit(main())
