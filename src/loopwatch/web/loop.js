// One loop: what it does now, its figures over the last minutes, its stalls in time, its tasks.
"use strict";

const AHEAD_S = 2;

class LoopView {
  constructor(name, open) {
    this.name = name;
    this.open = open;
    this.points = [];
    this.census = null;
    this.snapshot = null;
    this.last = null;
    this.allowed = null;
    this.charts = {
      lag: new Chart("Lag"),
      utilization: new Chart("Utilization"),
      cpu: new Chart("CPU to wall"),
      tasks: new Chart("Pending tasks"),
    };
    this.tiles = {};
    this.timeline = new Timeline(open);
    this.root = this.built();
  }

  built() {
    this.word = element("span", { class: "word" });
    this.banner = new Banner(this.open);
    this.meta = element("p", { class: "dim meta" });
    this.state = element("div", { class: "state" }, [
      element("span", { class: "lamp", "aria-hidden": "true" }),
      element("div", { class: "said" }, [
        element("h2", {}, [this.word, " ", element("span", { class: "name mono" }, cleanText(this.name, BRIEF))]),
        this.banner.root,
        this.meta,
      ]),
    ]);
    const titles = { lag: "Lag", utilization: "Utilization", cpu: "CPU to wall", tasks: "Pending tasks" };
    const tiles = Object.entries(titles).map(([key, title]) => {
      const value = element("p", { class: "value" });
      const note = element("p", { class: "dim note" });
      const root = element("div", { class: "tile", "data-tile": key }, [
        element("h3", {}, title), value, note, this.charts[key].svg,
      ]);
      this.tiles[key] = { root, value, note };
      return root;
    });
    this.legend = element("p", { class: "legend" });
    this.groups = element("tbody");
    this.tasksTitle = element("summary");
    this.tasksNote = element("p", { class: "dim note" });
    this.headings = ["Coroutine", "Tasks", "Growth", "Oldest", "Waits at", "Made at"];
    this.table = element("table", { class: "census" }, [
      element("thead", {}, element("tr", {},
        this.headings.map((text) => element("th", { scope: "col" }, text)))),
      this.groups,
    ]);
    this.tasks = element("details", { class: "tasks" }, [this.tasksTitle, this.tasksNote, this.table]);
    this.jump = element("button", { type: "button", class: "quiet" });
    this.jump.addEventListener("click", () => {
      this.root.scrollIntoView();
      this.root.focus({ preventScroll: true });
    });
    const label = `Loop ${cleanText(this.name)}`;
    return element("section", { class: "card loop", "aria-label": label, tabindex: -1 }, [
      this.state,
      element("div", { class: "tiles" }, tiles),
      element("div", { class: "strip" }, [
        element("h3", {}, "Stalls over time"),
        this.timeline.svg,
        element("p", { class: "axis dim", "aria-hidden": "true" },
          ["5 min ago", "4", "3", "2", "1", "now"].map((text) => element("span", {}, text))),
        this.legend,
      ]),
      this.tasks,
    ]);
  }

  /** Takes one loop of an answer of /api/live. */
  take({ snapshot, points }) {
    const last = this.points.length ? this.points[this.points.length - 1][0] : 0;
    this.points.push(...points.filter(([at]) => at > last));
    this.at = unixOf(snapshot.at);
    this.points = this.points.filter(([at]) => at > this.at - WINDOW_S);
    // Left out where it is the one that was told before.
    if (snapshot.census !== undefined) {
      this.census = snapshot.census;
      this.drawCensus();
    }
    this.snapshot = snapshot;
  }

  get stalled() {
    return this.snapshot?.active_stall ?? null;
  }

  get mode() {
    return this.stalled ? "stalled" : this.allowed ? "allowed" : "serving";
  }

