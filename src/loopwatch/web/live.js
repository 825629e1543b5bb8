// Asks /api/live once a second and shows what came; says so when nothing comes.
//
// Every moment shown is the server's: between two answers time goes on by this browser's monotonic
// clock, so it does not matter what either thinks the date is.
"use strict";

const ASKING = { cache: "no-store", credentials: "omit", redirect: "error" };
const EVERY_MS = 1000;
// What is going on is told as it is: it costs a loop nothing that does not run.
const STALLED_MS = 300;
// Nobody looks, but the title of the tab may be seen.
const HIDDEN_MS = 10000;
const LONGEST_MS = 10000;
const GIVE_UP_MS = 30000;
// Later than this an answer is missed.
const LATE_MS = 2000;
const NEWS_MS = 5000;
const KEPT = 500;
const OVERLAP_S = 2;

const byId = (id) => document.getElementById(id);

class Page {
  constructor() {
    this.loops = new Map();
    this.stalls = new Map();
    this.since = 0;
    this.pid = null;
    this.version = null;
    this.answeredMs = null;
    this.askedMs = null;
    this.problem = null;
    this.failures = 0;
    this.timer = null;
    this.told = "";
    this.nextNewsMs = 0;
    this.dialog = new StallDialog(byId("stall"), (id) => this.stalls.get(id));
    this.open = (id) => this.dialog.open(id);
    this.list = new StallList(byId("stalls"), byId("stalls-none"), this.open);
  }

