// The rollout of a service: where it is, on what evidence, what it waits for.

import { retry, steerRollout } from "./acts.js";
import { clock, count, latency, moment, percent, span, whole } from "./format.js";
import { html, useState } from "./preact.js";
import { Chip, Steer, Swatch, Words } from "./parts.js";

const STATES = {
    running: "good", waiting: "warn", paused: "warn", promoted: "good", aborted: "bad", superseded: "off", failed: "bad",
};
const KINDS = {
    touch: "first touch", pause: "pause", exchange: "exchange", watch: "watch", delay: "delay", idle: "until idle", experiment: "experiment",
};
const LONG_AGO = 600e3;
const PAUSES = {
    person: "Paused by a person", step: "Paused, as the plan says", failure: "Paused: the new version is worse",
    drift: "Paused: the file says something else", deadline: "Paused: a deadline is over",
};

export function RolloutPanel({ store, service, now }) {
    const [shown, setShown] = useState(null);
    const view = store.live.rollouts[service.name] ?? store.past.get(service.name)?.view;
    if (!view) return null;
    const isOver = view.ended !== null;
    // One that was over long ago takes no more room than it is worth.
    const isShort = isOver && shown !== view.id && now - Date.parse(view.ended) > LONG_AGO;
    const place = name => service.pools.findIndex(pool => pool.name === name);
    return html`
        <section class=${`card rollout ${view.state}`} aria-labelledby="rollout-title">
            <div class="heading">
                <h2 id="rollout-title">Rollout
                    <span class="route">${place(view.from) >= 0 && html`<${Swatch} place=${place(view.from)} />`}${view.from}
                        <span aria-hidden="true"> → </span><span class="sr"> to </span>
                        ${place(view.to) >= 0 && html`<${Swatch} place=${place(view.to)} />`}${view.to}</span></h2>
                <${Chip} kind=${STATES[view.state] ?? "off"}>${view.state}<//>
                <p class="quiet">${view.strategy.replace("_", "/")} · ${moment(view.started, now)}${view.by ? ` by ${view.by.author}` : ""}${view.by?.cause ? ` · ${view.by.cause}` : ""}</p>
                <${Steer} store=${store}>
                    ${!isOver && html`
                        ${view.state === "paused"
                            ? html`<button type="button" class="main" onClick=${() => steerRollout(service, view, "resume")}>Resume…</button>`
                            : html`<button type="button" onClick=${() => steerRollout(service, view, "pause")}>Pause…</button>`}
                        <button type="button" class=${view.state === "paused" ? "" : "main"} onClick=${() => steerRollout(service, view, "promote")}>Promote…</button>
                        <button type="button" class="danger" onClick=${() => steerRollout(service, view, "abort")}>Abort…</button>`}
                    ${isOver && view.state !== "promoted" && html`<button type="button" onClick=${() => retry(service, view)}>Retry…</button>`}
                <//>
                ${isShort && html`<button type="button" onClick=${() => setShown(view.id)}>Show it</button>`}
            </div>
            ${!isShort && html`<${Progress} view=${view} />`}
            <p class="summary"><${Words} text=${view.summary} /></p>
            ${!isShort && html`<${Details} view=${view} now=${now} isOver=${isOver} />`}
        </section>`;
}

function Details({ view, now, isOver }) {
    return html`
        ${view.paused && html`<p class="notice warn"><b>${PAUSES[view.paused.by] ?? "Paused"}</b>,${" "}
            ${view.paused.until ? `goes on at ${clock(view.paused.until)}, in ${span((Date.parse(view.paused.until) - now) / 1e3)}.` : "until somebody resumes or promotes it."}</p>`}
        ${view.why && !view.summary.includes(view.why.text) && html`<p class=${`notice ${STATES[view.state]}`}><${Words} text=${view.why.text} /></p>`}
        <div class="columns">
            <${Comparison} view=${view} />
            <div>
                ${!isOver && html`<${Waits} view=${view} />`}
                <${Evidence} view=${view} />
                <${Gates} view=${view} />
                <${Notices} view=${view} now=${now} />
            </div>
        </div>
        <${Routes} view=${view} />`;
}

const label = ({ kind, share }) => kind === "step" ? percent(share) : KINDS[kind] ?? kind;

function Progress({ view }) {
    // Of one that is over, how far it came.
    const last = view.ended !== null && view.state !== "promoted" ? view.stages.findLastIndex(({ step }) => step === view.step) : -1;
    return html`
        <ol class="progress" aria-label="Steps">
            ${view.stages.map((stage, at) => {
                const state = at === last ? "ended" : stage.state;
                return html`
                <li key=${at} class=${`${state} ${stage.kind}`} aria-current=${state === "current" ? "step" : null}>
                    <span class="knob" aria-hidden="true"></span>
                    <span class="label">${label(stage)}</span>
                    <span class="sr">, ${state === "ended" ? `${view.state} here` : state}</span>
                </li>`;
            })}
        </ol>`;
}