  /** Draws what changes with every answer; `stalls` are all that are known of this loop. */
  draw(stalls) {
    const { snapshot: now, charts, at } = this;
    const limits = now.thresholds;
    const column = (n) => this.points.map((point) => [point[0], point[n], point[5]]);
    charts.lag.draw(column(1), at, limits.stall_s, 0, duration);
    charts.utilization.draw(column(2), at, null, 1, percent);
    charts.cpu.draw(column(3), at, limits.cpu_ratio, 1, percent);
    charts.tasks.draw(column(4), at, limits.tasks, 1, count);

    const lag = now.active_stall ? Math.max(now.lag.last_s, now.active_s) : now.lag.last_s;
    this.tile("lag", duration(lag), lag > limits.stall_s,
      `p99 ${duration(now.lag.p99_s)}, max ${duration(now.lag.max_s)} in 1 min; ` +
      `threshold ${duration(limits.stall_s)}`);
    this.tile("utilization", now.utilization === null ? "–" : percent(now.utilization), false,
      now.utilization === null ? `the sensor ${cleanText(now.sensor)} cannot tell` : "not waiting, last 10 s");
    this.tile("cpu", now.cpu_ratio === null ? "–" : percent(now.cpu_ratio),
      now.cpu_ratio > limits.cpu_ratio,
      now.cpu_ratio === null ? "not known here" : `last 10 s; threshold ${percent(limits.cpu_ratio)}`);
    this.tile("tasks", `${now.tasks_exact ? "" : "≈ "}${count(now.tasks)}`, now.tasks > limits.tasks,
      `limit ${count(limits.tasks)}`);

    const shown = this.timeline.draw(stalls, at);
    const causes = [...new Set(shown.map((stall) => stall.cause))].sort();
    if (this.legend.dataset.causes !== String(causes)) {
      this.legend.dataset.causes = String(causes);
      this.legend.replaceChildren(...causes.map((cause) => causeOf({ cause })));
    }
    this.drawState(stalls);
  }

  tile(key, value, over, note) {
    const { root, value: shown, note: below } = this.tiles[key];
    root.classList.toggle("over", over === true);
    say(shown, value);
    say(below, note);
  }

  drawState(stalls) {
    const { snapshot: now, stalled } = this;
    // A clock that was set back leaves stalls of times that are to come again.
    const last = stalls.reduce(
      (a, b) => (b.start > this.at + AHEAD_S || a?.start >= b.start ? a : b), null);
    this.last = last;
    this.allowed = !stalled && last?.phase === "ongoing" && last.allowed !== null ? last : null;
    this.root.dataset.state = this.mode;
    say(this.meta, [now.loop_impl, `${now.sensor} sensor`, now.thread].map((t) => cleanText(t)).join(" · "));
    this.banner.draw(stalled ?? last, Boolean(stalled ?? this.allowed));
    this.jump.dataset.state = this.mode;
    const word = { stalled: "STALLED", allowed: "blocked, as allowed", serving: "serving" }[this.mode];
    say(this.jump, `${cleanText(this.name)}: ${word}`);
  }

  /** Moves what moves between answers: `passed` seconds since the last one, `lost` if overdue. */
  tick(passed, lost) {
    if (!this.snapshot) return;
    this.root.classList.toggle("lost", lost);
    const { stalled, allowed, last } = this;
    const before = { stalled: "stalled", allowed: "blocked, as allowed", serving: "serving" }[this.mode];
    if (lost) say(this.word, `No answer for ${running(passed)}, before that ${before}`);
    else if (stalled) say(this.word, `STALLED for ${running(this.snapshot.active_s + passed)}`);
    else if (allowed) say(this.word, `Blocked for ${running(this.at + passed - allowed.start)}, as allowed`);
    else say(this.word, "Serving");
    if (last && !stalled && !allowed) {
      const since = Math.max(0, this.at + passed - last.end);
      say(this.banner.ago, `Last stall ${since < 1 ? "just now" : `${duration(Math.floor(since))} ago`}, ` +
        `${duration(last.end - last.start)}:`);
    }
  }

