// Small things that several parts of the page show.

import { shortPath, value } from "./format.js";
import { html } from "./preact.js";

export const HUES = 6;
export const hue = place => `--pool-${place % HUES + 1}`;
export const Swatch = ({ place }) => html`<span class=${`swatch pool-${place % HUES + 1}`} aria-hidden="true"></span>`;

// What crossfade says in words has names in backticks.
export const Words = ({ text }) => text.split("`").map((part, at) => at % 2 ? html`<code key=${at}>${part}</code>` : part);

export function Chip({ kind, children }) {
    return html`<span class=${`chip ${kind}`}>${children}</span>`;
}

// What a viewer does not see.
export function Steer({ store, children }) {
    if (!store.me || store.me.role === "viewer") return null;
    return html`<div class="actions">${children}</div>`;
}

// Whether a value is one of a service, and whether a revision has changed one.
export const isOf = ({ path }, service) => path.startsWith(`services.${service}.`) || path === `services.${service}`;
export const touches = (revision, service) => revision.changed.some(it => isOf(it, service));

// The first of many, those of a service before the others; the rest on request.
export function FewChanges({ changed, service, first = service, few }) {
    const sorted = first ? [...changed.filter(it => isOf(it, first)), ...changed.filter(it => !isOf(it, first))] : changed;
    return html`<${Changes} changed=${sorted.slice(0, few)} service=${service} />
        ${sorted.length > few && html`<details><summary>${sorted.length - few} more</summary>
            <${Changes} changed=${sorted.slice(few)} service=${service} /></details>`}`;
}

export function Changes({ changed, service }) {
    return html`<ul class="changes">${changed.map(({ path, from, to }) => html`<li key=${path}>
        <code>${service ? shortPath(path, service) : path}</code>
        <span class="from"><span class="sr">from </span>${value(from)}</span><span aria-hidden="true"> → </span><span class="sr"> to </span><span class="to">${value(to)}</span></li>`)}</ul>`;
}