function Comparison({ view }) {
    const rows = [
        ["Requests", whole], ["Errors", whole, "errors"], ["Error rate", percent, "error_rate"], ["Slow", whole, "slow"],
        ["Requests/s", count, "rate"], ["p50", latency, "p50"], ["p95", latency, "p95"], ["p99", latency, "p99"],
    ];
    const bigger = ["errors", "error_rate"];
    return html`
        <table class="comparison">
            <caption>Both versions, over the whole rollout</caption>
            <thead><tr><td></td><th scope="col">stable<br /><small>${view.from}</small></th><th scope="col">canary<br /><small>${view.to}</small></th></tr></thead>
            <tbody>${rows.map(([name, form, key = "requests"]) => html`<tr key=${name}><th scope="row">${name}</th>
                <td>${form(view.stable[key])}</td>
                <td class=${bigger.includes(key) && view.canary[key] > 0 ? "bad" : ""}>${form(view.canary[key])}</td></tr>`)}</tbody>
        </table>`;
}

function Waits({ view }) {
    if (!view.lacks.length) return null;
    // It does not go on by itself in a pause.
    const eta = view.paused ? null : view.eta_seconds;
    const own = lack => eta === null || view.lacks.length < 2 ? null : lack.eta_seconds;
    return html`
        <div class="waits">
            <h3>${view.paused ? "Still missing" : "Waits for"} ${eta !== null ? html`<small>about ${span(eta)}</small>` : ""}</h3>
            <ul>${view.lacks.map((lack, at) => html`<li key=${at}><${Words} text=${lack.text} />${own(lack) !== null ? html` <small>${span(own(lack))}</small>` : ""}</li>`)}</ul>
        </div>`;
}

// It multiplies as requests come, so it is shown as a power of ten.
function Evidence({ view }) {
    const { against, needed, errors, latency: slow, guards } = view.evidence;
    const share = Math.min(1, Math.max(0, Math.log10(Math.max(against, 1)) / Math.log10(Math.max(needed, 10))));
    const kind = share > 0.75 ? "bad" : share > 0.4 ? "warn" : "calm";
    const text = value => value < 1000 ? String(+value.toPrecision(2)) : value < 1e9 ? count(value) : "beyond doubt";
    return html`
        <div class="evidence">
            <h3>Evidence against ${view.to} <small>${text(against)}, cut at ${text(needed)}</small></h3>
            <div class="meter" role="meter" aria-label=${`Evidence against ${view.to}`} aria-valuemin="0" aria-valuemax="100"
                aria-valuenow=${Math.round(share * 100)} aria-valuetext=${`${text(against)} of ${text(needed)}`}>
                <span class=${kind} style=${{ width: `${share * 100}%` }}></span></div>
            <p class="quiet">errors ${text(errors)} · latency ${text(slow)} · limits ${text(guards)}</p>
        </div>`;
}

function Gates({ view }) {
    if (!view.gates.length) return null;
    const kinds = { pass: "good", fail: "bad", inconclusive: "warn" };
    return html`
        <div class="gates"><h3>Gates</h3>
            <ul>${view.gates.map(gate => html`<li key=${gate.name}><${Chip} kind=${kinds[gate.answer] ?? "off"}>${gate.answer ?? "not asked"}<//>
                <b>${gate.name}</b> ${gate.said ?? ""}</li>`)}</ul></div>`;
}

const RECENT = 4;

function Notices({ view, now }) {
    const notices = [...view.notices].reverse();
    const line = notice => html`<li key=${notice.number}>
        <time class="quiet">${moment(notice.at, now)}</time> <b>${notice.event}</b>
        ${notice.step ? ` step ${notice.step}` : ""} · ${percent(notice.share)}
        ${notice.by ? ` · ${notice.by.author}${notice.by.cause ? `: ${notice.by.cause}` : ""}` : ""}
        ${notice.why && !(notice.by?.cause && notice.why.text.includes(notice.by.cause)) ? html` · <span class="quiet"><${Words} text=${notice.why.text} /></span>` : ""}</li>`;
    return html`
        <div><h3>What happened</h3>
            <ol class="notices">${notices.slice(0, RECENT).map(line)}</ol>
            ${notices.length > RECENT && html`<details><summary>${notices.length - RECENT} before</summary><ol class="notices">${notices.slice(RECENT).map(line)}</ol></details>`}
        </div>`;
}

function Routes({ view }) {
    if (!view.routes.length) return null;
    return html`
        <details><summary>By route, in this step (${view.routes.length})</summary>
            <table><caption class="sr">Requests and errors of both versions by route</caption>
                <thead><tr><th scope="col">Route</th><th scope="col">stable</th><th scope="col">errors</th><th scope="col">canary</th><th scope="col">errors</th></tr></thead>
                <tbody>${view.routes.map((route, at) => html`<tr key=${at}><th scope="row">${route.route ?? "all others"}</th>
                    <td>${whole(route.stable.requests)}</td><td>${whole(route.stable.errors)}</td>
                    <td>${whole(route.canary.requests)}</td><td class=${route.canary.errors ? "bad" : ""}>${whole(route.canary.errors)}</td></tr>`)}</tbody></table>
        </details>`;
}
