// The last five minutes as small SVG charts. One unit of x is a second, now is at the right.
"use strict";

const WINDOW_S = 300;
const CHART_H = 44;

function svgOf(tag, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function frameOf(kind, height) {
  return svgOf("svg", {
    class: `chart ${kind}`,
    viewBox: `0 0 ${WINDOW_S} ${height}`,
    preserveAspectRatio: "none",
    role: "img",
  });
}

/** One figure over time, with its limit as a dashed line; what is over it stands out. */
class Chart {
  constructor(label) {
    this.label = label;
    this.svg = frameOf("line", CHART_H);
    this.area = svgOf("path", { class: "area" });
    this.over = svgOf("path", { class: "over" });
    this.limit = svgOf("line", { class: "limit", x1: 0, x2: WINDOW_S });
    this.svg.append(this.area, this.over, this.limit);
  }

  /** `points` are [unix seconds of its end, value or null, seconds]; the scale reaches `least`. */
  draw(points, now, limit, least, told) {
    const values = points.map(([, value]) => value).filter((value) => value !== null);
    const top = 1.08 * Math.max(least, limit === null ? 0 : limit * 1.5, ...values);
    const y = (value) => (CHART_H * (1 - value / top)).toFixed(2);
    let area = "";
    let over = "";
    for (const [at, value, length] of points) {
      if (value === null) continue;
      const to = WINDOW_S - (now - at);
      const from = Math.max(0, to - length);
      if (to <= 0) continue;
      const bar = `M${from.toFixed(2)} ${CHART_H}V${y(value)}H${to.toFixed(2)}V${CHART_H}Z`;
      if (limit !== null && value > limit) over += bar;
      else area += bar;
    }
    this.area.setAttribute("d", area);
    this.over.setAttribute("d", over);
    this.limit.setAttribute("visibility", limit === null ? "hidden" : "visible");
    for (const name of ["y1", "y2"]) this.limit.setAttribute(name, y(limit ?? 0));
    const most = values.length ? told(Math.max(...values)) : "nothing yet";
    this.svg.setAttribute("aria-label", `${this.label}, last five minutes: at most ${most}`);
  }
}

const TIMELINE_H = 22;
// Narrower than this a stall could not be seen, nor hit.
const LEAST_S = 1.6;

/** When the loop stalled, coloured by cause. The list of stalls is its keyboard's and reader's way. */
class Timeline {
  constructor(open) {
    this.svg = frameOf("timeline", TIMELINE_H);
    this.marks = new Map();
    this.svg.addEventListener("click", (event) => {
      const id = event.target.dataset?.stall;
      if (id) open(id);
    });
  }

  /** `stalls` are those of the loop, with `start` and `end` (unix seconds). */
  draw(stalls, now) {
    const shown = stalls.filter((stall) => stall.end > now - WINDOW_S);
    const ids = new Set(shown.map((stall) => stall.id));
    for (const [id, mark] of this.marks)
      if (!ids.has(id)) {
        mark.remove();
        this.marks.delete(id);
      }
    for (const stall of shown) {
      let mark = this.marks.get(stall.id);
      if (!mark) {
        mark = svgOf("rect", { class: "mark", y: 0, height: TIMELINE_H });
        mark.dataset.stall = stall.id;
        mark.append(svgOf("title"));
        this.marks.set(stall.id, mark);
        this.svg.append(mark);
      }
      const to = WINDOW_S - (now - stall.end);
      const from = Math.max(0, Math.min(WINDOW_S - (now - stall.start), to - LEAST_S));
      mark.dataset.cause = cleanText(stall.cause);
      mark.setAttribute("x", from.toFixed(2));
      mark.setAttribute("width", Math.max(0, to - from).toFixed(2));
      say(mark.firstChild, `${duration(stall.end - stall.start)} ${cleanText(stall.cause)}` +
        (stall.culprit ? `\n${cleanText(stall.culprit.function)} ${placeOf(stall.culprit)}` : ""));
    }
    this.svg.setAttribute("aria-label", `${counted(shown.length, "stall")} in the last five minutes`);
    return shown;
  }
}
