// A service: how its traffic is shared, its pools side by side, and their charts.

import { Chart, nearest } from "./chart.js";
import { cutover, drain, startRollout, undrain, weights } from "./acts.js";
import { clock, count, inFlight, kinds, latency, percent, whole } from "./format.js";
import { Chip, HUES, Steer, Swatch, hue, touches } from "./parts.js";
import { html, useState } from "./preact.js";
import { FIGURES } from "./series.js";

export function Service({ store, service }) {
    const { live } = store;
    const lately = live.lately[service.name] ?? {};
    const rate = Object.values(lately).reduce((sum, pool) => sum + pool.rate, 0);
    const hold = live.holds.find(it => it.service === service.name);
    return html`
        <section class="service" aria-labelledby="service-name">
            <div class="heading">
                <h1 id="service-name">${service.name}</h1>
                <p class="quiet"><b>${count(rate)}</b> requests/s · ${service.pools.length} ${service.pools.length === 1 ? "pool" : "pools"}</p>
                <${Steer} store=${store}>
                    <button type="button" class="main" onClick=${() => weights(service)}>Weights…</button>
                    <button type="button" onClick=${() => cutover(service)}>Cut over…</button>
                    ${!live.rollouts[service.name] && service.pools.length > 1 && html`
                        <button type="button" onClick=${() => startRollout(service)}>Start rollout…</button>`}
                <//>
            </div>
            ${hold && html`<p class="notice warn">Held by ${hold.author}${hold.cause ? ` (${hold.cause})` : ""}: ${hold.waiting} requests wait,
                until ${clock(hold.until)}.</p>`}
            <${Split} service=${service} />
        </section>`;
}

function Split({ service }) {
    const told = service.pools.map(pool => `${pool.name} ${percent(pool.effective_weight)}`).join(", ");
    return html`
        <div class="split" role="img" aria-label=${`Traffic is shared: ${told}`}>
            ${service.pools.map((pool, place) => pool.effective_weight > 0 && html`
                <div key=${pool.name} class=${`part pool-${place % HUES + 1}`} style=${{ flexGrow: pool.effective_weight }}>
                    <span>${pool.name} ${percent(pool.effective_weight)}</span>
                </div>`)}
        </div>`;
}

export function Pools({ store, service }) {
    const lately = store.live.lately[service.name] ?? {};
    return html`
        <section aria-labelledby="pools-title">
            <h2 id="pools-title">Pools <small>over the last ${store.live.window} s</small></h2>
            <div class="pools">
                ${service.pools.map((pool, place) => html`
                    <${Pool} key=${pool.name} store=${store} service=${service} pool=${pool} place=${place}
                        lately=${lately[pool.name] ?? {}} />`)}
            </div>
        </section>`;
}

// Backends that a card has room for.
const IN_SIGHT = 9;
const STATES = { active: "good", draining: "warn", drained: "off" };

