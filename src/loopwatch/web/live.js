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
// How a stall ended is asked for again after so long, and later twice as long each time.
const END_MS = 1000;
const OVERLAP_S = 2;

const byId = (id) => document.getElementById(id);

class Page {
  constructor() {
    this.loops = new Map();
    this.stalls = new Map();
    this.ends = new Map();
    this.newest = [];
    this.since = 0;
    this.server = null;
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
      const asking = fetch(`api/live?since=${this.since}`, { ...ASKING, signal: giveUp.signal });
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

  take({ server, loops, stalls }) {
    this.answeredMs = performance.now();
    const now = loops.map(({ snapshot }) => unixOf(snapshot.at));
    const version = loops[0]?.snapshot.version ?? this.version;
    // Another page belongs to another version.
    if (this.version !== null && version !== this.version) location.reload();
    this.version = version;
    // Another process behind the same port, or a clock that was set back: start anew.
    if ((this.server !== null && server !== this.server) || now.some((at) => at < this.since)) {
      this.forget();
      this.server = server;
      return;
    }
    this.server = server;
    // What was being noted while we asked comes a moment later with a time before.
    this.since = Math.max(0, Math.min(...now) - OVERLAP_S);
    const names = new Set(loops.map(({ snapshot }) => snapshot.loop));
    for (const [name, view] of this.loops)
      if (!names.has(name)) {
        view.root.remove();
        view.jump.remove();
        this.loops.delete(name);
      }
    for (const entry of loops) {
      const { loop } = entry.snapshot;
      if (!this.loops.has(loop)) {
        this.loops.set(loop, new LoopView(loop, this.open));
        byId("loops").append(this.loops.get(loop).root);
        byId("jump").append(this.loops.get(loop).jump);
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
      if (stall.phase === "ongoing" && !active.has(stall.id)) {
        if (stall.allowed !== null)
          this.keep({ ...stall, duration_s: (this.loops.get(stall.loop)?.at ?? stall.end) - stall.start });
        this.fetchEnd(stall);
      }
    for (const id of this.ends.keys())
      if (this.stalls.get(id)?.phase !== "ongoing") this.ends.delete(id);
    const all = [...this.stalls.values()].sort((a, b) => b.start - a.start);
    for (const stall of all.slice(KEPT)) this.stalls.delete(stall.id);
    this.newest = all.slice(0, KEPT);
  }

  /** Asks how a stall ended; one that is excused goes on, so it is asked for ever less often. */
  async fetchEnd(stall) {
    const ends = this.ends.get(stall.id) ?? { asking: false, waitMs: END_MS / 2, nextMs: 0 };
    if (ends.asking || performance.now() < ends.nextMs) return;
    this.ends.set(stall.id, ends);
    ends.asking = true;
    try {
      const response = await recordOf(stall.id);
      const record = response.ok ? await response.json() : null;
      // Meanwhile it may be over, or all of it of a process that is gone.
      const known = this.ends.get(stall.id) === ends ? this.stalls.get(stall.id) : null;
      if (known && record) this.keep(record);
      // Nobody knows how it ended; what is known is all there will be.
      else if (known && response.status === 404) known.phase = "final";
    } catch {
      // The next answer leads here again.
    }
    ends.asking = false;
    ends.waitMs = Math.min(LONGEST_MS, 2 * ends.waitMs);
    ends.nextMs = performance.now() + ends.waitMs;
  }

  forget() {
    for (const view of this.loops.values()) {
      view.root.remove();
      view.jump.remove();
    }
    this.loops.clear();
    this.stalls.clear();
    this.ends.clear();
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
    byId("jump").hidden = this.loops.size < 2;
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
    } else if ([...this.loops.values()].some((view) => view.allowed)) {
      title = "blocked, as allowed · loopwatch";
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
