// Keeps the build's card up to date while a build runs. Everything it shows stands
// on the page that the server sends; without it the page is loaded again.
"use strict";
(() => {
  const card = document.getElementById("run");
  if (!card || !card.dataset.events || !window.EventSource) return;
  const part = (name) => document.getElementById("run-" + name);
  const open = (s) => s === "queued" || s === "running";
  const stages = { solve: "finding out what it needs", build: "building", sign: "signing" };
  const ago = (since) => {
    const s = Math.max(0, Math.round((Date.now() - Date.parse(since)) / 1000));
    return s < 60 ? s + " s" : Math.floor(s / 60) + " min " + (s % 60) + " s";
  };
  const item = (...inside) => {
    const i = document.createElement("li");
    i.append(...inside);
    return i;
  };
  let before = card.dataset.state;
  let doing = [];
  const show = () => part("doing").replaceChildren(...doing.map((d) => {
    const name = document.createElement("code");
    name.textContent = d.purl;
    return item(name, " " + d.purpose + ", for " + ago(d.since));
  }));
  const events = new EventSource(card.dataset.events);
  events.addEventListener("run", (event) => {
    const run = JSON.parse(event.data);
    // Another build than the page knows, or the end of one: what stands below, and
    // what can be done, is something else.
    const other = card.dataset.run !== run.run;
    if (other && card.dataset.run && !open(run.state)) return; // an older one, while a newer one waits
    if (other || open(before) !== open(run.state)) {
      events.close();
      window.location.reload();
      return;
    }
    before = run.state;
    part("state").textContent = run.state;
    part("state").className = "state " + run.state;
    part("stage").textContent = run.state === "running" && run.stage ? (stages[run.stage] || run.stage) + (run.total ? ", " + run.done + " of " + run.total : "") : "";
    part("message").textContent = run.message;
    // What has begun waits no more.
    const place = part("place");
    if (place && run.state !== "queued") place.remove();
    const bar = part("progress");
    bar.hidden = run.state !== "running" || !run.total;
    bar.max = run.total || 1;
    bar.value = run.done;
    doing = run.doing;
    show();
    part("said").hidden = !run.notes.length;
    part("notes").replaceChildren(...run.notes.map((n) => item(n)));
  });
  // Another commit than the one that is shown: everything on the page is another.
  events.addEventListener("head", () => {
    events.close();
    window.location.reload();
  });
  const clock = setInterval(show, 1000);
  window.addEventListener("pagehide", () => {
    clearInterval(clock);
    events.close();
  });
})();
