// Flame graphs as SVG: `treeOf(samples)` merges stacks, `flameGraph(tree, options)` draws them.
//
// Shared by the live page and by reports: knows nothing of either. Names are hostile input: they
// reach the document as text and attributes only. Looks are in style.css (`.flame`).
"use strict";

const { cleanText, flameGraph, treeOf } = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const ROW = 20;
  // The same limits as views/flame.py: trees are walked recursively.
  const MAX_DEPTH = 200;
  const MAX_NODES = 2000;
  const MAX_COUNT = 1e9;
  const CHARACTERS_PER_NODE = 256;
  const LIMIT = 300;
  const MORE = JSON.stringify(["(more)", "", 0, false]);
  const SHORT_ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
  // What a text field shows otherwise than it is: control, format and private characters, marks
  // that change the direction of writing, lone surrogates, every space but the common one.
  const UNPRINTABLE = /(?! )[\p{C}\p{Z}]/gu;

  /** Returns text on one line, unprintable characters spelt as escapes, at most `limit` long. */
  function cleanText(text, limit = LIMIT) {
    if (typeof text !== "string") return "?";
    if (text.length > limit) {
      const letters = Array.from(text.slice(0, 2 * limit + 2));
      if (letters.length > limit) text = letters.slice(0, limit - 1).join("") + "…";
    }
    return text.replace(UNPRINTABLE, (letter) => {
      const code = letter.codePointAt(0);
      if (letter in SHORT_ESCAPES) return SHORT_ESCAPES[letter];
      if (code < 0x100) return "\\x" + code.toString(16).padStart(2, "0");
      if (code < 0x10000) return "\\u" + code.toString(16).padStart(4, "0");
      return "\\U" + code.toString(16).padStart(8, "0");
    });
  }

  /**
   * Merges the samples of a record into one tree {name, file, line, in_app, value, children}.
   * Values are counts of samples; the root stands for all, its children are outermost frames. The
   * same as `flame_tree` of views/flame.py.
   */
  function treeOf(samples) {
    const root = { value: 0, children: new Map() };
    let room = MAX_NODES;

    function grown(node, key) {
      const child = { value: 0, children: new Map() };
      const letters = JSON.parse(key).reduce(
        (sum, part) => sum + (typeof part === "string" ? Array.from(part).length : 0), 0);
      const size = 1 + Math.floor(letters / CHARACTERS_PER_NODE);
      if (size > room) return null;
      room -= size;
      node.children.set(key, child);
      return child;
    }

    for (const sample of Array.isArray(samples) ? samples : []) {
      const keys = keysOf(sample?.frames);
      if (!keys.length) continue;
      const count = sample.count;
      const value = Number.isInteger(count) && count > 0 && count < MAX_COUNT ? count : 1;
      root.value += value;
      let node = root;
      for (const key of keys.reverse()) {
        const child = node.children.get(key) ?? grown(node, key);
        if (child === null) {
          const more = node.children.get(MORE) ?? { value: 0, children: new Map() };
          more.value += value;
          node.children.set(MORE, more);
          break;
        }
        child.value += value;
        node = child;
      }
    }
    return asTree(["all", "", 0, false], root);
  }

  function keysOf(frames) {
    if (!Array.isArray(frames)) return [];
    const plain = (value) => value === null || typeof value !== "object";
    const whole = (frame) => frame !== null && typeof frame === "object" &&
      ["function", "file", "line", "in_app"].every(
        (name) => name in frame && plain(frame[name]));
    frames = frames.slice(0, MAX_DEPTH);
    if (frames.every(whole))
      return frames.map((f) => JSON.stringify([f.function, f.file, f.line, f.in_app]));
    // Damaged: what is left of it.
    return frames
      .filter((frame) => frame !== null && typeof frame === "object" && !Array.isArray(frame))
      .map((f) => JSON.stringify([
        typeof f.function === "string" ? f.function : "?",
        typeof f.file === "string" ? f.file : "",
        Number.isInteger(f.line) ? f.line : 0,
        f.in_app === true,
      ]));
  }

  function asTree([name, file, line, inApp], node) {
    const children = Array.from(node.children, ([key, child]) => asTree(JSON.parse(key), child));
    children.sort((a, b) => b.value - a.value || order(a.name, b.name) || order(a.file, b.file) ||
      a.line - b.line || a.in_app - b.in_app);
    return {
      name: cleanText(name),
      file: typeof file === "string" ? cleanText(file) : "",
      line: Number.isInteger(line) && line >= 0 && line < MAX_COUNT ? line : 0,
      in_app: inApp === true,
      value: node.value,
      children,
    };
  }

  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

  /**
   * Returns an <svg> of a tree: innermost frames on top, as wide as what holds it.
   *
   * A click, Enter or Space on a frame gives it the whole width; Escape, or a click on a frame
   * below it, goes back. Arrow keys move; Tab enters, at the frame most samples ended in, and
   * leaves. `options.label` names the graph
   * for screen readers; `options.format(value)` says what a value is (default: samples).
   */
  function flameGraph(tree, options = {}) {
    const format = options.format ??
      ((value) => (value === 1 ? "1 sample" : `${value.toLocaleString("en")} samples`));
    const nodes = [];
    lay(tree, null, 0, 0);
    const depth = nodes.reduce((most, node) => Math.max(most, node.depth), 0);

    const svg = made("svg", {
      class: "flame",
      width: "100%",
      height: (depth + 1) * ROW,
      role: "tree",
      "aria-label": `${options.label ?? "Flame graph"}. Arrow keys move, Enter zooms, Escape goes back.`,
    });
    for (const node of nodes) svg.append(drawn(node));
    let zoomed = nodes[0];
    let heaviest = nodes[0];
    while (heaviest.children.length) [heaviest] = heaviest.children;
    zoom(zoomed, heaviest);

    const nodeOf = (event) => {
      const element = event.target.closest?.(".flame-frame");
      return element ? nodes[Number(element.dataset.node)] : undefined;
    };
    svg.addEventListener("click", (event) => {
      const node = nodeOf(event);
      if (node) zoom(node, node);
    });
    svg.addEventListener("keydown", (event) => {
      const node = nodeOf(event);
      if (!node || event.altKey || event.ctrlKey || event.metaKey) return;
      const act = KEYS[event.key];
      // At the top Escape is for whatever holds the graph.
      if (!act || (event.key === "Escape" && zoomed === nodes[0])) return;
      event.preventDefault();
      event.stopPropagation();
      act(node);
    });
    const KEYS = {
      Enter: (node) => zoom(node, node),
      " ": (node) => zoom(node, node),
      Escape: () => zoom(nodes[0], zoomed),
      ArrowUp: (node) => focus(node.children.find((child) => !child.hidden)),
      ArrowDown: (node) => focus(node.parent),
      ArrowLeft: (node) => focus(beside(node, -1)),
      ArrowRight: (node) => focus(beside(node, 1)),
      Home: () => focus(nodes[0]),
    };
    return svg;

    function lay(of, parent, start, level) {
      const node = { of, parent, start, depth: level, children: [], number: nodes.length };
      nodes.push(node);
      parent?.children.push(node);
      for (const child of of.children) {
        lay(child, node, start, level + 1);
        start += child.value;
      }
    }

    function drawn(node) {
      const { name, file, line, in_app: inApp, value } = node.of;
      const base = file.split(/[\\/]/).pop();
      const place = base ? `${base}:${line}` : "";
      const total = tree.value || 1;
      const share = `${((100 * value) / total).toFixed(value === total ? 0 : 1)} %`;
      const told = `${format(value)}, ${share}`;
      // A nested svg clips its label to the frame, at any width and without measuring.
      const frame = made("svg", {
        class: `flame-frame ${node.parent === null ? "flame-root" : inApp ? "in-app" : "library"}`,
        y: (depth - node.depth) * ROW,
        height: ROW - 1,
        tabindex: -1,
        role: "treeitem",
        "aria-level": node.depth + 1,
        "aria-label": `${name}${place ? `, ${file}:${line}` : ""}, ${told}`,
      });
      frame.dataset.node = node.number;
      const title = made("title");
      title.textContent = `${name}\n${file ? `${file}:${line}\n` : ""}${told}`;
      const label = made("text", { x: 5, y: 14 });
      label.textContent = node.parent === null ? `${name}: ${format(value)}` : shortOf(name, base);
      if (place) {
        const where = made("tspan", { dx: 7, class: "flame-place" });
        where.textContent = place;
        label.append(where);
      }
      frame.append(title, made("rect", { width: "100%", height: "100%" }), label);
      node.element = frame;
      return frame;
    }

    function zoom(node, focused) {
      zoomed = node;
      const below = new Set();
      for (let up = node.parent; up; up = up.parent) below.add(up);
      const width = node.of.value || 1;
      for (const each of nodes) {
        const within = each.start >= node.start && each.depth >= node.depth &&
          each.start + each.of.value <= node.start + node.of.value && descends(each, node);
        each.hidden = !within && !below.has(each);
        const x = below.has(each) ? 0 : (each.start - node.start) / width;
        const share = below.has(each) ? 1 : each.of.value / width;
        const element = each.element;
        element.classList.toggle("flame-below", below.has(each));
        element.setAttribute("display", each.hidden ? "none" : "inline");
        element.setAttribute("x", percent(x));
        element.setAttribute("width", percent(share));
        element.setAttribute("tabindex", each === focused ? 0 : -1);
      }
      svg.classList.toggle("flame-zoomed", node !== nodes[0]);
      if (svg.contains(document.activeElement)) focused.element.focus();
    }

    function descends(node, from) {
      while (node && node.depth > from.depth) node = node.parent;
      return node === from;
    }

    function focus(node) {
      if (!node || node.hidden) return;
      for (const each of nodes) each.element.setAttribute("tabindex", each === node ? 0 : -1);
      node.element.focus();
    }

    function beside(node, step) {
      const row = nodes.filter((each) => each.depth === node.depth && !each.hidden);
      row.sort((a, b) => a.start - b.start);
      return row[row.indexOf(node) + step];
    }
  }

  /** `export` of `app.views.export` in views.py: the module is in the file's name. */
  function shortOf(name, base) {
    const module = `${base.replace(/\.pyw?$/, "")}.`;
    const at = `.${name}`.lastIndexOf(`.${module}`);
    return at < 0 ? name : name.slice(at + module.length) || name;
  }

  const percent = (share) => `${(100 * share).toFixed(4)}%`;

  function made(tag, attributes = {}) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  return { cleanText, flameGraph, treeOf };
})();
