// Small comforts: the keyboard's place on a page that comes again, copying a command,
// and search as you type. Everything works without them: a command can be marked, the
// search is a plain form.
"use strict";
(() => {
  // A page that comes again, after a form that leads back to it or because a build went
  // on, keeps the keyboard where it was. What had the focus is known by what it is and
  // not by its place: if it is gone, or one of several alike, nothing has the focus.
  const signs = (e) => JSON.stringify([e.tagName, e.id, e.getAttribute("name"), e.getAttribute("value"), e.getAttribute("href"),
    e.getAttribute("aria-label") || e.textContent.trim().slice(0, 100), e.form ? e.form.getAttribute("action") : ""]);
  const alike = (sign) => [...document.querySelectorAll("a[href], button, input, select, textarea, summary")].filter((e) => signs(e) === sign);
  try {
    const [page, sign] = JSON.parse(sessionStorage.getItem("focus") || "[]");
    sessionStorage.removeItem("focus");
    const found = page === location.href ? alike(sign) : [];
    if (found.length === 1) found[0].focus({ focusVisible: true });
    window.addEventListener("pagehide", () => {
      const e = document.activeElement;
      if (e && e !== document.body && e.matches(":focus-visible") && alike(signs(e)).length === 1) sessionStorage.setItem("focus", JSON.stringify([location.href, signs(e)]));
    });
  } catch {
    // A browser that keeps nothing forgets where the keyboard was.
  }

  // A button that copies, beside each block of commands.
  if (navigator.clipboard) {
    for (const block of document.querySelectorAll("pre[data-copy]")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      const what = block.dataset.copy;
      if (what) button.setAttribute("aria-label", "Copy: " + what);
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(block.textContent);
          button.textContent = "Copied";
        } catch {
          button.textContent = "Mark it and copy by hand";
        }
        setTimeout(() => { button.textContent = "Copy"; }, 2500);
      });
      const frame = document.createElement("div");
      frame.className = "copied";
      block.replaceWith(frame);
      frame.append(block, button);
    }
  }

  const form = document.getElementById("find-form");
  if (!form) return;
  const text = document.getElementById("find-text");
  const said = document.getElementById("find-said");
  const list = document.getElementById("find-list");
  const field = document.getElementById(form.dataset.add || "-");
  const states = { secure: "secure build", community: "built, not secure", tried: "tried, not built", none: "not built here yet" };
  const count = (n, one, many) => n + " " + (n === 1 ? one : many);

  const element = (name, attributes, ...inside) => {
    const e = document.createElement(name);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    e.append(...inside);
    return e;
  };
  // The icons stand on the page already, in the template below the list.
  const icon = (name) => document.getElementById("icon-" + name).content.cloneNode(true);

  const row = (p) => {
    const secure = p.versions.filter((v) => v.build === "secure");
    const item = element("li", {});
    const chip = p.secure > 0 ? element("span", { class: "chip secure" }, icon("secure"), "Secure build")
      : element("span", { class: "chip community" }, icon("community"), "No secure build yet");
    item.append(element("div", { class: "found-head" }, element("strong", {}, p.name), " ", element("span", { class: "badge" }, languages[p.type] || p.type), " ", chip));
    let about = "";
    if (p.secure > 0) about += count(p.secure, "version", "versions") + " with a secure build" + (secure.length ? ", newest " + secure[0].version : "") + ". ";
    if (p.newest) about += "Newest " + (p.asked ? "at its index" : "known here") + ": " + p.newest + ". ";
    if (p.licence) about += "Licence: " + p.licence + ".";
    item.append(element("p", { class: "small" }, about));
    if (field) {
      const recipe = p.type === "generic"; // asked for as sys:NAME@VERSION
      const asks = (version) => (recipe ? "sys:" : "") + p.name + (version ? (recipe ? "@" : "==") + version : "");
      const select = element("select", { name: "requirement" }, element("option", { value: asks("") }, "newest that fits"));
      for (const v of p.versions) {
        select.append(element("option", { value: asks(v.version) }, v.version + ": " + (states[v.build] || v.build) +
          (v.yanked ? ", taken back" : "") + (v.uploaded && v.uploaded > form.dataset.at ? ", after the catalog time" : "")));
      }
      const button = element("button", { class: "button quiet", type: "submit" }, "Add", element("span", { class: "visually-hidden" }, " " + p.name));
      item.append(element("form", { class: "inline add" }, element("label", {}, "Version", select), button));
    }
    if (p.more) item.append(element("p", { class: "small" }, "and " + count(p.more, "older version", "older versions")));
    return item;
  };
  const languages = { pypi: "Python", npm: "JavaScript", golang: "Go", cargo: "Rust", maven: "Java", deb: "Debian", generic: "System" };

  let asking = null;
  const search = async (lookup) => {
    if (asking) asking.abort();
    const query = text.value.trim();
    if (!query) {
      list.replaceChildren();
      said.textContent = "";
      return;
    }
    const mine = new AbortController();
    asking = mine;
    if (lookup) said.textContent = "Asking the index about " + query + " …";
    try {
      const answer = await fetch("/search?" + new URLSearchParams(lookup ? { q: query, lookup: "1" } : { q: query }), { signal: mine.signal });
      if (!(answer.headers.get("Content-Type") || "").startsWith("application/json")) throw new Error(await answer.text());
      const found = await answer.json();
      if (asking !== mine) return;
      list.replaceChildren(...found.packages.map(row));
      if (found.problem) said.textContent = found.problem + (found.advice ? " " + found.advice : "");
      else if (!found.packages.length) said.textContent = "Nothing here has “" + query + "” in its name." + (found.can_ask ? " Ask its index for the exact name." : "");
      else said.textContent = count(found.packages.length, "package", "packages") + " found" + (found.asked ? " at the index" : "") + ".";
    } catch (error) {
      if (error.name === "AbortError" || asking !== mine) return;
      said.textContent = "The search did not work. " + error.message;
    }
  };
  let later = 0;
  text.addEventListener("input", () => {
    clearTimeout(later);
    later = setTimeout(() => search(false), 200);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(later);
    search(!!(event.submitter && event.submitter.name === "lookup"));
  });
  // Adding puts the requirement on the list of what is to be committed.
  list.addEventListener("submit", (event) => {
    if (!field) return;
    event.preventDefault();
    const wanted = event.target.elements.requirement.value;
    const name = (line) => line.trim().split(/[=<>!~\[; @]/)[0];
    const lines = field.value.split("\n").filter((l) => l.trim() && name(l) !== name(wanted));
    field.value = [...lines, wanted].join("\n");
    field.rows = Math.max(3, lines.length + 2);
    field.dispatchEvent(new Event("input", { bubbles: true }));
    said.textContent = wanted + " is on the list of what to add.";
  });
})();
