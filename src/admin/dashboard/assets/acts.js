// What can be done, each as a dialog that says what it will do, asks once, and shows its receipt.

import { get, ofService, segment } from "./api.js";
import { open } from "./dialog.js";
import { percent, whole } from "./format.js";
import { Changes } from "./parts.js";
import { html } from "./preact.js";
import { store } from "./store.js";

const MOST = 1000000;

// What else becomes of it.
const ends = service => store.live?.rollouts[service.name] ? html` <b>The rollout that runs ends: it is superseded.</b>` : "";

function total(form) {
    return Object.values(form).reduce((sum, weight) => sum + weight, 0);
}

export function weights(service) {
    const before = Object.fromEntries(service.pools.map(({ name, weight }) => [name, weight]));
    const top = Math.max(100, total(before));
    const names = Object.keys(before);
    // Of two, one gives what the other takes.
    const turn = (form, name, weight) => {
        const next = { ...form, [name]: weight };
        const other = names.find(it => it !== name);
        if (names.length === 2 && weight <= total(before)) next[other] = total(before) - weight;
        return next;
    };
    open({
        title: `Weights of ${service.name}`,
        intro: html`New requests are shared by these weights from the moment that it is confirmed.${ends(service)}`,
        confirm: "Set the weights",
        form: before,
        fields: (form, set) => html`
            <fieldset class="sliders"><legend class="sr">Weights</legend>
                ${names.map((name, at) => html`<div key=${name} class="slider">
                    <label for=${`weight-${at}`}>${name}</label>
                    <input type="range" min="0" max=${top} step="1" value=${form[name]} aria-label=${`Weight of ${name}`}
                        aria-valuetext=${`${form[name]}, ${percent(total(form) ? form[name] / total(form) : 0)}`}
                        onInput=${event => set(turn(form, name, Number(event.target.value)))} />
                    <input id=${`weight-${at}`} type="number" min="0" max=${MOST} step="1" value=${form[name]}
                        onInput=${event => set({ ...form, [name]: clamp(event.target.value) })} />
                    <output>${percent(total(form) ? form[name] / total(form) : 0)}</output>
                </div>`)}
            </fieldset>
            <div class="split" role="img" aria-label=${names.map(name => `${name} ${percent(total(form) ? form[name] / total(form) : 0)}`).join(", ")}>
                ${names.map((name, at) => form[name] > 0 && html`<div key=${name} class=${`part pool-${at % 6 + 1}`} style=${{ flexGrow: form[name] / total(form) }}><span>${name}</span></div>`)}
            </div>`,
        request: form => {
            const changed = Object.entries(form).filter(([name, weight]) => weight !== before[name]);
            if (!changed.length || !total(form)) return null;
            return { method: "PUT", path: ofService(service.name, "/weights"), body: { weights: form } };
        },
    });
}

const clamp = text => Math.min(MOST, Math.max(0, Math.round(Number(text) || 0)));

function pick(id, label, pools, form, set, key = "to") {
    return html`<p class="field"><label for=${id}>${label}</label>
        <select id=${id} value=${form[key]} onChange=${event => set({ ...form, [key]: event.target.value })}>
            ${pools.map(({ name, version }) => html`<option key=${name} value=${name} selected=${name === form[key]}>${name} (${version})</option>`)}
        </select></p>`;
}

// Where somebody would want to go who has not said.
function other(service) {
    const most = [...service.pools].sort((one, next) => one.weight - next.weight);
    return most[0]?.name;
}

export function cutover(service, to = other(service)) {
    open({
        title: `Cut over ${service.name}`,
        intro: html`All weight goes to one pool at once. Once it has answered, no new request is drawn for another one; what is in flight there
            finishes.${ends(service)}`,
        confirm: "Cut over",
        form: { to },
        fields: (form, set) => pick("cutover-to", "To", service.pools, form, set),
        request: form => ({ method: "POST", path: ofService(service.name, "/cutover"), body: { to: form.to } }),
    });
}

const ofPool = (service, pool, verb) => ofService(service.name, `/pools/${segment(pool.name)}/${verb}`);

function emptied(service, pool, backend, verb) {
    return { method: "POST", path: ofPool(service, pool, verb), body: backend ? { backends: [backend] } : {} };
}

export function drain(service, pool, backend) {
    const what = backend ? `${backend} of ${pool.name}` : `the pool ${pool.name}`;
    open({
        title: `Drain ${what}`,
        intro: html`No new requests for ${what} of ${service.name}, until it is undrained. What is in flight finishes, at the longest until the
            deadline of a drain.${backend ? "" : " The weights stay as they are."}`,
        confirm: "Drain",
        danger: true,
        form: {},
        request: () => emptied(service, pool, backend, "drain"),
    });
}

export function undrain(service, pool, backend) {
    const what = backend ? `${backend} of ${pool.name}` : `the pool ${pool.name}`;
    open({
        title: `Undrain ${what}`,
        intro: html`New requests for ${what} again.`,
        confirm: "Undrain",
        form: {},
        request: () => emptied(service, pool, backend, "undrain"),
    });
}

