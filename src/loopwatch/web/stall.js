// The list of stalls, and one of them opened: where, why, what to do, and its samples.
"use strict";

const LISTED = 100;
// An answer about one stall; one C call that holds the GIL may keep the process from giving any.
const RECORD_MS = 3000;

/** All that is told of a stall beside its length: what is drawn is drawn anew when it is another. */
const knownOf = ({ id, phase, cause, allowed, culprit, request, task }) => JSON.stringify([
  id, phase, cause, allowed, culprit?.file, culprit?.line, culprit?.function, culprit?.call,
  request?.method, request?.route, task?.name,
]);

const recordOf = (id) => fetch(`api/stalls/${encodeURIComponent(id)}`,
  { ...ASKING, signal: AbortSignal.timeout(RECORD_MS) });

/** The newest stalls, newest first. Rows stay the same elements, so focus stays where it was. */
class StallList {
  constructor(list, none, open) {
    this.list = list;
    this.none = none;
    this.open = open;
    this.rows = new Map();
  }

  /** `stalls` are all that are known, newest first; `several` says whose each is. */
  draw(stalls, several) {
    const shown = stalls.slice(0, LISTED);
    const ids = new Set(shown.map((stall) => stall.id));
    for (const [id, row] of this.rows)
      if (!ids.has(id)) {
        row.root.remove();
        this.rows.delete(id);
      }
    this.none.hidden = shown.length > 0;
    let next = this.list.firstElementChild;
    for (const stall of shown) {
      const key = `${several} ${duration(stall.end - stall.start)} ${knownOf(stall)}`;
      let row = this.rows.get(stall.id);
      if (!row) {
        row = { root: element("li"), button: element("button", { type: "button", class: "row" }) };
        row.root.append(row.button);
        row.button.dataset.stall = stall.id;
        row.button.addEventListener("click", () => this.open(stall.id));
        this.rows.set(stall.id, row);
      }
      if (row.key !== key) {
        row.key = key;
        row.button.replaceChildren(...this.cells(stall, several));
      }
      if (row.root !== next) this.list.insertBefore(row.root, next);
      else next = next.nextElementSibling;
    }
  }

  cells(stall, several) {
    const { culprit } = stall;
    const about = [];
    if (several) about.push(`loop ${cleanText(stall.loop, BRIEF)}`);
    if (stall.request) about.push(cleanText(requestOf(stall), BRIEF));
    else if (stall.task) about.push(`task ${cleanText(stall.task.name, BRIEF)}`);
    if (stall.allowed !== null) about.push(`allowed: ${cleanText(stall.allowed, BRIEF)}`);
    return [
      element("span", { class: "when" }, clockOf(stall.start)),
      element("span", { class: "long" }, duration(stall.end - stall.start) +
        (stall.phase === "ongoing" ? " so far" : "")),
      causeOf(stall),
      element("span", { class: "where" }, culprit
        ? [mono(culprit.function, BRIEF), " ", element("span", { class: "dim mono" }, placeOf(culprit, BRIEF))]
        : "no line known"),
      element("span", { class: "dim about" }, about.join(" · ")),
    ];
  }
}

/**
 * The dialog with one stall. Below its head stays what the reader reads: what is known since then is
 * offered, not put in its place.
 */
class StallDialog {
  constructor(dialog, known) {
    this.dialog = dialog;
    this.known = known;
    this.id = null;
    this.record = null;
    this.title = element("h2", { id: "stall-title" });
    this.leave = element("button", { type: "button", class: "close", id: "stall-close" }, "Close");
    this.leave.addEventListener("click", () => dialog.close());
    // What is copied is the newest, whatever is being read.
    this.copy = copyButton(() => this.latest ?? this.record);
    this.newer = element("button", { type: "button", class: "newer", id: "stall-newer" });
    this.newer.addEventListener("click", () => this.renew());
    this.note = element("p", { id: "stall-note" });
    this.body = element("div", { class: "body" });
    this.head = element("div", { class: "sheet-head" }, [this.title, this.leave, this.copy, this.newer]);
    dialog.append(element("div", { class: "sheet" }, [this.head, this.note, this.body]));
    dialog.addEventListener("close", () => {
      this.id = this.record = this.latest = null;
      this.body.replaceChildren();
    });
    // A click beside it closes it, as Escape does.
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
  }

