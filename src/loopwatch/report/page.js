// Draws the flame graph of a group when it is opened, with flame.js and format.js.
"use strict";

for (const details of document.querySelectorAll("details")) {
  const graph = details.querySelector(".graph");
  const draw = () => {
    if (!details.open || !graph || graph.childElementCount) return;
    const tree = JSON.parse(details.querySelector("script").textContent);
    graph.append(flameGraph(tree, { label: `Flame graph of ${tree.name}`, format: duration }));
  };
  details.addEventListener("toggle", draw);
  draw();
}
