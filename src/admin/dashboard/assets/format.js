// Numbers and times for people. Whatever is not known is a dash.

const DASH = "–";
const known = value => value !== null && value !== undefined && Number.isFinite(value);

// Three digits say enough.
const digits = value => value === 0 ? "0" : value < 10 ? String(+value.toPrecision(2)) : value < 100
    ? String(Math.round(value * 10) / 10) : String(Math.round(value));

export function count(value) {
    if (!known(value)) return DASH;
    if (value < 10000) return digits(value);
    if (value < 1e6) return `${digits(value / 1e3)}k`;
    return `${digits(value / 1e6)}M`;
}

export const whole = value => known(value) ? Math.round(value).toLocaleString("en") : DASH;

export function percent(share) {
    if (!known(share)) return DASH;
    const value = share * 100;
    if (value === 0) return "0\u00a0%";
    if (value < 0.01) return "<\u00a00.01\u00a0%";
    return `${value >= 99.95 && value < 100 ? "99.9" : +value.toPrecision(3)}\u00a0%`;
}

export function latency(seconds) {
    if (!known(seconds)) return DASH;
    if (seconds < 1) return `${digits(seconds * 1e3)}\u00a0ms`;
    return `${digits(seconds)}\u00a0s`;
}

export function span(seconds) {
    if (!known(seconds)) return DASH;
    const left = Math.max(0, Math.round(seconds));
    if (left < 60) return `${left}\u00a0s`;
    if (left < 3600) return `${Math.floor(left / 60)} min ${String(left % 60).padStart(2, "0")} s`;
    if (left < 86400) return `${Math.floor(left / 3600)} h ${String(Math.floor(left % 3600 / 60)).padStart(2, "0")} min`;
    return `${Math.floor(left / 86400)} d ${Math.floor(left % 86400 / 3600)} h`;
}

const two = number => String(number).padStart(2, "0");

export function clock(at) {
    const time = new Date(at);
    if (Number.isNaN(time.getTime())) return DASH;
    return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

// With the day, where it is another one than `now`.
export function moment(at, now) {
    const time = new Date(at), today = new Date(now);
    if (Number.isNaN(time.getTime())) return DASH;
    if (time.toDateString() === today.toDateString()) return clock(at);
    return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${clock(at)}`;
}

// A value of the configuration.
export function value(any) {
    if (any === null || any === undefined) return "none";
    if (typeof any === "string") return any;
    return JSON.stringify(any);
}

export const inFlight = open => open.request + open.stream + open.tunnel;

export function kinds(open) {
    const parts = [["request", "requests"], ["stream", "streams"], ["tunnel", "tunnels"]]
        .filter(([key]) => open[key] > 0).map(([key, many]) => `${open[key]} ${open[key] === 1 ? key : many}`);
    return parts.join(", ") || "nothing in flight";
}

// The path of a value within a service, without what everybody knows.
export const shortPath = (path, service) => path.startsWith(`services.${service}.`) ? path.slice(service.length + 10) : path;