  /** Shows what the page knows at once: the process may be late with the rest. */
  async open(id) {
    this.id = id;
    this.latest = null;
    this.gone = false;
    this.copy.disabled = true;
    this.show(this.known(id));
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.scrollTop = 0;
    this.leave.focus();
    await this.load();
  }

  /** An answer of /api/live came: there may be more to tell of it. */
  async refresh() {
    if (this.id === null || this.gone) return;
    if (this.unanswered) await this.load();
    const now = this.known(this.id);
    if (!now || !this.record || this.asking || this.record.phase === "final") return;
    this.entitle(now);
    const over = now.phase === "final";
    this.newer.hidden = knownOf(now) === knownOf(this.record);
    say(this.newer, over ? "It is over: show the final record" : "More is known now: show it");
    if (!over) return;
    say(this.note, `It is over, after ${duration(now.duration_s)}: below is what was known at ` +
      `${duration(this.record.duration_s)}.`);
    if (!this.latest) await this.fetchLatest();
  }

  async fetchLatest() {
    const { id } = this;
    try {
      const response = await recordOf(id);
      const record = response.ok ? await response.json() : null;
      if (this.id === id && record?.phase === "final") this.latest = record;
    } catch {
      // The next answer of the page tries again.
    }
  }

  async renew() {
    // The button goes, and with it the focus.
    this.leave.focus();
    await this.load();
  }

  async load() {
    const { id } = this;
    if (this.asking === id) return;
    this.asking = id;
    this.unanswered = false;
    let record = null;
    let problem = null;
    let gone = false;
    say(this.note, "Asking for the whole record…");
    try {
      const response = await recordOf(id);
      if (response.ok) record = await response.json();
      else if (response.status === 404) {
        gone = true;
        problem = "The process does not keep this record any more (setting history); what is known of it:";
      } else problem = `The process answered ${response.status}; what is known of it:`;
    } catch {
      problem = "The process does not answer; what is known of it:";
    }
    if (this.asking === id) this.asking = null;
    if (this.id !== id) return;
    this.copy.disabled = false;
    this.gone = gone;
    this.unanswered = !record && !gone;
    if (record) this.show(record);
    else this.newer.hidden = true;
    this.note.className = problem ? "problem" : "dim";
    say(this.note, problem ?? (record.phase === "ongoing"
      ? "Still going on: below is what was known when it was asked for." : ""));
  }

  show(record) {
    if (!record) return;
    this.record = record;
    this.dialog.querySelector("textarea")?.remove();
    this.entitle(record);
    this.newer.hidden = true;
    say(this.copy, "Copy as JSON");
    this.body.replaceChildren(...sectionsOf(record));
  }

  entitle(stall) {
    const key = `${duration(stall.duration_s)}${stall.phase === "ongoing" ? " so far," : ""}`;
    if (this.title.dataset.key === `${key} ${stall.cause}`) return;
    this.title.dataset.key = `${key} ${stall.cause}`;
    this.title.replaceChildren(`${key} `, causeOf(stall));
  }
}

