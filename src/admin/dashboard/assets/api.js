// Asks the admin API. The token is kept as long as this tab, and nowhere else.

const KEY = "crossfade-token";

export const token = {
    get: () => sessionStorage.getItem(KEY),
    set: text => sessionStorage.setItem(KEY, text),
    forget: () => sessionStorage.removeItem(KEY),
};

// What the API has said instead of doing it.
export class Refused extends Error {
    constructor(status, problem) {
        super(problem.detail || problem.title || `answered ${status}`);
        this.status = status;
        this.problem = problem;
        // The one that is in force, where it said so.
        this.revision = null;
    }
}

function fields(more = {}) {
    const shown = token.get();
    return shown ? { ...more, authorization: `Bearer ${shown}` } : more;
}

async function refusal(answer) {
    const text = await answer.text();
    let problem = {};
    try { problem = JSON.parse(text); } catch { problem = { detail: text.slice(0, 300) }; }
    const refused = new Refused(answer.status, problem);
    if (answer.status === 412) refused.revision = Number(answer.headers.get("etag")?.replaceAll('"', "")) || null;
    return refused;
}

export async function get(path, signal) {
    const answer = await fetch(path, { headers: fields(), cache: "no-store", signal });
    if (!answer.ok) throw await refusal(answer);
    return answer.json();
}

// A change, or what it would do with `dry`.
export async function change({ method, path, body }, { dry = false, revision = null, key = null } = {}) {
    const headers = fields({ "content-type": "application/json" });
    if (revision !== null) headers["if-match"] = `"${revision}"`;
    if (key !== null && method === "POST" && !dry) headers["idempotency-key"] = key;
    const answer = await fetch(dry ? `${path}?dry_run=true` : path, { method, headers, body: JSON.stringify(body) });
    if (!answer.ok) throw await refusal(answer);
    return answer.json();
}

// The same for every try of one change. randomUUID is for secure contexts alone.
export function newKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
}

// Server-sent events (HTML Living Standard, section 9.2). EventSource cannot show a token.
export async function follow(lastId, hear, signal) {
    const headers = fields({ accept: "text/event-stream" });
    if (lastId) headers["last-event-id"] = lastId;
    const answer = await fetch("/v1/events?live=true", { headers, cache: "no-store", signal });
    if (!answer.ok) throw await refusal(answer);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        for (const text of events) {
            const event = { kind: "message", id: null, data: "" };
            for (const line of text.split("\n")) {
                const [, name, what] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
                if (name === "event") event.kind = what;
                else if (name === "id") event.id = what;
                else if (name === "data") event.data += what;
            }
            hear(event);
        }
    }
}

export const segment = encodeURIComponent;
export const ofService = (service, rest = "") => `/v1/services/${segment(service)}${rest}`;
