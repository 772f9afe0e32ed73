// What the charts show of one service: an hour, the last quarter of it to the second.

const HOUR = 3600e3, FINE = 900e3, STEP = 10e3;

export const FIGURES = ["rate", "error_rate", "p50", "p95", "p99"];

const keyOf = (name, version) => `${name}\u0000${version}`;

export class Series {
    constructor(service) {
        this.service = service;
        this.lines = new Map();
    }

    line(name, version) {
        const key = keyOf(name, version);
        if (!this.lines.has(key)) this.lines.set(key, { name, version, points: [] });
        return this.lines.get(key);
    }

    // What the proxy remembers, below what was seen here.
    begin(trail) {
        for (const { name, version, points } of trail.pools) {
            const line = this.line(name, version);
            const told = points.map(([at, ...figures]) => ({ at, figures }));
            line.points = merge(told, line.points);
        }
    }

    add(at, name, version, figures) {
        const { points } = this.line(name, version);
        const last = points.at(-1);
        if (last && at <= last.at) return;
        points.push({ at, figures: FIGURES.map(figure => figures[figure]) });
    }

    // Forgets what is old; called once a second.
    trim(now) {
        for (const [key, line] of this.lines) {
            const { points } = line;
            let old = 0;
            while (old < points.length && points[old].at < now - HOUR) old++;
            if (old) points.splice(0, old);
            if (points.length > 1300) line.points = thin(points, now - FINE);
            if (!points.length) this.lines.delete(key);
        }
    }
}

// What was told fills in where nothing was seen.
function merge(told, seen) {
    const all = [...seen];
    for (const point of told) {
        const near = seen.some(({ at }) => Math.abs(at - point.at) < STEP * 0.8);
        if (!near) all.push(point);
    }
    return all.sort((one, other) => one.at - other.at);
}

// One point in ten seconds before `until`.
function thin(points, until) {
    let last = -Infinity;
    return points.filter(({ at }) => {
        if (at < until && at - last < STEP * 0.95) return false;
        last = at;
        return true;
    });
}