  start() {
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.askedMs === null) this.ask();
    });
    setInterval(() => this.tick(), 100);
    this.ask();
  }

  async ask() {
    clearTimeout(this.timer);
    this.askedMs = performance.now();
    const giveUp = new AbortController();
    const alarm = setTimeout(() => giveUp.abort(), GIVE_UP_MS);
    try {
      const asking = fetch(`/api/live?since=${this.since}`, { ...ASKING, signal: giveUp.signal });
      const response = await asking.catch((error) => {
        throw giveUp.signal.aborted ? error : new Unreachable();
      });
      if (!response.ok) throw new Refusal(response.status);
      this.take(await response.json());
      this.failures = 0;
      this.problem = null;
    } catch (error) {
      this.failures += 1;
      this.problem = problemOf(error);
    } finally {
      clearTimeout(alarm);
      const again = this.failures
        ? Math.min(LONGEST_MS, EVERY_MS * 2 ** (this.failures - 1))
        : document.hidden ? HIDDEN_MS : this.stalled.length ? STALLED_MS : EVERY_MS;
      this.timer = setTimeout(() => this.ask(), Math.max(100, this.askedMs + again - performance.now()));
      this.askedMs = null;
      this.tick();
    }
  }

  take({ loops, stalls }) {
    this.answeredMs = performance.now();
    const now = loops.map(({ snapshot }) => unixOf(snapshot.at));
    const pid = loops[0]?.snapshot.pid ?? this.pid;
    const version = loops[0]?.snapshot.version ?? this.version;
    // Another page belongs to another version.
    if (this.version !== null && version !== this.version) location.reload();
    this.version = version;
    // Another process behind the same port, or a clock that was set back: start anew.
    if ((this.pid !== null && pid !== this.pid) || now.some((at) => at < this.since)) {
      this.forget();
      this.pid = pid;
      return;
    }
    this.pid = pid;
    // What was being noted while we asked comes a moment later with a time before.
    this.since = Math.max(0, Math.min(...now) - OVERLAP_S);
    const names = new Set(loops.map(({ snapshot }) => snapshot.loop));
    for (const [name, view] of this.loops)
      if (!names.has(name)) {
        view.root.remove();
        this.loops.delete(name);
      }
    for (const entry of loops) {
      const { loop } = entry.snapshot;
      if (!this.loops.has(loop)) {
        this.loops.set(loop, new LoopView(loop, this.open));
        byId("loops").append(this.loops.get(loop).root);
      }
      this.loops.get(loop).take(entry);
    }
    for (const stall of stalls) this.keep(stall);
    this.follow();
    this.draw(loops);
    this.dialog.refresh();
  }

  /** Keeps a stall with its `start` and `end`; a final record is never replaced by an older one. */
  keep(stall) {
    const known = this.stalls.get(stall.id);
    if (known?.phase === "final" && stall.phase !== "final") return;
    stall.start = unixOf(stall.started_at);
    stall.end = stall.start + stall.duration_s;
    this.stalls.set(stall.id, stall);
  }

  /** Lets stalls in progress grow, and asks for the end of those that are over. */
  follow() {
    const active = new Map();
    for (const view of this.loops.values())
      if (view.stalled) active.set(view.stalled.id, view);
    for (const [id, view] of active) this.keep({ ...view.stalled, duration_s: view.snapshot.active_s });
    for (const stall of this.stalls.values())
      if (stall.phase === "ongoing" && !active.has(stall.id)) this.fetchEnd(stall);
    const all = [...this.stalls.values()].sort((a, b) => b.start - a.start);
    for (const stall of all.slice(KEPT)) this.stalls.delete(stall.id);
    this.newest = all.slice(0, KEPT);
  }

  async fetchEnd(stall) {
    try {
      const response = await fetch(`/api/stalls/${encodeURIComponent(stall.id)}`, ASKING);
      if (response.ok) this.keep(await response.json());
      // Nobody knows how it ended; what is known is all there will be.
      else if (response.status === 404) stall.phase = "final";
    } catch {
      // The next answer leads here again.
    }
  }

  forget() {
    for (const view of this.loops.values()) view.root.remove();
    this.loops.clear();
    this.stalls.clear();
    this.since = 0;
    this.failures = 0;
    this.newest = [];
    this.list.draw([], false);
  }

  draw(loops) {
    const first = loops[0]?.snapshot;
    say(byId("who"), first
      ? `${cleanText(first.version)} · pid ${first.pid} · Python ${cleanText(first.python)} · ${location.host}`
      : "No loop is watched.");
    for (const view of this.loops.values())
      view.draw(this.newest.filter((stall) => stall.loop === view.name));
    this.list.draw(this.newest, this.loops.size > 1);
    this.jump();
  }

  /** With several loops: one line at the top that shows the state of each, and leads there. */
  jump() {
    const nav = byId("jump");
    nav.hidden = this.loops.size < 2;
    const key = [...this.loops.values()].map((view) => `${view.name} ${Boolean(view.stalled)}`).join("\n");
    if (nav.dataset.key === key) return;
    nav.dataset.key = key;
    nav.replaceChildren(...[...this.loops.values()].map((view) => {
      const button = element("button", {
        type: "button", class: "quiet", "data-state": view.stalled ? "stalled" : "serving",
      }, `${cleanText(view.name)}: ${view.stalled ? "STALLED" : "serving"}`);
      button.addEventListener("click", () => view.root.scrollIntoView());
      return button;
    }));
  }

  tick() {
    const now = performance.now();
    const waits = this.askedMs !== null && now - this.askedMs > LATE_MS;
    const lost = this.problem !== null || waits;
    const passed = this.answeredMs === null ? 0 : (now - this.answeredMs) / 1000;
    for (const view of this.loops.values()) view.tick(passed, lost);

    const link = byId("link");
    link.dataset.link = lost ? "lost" : this.answeredMs === null ? "asking" : "live";
    say(link, lost ? "no answer" : this.answeredMs === null ? "asking…" : "live");
    const trouble = byId("trouble");
    trouble.hidden = !lost;
    if (lost) {
      const since = this.answeredMs === null ? "No answer yet." : `No answer for ${running(passed)}.`;
      say(trouble, `${since} ${this.problem && !waits ? this.problem : WAITS}`);
    }
    this.tell(lost, passed);
  }

  get stalled() {
    return [...this.loops.values()].filter((view) => view.stalled);
  }

  /** The title of the tab, and news for those who cannot see it: when a state changes. */
  tell(lost, passed) {
    const [worst] = this.stalled.sort((a, b) => b.snapshot.active_s - a.snapshot.active_s);
    let title = "loopwatch";
    let news = "";
    if (lost) {
      title = "no answer · loopwatch";
      news = "The process does not answer.";
    } else if (worst) {
      title = `STALLED ${Math.floor(worst.snapshot.active_s + passed)} s · loopwatch`;
      const { culprit } = worst.stalled;
      news = `Loop ${cleanText(worst.name)} is stalled` +
        (culprit ? ` at ${cleanText(culprit.function)}, ${placeOf(culprit)}.` : ".");
    } else if (this.loops.size) {
      title = "serving · loopwatch";
      if (this.told) news = "All loops serve again.";
    }
    if (document.title !== title) document.title = title;
    // A loop that stalls every other second would be all that a reader hears.
    const now = performance.now();
    if (news !== this.told && now >= this.nextNewsMs) {
      this.told = news;
      this.nextNewsMs = now + NEWS_MS;
      say(byId("news"), news);
    }
  }
}

class Unreachable extends Error {}

class Refusal extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

const WAITS = "The connection stands, but nothing comes: one C call may hold the GIL, " +
  "or the process is stopped. What is below is from before.";
const GONE = "Nothing listens there: the process has ended, or the way to it. What is below is from before.";

const ODD = "The answer cannot be read: it was cut short, or something else listens there now. " +
  "Reload the page if this lasts.";

function problemOf(error) {
  if (error instanceof Refusal)
    return `The process answered with status ${error.status}. What is below is from before.`;
  if (error instanceof Unreachable) return GONE;
  return error.name === "AbortError" ? WAITS : ODD;
}

new Page().start();
