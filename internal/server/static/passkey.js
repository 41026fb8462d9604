// Passkeys: asks the browser's authenticator what the server's API asks, and gives
// back its answer. Pages say without this script that it is needed; nothing else on
// them is.
"use strict";
(() => {
  const box = document.querySelector("[data-passkey]");
  if (!box) return;
  const said = box.querySelector("[role=status]");
  const say = (text) => { said.textContent = text; };

  if (location.origin !== box.dataset.origin) {
    say("Passkeys work at " + box.dataset.origin + ", and not at this address.");
    return;
  }
  if (!window.PublicKeyCredential || !navigator.credentials) {
    say("This browser has no passkeys.");
    return;
  }

  const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const named = (list) => (list || []).map((c) => ({ ...c, id: bytes(c.id) }));

  // ask posts to the API and gives its document; a problem is an error to show.
  const ask = async (path, body) => {
    const headers = { "Content-Type": "application/json" };
    const form = box.querySelector("input[name=form]");
    if (form) headers["X-Hallmark-Form"] = form.value;
    const answer = await fetch("/api/v1/" + path, { method: "POST", headers, body: body ? JSON.stringify(body) : undefined });
    const document = await answer.json();
    if (!answer.ok) throw new Error(document.detail + (document.advice ? ". " + document.advice : ""));
    return document;
  };

  const make = async (label) => {
    const { options } = await ask("passkeys/options");
    options.challenge = bytes(options.challenge);
    options.user.id = bytes(options.user.id);
    options.excludeCredentials = named(options.excludeCredentials);
    const c = await navigator.credentials.create({ publicKey: options });
    await ask("passkeys", { label, credential: {
      id: c.id, rawId: text(c.rawId), type: c.type, authenticatorAttachment: c.authenticatorAttachment || undefined, clientExtensionResults: c.getClientExtensionResults(),
      response: { clientDataJSON: text(c.response.clientDataJSON), attestationObject: text(c.response.attestationObject), transports: c.response.getTransports ? c.response.getTransports() : [] },
    } });
    location.reload();
  };

  const signIn = async () => {
    const { options } = await ask("sessions/passkey-options");
    options.challenge = bytes(options.challenge);
    options.allowCredentials = named(options.allowCredentials);
    const c = await navigator.credentials.get({ publicKey: options });
    await ask("sessions/passkey", { credential: {
      id: c.id, rawId: text(c.rawId), type: c.type, authenticatorAttachment: c.authenticatorAttachment || undefined, clientExtensionResults: c.getClientExtensionResults(),
      response: { clientDataJSON: text(c.response.clientDataJSON), authenticatorData: text(c.response.authenticatorData), signature: text(c.response.signature),
        userHandle: c.response.userHandle ? text(c.response.userHandle) : undefined },
    } });
    location.assign(box.dataset.next);
  };

  const words = {
    NotAllowedError: "No passkey was chosen, or it took too long.",
    InvalidStateError: "There is a passkey for this account on it already.",
    SecurityError: "The browser allows no passkey at this address.",
    NotSupportedError: "It cannot make a passkey of the kind that is needed.",
    AbortError: "It was broken off.",
  };
  let busy = false;
  const run = async (what) => {
    if (busy) return;
    busy = true;
    say("Waiting for the passkey…");
    try {
      await what();
    } catch (e) {
      say(words[e.name] || e.message);
    } finally {
      busy = false;
    }
  };

  for (const e of box.querySelectorAll("[hidden]")) e.hidden = false;
  const form = box.querySelector("form");
  if (form) {
    form.addEventListener("submit", (e) => {
      e.preventDefault();
      run(() => make(form.elements.label.value));
    });
    return;
  }
  const button = box.querySelector("button");
  button.addEventListener("click", () => run(signIn));
})();
