// Live updates and keys. Without this file the page works too: it is made by the
// server, and so is every update, which comes as a whole page of which the
// parts that have changed are taken over. Nothing of the record is put together here.
"use strict";

(() => {
  const body = document.body;
  const button = document.querySelector("[data-live-button]");
  const announcer = document.querySelector("[data-announce]");
  const announceEvery = 5000; // ms
  const idle = 30000; // ms until the next try, when there is no stream

  let source = null;
  let paused = false;
  let timer = null; // of the next update
  let asking = false; // an update is under way
  let stale = false; // something came meanwhile
  let cost = 0; // ms that the last update took
  let refused = 0; // not announced yet
  let announceTimer = null;
  let retryTimer = null;

  function state(name, text) {
    button.hidden = false;
    button.dataset.state = name;
    button.querySelector("span").textContent = text;
    button.title = paused ? "Resume the live view (p)" : "Pause the live view (p)";
    button.setAttribute("aria-pressed", String(paused));
  }

  // update asks for this page again and takes over what has changed. XMLHttpRequest
  // gives a parsed document, in which nothing is run or fetched.
  function update() {
    timer = null;
    if (asking) {
      stale = true;
      return;
    }
    asking = true;
    stale = false;
    const begun = performance.now();
    const request = new XMLHttpRequest();
    request.open("GET", location.pathname + location.search);
    request.responseType = "document";
    request.timeout = 30000;
    request.onloadend = () => {
      asking = false;
      cost = performance.now() - begun;
      if (request.status === 403) {
        stop("off", "Session over");
      } else if (request.status === 200 && request.response && !paused) {
        take(request.response);
      }
      if (stale) later();
    };
    request.send();
  }

  // later updates soon, but never so often that the record does little else.
  function later() {
    if (timer === null && !paused) timer = setTimeout(update, Math.max(250, 4 * cost));
  }

  function take(page) {
    const focused = document.activeElement && document.activeElement.closest("[data-row]");
    const row = focused && focused.closest("tr").id;
    for (const part of document.querySelectorAll("[data-fresh]")) {
      const next = page.getElementById(part.id);
      if (!next || part.isEqualNode(next)) continue;
      // What the reader is typing into or has selected stays.
      if (part.contains(document.activeElement) && !row) continue;
      const selection = getSelection();
      if (!selection.isCollapsed && part.contains(selection.anchorNode)) continue;
      const known = new Set([...part.querySelectorAll("tr[id]")].map((r) => r.id));
      const mine = document.importNode(next, true);
      if (known.size > 0) {
        for (const r of mine.querySelectorAll("tr[id]")) if (!known.has(r.id)) r.classList.add("fresh");
      }
      part.replaceWith(mine);
    }
    if (row) {
      const again = document.getElementById(row);
      if (again) again.querySelector("[data-row]").focus({ preventScroll: true });
    }
  }

  function announce(n) {
    refused += n;
    if (refused === 0 || announceTimer !== null) return;
    announceTimer = setTimeout(() => {
      announcer.textContent = refused === 1 ? "1 more attempt was refused" : refused + " more attempts were refused";
      refused = 0;
      announceTimer = null;
    }, announceEvery);
  }

  function start() {
    clearTimeout(retryTimer);
    if (source || paused || document.hidden || !document.querySelector("[data-fresh]")) return;
    state("wait", "Connecting");
    source = new EventSource(body.dataset.stream);
    source.addEventListener("hello", () => {
      state("live", "Live");
      later(); // what came before the stream began
    });
    source.addEventListener("change", (message) => {
      const change = JSON.parse(message.data);
      announce(change.refused);
      later();
    });
    source.addEventListener("beat", later); // uptimes go on
    source.addEventListener("bye", () => stop("off", "Session over"));
    source.onerror = () => {
      state("off", "Not connected");
      if (source && source.readyState === EventSource.CLOSED) {
        source = null;
        retryTimer = setTimeout(start, idle);
      }
    };
  }

  function stop(name, text) {
    if (source) source.close();
    source = null;
    clearTimeout(timer);
    timer = null;
    state(name, text);
  }

  function toggle() {
    paused = !paused;
    if (paused) stop("paused", "Paused");
    else start();
  }

  // A page that nobody looks at keeps no connection: a browser has six of them.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) stop("wait", "Waiting");
    else if (!document.hidden) start();
  });
  window.addEventListener("pagehide", () => source && source.close());

  function move(by) {
    const rows = [...document.querySelectorAll("[data-row]")];
    if (rows.length === 0) return;
    const at = rows.indexOf(document.activeElement);
    const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1);
    rows[next].focus();
    rows[next].closest("tr").scrollIntoView({ block: "nearest" });
  }

  function escape(target) {
    if (target.matches("input, select, textarea")) {
      if (target.type === "search") target.value = "";
      target.blur();
      return;
    }
    const away = document.querySelector("[data-clear], [data-back]");
    if (away) away.click();
    else if (document.activeElement) document.activeElement.blur();
  }

  function help() {
    document.getElementById("keys").showModal();
  }

  const keys = {
    j: () => move(1),
    k: () => move(-1),
    "/": () => {
      const find = document.getElementById("find");
      find.focus();
      find.select();
    },
    p: toggle,
    "?": help,
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      escape(event.target);
      return;
    }
    if (event.target.matches("input, select, textarea, summary")) return;
    // The arrows move in the list, and elsewhere scroll as ever.
    const arrow = event.target.matches("[data-row]") && { ArrowDown: () => move(1), ArrowUp: () => move(-1) }[event.key];
    const act = arrow || keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  document.querySelector("[data-help]").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    help();
  });
  button.addEventListener("click", toggle);
  start();
})();
