// One loop: what it does now, its figures over the last minutes, its stalls in time, its tasks.
"use strict";

class LoopView {
  constructor(name, open) {
    this.name = name;
    this.open = open;
    this.points = [];
    this.census = null;
    this.snapshot = null;
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
    this.what = element("div", { class: "what" });
    this.meta = element("p", { class: "dim meta" });
    this.state = element("div", { class: "state" }, [
      element("span", { class: "lamp", "aria-hidden": "true" }),
      element("div", { class: "said" }, [
        element("h2", {}, [this.word, " ", element("span", { class: "name mono" }, cleanText(this.name, BRIEF))]),
        this.what,
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
    return element("section", { class: "card loop", "aria-label": `Loop ${cleanText(this.name)}` }, [
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
    this.points = this.points.filter(([at]) => at > this.at - WINDOW_S - GAP_S);
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

  /** Draws what changes with every answer; `stalls` are all that are known of this loop. */
  draw(stalls) {
    const { snapshot: now, charts, at } = this;
    const limits = now.thresholds;
    const column = (n) => this.points.map((point) => [point[0], point[n]]);
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
    this.root.dataset.state = stalled ? "stalled" : "serving";
    say(this.meta, [now.loop_impl, `${now.sensor} sensor`, now.thread].map((t) => cleanText(t)).join(" · "));
    const last = stalls.reduce((a, b) => (a && a.start >= b.start ? a : b), null);
    const key = stalled ? `${stalled.id} ${stalled.phase}` : `${last?.id} ${last?.phase}`;
    if (this.told !== key) {
      this.told = key;
      const shown = stalled ?? last;
      this.what.replaceChildren(...(shown ? whatOf(shown, this.open, Boolean(stalled)) : []));
      this.ago = stalled || !last ? null : this.what.querySelector(".ago");
    }
    this.last = last;
  }

  /** Moves what moves between answers: `passed` seconds since the last one, `lost` if overdue. */
  tick(passed, lost) {
    if (!this.snapshot) return;
    this.root.classList.toggle("lost", lost);
    const { stalled } = this;
    const before = stalled ? "stalled" : "serving";
    if (lost) say(this.word, `No answer for ${running(passed)}, before that ${before}`);
    else if (stalled) say(this.word, `STALLED for ${running(this.snapshot.active_s + passed)}`);
    else say(this.word, "Serving");
    if (this.ago && this.last) {
      const since = Math.max(0, this.at + passed - this.last.end);
      say(this.ago, `Last stall ${since < 1 ? "just now" : `${duration(Math.floor(since))} ago`}, ` +
        `${duration(this.last.end - this.last.start)}:`);
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
    say(this.tasksTitle, `What the ${counted(census.tasks, "pending task")} wait for ` +
      `(limit ${count(census.threshold)})`);
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

/** What a stall is about, in the lines of a banner. */
function whatOf(stall, open, now) {
  const lines = [];
  const { culprit } = stall;
  const more = element("button", { type: "button", class: "quiet" }, "Open this stall");
  more.addEventListener("click", () => open(stall.id));
  if (!now) lines.push(element("span", { class: "ago" }));
  if (culprit) {
    lines.push(element("p", { class: "culprit" }, [
      mono(culprit.function, BRIEF), " at ", mono(placeOf(culprit, BRIEF)),
    ]));
    if (now && culprit.source)
      lines.push(element("pre", { class: "source" }, cleanText(culprit.source, 2 * BRIEF)));
  } else lines.push(element("p", { class: "culprit" }, now ? "No line is known yet." : "No line is known."));
  const facts = [causeOf(stall)];
  if (culprit?.call) facts.push(element("span", {}, ["calls ", mono(culprit.call, BRIEF)]));
  if (stall.request) facts.push(element("span", {}, ["request ", mono(requestOf(stall), BRIEF)]));
  if (stall.task) facts.push(element("span", {}, ["task ", mono(stall.task.name, BRIEF)]));
  lines.push(element("p", { class: "facts" }, [...facts, more]));
  return lines;
}

const requestOf = ({ request }) => `${request.method} ${request.route ?? "(no route)"}`;
