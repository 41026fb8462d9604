// Keeps the build's card up to date while a build runs. Everything it shows stands
// on the page that the server sends; without it the page is loaded again.
"use strict";
(() => {
  const card = document.getElementById("run");
  if (!card || !card.dataset.events || !window.EventSource) return;
  const part = (name) => document.getElementById("run-" + name);
  const open = (s) => s === "queued" || s === "running";
  let before = null;
  const events = new EventSource(card.dataset.events);
  events.addEventListener("run", (event) => {
    const run = JSON.parse(event.data);
    part("state").textContent = run.state;
    part("state").className = "state " + run.state;
    part("stage").textContent = run.state === "running" ? run.stage + (run.total ? ", " + run.done + " of " + run.total : "") : "";
    part("message").textContent = run.message;
    const bar = part("progress");
    bar.hidden = run.state !== "running" || !run.total;
    bar.max = run.total || 1;
    bar.value = run.done;
    part("doing").replaceChildren(...run.doing.map((d) => {
      const item = document.createElement("li"), name = document.createElement("code");
      name.textContent = d.purl;
      item.append(name, " " + d.purpose);
      return item;
    }));
    // When it has ended, the numbers below are others.
    if (before && open(before) && !open(run.state)) window.location.reload();
    before = run.state;
  });
  window.addEventListener("pagehide", () => events.close());
})();