function sectionsOf(record) {
  const sections = [];
  const { culprit, advice, samples } = record;
  if (culprit) {
    sections.push(element("p", { class: "culprit" }, [
      mono(culprit.function), " at ", mono(placeOf(culprit)),
      ...(culprit.call ? [" calls ", mono(culprit.call)] : []),
    ]));
    if (culprit.source) sections.push(element("pre", { class: "source" }, cleanText(culprit.source, 2000)));
  }
  if (advice) sections.push(element("p", { class: "advice" }, [
    element("strong", {}, "What to do: "), cleanText(advice.text, 2000),
  ]));
  sections.push(listOf("About", aboutOf(record)));
  if (record.evidence) sections.push(listOf("Evidence", evidenceOf(record)));
  if (samples?.length) {
    const tree = treeOf(samples);
    sections.push(element("section", { class: "samples" }, [
      element("h3", {}, `Where it was: ${counted(tree.value, "sample")}`),
      element("p", { class: "dim note legend" }, [
        element("span", { class: "key key-app" }, "your code"),
        element("span", { class: "key key-library" }, "libraries"),
        element("span", {}, "click or Enter zooms, Escape goes back, arrow keys move"),
      ]),
      flameGraph(tree, { label: "Flame graph of the stall" }),
    ]));
  } else if (samples) sections.push(element("p", { class: "dim" }, "No stack was seen of this stall."));
  return sections;
}

function listOf(title, rows) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined);
  return element("section", {}, [
    element("h3", {}, title),
    element("dl", {}, known.map(([name, value]) =>
      element("div", {}, [element("dt", {}, name), element("dd", {}, value)]))),
  ]);
}

function aboutOf(record) {
  const { request, task, entry, other_thread: other } = record;
  const at = (where) => [mono(where.function), " ", mono(placeOf(where))];
  return [
    ["Began", new Date(unixOf(record.started_at) * 1000).toLocaleString("en-GB")],
    ["Request", request ? mono(requestOf(record)) : null],
    ["Trace", request?.trace_id ? mono(request.trace_id) : null],
    ["Others that waited", record.victims === null ? null : counted(record.victims, "request")],
    ["Task", task ? [mono(task.name), " ", mono(task.coro)] : null],
    ["Entered at", entry ? at(entry) : null],
    ["Other thread", other
      ? [mono(other.name), ` ${duration(other.cpu_s)} of CPU `, ...(other.file ? at(other) : [])]
      : null],
    ["Confidence in the cause", percent(record.confidence)],
    ["Allowed", record.allowed === null ? null : cleanText(record.allowed)],
    ["Like stalls not told", record.suppressed ? count(record.suppressed) : null],
    ["Loop", cleanText(`${record.loop} (${record.loop_impl}, ${record.sensor} sensor), ${record.thread}`)],
    ["Fingerprint", mono(record.fingerprint)],
    ["Id", mono(record.id)],
  ];
}

function evidenceOf({ evidence }) {
  const wall = evidence.wall_s;
  const share = (value) => (typeof value !== "number" ? null
    : wall > 0 ? `${duration(value)} (${percent(value / wall)})` : duration(value));
  return [
    ["Wall time", duration(wall)],
    ["CPU of the loop thread", share(evidence.cpu_s)],
    ["CPU of the process", share(evidence.process_cpu_s)],
    ["Garbage collection", share(evidence.gc_s)],
    ["Waited for a CPU", share(evidence.runqueue_wait_s)],
    ["Throttled", share(evidence.throttled_s)],
    ["Waited for", evidence.wait
      ? [cleanText(evidence.wait), ...(evidence.wait_detail ? [" ", mono(evidence.wait_detail)] : [])]
      : null],
    ["Watchdog overslept", evidence.overslept_s ? share(evidence.overslept_s) : null],
  ];
}

function copyButton(recordNow) {
  const button = element("button", { type: "button", id: "stall-copy" }, "Copy as JSON");
  button.addEventListener("click", async () => {
    const text = JSON.stringify(recordNow(), null, 2);
    try {
      await navigator.clipboard.writeText(text);
      say(button, "Copied");
    } catch {
      // Browsers keep the clipboard from pages that are neither HTTPS nor loopback.
      button.closest("dialog").querySelector("textarea")?.remove();
      const field = element("textarea", { readonly: true, rows: 6, "aria-label": "The record as JSON" });
      field.value = text;
      button.closest(".sheet-head").after(field);
      field.select();
      say(button, document.execCommand("copy") ? "Copied" : "Press Ctrl+C");
    }
  });
  return button;
}