// As on the command line: `25`, `25:10m`, `pause`, `pause:1h`.
function step(text) {
    const [what, time] = text.split(":");
    if (what === "pause") return { pause: time ?? {} };
    const share = Number(what);
    if (Number.isNaN(share)) return null;
    return time ? { share, bake: time } : share;
}

export function startRollout(service) {
    const to = other(service);
    const pools = service.pools;
    // Of two it is clear; of more, the one with most of the traffic.
    const from = pools.length > 2 ? [...pools].sort((one, next) => next.weight - one.weight)[0].name : null;
    const steps = form => form.steps.split(/[\s,]+/).filter(Boolean);
    open({
        title: `Start a rollout of ${service.name}`,
        intro: html`Traffic moves step by step, by the service’s plan, while both versions are compared. It goes back by itself when the new one is worse.`,
        confirm: "Start",
        form: { from, to, steps: "" },
        fields: (form, set) => html`${from && pick("rollout-from", "From", pools, form, set, "from")}
            ${pick("rollout-to", "To", pools, form, set)}
            <p class="field"><label for="rollout-steps">Steps in percent <small>as the plan says when empty</small></label>
                <input id="rollout-steps" type="text" autocomplete="off" placeholder="5, 25:10m, pause, 100" value=${form.steps}
                    onInput=${event => set({ ...form, steps: event.target.value })} /></p>`,
        wrong: form => {
            const unknown = steps(form).find(text => step(text) === null);
            return unknown && `\`${unknown}\` is no step: say a share such as \`25\` or \`25:10m\`, or \`pause\``;
        },
        request: form => ({
            method: "POST", path: ofService(service.name, "/rollout"),
            body: { to: form.to, ...(from ? { from: form.from } : {}), ...(form.steps.trim() ? { steps: steps(form).map(step) } : {}) },
        }),
    });
}

export function retry(service, view) {
    open({
        title: `Retry the rollout ${view.from} → ${view.to}`,
        intro: html`The last rollout of ${service.name} begins once more: the same pools, the same plan.`,
        confirm: "Retry",
        form: {},
        request: () => ({ method: "POST", path: ofService(service.name, "/rollout/retry"), body: {} }),
    });
}

const VERBS = {
    pause: ["Pause", view => html`It stays at ${percent(view.share)} on ${view.to}. Requests are counted all the same, and a version that is worse is still cut.`],
    resume: ["Resume", view => html`It goes on from step ${view.step} of ${view.steps}. If it was paused for a failure, what speaks against ${view.to} is forgotten.`],
    promote: ["Promote", view => view.step >= view.steps
        ? html`The rollout is done: ${view.to} gets everything, whatever is missing.`
        : html`On to the next step of ${view.steps}, whatever is missing.`],
    abort: ["Abort", view => html`All of the traffic goes back to ${view.from}, at once.`],
};

export function steerRollout(service, view, verb) {
    const [name, intro] = VERBS[verb];
    open({
        title: `${name} the rollout ${view.from} → ${view.to}`,
        intro: intro(view),
        confirm: name,
        danger: verb === "abort",
        form: { for: "" },
        fields: verb !== "pause" ? null : (form, set) => html`<p class="field"><label for="pause-for">For <small>until somebody resumes it when empty</small></label>
            <input id="pause-for" type="text" placeholder="10m" value=${form.for} onInput=${event => set({ ...form, for: event.target.value })} /></p>`,
        request: form => ({
            method: "POST", path: ofService(service.name, `/rollout/${verb}`), body: form.for ? { for: form.for.trim() } : {},
        }),
    });
}

export function undo(service, newest, to) {
    const whose = service ? service.name : "everything";
    open({
        title: to ? `Back to revision ${to} for ${whose}` : `Undo the newest change of ${whose}`,
        intro: to
            ? html`What was in force after revision ${to} is put in force anew, as a new revision.${service ? ends(service) : ""}`
            : html`What was before the newest change is put in force anew, as a new revision. All revisions of one rollout count as one change; a second undo undoes the first.${service ? ends(service) : ""}`,
        confirm: to ? `Back to ${whole(to)}` : "Undo",
        cause: to ? `back to revision ${to}` : `undo of revision ${newest}`,
        form: {},
        request: () => ({
            method: "POST", path: "/v1/undo",
            body: { ...(service ? { service: service.name } : {}), ...(to ? { to_revision: to } : {}) },
        }),
    });
}

export function diff({ revision }) {
    open({
        title: `From revision ${revision} to now`,
        intro: "",
        look: async () => {
            const { from, to, changed } = await get(`/v1/revisions/${revision}/diff`);
            return changed.length ? html`<p>${changed.length} values differ between revisions ${from} and ${to}:</p><${Changes} changed=${changed} />`
                : html`<p>Revision ${from} and what is in force say the same.</p>`;
        },
    });
}
