// What is known here, and how it is kept up to date: by one stream, which ends while nobody looks.

import { Refused, follow, get, ofService, token } from "./api.js";
import { Series } from "./series.js";

const MOST_EVENTS = 200, MOST_REVISIONS = 200;
// Told of before the page was open: this many revisions, and of rollouts what came since so long before the last of them.
const FEW = 15, RECENT = 3600e3;
// Pauses before the next try, in seconds.
const PAUSES = [1, 2, 4, 8, 16, 30];
// The proxy says something each second; after so many milliseconds of silence it is asked anew.
const SILENCE = 8e3;
// A tab that nobody looks at lets go of its connection: a browser has but six for one host.
const PATIENCE = 60e3;

export const store = {
    me: null,
    live: null,
    // `connecting`, `live`, `waiting`, `asleep` or `locked`.
    link: { state: "connecting", problem: null, until: 0, tries: 0 },
    revision: 0,
    service: null,
    series: null,
    revisions: [],
    events: [],
    // The last rollout of a service, once it is over.
    past: new Map(),
    said: "",
    upgraded: false,
};

let listener = () => {};
let lastId = null, heard = 0, stream = null, wake = null, number = 0, first = null;

export function start(changed) {
    listener = changed;
    store.service = named();
    addEventListener("hashchange", () => choose(named()));
    addEventListener("online", hurry);
    document.addEventListener("visibilitychange", seen);
    setInterval(watch, 1000);
    run();
}

export const now = () => store.live ? Date.parse(store.live.at) + (Date.now() - heard) : Date.now();

// For who cannot see the page.
export function announce(text) {
    store.said = text;
    listener();
}

export function choose(service) {
    if (!service || service === store.service) return;
    store.service = service;
    store.series = null;
    if (location.hash !== `#${encodeURIComponent(service)}`) location.hash = encodeURIComponent(service);
    recall();
    listener();
}

export function unlock(text) {
    token.set(text);
    store.link = { state: "connecting", problem: null, until: 0, tries: 0 };
    listener();
    hurry();
}

export function lock() {
    token.forget();
    stream?.abort();
    hurry();
}

// A change was made here: what is known may not say it yet.
export function made({ revision }) {
    if (revision) store.revision = Math.max(store.revision, revision);
    listener();
}

export function hurry() {
    wake?.();
}

const named = () => {
    try { return decodeURIComponent(location.hash.slice(1)) || null; } catch { return null; }
};

function seen() {
    if (document.hidden) return;
    if (store.link.state === "live") recall(); else hurry();
}

let hiddenSince = null;

function watch() {
    hiddenSince = document.hidden ? hiddenSince ?? Date.now() : null;
    const asleep = hiddenSince !== null && Date.now() - hiddenSince > PATIENCE;
    const silent = store.link.state === "live" && Date.now() - heard > SILENCE;
    if (stream && (asleep || silent)) stream.abort();
    if (store.link.state !== "live") listener();
}

const pause = milliseconds => new Promise(done => {
    const timer = setTimeout(done, milliseconds);
    wake = () => { clearTimeout(timer); done(); };
});

async function run() {
    for (;;) {
        if (document.hidden && hiddenSince !== null && Date.now() - hiddenSince > PATIENCE) {
            change({ state: "asleep", problem: null });
            await pause(3600e3);
            continue;
        }
        stream = new AbortController();
        let problem = "The connection has ended";
        try {
            await enter(stream.signal);
            await follow(lastId, hear, stream.signal);
        } catch (error) {
            if (error instanceof Refused) problem = error.message;
            else if (error.name !== "AbortError") problem = "crossfade is out of reach";
            if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
                const shown = token.get() !== null;
                if (error.status === 401) token.forget();
                // What was seen was for who may see it.
                Object.assign(store, { me: null, live: null, series: null, revisions: [], events: [] });
                lastId = null;
                change({ state: "locked", problem: shown || error.status === 403 ? problem : null });
                await pause(3600e3 * 24);
                continue;
            }
        }
        stream = null;
        if (store.link.state === "live") announce("The connection to crossfade is lost.");
        const tries = store.link.tries;
        const seconds = PAUSES[Math.min(tries, PAUSES.length - 1)] * (0.8 + 0.4 * Math.random());
        change({ state: "waiting", problem, until: Date.now() + seconds * 1e3, tries: tries + 1 });
        await pause(seconds * 1e3);
        if (store.link.state === "waiting") change({ ...store.link, state: "connecting" });
    }
}