function Pool({ store, service, pool, place, lately }) {
    const sum = service.pools.reduce((all, { weight }) => all + weight, 0);
    const configured = sum ? pool.weight / sum : 0;
    const differs = Math.abs(configured - pool.effective_weight) > 0.0005;
    const ready = pool.backends.filter(backend => backend.healthy && backend.state === "active").length;
    const title = `pool-${pool.name}`;
    // Where not all are in sight, those come first that something is wrong with.
    const isLong = pool.backends.length > IN_SIGHT;
    const isWell = backend => health(backend)[0] === "good";
    const backends = isLong ? [...pool.backends.filter(it => !isWell(it)), ...pool.backends.filter(isWell)] : pool.backends;
    return html`
        <article class=${`card pool edge-${place % HUES + 1}`} aria-labelledby=${title}>
            <header>
                <h3 id=${title}><${Swatch} place=${place} />${pool.name}</h3>
                <span class="version" title="version">${pool.version}</span>
                ${pool.state !== "active" && html`<${Chip} kind=${STATES[pool.state]}>${pool.state}<//>`}
            </header>
            <div class="shares">
                <p><b>${percent(pool.effective_weight)}</b> <span>of the traffic</span></p>
                <p class=${differs ? "differs" : ""}>weight ${whole(pool.weight)}
                    ${differs ? html` <span>(${percent(configured)} configured)</span>` : ""}</p>
            </div>
            <dl class="figures">
                <${Figure} name="requests/s">${count(lately.rate)}<//>
                <${Figure} name="errors" bad=${lately.error_rate > 0}>${percent(lately.error_rate)}<//>
                <${Figure} name="in flight" title=${kinds(pool.in_flight_by_kind)}>${whole(pool.in_flight)}<//>
                <${Figure} name="p50">${latency(lately.p50)}<//>
                <${Figure} name="p95">${latency(lately.p95)}<//>
                <${Figure} name="p99">${latency(lately.p99)}<//>
            </dl>
            <p class="backends-title"><b>${ready}</b> of ${pool.backends.length} backends ready
                ${inFlight(pool.in_flight_by_kind) > 0 && html`<span class="quiet"> · ${kinds(pool.in_flight_by_kind)}</span>`}</p>
            <ul class="backends" tabindex=${isLong ? 0 : null} aria-label=${`Backends of ${pool.name}`}>
                ${backends.map(backend => html`<${Backend} key=${backend.address} store=${store} service=${service} pool=${pool}
                    backend=${backend} />`)}
            </ul>
            <${Steer} store=${store}>
                ${!(configured === 1) && html`
                    <button type="button" aria-label=${`Cut over to ${pool.name}…`} onClick=${() => cutover(service, pool.name)}>Cut over…</button>`}
                ${pool.state === "active"
                    ? html`<button type="button" aria-label=${`Drain ${pool.name}…`} onClick=${() => drain(service, pool)}>Drain…</button>`
                    : html`<button type="button" aria-label=${`Undrain ${pool.name}…`} onClick=${() => undrain(service, pool)}>Undrain…</button>`}
            <//>
        </article>`;
}

function Figure({ name, bad, title, children }) {
    return html`<div title=${title}><dt>${name}</dt><dd class=${bad ? "bad" : ""}>${children}</dd></div>`;
}

function health({ healthy, ejected, state }) {
    if (state !== "active") return [state === "draining" ? "warn" : "off", state];
    if (ejected) return ["bad", "ejected"];
    return healthy ? ["good", "healthy"] : ["bad", "unhealthy"];
}

function Backend({ store, service, pool, backend }) {
    const [kind, word] = health(backend);
    const name = backend.source ?? backend.address;
    return html`
        <li>
            <span class=${`dot ${kind}`} aria-hidden="true"></span>
            <span class="address" title=${backend.source ?? backend.address}>${backend.address}</span>
            <span class=${`word ${kind}`}>${word}</span>
            <span class="open" title=${kinds(backend.in_flight_by_kind)}>${whole(backend.in_flight)}<span class="sr"> in flight</span></span>
            <${Steer} store=${store}>
                ${backend.state === "active"
                    ? html`<button type="button" class="small" aria-label=${`Drain ${name}`} onClick=${() => drain(service, pool, name)}>Drain…</button>`
                    : pool.state === "active" && html`<button type="button" class="small" aria-label=${`Undrain ${name}`}
                        onClick=${() => undrain(service, pool, name)}>Undrain…</button>`}
            <//>
        </li>`;
}

const RANGES = [["5 min", 300e3], ["15 min", 900e3], ["1 h", 3600e3]];
const QUANTILES = ["p50", "p95", "p99"];
const DASHES = { p50: [1.5, 3], p95: [6, 3], p99: [] };
const index = figure => FIGURES.indexOf(figure);
const take = figure => point => point.figures[index(figure)];

export function Charts({ store, service }) {
    const [range, setRange] = useState(300e3);
    const [shown, setShown] = useState(QUANTILES);
    const [hover, setHover] = useState(null);
    const lines = [...(store.series?.lines.values() ?? [])];
    const place = line => {
        const at = service.pools.findIndex(pool => pool.name === line.name);
        return at < 0 ? HUES - 1 : at;
    };
    // To the second, so that the picture moves with what it shows.
    const to = Date.parse(store.live.at), from = to - range;
    const marks = store.revisions.filter(it => touches(it, service.name))
        .map(({ revision, at, source }) => ({ revision, at: Date.parse(at), source }));
    const of = (figure, more = {}) => lines.map(line => ({
        points: line.points, of: take(figure), hue: hue(place(line)), dash: [], thick: 1.75, ...more,
    }));
    const slow = QUANTILES.filter(figure => shown.includes(figure))
        .flatMap(figure => of(figure, { dash: DASHES[figure], thick: figure === "p99" ? 1.75 : 1.25 }));
    const said = figure => lines.map(line => {
        const last = line.points.at(-1);
        return `${line.name} ${line.version} ${form(figure)(last ? take(figure)(last) : null)}`;
    }).join(", ") || "nothing yet";
    const common = { from, to, marks, hover, onHover: setHover };
    const toggle = figure => setShown(shown.includes(figure) ? shown.filter(it => it !== figure) : [...shown, figure]);
    const near = hover === null ? null : marks.filter(({ at }) => Math.abs(at - hover) < range / 100).map(({ revision }) => `#${revision}`);
    return html`
        <section aria-labelledby="charts-title">
            <div class="heading">
                <h2 id="charts-title">Traffic</h2>
                <div class="choice" role="group" aria-label="Time shown">
                    ${RANGES.map(([name, length]) => html`<button type="button" key=${name} aria-pressed=${range === length}
                        onClick=${() => setRange(length)}>${name}</button>`)}
                </div>
            </div>
            <div class="legend">
                ${lines.map(line => html`<span key=${line.name + line.version}><${Swatch} place=${place(line)} />${line.name} <span class="version">${line.version}</span></span>`)}
                <span><span class="mark" aria-hidden="true"></span>revision</span>
                <span><span class="mark stepped" aria-hidden="true"></span>of a rollout</span>
                <span class="at">${hover === null ? "" : `${clock(hover)} ${near.length ? `revision ${near.join(", ")}` : ""}`}</span>
            </div>
            <div class="charts">
                <figure><figcaption>Requests/s <${Values} lines=${lines} place=${place} figure="rate" hover=${hover} /></figcaption>
                    <${Chart} ...${common} lines=${of("rate")} least=${1} text=${count} label=${`Requests a second: ${said("rate")}`} /></figure>
                <figure><figcaption>Errors <${Values} lines=${lines} place=${place} figure="error_rate" hover=${hover} /></figcaption>
                    <${Chart} ...${common} lines=${of("error_rate")} least=${0.01} text=${percent} label=${`Share of errors: ${said("error_rate")}`} /></figure>
                <figure><figcaption>Latency
                        <span class="choice" role="group" aria-label="Quantiles shown">
                            ${QUANTILES.map(figure => html`<button type="button" key=${figure} class=${figure} aria-pressed=${shown.includes(figure)}
                                onClick=${() => toggle(figure)}>${figure}</button>`)}
                        </span> <${Values} lines=${lines} place=${place} figure=${shown.at(-1) ?? "p99"} hover=${hover} /></figcaption>
                    <${Chart} ...${common} lines=${slow} least=${0.001} text=${latency}
                        label=${`Latency: ${QUANTILES.map(figure => `${figure} ${said(figure)}`).join("; ")}`} /></figure>
            </div>
            <${Numbers} lines=${lines} from=${from} range=${RANGES.find(([, length]) => length === range)[0]} />
        </section>`;
}

