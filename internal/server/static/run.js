// Keeps the page of a build up to date while it runs. Everything it shows, the
// server's page shows as well; without it the page is loaded again.
"use strict";
(() => {
  const card = document.getElementById("watch");
  if (!card || !window.EventSource) return;
  const at = (id) => document.getElementById(id);
  const stages = { solve: "finding out what it needs", build: "building", sign: "signing" };
  const most = 400000; // characters of a log that the page holds
  const text = at("log-text");
  const pane = text.parentElement;
  const steps = at("watch-steps");
  const query = new URLSearchParams();
  if (card.dataset.step) {
    query.set("step", card.dataset.step);
    query.set("from", text.dataset.next);
  }
  at("watch-again").hidden = true;
  let left = 0;
  let fresh = !card.dataset.step; // the log comes whole
  const mark = () => {
    for (const a of steps.querySelectorAll("a[id]")) {
      if (a.id === "step-" + text.dataset.step) a.setAttribute("aria-current", "true");
      else a.removeAttribute("aria-current");
    }
  };
  mark();
  pane.scrollTop = pane.scrollHeight;
  const events = new EventSource(card.dataset.events + "?" + query);
  events.addEventListener("run", (event) => {
    const run = JSON.parse(event.data);
    at("watch-state").textContent = run.state;
    at("watch-state").className = "state " + run.state;
    at("watch-stage").textContent = run.state === "running" && run.stage ? (stages[run.stage] || run.stage) + (run.total ? ", " + run.done + " of " + run.total : "") : "";
    at("watch-message").textContent = run.message;
    const bar = at("watch-progress");
    bar.hidden = run.state !== "running" || !run.total;
    bar.max = run.total || 1;
    bar.value = run.done;
  });
  events.addEventListener("steps", (event) => {
    const focus = document.activeElement && steps.contains(document.activeElement) ? document.activeElement : null;
    const inside = focus && (focus.id || (focus.parentElement && focus.parentElement.id));
    const open = new Map([...steps.querySelectorAll("details")].map((d) => [d.id, d.open]));
    steps.innerHTML = JSON.parse(event.data).html; // the server's own page, with everything escaped
    for (const d of steps.querySelectorAll("details")) if (open.has(d.id)) d.open = open.get(d.id);
    if (inside && at(inside)) (at(inside).querySelector(":scope > summary") || at(inside)).focus();
    mark();
  });
  events.addEventListener("log", (event) => {
    const said = JSON.parse(event.data);
    const end = pane.scrollHeight - pane.scrollTop - pane.clientHeight < 40;
    if (said.step !== text.dataset.step || fresh) {
      if (said.step !== text.dataset.step) for (const e of document.querySelectorAll("#log > .problem, #log > .matters, #log > h3")) e.remove();
      text.textContent = "";
      text.dataset.step = said.step;
      at("log-title").textContent = said.title;
      at("log-links").replaceChildren();
      left = 0;
      fresh = false;
      mark();
    }
    left += said.left;
    at("log-left").textContent = left ? left.toLocaleString("en") + " bytes are not shown here." : "";
    text.append(said.text);
    if (text.textContent.length > most) {
      const kept = text.textContent.slice(-most / 2);
      left += text.textContent.length - kept.length;
      text.textContent = kept;
    }
    at("log-none").hidden = !!text.textContent;
    if (end) pane.scrollTop = pane.scrollHeight;
  });
  // When it has ended, what can be done and what stands here is something else.
  events.addEventListener("end", () => {
    events.close();
    window.location.reload();
  });
  window.addEventListener("pagehide", () => events.close());
})();