function change(link) {
    store.link = { ...store.link, ...link };
    listener();
}

// What the stream does not tell.
async function enter(signal) {
    store.me = await get("/v1/me", signal);
    store.revisions = await get(`/v1/revisions?limit=${MOST_REVISIONS}`, signal);
    // The last of what happened before is told as well.
    const [newest] = store.revisions;
    if (lastId === null && newest) lastId = `${Date.parse(newest.at) - RECENT}-${Math.max(0, newest.revision - FEW)}`;
    if (store.service) await recall();
}

// The last hour of the service that is shown; what was missed meanwhile is in it.
async function recall() {
    const service = store.service;
    if (!service) return;
    if (store.series?.service !== service) store.series = new Series(service);
    try {
        const trail = await get(ofService(service, "/traffic"));
        if (store.series?.service === service) store.series.begin(trail);
    } catch {
        // The charts begin with what comes from now on.
    }
    listener();
}

function hear({ kind, id, data }) {
    if (id !== null) lastId = id;
    if (!data) return;
    const news = JSON.parse(data);
    if (kind === "live") return picture(news);
    if (kind === "revision") {
        store.revisions = [news, ...store.revisions.filter(it => it.revision !== news.revision)]
            .sort((one, other) => other.revision - one.revision).slice(0, MOST_REVISIONS);
        // A step of a rollout is told as such.
        if (news.source !== "rollout") tell("revision", news.at, news);
    } else if (kind === "rollout") {
        tell("rollout", news.at, news);
        if (Math.abs(now() - Date.parse(news.at)) < 10e3) announce(`Rollout of ${news.service}: ${news.event}${news.reason ? `, ${news.reason}` : ""}`);
    } else if (kind === "audit") {
        // What was done to a rollout is told as such.
        if (news.name !== "rollout.steered") tell("audit", news.at, news);
    } else if (kind === "missed") tell("missed", new Date(now()).toISOString(), news);
    listener();
}

function tell(kind, at, news) {
    const same = store.events.some(it => it.kind === kind && (kind === "rollout"
        ? it.news.rollout === news.rollout && it.news.number === news.number
        : kind === "audit" ? it.news.id === news.id && it.news.at === news.at
        : kind === "revision" && it.news.revision === news.revision && it.news.at === news.at));
    if (same) return;
    number += 1;
    store.events = [{ number, kind, at, news }, ...store.events]
        .sort((one, other) => Date.parse(other.at) - Date.parse(one.at)).slice(0, MOST_EVENTS);
}

function picture(live) {
    const before = store.live;
    heard = Date.now();
    store.live = live;
    first ??= live.status.version;
    store.upgraded = first !== live.status.version;
    if (before && before.instance !== live.instance) {
        tell("restarted", live.at, { version: live.status.version });
        announce("Another process of crossfade answers now.");
        store.revision = 0;
        store.past.clear();
    }
    store.revision = Math.max(store.revision, live.status.revision);
    if (store.link.state !== "live") {
        if (store.link.tries > 0) announce("Connected to crossfade again.");
        store.link = { state: "live", problem: null, until: 0, tries: 0 };
    }
    const services = live.status.services;
    if (!services.some(({ name }) => name === store.service)) {
        store.service = null;
        store.series = null;
        if (services.length) choose(services[0].name);
    }
    const service = services.find(({ name }) => name === store.service);
    const lately = live.lately[store.service];
    if (service && lately && store.series) {
        for (const { name, version } of service.pools) {
            if (lately[name]) store.series.add(Date.parse(live.at), name, version, lately[name]);
        }
        store.series.trim(Date.parse(live.at));
    }
    if (service?.rollout && !live.rollouts[service.name]) remember(service.name, service.rollout);
    listener();
}

// A rollout that is over changes no more.
async function remember(service, { id, state }) {
    const known = store.past.get(service);
    if (known?.id === id && known.state === state) return;
    store.past.set(service, { id, state, view: known?.id === id ? known.view : null });
    try {
        const view = await get(ofService(service, "/rollout"));
        if (view.id === id) store.past.set(service, { id, state, view });
    } catch {
        store.past.delete(service);
    }
    listener();
}
