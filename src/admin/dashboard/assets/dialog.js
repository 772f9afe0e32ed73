// A change is thought of, previewed, confirmed once, and answered with a receipt.

import { Refused, change, newKey } from "./api.js";
import { Changes, Words } from "./parts.js";
import { kinds, percent, whole } from "./format.js";
import { html, useEffect, useRef, useState } from "./preact.js";
import { announce, made, store } from "./store.js";

let show = () => {};
let number = 0;

export function open(act) {
    number += 1;
    show({ ...act, number });
}

export function Dialogs() {
    const [act, setAct] = useState(null);
    show = setAct;
    return act && html`<${Dialog} key=${act.number} act=${act} close=${() => setAct(null)} />`;
}

function Dialog({ act, close }) {
    const frame = useRef(null);
    const [form, setForm] = useState(act.form);
    const [cause, setCause] = useState(act.cause ?? "");
    const [force, setForce] = useState(false);
    const [preview, setPreview] = useState({ state: "none" });
    const [outcome, setOutcome] = useState({ state: "asked" });
    // One key for one change, however often it is tried.
    const key = useRef({});
    const pending = useRef(null);
    const wrong = act.wrong?.(form);
    const request = wrong ? null : act.request?.(form);
    const body = request && { ...request.body, ...(force ? { force: true } : {}) };
    const asked = request && JSON.stringify([request.path, body]);

    useEffect(() => {
        const before = document.activeElement;
        frame.current.showModal();
        // What opened it may be gone by what was done.
        return () => (before?.isConnected ? before : document.getElementById("main"))?.focus();
    }, []);
    useEffect(() => {
        if (outcome.state === "done") frame.current.querySelector(".buttons button").focus();
    }, [outcome.state]);
    useEffect(() => {
        if (!act.look) return;
        act.look().then(text => setPreview({ state: "looked", text }), error => setPreview({ state: "refused", error }));
    }, []);
    const look = () => {
        if (!request) return setPreview({ state: "none" });
        let isOld = false;
        setPreview(before => ({ ...before, isOld: true }));
        const revision = store.revision;
        clearTimeout(pending.current);
        pending.current = setTimeout(async () => {
            try {
                const receipt = await change({ ...request, body }, { dry: true });
                if (!isOld) setPreview({ state: "told", receipt, revision });
            } catch (error) {
                if (!isOld) setPreview({ state: "refused", error, revision });
            }
        }, preview.state === "none" ? 0 : 250);
        return () => { isOld = true; clearTimeout(pending.current); };
    };
    useEffect(look, [asked]);

    // What is confirmed is what was previewed.
    const isStale = outcome.state === "failed" && outcome.error.status === 412;
    const isBlind = preview.state === "refused" && !(preview.error instanceof Refused);
    const isReady = request && !preview.isOld && preview.state !== "none" && !isBlind && outcome.state !== "busy" && !isStale;
    const confirm = async event => {
        event.preventDefault();
        if (!isReady) return;
        clearTimeout(pending.current);
        setOutcome({ state: "busy" });
        const whole = cause.trim() ? { ...body, cause: cause.trim() } : body;
        const text = JSON.stringify([request.path, whole]);
        if (key.current.text !== text) key.current = { text, key: newKey() };
        try {
            const receipt = await change({ ...request, body: whole }, { revision: preview.revision ?? store.revision, key: key.current.key });
            made(receipt);
            announce(`${act.title}: done${receipt.revision ? `, revision ${receipt.revision}` : ""}.`);
            setOutcome({ state: "done", receipt });
        } catch (error) {
            if (error.revision) made(error);
            setOutcome({ state: "failed", error });
        }
    };
    const again = () => { setOutcome({ state: "asked" }); look(); };
    const canForce = [preview.error, outcome.error].some(error => error?.status === 409 && /force/.test(error.message));

    return html`
        <dialog ref=${frame} aria-labelledby="dialog-title" onClose=${close}
            onClick=${event => event.target === frame.current && outcome.state !== "busy" && frame.current.close()}>
            <form onSubmit=${confirm}>
                <h2 id="dialog-title">${act.title}</h2>
                ${outcome.state === "done" ? html`<${Receipt} receipt=${outcome.receipt} />` : html`
                    ${act.intro && html`<p>${act.intro}</p>`}
                    ${act.fields?.(form, setForm)}
                    ${wrong && html`<p class="notice bad" role="alert"><${Words} text=${wrong} /></p>`}
                    ${act.request && html`<p class="field"><label for="cause">Why <small>for the history</small></label>
                        <input id="cause" type="text" maxlength="300" autocomplete="off" value=${cause} onInput=${event => setCause(event.target.value)} /></p>`}
                    <div class="preview" aria-live="polite">${preview.state === "looked" ? preview.text : html`<${Preview} preview=${preview} />`}
                        ${isBlind && act.request && html`<p><button type="button" class="small" onClick=${again}>Look again</button></p>`}</div>
                    ${canForce && html`<p class="field check"><input id="force" type="checkbox" checked=${force} onChange=${event => setForce(event.target.checked)} />
                        <label for="force">Do it all the same</label></p>`}
                    ${outcome.state === "failed" && html`<div role="alert"><${Problem} error=${outcome.error} />
                        ${isStale && html`<p>Something was changed since this was previewed. <button type="button" class="small" onClick=${again}>Look again</button></p>`}</div>`}`}
                <div class="buttons">
                    ${act.request && outcome.state !== "done" && html`
                        <button type="submit" class=${act.danger ? "danger main" : "main"} disabled=${!isReady}>
                            ${outcome.state === "busy" ? "Working…" : act.confirm}</button>`}
                    <button type="button" onClick=${() => frame.current.close()}>${act.request && outcome.state !== "done" ? "Cancel" : "Close"}</button>
                </div>
            </form>
        </dialog>`;
}