  drawCensus() {
    const { census } = this;
    this.tasks.hidden = !census;
    if (!census) return;
    const over = census.tasks > census.threshold;
    // Opened once, when it becomes the matter; then it is the reader's.
    if (over && !this.wasOver) this.tasks.open = true;
    this.wasOver = over;
    this.tasks.classList.toggle("over", over);
    say(this.tasksTitle, `What the ${counted(census.tasks, "pending task")} ` +
      `${census.tasks === 1 ? "waits" : "wait"} for (limit ${count(census.threshold)})`);
    const notes = [];
    if (census.looked_at < census.tasks)
      notes.push(`Estimated from ${count(census.looked_at)} of ${count(census.tasks)} tasks.`);
    if (census.others) notes.push(`${counted(census.others, "task")} in smaller groups.`);
    say(this.tasksNote, notes.join(" "));
    const sites = census.groups.some((group) => group.created_at);
    this.table.classList.toggle("no-sites", !sites);
    this.groups.replaceChildren(...census.groups.map((group) => this.row(group)));
  }

  row(group) {
    const growth = group.growth_per_min;
    const grown = growth === null ? "–"
      : `${growth > 0 ? "+" : ""}${Number(growth.toFixed(Math.abs(growth) < 10 ? 1 : 0))}/min`;
    const at = (where) => (where ? mono(placeOf(where, BRIEF)) : "–");
    const cells = [
      mono(group.coro, BRIEF), count(group.count), grown, duration(group.oldest_s),
      group.waits_at ? at(group.waits_at) : "not begun", at(group.created_at),
    ];
    return element("tr", {}, cells.map((cell, n) =>
      element("td", { "data-label": this.headings[n] }, cell)));
  }
}

/** What the stall in progress, or the last one, is about. One button opens it, whichever it is. */
class Banner {
  constructor(open) {
    this.id = null;
    this.key = "";
    this.ago = element("span", { class: "ago" });
    this.lines = element("div");
    this.facts = element("span", { class: "known" });
    const more = element("button", { type: "button", class: "quiet" }, "Open this stall");
    more.addEventListener("click", () => open(this.id));
    this.root = element("div", { class: "what", hidden: true }, [
      this.ago, this.lines, element("p", { class: "facts" }, [this.facts, more]),
    ]);
  }

  /** Shows a stall, if there is one; `now` says that it goes on. */
  draw(stall, now) {
    this.root.hidden = !stall;
    this.id = stall?.id ?? null;
    this.ago.hidden = now;
    const key = stall ? `${now} ${knownOf(stall)}` : "";
    if (this.key === key) return;
    this.key = key;
    const { culprit } = stall ?? {};
    const lines = [];
    const facts = [];
    if (culprit) {
      lines.push(element("p", { class: "culprit" }, [
        mono(culprit.function, BRIEF), " at ", mono(placeOf(culprit, BRIEF)),
      ]));
      if (now && culprit.source)
        lines.push(element("pre", { class: "source" }, cleanText(culprit.source, 2 * BRIEF)));
    } else lines.push(element("p", { class: "culprit" }, now ? "No line is known yet." : "No line is known."));
    if (stall) facts.push(causeOf(stall));
    if (culprit?.call) facts.push(element("span", {}, ["calls ", mono(culprit.call, BRIEF)]));
    if (stall?.request) facts.push(element("span", {}, ["request ", mono(requestOf(stall), BRIEF)]));
    if (stall?.task) facts.push(element("span", {}, ["task ", mono(stall.task.name, BRIEF)]));
    if (now && stall?.allowed) facts.push(element("span", {}, ["allowed: ", mono(stall.allowed, BRIEF)]));
    this.lines.replaceChildren(...lines);
    this.facts.replaceChildren(...facts);
  }
}

const requestOf = ({ request }) => `${request.method} ${request.route ?? "(no route)"}`;