const form = figure => figure === "rate" ? count : figure === "error_rate" ? percent : latency;

function Values({ lines, place, figure, hover }) {
    if (hover === null) return null;
    return html`<span class="values">${lines.map(line => {
        const point = nearest(line.points, hover);
        return html`<span key=${line.name + line.version}><${Swatch} place=${place(line)} />${form(figure)(point ? take(figure)(point) : null)}</span>`;
    })}</span>`;
}

function Numbers({ lines, from, range }) {
    const [open, setOpen] = useState(false);
    const rows = !open ? [] : lines.flatMap(line => {
        const points = line.points.filter(({ at }) => at >= from);
        return FIGURES.map(figure => {
            const values = points.map(take(figure)).filter(value => value !== null && value !== undefined);
            const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
            const tell = form(figure);
            return html`<tr key=${line.name + line.version + figure}><th scope="row">${line.name} ${line.version}</th>
                <td>${figure === "rate" ? "requests/s" : figure === "error_rate" ? "errors" : figure}</td>
                <td>${tell(values.at(-1))}</td><td>${tell(Math.min(...values))}</td><td>${tell(mean)}</td><td>${tell(Math.max(...values))}</td></tr>`;
        });
    });
    return html`
        <details class="numbers" onToggle=${event => setOpen(event.target.open)}>
            <summary>In numbers</summary>
            <table><caption class="sr">What the charts show, over the last ${range}</caption>
                <thead><tr><th scope="col">Version</th><th scope="col">Figure</th><th scope="col">Now</th><th scope="col">Least</th>
                    <th scope="col">Mean</th><th scope="col">Most</th></tr></thead>
                <tbody>${rows}</tbody></table>
        </details>`;
}
