// Beside the service: what drains, what drifts, what was changed, what happens.

import { diff, undo } from "./acts.js";
import { clock, inFlight, kinds, moment, percent, span, value, whole } from "./format.js";
import { Chip, FewChanges, Steer, Words, touches } from "./parts.js";
import { html, useState } from "./preact.js";

export function Drains({ store, now }) {
    const { drains } = store.live;
    return html`
        <section class="card" aria-labelledby="drains-title">
            <h2 id="drains-title">Drains <small>${drains.length || "none"}</small></h2>
            ${drains.length > 0 && html`<ul class="drains">${drains.map(drain => {
                const [since, deadline] = [Date.parse(drain.since), Date.parse(drain.deadline)];
                const open = inFlight(drain.in_flight), left = Math.max(0, deadline - now);
                return html`<li key=${drain.id}>
                    <p><b>${whole(open)}</b> in flight on ${drain.pool}/${drain.backend}
                        <span class="quiet"> ${drain.service} · ${kinds(drain.in_flight)}${drain.cut ? ` · ${drain.cut} cut` : ""}</span></p>
                    <div class="meter" aria-hidden="true"><span class="calm" style=${{ width: `${Math.min(100, 100 * left / Math.max(1, deadline - since))}%` }}></span></div>
                    <p class="quiet">${left > 0 ? `cut in ${span(left / 1e3)}` : "being cut"}</p>
                </li>`;
            })}</ul>`}
        </section>`;
}

const FEW = 3, FEW_DRIFTS = 6, FEW_MISTAKES = 3, PAGE = 12;

// What is wrong with the file, one to a line.
function Mistakes({ text }) {
    const mistakes = text.split("\n").filter(Boolean);
    const list = part => html`<ul class="mistakes">${part.map(line => html`<li key=${line}><${Words} text=${line} /></li>`)}</ul>`;
    return html`<div class="notice bad"><b>The file as it is now cannot be loaded.</b> ${list(mistakes.slice(0, FEW_MISTAKES))}
        ${mistakes.length > FEW_MISTAKES && html`<details><summary>${mistakes.length - FEW_MISTAKES} more</summary>${list(mistakes.slice(FEW_MISTAKES))}</details>`}</div>`;
}

export function Drift({ store }) {
    const { drift, status } = store.live;
    return html`
        <section class="card" aria-labelledby="drift-title" id="drift">
            <h2 id="drift-title">Drift <small>${status.config.file ? `${status.drift || "none"}` : "no file"}</small></h2>
            ${status.config.error && html`<${Mistakes} text=${status.config.error} />`}
            ${status.needs_restart.length > 0 && html`<p class="notice warn">Waits for a restart: ${status.needs_restart.join(", ")}</p>`}
            ${drift.length > 0 && html`<p class="quiet">What is in force and not in ${status.config.file}:</p>
                <${FewChanges} changed=${drift} first=${store.service} few=${FEW_DRIFTS} /> ${status.drift > drift.length && html`<p class="quiet">and ${status.drift - drift.length} more</p>`}`}
        </section>`;
}