function Preview({ preview }) {
    if (preview.state === "refused") {
        return preview.error instanceof Refused ? html`<${Problem} error=${preview.error} title="Would be refused" />`
            : html`<p class="notice bad"><b>No preview.</b> crossfade is out of reach. Nothing was changed.</p>`;
    }
    if (preview.state !== "told") return null;
    const { receipt } = preview;
    return html`
        <h3>Would change</h3>
        ${receipt.changed.length ? html`<${Changes} changed=${receipt.changed} />`
            : html`<p class="quiet">${receipt.rollout ? html`The rollout: <${Words} text=${receipt.rollout.summary} />` : "nothing: all is so already"}</p>`}
        ${receipt.preview && receipt.changed.length > 0 && html`<${Forecast} preview=${receipt.preview} />`}
        <${Warnings} warnings=${receipt.warnings} />`;
}

function Forecast({ preview }) {
    if (!preview.samples) return html`<p class="quiet">No request of the last hour is known, so where they would go is not.</p>`;
    // Of who is concerned; of all, where nobody is.
    const told = preview.services.length ? preview.services : [preview];
    return html`
        ${told.map(of => html`<p key=${of.service}>Of about <b>${whole(of.requests)}</b> requests of the last hour ${of.service && html`to <b>${of.service}</b>`}${" "}
            <b>${percent(of.elsewhere)}</b> would go elsewhere and <b class=${of.nowhere > 0 ? "bad" : ""}>${percent(of.nowhere)}</b> nowhere${" "}
            <span class="quiet">(by ${whole(of.samples)} of them)</span>.</p>`)}
        ${preview.examples.length > 0 && html`<ul class="changes">${preview.examples.map(example => html`<li key=${example}><code>${example}</code></li>`)}</ul>`}`;
}

const Warnings = ({ warnings }) => warnings.map(warning => html`<p key=${warning} class="notice warn"><${Words} text=${warning} /></p>`);

function Problem({ error, title }) {
    const errors = error instanceof Refused ? (error.problem.errors ?? []).filter(text => text !== error.message) : [];
    const what = error instanceof Refused ? error.message : "crossfade is out of reach; whether it was done is not known. Trying again does not do it twice.";
    return html`<div class="notice bad"><b>${title ?? (error instanceof Refused ? error.problem.title ?? "Refused" : "No answer")}.</b> <${Words} text=${what} />
        ${errors.length > 0 && html`<ul>${errors.map(text => html`<li key=${text}><${Words} text=${text} /></li>`)}</ul>`}</div>`;
}

export function Receipt({ receipt }) {
    return html`
        <div class="receipt" role="status">
            <p class="notice good"><b>Done.</b> ${receipt.revision ? `Revision ${receipt.revision}` : ""}${receipt.author ? ` by ${receipt.author}` : ""}, in force everywhere.</p>
            ${receipt.changed.length ? html`<${Changes} changed=${receipt.changed} />`
                : html`<p class="quiet">${receipt.rollout ? html`The rollout: <${Words} text=${receipt.rollout.summary} />` : "Nothing has changed: all was so already."}</p>`}
            ${receipt.in_flight.length > 0 && html`<h3>In flight at that moment</h3><ul>${receipt.in_flight.map(left => html`
                <li key=${left.pool + left.backend}>${left.pool}${left.backend ? `/${left.backend}` : ""}: ${kinds(left)}</li>`)}</ul>`}
            ${receipt.drains.length > 0 && html`<p>Drains that began: ${receipt.drains.join(", ")}</p>`}
            <${Warnings} warnings=${receipt.warnings} />
        </div>`;
}
