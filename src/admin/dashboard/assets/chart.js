// Lines over time on a canvas, with the moments of revisions. What they show in numbers is in the table beside them.

import { html, useEffect, useRef } from "./preact.js";
import { clock } from "./format.js";

const LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 20;
// Where nothing is known for longer than this, there is no line.
const GAP = 25e3;
const TICKS = [60e3, 300e3, 600e3, 900e3];

// A round number that is not below.
function nice(most) {
    const power = 10 ** Math.floor(Math.log10(most));
    return [1, 2, 2.5, 5, 10].map(step => step * power).find(step => step >= most * 0.999);
}

function draw(canvas, { lines, from, to, least, text, marks, hover }) {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
        canvas.width = Math.round(width * ratio);
        canvas.height = Math.round(height * ratio);
    }
    const style = getComputedStyle(canvas);
    const colour = name => style.getPropertyValue(name).trim();
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = `11px ${style.fontFamily}`;
    let most = least;
    for (const { points, of } of lines) {
        for (const point of points) if (point.at >= from && of(point) > most) most = of(point);
    }
    const top = nice(most);
    const x = at => LEFT + (at - from) / (to - from) * (width - LEFT - RIGHT);
    const y = value => TOP + (1 - value / top) * (height - TOP - BOTTOM);

    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const part of [0, 0.5, 1]) {
        const line = Math.round(y(top * part)) + 0.5;
        pen.strokeStyle = colour(part ? "--grid" : "--axis");
        pen.beginPath();
        pen.moveTo(LEFT, line);
        pen.lineTo(width - RIGHT, line);
        pen.stroke();
        pen.fillStyle = colour("--muted");
        pen.fillText(text(top * part), LEFT - 6, line);
    }
    const step = TICKS.find(tick => (to - from) / tick <= Math.max(2, (width - LEFT) / 70)) ?? 1800e3;
    pen.textAlign = "center";
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
        const label = clock(at).slice(0, 5), place = x(at), half = pen.measureText(label).width / 2;
        if (place - half > LEFT - 10 && place + half < width) pen.fillText(label, place, height - BOTTOM / 2);
    }

    pen.save();
    pen.beginPath();
    pen.rect(LEFT, 0, width - LEFT - RIGHT + 1, height - BOTTOM + 1);
    pen.clip();
    for (const { at, source } of marks) {
        if (at < from || at > to) continue;
        const place = Math.round(x(at)) + 0.5;
        pen.strokeStyle = colour(source === "rollout" ? "--mark-rollout" : "--mark");
        pen.setLineDash([2, 3]);
        pen.beginPath();
        pen.moveTo(place, TOP - 4);
        pen.lineTo(place, height - BOTTOM);
        pen.stroke();
        pen.setLineDash([]);
        pen.fillStyle = pen.strokeStyle;
        pen.beginPath();
        pen.moveTo(place - 3.5, 0);
        pen.lineTo(place + 3.5, 0);
        pen.lineTo(place, 6);
        pen.fill();
    }
    pen.lineJoin = "round";
    for (const { points, of, hue, dash, thick } of lines) {
        pen.strokeStyle = colour(hue);
        pen.lineWidth = thick;
        pen.setLineDash(dash);
        pen.beginPath();
        let before = null;
        for (const point of points) {
            const value = of(point);
            if (point.at < from - GAP || value === null || value === undefined) { before = null; continue; }
            if (before === null || point.at - before > GAP) {
                pen.moveTo(x(point.at), y(value));
                pen.lineTo(x(point.at) + 0.01, y(value));
            } else pen.lineTo(x(point.at), y(value));
            before = point.at;
        }
        pen.stroke();
    }
    pen.setLineDash([]);
    if (hover !== null) {
        const place = Math.round(x(hover)) + 0.5;
        pen.strokeStyle = colour("--muted");
        pen.lineWidth = 1;
        pen.beginPath();
        pen.moveTo(place, TOP);
        pen.lineTo(place, height - BOTTOM);
        pen.stroke();
        for (const { points, of, hue } of lines) {
            const point = nearest(points, hover);
            const value = point && of(point);
            if (value === null || value === undefined) continue;
            pen.fillStyle = colour(hue);
            pen.beginPath();
            pen.arc(x(point.at), y(value), 3, 0, 7);
            pen.fill();
        }
    }
    pen.restore();
}

// The point at a time, if there is one near it.
export function nearest(points, at) {
    let low = 0, high = points.length - 1;
    while (low < high) {
        const middle = (low + high) >> 1;
        if (points[middle].at < at) low = middle + 1; else high = middle;
    }
    const near = [points[low - 1], points[low]].filter(point => point && Math.abs(point.at - at) < GAP);
    return near.sort((one, other) => Math.abs(one.at - at) - Math.abs(other.at - at))[0] ?? null;
}

export function Chart({ label, onHover, ...picture }) {
    const canvas = useRef(null), last = useRef(picture);
    last.current = picture;
    useEffect(() => { draw(canvas.current, picture); });
    useEffect(() => {
        const again = () => canvas.current && draw(canvas.current, last.current);
        const size = new ResizeObserver(again);
        size.observe(canvas.current);
        const dark = matchMedia("(prefers-color-scheme: dark)");
        dark.addEventListener("change", again);
        return () => { size.disconnect(); dark.removeEventListener("change", again); };
    }, []);
    const move = event => {
        const { left, width } = canvas.current.getBoundingClientRect();
        const share = (event.clientX - left - LEFT) / (width - LEFT - RIGHT);
        const { from, to } = last.current;
        onHover(share >= 0 && share <= 1 ? from + share * (to - from) : null);
    };
    return html`<canvas ref=${canvas} class="chart" role="img" aria-label=${label}
        onPointerMove=${move} onPointerLeave=${() => onHover(null)}></canvas>`;
}
