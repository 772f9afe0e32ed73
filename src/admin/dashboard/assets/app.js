// The page.

import { Drains, Drift, Events, History } from "./aside.js";
import { Dialogs } from "./dialog.js";
import { count, percent, span } from "./format.js";
import { html, render, useState } from "./preact.js";
import { RolloutPanel } from "./rollout.js";
import { Chip } from "./parts.js";
import { Charts, Pools, Service } from "./service.js";
import { choose, hurry, lock, now, start, store, unlock } from "./store.js";

function App() {
    const { live, link } = store;
    const service = live?.status.services.find(({ name }) => name === store.service);
    return html`
        <a class="skip" href="#main">To the service</a>
        <${Top} />
        ${link.state === "locked" ? html`<${Door} />` : !live ? html`<main id="main" class="alone"><${Link} /></main>` : html`
            <div class=${`frame ${link.state === "live" ? "" : "stale"}`}>
                <${Services} />
                <main id="main" tabindex="-1">
                    ${link.state !== "live" && html`<${Link} />`}
                    ${store.upgraded && html`<p class="notice warn">crossfade is another version now. <button type="button" class="small" onClick=${() => location.reload()}>Load its page</button></p>`}
                    ${live.status.state.error && html`<p class="notice bad">Changes cannot be kept: ${live.status.state.error}</p>`}
                    ${live.status.names.filter(({ error }) => error).map(({ name, error }) => html`<p key=${name} class="notice warn">${name} cannot be looked up: ${error}</p>`)}
                    ${service ? html`
                        <${Service} store=${store} service=${service} />
                        <${RolloutPanel} store=${store} service=${service} now=${now()} />
                        <${Pools} store=${store} service=${service} />
                        <${Charts} key=${service.name} store=${store} service=${service} />
                        <div class="below">
                            <${History} key=${service.name} store=${store} service=${service} now=${now()} />
                            <div class="side">
                                <${Drains} store=${store} now=${now()} />
                                <${Drift} store=${store} />
                                <${Events} store=${store} />
                            </div>
                        </div>` : html`<p class="notice">There is no service.</p>`}
                </main>
            </div>`}
        <${Dialogs} />
        <p class="sr" role="status" aria-live="polite">${store.said}</p>`;
}

const PHASES = { ready: "good", starting: "warn", leaving: "warn", draining: "warn" };
const LINKS = { live: ["good", "live"], connecting: ["warn", "connecting"], waiting: ["bad", "no connection"], asleep: ["off", "asleep"], locked: ["off", "locked"] };

// The address names the service.
function toDrift(event) {
    event.preventDefault();
    document.getElementById("drift")?.scrollIntoView();
}

function Top() {
    const { live, link, me } = store;
    const [kind, word] = LINKS[link.state];
    const drift = live?.status.drift ?? 0;
    return html`
        <header class="top">
            <p class="name"><svg viewBox="0 0 24 16" width="24" height="16" aria-hidden="true"><path class="one" d="M1 13C9 13 15 3 23 3" /><path class="two" d="M1 3C9 3 15 13 23 13" /></svg>crossfade</p>
            ${live && html`
                <span class="fact">${live.status.version}</span>
                ${live.status.phase !== "ready" && html`<${Chip} kind=${PHASES[live.status.phase]}>${live.status.phase}<//>`}
                <span class="fact">revision <b>${live.status.revision}</b></span>
                ${live.status.config.file && html`<a class=${`fact ${drift ? "warn" : ""}`} href="#drift" onClick=${toDrift}>${drift ? `${drift} drift` : "no drift"}</a>`}
                ${live.status.config.error && html`<a href="#drift" onClick=${toDrift}><${Chip} kind="bad">file not loaded<//></a>`}`}
            <span class="gap"></span>
            ${me && html`<span class="fact me">${me.author} · ${me.role}</span>`}
            ${me?.by === "token" && html`<button type="button" class="small" onClick=${lock}>Forget the token</button>`}
            <span class=${`link ${kind}`}><span class=${`dot ${kind}`} aria-hidden="true"></span>${word}</span>
        </header>`;
}

function Link() {
    const { state, until, problem } = store.link;
    if (state === "waiting") {
        return html`<p class="notice bad"><b>No connection.</b> ${problem}. The next try is in ${span((until - Date.now()) / 1e3)}; what is shown is of before.${" "}
            <button type="button" class="small" onClick=${hurry}>Try now</button></p>`;
    }
    if (state === "asleep") return html`<p class="notice warn">Asleep, because nobody looked.</p>`;
    return html`<p class="notice">Connecting to crossfade…</p>`;
}

function Door() {
    const [text, setText] = useState("");
    const { problem } = store.link;
    const enter = event => {
        event.preventDefault();
        if (text.trim()) unlock(text.trim());
    };
    return html`
        <main id="main" class="alone">
            <form class="card door" onSubmit=${enter}>
                <h1>Who are you?</h1>
                <p class="quiet">This crossfade shows itself to who has a token. It is kept as long as this tab is open, and nowhere else.</p>
                ${problem && html`<p class="notice bad" role="alert">${problem}</p>`}
                <p class="field"><label for="token">Token</label>
                    <input id="token" type="password" autocomplete="off" spellcheck="false" value=${text} onInput=${event => setText(event.target.value)} /></p>
                <div class="buttons"><button type="submit" class="main">Enter</button></div>
            </form>
        </main>`;
}

function Services() {
    const { live } = store;
    if (live.status.services.length < 2) return null;
    return html`
        <nav class="services" aria-label="Services">
            <ul>${live.status.services.map(service => {
                const lately = Object.values(live.lately[service.name] ?? {});
                const rate = lately.reduce((sum, pool) => sum + pool.rate, 0);
                const errors = lately.reduce((sum, pool) => sum + pool.rate * (pool.error_rate ?? 0), 0);
                const sick = service.pools.some(pool => pool.weight > 0 && !pool.backends.some(backend => backend.healthy));
                const rollout = live.rollouts[service.name];
                return html`<li key=${service.name}><a href=${`#${encodeURIComponent(service.name)}`} aria-current=${service.name === store.service ? "page" : null}
                    onClick=${event => { event.preventDefault(); choose(service.name); }}>
                    <span class=${`dot ${sick || errors / rate > 0.01 ? "bad" : "good"}`} aria-hidden="true"></span><b>${service.name}</b>
                    ${sick && html`<span class="sr">, a pool with weight has no healthy backend</span>`}
                    <span class="quiet">${count(rate)}/s${errors ? html` · <span class="bad">${percent(errors / rate)}</span>` : ""}${rollout ? ` · ${rollout.state}` : ""}</span></a></li>`;
            })}</ul>
        </nav>`;
}

// Of a tab that nobody looks at, it must not say what was long ago.
function title() {
    const { live, link, service } = store;
    if (!live || link.state === "asleep") return "crossfade";
    if (link.state !== "live") return "no connection – crossfade";
    const rollout = live.rollouts[service];
    return `${service}${rollout ? ` ${rollout.state}` : ""} – crossfade`;
}

const root = document.getElementById("page");
let planned = false;
function paint() {
    if (planned) return;
    planned = true;
    // Not by animation frames, which a hidden page does not get.
    setTimeout(() => {
        planned = false;
        document.title = title();
        render(html`<${App} />`, root);
    });
}
start(paint);
paint();