export function History({ store, service, now }) {
    const [all, setAll] = useState(false);
    const [most, setMost] = useState(PAGE);
    const revisions = store.revisions.filter(it => all || touches(it, service.name));
    const newest = revisions[0]?.revision;
    return html`
        <section class="card history" aria-labelledby="history-title">
            <div class="heading">
                <h2 id="history-title">History</h2>
                <div class="choice" role="group" aria-label="Whose history">
                    <button type="button" class="name-of" aria-pressed=${!all} onClick=${() => setAll(false)}>${service.name}</button>
                    <button type="button" aria-pressed=${all} onClick=${() => setAll(true)}>everything</button>
                </div>
            </div>
            ${revisions.length === 0 && html`<p class="quiet">Nothing was changed yet.</p>`}
            <ol>${revisions.slice(0, most).map(it => html`
                <li key=${it.revision}>
                    <div class="line">
                        <b class="number">#${it.revision}</b>
                        <span>${it.author}</span>
                        ${it.source !== "api" && it.source !== it.author && html`<${Chip} kind="off">${it.source}<//>`}
                        <time class="quiet">${moment(it.at, now)}</time>
                        <span class="tools">
                            ${it.revision !== store.revisions[0].revision && html`<button type="button" class="small"
                                aria-label=${`What differs between revision ${it.revision} and now`} onClick=${() => diff(it)}>Diff…</button>`}
                            <${Steer} store=${store}>
                                ${it.revision === newest
                                    ? html`<button type="button" class="small" aria-label=${`Undo revision ${it.revision}`}
                                        onClick=${() => undo(all ? null : service, newest)}>Undo…</button>`
                                    : html`<button type="button" class="small" aria-label=${`Go back to revision ${it.revision}`}
                                        onClick=${() => undo(all ? null : service, newest, it.revision)}>Back to…</button>`}
                            <//>
                        </span>
                    </div>
                    ${it.cause && html`<p class="cause"><${Words} text=${it.cause} /></p>`}
                    <${FewChanges} changed=${it.changed} service=${all ? null : service.name} few=${FEW} />
                </li>`)}</ol>
            ${revisions.length > most && html`<button type="button" class="small" onClick=${() => setMost(most + 4 * PAGE)}>Show more</button>`}
        </section>`;
}

// Of the audit log, what is no reason to look twice.
const QUIET = ["service.released", "files.renewed", "change.unanswered"];
const GOOD = ["promoted", "resumed", "started", "step"], BAD = ["aborted", "failed"];

function told({ kind, news }) {
    if (kind === "rollout") {
        const steer = GOOD.includes(news.event) ? "good" : BAD.includes(news.event) ? "bad" : "warn";
        return [steer, news.event, html`<b>${news.service}</b> ${news.from} → ${news.to}${news.step ? `, step ${news.step} of ${news.steps}` : ""}, ${percent(news.share)}
            ${news.author ? ` · ${news.author}` : ""}${news.reason ? html` · <${Words} text=${news.reason} />` : ""}`];
    }
    if (kind === "revision") {
        return ["off", `#${news.revision}`, html`<b>${news.author}</b> ${news.cause ? html`<${Words} text=${news.cause} /> · ` : ""}${news.changed.slice(0, 2)
            .map(({ path, from, to }) => `${path.replace(/^services\./, "")} ${value(from)} → ${value(to)}`).join(", ")}${news.changed.length > 2 ? ` and ${news.changed.length - 2} more` : ""}`];
    }
    if (kind === "audit") {
        const [whose, word] = news.name.split(".");
        return [QUIET.includes(news.name) ? "off" : "warn", word, html`<b>${news.author ?? news.from ?? whose}</b> ${[news.service,
            news.cause, news.detail ?? news.path].filter(Boolean).map((text, at) => html`${at ? " · " : ""}<${Words} key=${at} text=${text} />`)}`];
    }
    if (kind === "restarted") return ["warn", "restart", `another process of crossfade answers now, ${news.version}`];
    return ["warn", "missed", `${news.missed} events`];
}

export function Events({ store }) {
    const [most, setMost] = useState(PAGE);
    return html`
        <section class="card" aria-labelledby="events-title">
            <h2 id="events-title">Events</h2>
            ${store.events.length === 0 && html`<p class="quiet">Nothing has happened lately.</p>`}
            <ol class="events">${store.events.slice(0, most).map(event => {
                const [kind, word, text] = told(event);
                return html`<li key=${event.number}><time class="quiet">${clock(event.at)}</time> <${Chip} kind=${kind}>${word}<//> <span>${text}</span></li>`;
            })}</ol>
            ${store.events.length > most && html`<button type="button" class="small" onClick=${() => setMost(most + 4 * PAGE)}>Show more</button>`}
        </section>`;
}
