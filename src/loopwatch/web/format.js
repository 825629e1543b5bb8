// Figures and names as people read them, and elements to hold them. Text reaches the document as
// `textContent` alone: what a task or a function is called may be markup.
"use strict";

const LARGER = [[2 * 86400, 86400, "d"], [2 * 3600, 3600, "h"], [120, 60, "min"]];

/** Seconds in the unit that suits them, with about two digits: 512 ms, 3.2 s, 40 min. */
function duration(seconds) {
  if (!Number.isFinite(seconds)) return "?";
  const size = Math.abs(seconds);
  for (const [from, unit, name] of LARGER)
    if (size >= from) return `${(seconds / unit).toFixed(0)} ${name}`;
  if (size >= 0.9995) return size < 9.95 ? `${seconds.toFixed(1)} s` : `${seconds.toFixed(0)} s`;
  const ms = seconds * 1000;
  if (ms === 0) return "0 s";
  return Math.abs(ms) < 9.95 ? `${ms.toFixed(1)} ms` : `${ms.toFixed(0)} ms`;
}

/** Of something that grows while it is looked at: always with one digit, so that it runs evenly. */
function running(seconds) {
  return seconds < 600 ? `${Math.max(0, seconds).toFixed(1)} s` : duration(seconds);
}

const count = (number) => (Number.isFinite(number) ? number.toLocaleString("en") : "?");
const counted = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;
const percent = (ratio) => `${(100 * ratio).toFixed(ratio > 0 && ratio < 0.0995 ? 1 : 0)} %`;

/** Unix seconds of an ISO text; NaN if it is none. */
const unixOf = (iso) => Date.parse(iso) / 1000;

/** Time of day here, of a moment of the server's clock. */
function clockOf(unix) {
  const at = new Date(unix * 1000);
  return Number.isNaN(at.getTime()) ? "?" : at.toLocaleTimeString("en-GB", { hour12: false });
}

// Of a name in a list or a banner, which are to be read at a glance; a stall opened has all of it.
const BRIEF = 100;

/** `file:line` of anything that has both; what a path has too much goes at its beginning. */
function placeOf(at, limit = 300) {
  const file = cleanText(at.file);
  return `${file.length > limit ? `…${file.slice(1 - limit)}` : file}:${Number(at.line)}`;
}

/** An element; `content` is text, an element, or a list of them. Nothing is ever parsed. */
function element(tag, attributes = {}, content = []) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== null && value !== undefined && value !== false)
      made.setAttribute(name, value === true ? "" : String(value));
  made.append(...[content].flat().filter((part) => part !== null && part !== undefined));
  return made;
}

/** Sets a text if it is another: an untouched node keeps a reader's selection. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const mono = (text, limit = 300) => element("code", {}, cleanText(text, limit));
const causeOf = (stall) =>
  element("span", { class: "cause", "data-cause": cleanText(stall.cause) }, cleanText(stall.cause));
